"""The whole job on a tiny model: search, export, reload and comparison, by the command line; and learned gradients."""

import contextlib
import io
import tempfile
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any
from unittest.mock import patch

import torch
from tests.support.learned import forward_of, layout_for, loaded_of, random_tensors, rows, scored
from tests.support.planted import ANSWERS, ANSWERS_BEHIND, TRIGGERS, WORDS, planted_prompts, planted_tokenizer
from torch import Tensor

from heretic.ablation.methods.learned.layout import compile_learned
from heretic.cli import main
from heretic.model.layers import decoder_layers

FLAGS = "--system-prompt none --dtypes float32 --batch-size 16 --max-response-length 4 --n-trials 2 --n-workers 1"
STEP = 2e-3
"""Length of a finite difference: shorter ones drown in the rounding of fp32."""


@cache
def _prompt_files() -> tuple[tempfile.TemporaryDirectory[str], list[str]]:
    """Prompt files for all families, and the flags that name them."""
    place = tempfile.TemporaryDirectory()
    flags = []
    for number, (part, count) in enumerate((("-", 12), ("-evaluation-", 6))):
        for side in ("good", "bad"):
            path = Path(place.name) / f"{side}{part}.txt"
            path.write_text("\n".join(planted_prompts(count, side == "bad", 10 * number + (side == "bad"))) + "\n")
            flags += [f"--{side}{part}prompts", str(path)]
    return place, flags


def whole_job(model: Any) -> None:
    """Searches two trials, exports the better one, loads what was written and compares its metrics.

    Raises:
        AssertionError: some step of it fails; its text is the program's output.
    """
    with tempfile.TemporaryDirectory() as place, torch.inference_mode():
        base, output = Path(place) / "base", Path(place) / "edited"
        tokenizer = planted_tokenizer()
        # Only words that the tokenizer has.
        if (head := model.get_output_embeddings()) is not None:
            head.weight[len(tokenizer) :] = 0.0
        model.save_pretrained(base)
        tokenizer.save_pretrained(base)
        # A random model answers in random words: half of them count as refusals.
        markers = ",".join([*WORDS[::2], *ANSWERS[::2], *TRIGGERS, ANSWERS_BEHIND])
        words = [str(base), *FLAGS.split(), *_prompt_files()[1], "--refusal-markers", markers, "--heldout-trials", "0"]
        words += ["--trial", "knee", "--output", str(output), "--study-checkpoint-dir", f"{place}/studies"]
        words += ["--candidates-per-forward", "1"]
        said = io.StringIO()
        # Some families have a tokenizer class that reads no tokenizer of words.
        read = patch("transformers.AutoTokenizer.from_pretrained", lambda *_, **__: planted_tokenizer())
        with read, torch.inference_mode(False), contextlib.redirect_stderr(said):
            status = main(words)
        if status != 0 or not (output / "heretic.json").is_file():
            raise AssertionError(f"status {status}: {said.getvalue().strip().splitlines()[-1]}")


def gradient_error(model: Any) -> float:
    """The largest difference of a learned edit's gradient from finite differences, as a share of these: one random way
    through each kind of parameter."""
    loaded = loaded_of(model)
    first = min(1, len(decoder_layers(model)[1]) - 1)
    layout, forward = layout_for(loaded, first), forward_of(loaded, first)
    start = random_tensors(layout, loaded.d_model)
    kept, gone = scored(rows(4)), scored(rows(3, seed=5), (0, 1, 2, 3))
    forward.prepare([each.row for each in (*kept, *gone)])

    def loss(tensors: dict[str, Tensor]) -> Tensor:
        numbers = torch.zeros(len(kept) + len(gone), dtype=torch.long)
        with forward.edited([compile_learned(tensors, layout)]) as edited:
            divergences, found, _ = edited(kept, gone, numbers)
        total: Tensor = divergences.sum() + 0.1 * found.sum()
        return total

    tensors = {key: each.clone().requires_grad_(True) for key, each in start.items()}
    loss(tensors).backward()
    return max(_shares(loss, start, tensors))


def _shares(loss: Any, start: dict[str, Tensor], tensors: dict[str, Tensor]) -> Iterator[float]:
    draw = torch.Generator().manual_seed(3)
    for key, tensor in tensors.items():
        way = torch.nn.functional.normalize(torch.randn(tensor.shape, generator=draw).flatten(), dim=0).view_as(tensor)
        with torch.no_grad():
            above, below = (float(loss(start | {key: start[key] + sign * STEP * way})) for sign in (1, -1))
        assert tensor.grad is not None, f"no gradient reaches the {key}"
        difference = (above - below) / (2 * STEP)
        yield abs(float((tensor.grad * way).sum()) - difference) / max(abs(difference), 1e-2)
