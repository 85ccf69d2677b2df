"""The whole job on a tiny model: search, export, reload and comparison, by the command line."""

import contextlib
import io
import tempfile
from functools import cache
from pathlib import Path
from typing import Any
from unittest.mock import patch

import torch
from tests.support.planted import ANSWERS, ANSWERS_BEHIND, TRIGGERS, WORDS, planted_prompts, planted_tokenizer

from heretic.cli import main

FLAGS = (
    "--method kernel --system-prompt none --dtypes float32 --batch-size 16 --max-response-length 4 --n-trials 2 "
    "--n-workers 1"
)


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
