"""Damages the files of a tiny model at random places and loads it: nothing but a `UserError` may be raised.

    python tools/fuzz_checkpoints.py [RUNS] [SEED]

Each run cuts a file, changes up to eight of its bytes, or (JSON) exchanges one value; the kinds of file alternate.
Loading may succeed (a changed weight is a weight) or raise a `UserError`; anything else is printed with the run's
number and ends with status 1. Memory is limited, so that a size read from a damaged file can't use up the machine's.
"""

import json
import random
import resource
import shutil
import sys
import tempfile
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from tiny_models import tiny_model
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from heretic.config import Settings
from heretic.errors import UserError
from heretic.model.loading.checkpoint import find_checkpoint
from heretic.model.loading.load import load_model

sys.path.insert(0, str(Path(__file__).parents[1]))
from tests.support.gguf_files import write_gguf

OTHER_VALUES = (None, True, -1, 0, 3, 1.5, 10**30, "", "other", [], ["a", 1], {}, {"a": None})
MOST_MEMORY = 8 << 30
"""Address space in bytes: torch and transformers map about 5 GB, the model next to nothing."""
SETTINGS = Settings(dtypes=["float32"])


def write_models(directory: Path) -> list[tuple[Path, str]]:
    """A tiny Llama as safetensors and as .bin; returns each directory with the name of a file to damage."""
    model = tiny_model("llama")
    words = {f"word{n}": n for n in range(model.config.vocab_size)}
    splitter = Tokenizer(models.WordLevel(words, unk_token="word0"))
    splitter.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=splitter, pad_token="word0", eos_token="word1")
    plain, older = directory / "safetensors", directory / "bin"
    model.save_pretrained(plain)
    tokenizer.save_pretrained(plain)
    shutil.copytree(plain, older)
    (older / "model.safetensors").unlink()
    torch.save(model.state_dict(), older / "pytorch_model.bin")
    packed = directory / "gguf"
    packed.mkdir()
    write_gguf(packed / "model.gguf", {})
    read = ("model.safetensors", "config.json", "tokenizer.json", "tokenizer_config.json", "generation_config.json")
    return [*((plain, name) for name in read), (older, "pytorch_model.bin"), (packed, "model.gguf")]


def damaged(name: str, content: bytes, draw: random.Random) -> bytes:
    """The content cut off at a random place, or with up to eight bytes changed, or with another JSON value in it."""
    if name.endswith(".json") and draw.random() < 0.8:
        return json.dumps(exchanged(json.loads(content), draw)).encode()
    if draw.random() < 0.3:
        return content[: draw.randrange(len(content))]
    changed = bytearray(content)
    # Headers decide how the rest is read: half of the changes fall there.
    reach = min(len(changed), 512) if draw.random() < 0.5 else len(changed)
    for _ in range(draw.randint(1, 8)):
        changed[draw.randrange(reach)] = draw.randrange(256)
    return bytes(changed)


def exchanged(value: Any, draw: random.Random) -> Any:
    """The JSON value with one part of it, at any depth, replaced by something of another type."""
    if isinstance(value, dict) and value and draw.random() < 0.9:
        key = draw.choice(sorted(value))
        return value | {key: exchanged(value[key], draw)}
    if isinstance(value, list) and value and draw.random() < 0.9:
        place = draw.randrange(len(value))
        return [*value[:place], exchanged(value[place], draw), *value[place + 1 :]]
    return draw.choice(OTHER_VALUES)


def fuzz(runs: int, seed: int) -> Iterator[tuple[str, BaseException | None]]:
    """For each run the damaged file's name, and what loading raised (None: it loaded)."""
    draw = random.Random(seed)
    with tempfile.TemporaryDirectory() as folder:
        targets = write_models(Path(folder))
        for run in range(runs):
            directory, name = targets[run % len(targets)]
            path = directory / name
            whole = path.read_bytes()
            path.write_bytes(damaged(name, whole, draw))
            try:
                load_model(find_checkpoint(str(directory)), SETTINGS, lambda _: None)
                raised = None
            except KeyboardInterrupt:
                raise
            except BaseException as error:  # noqa: BLE001 (any exception is a finding)
                raised = error
            finally:
                path.write_bytes(whole)
            yield name, raised


def main() -> int:
    runs, seed = (int(word) for word in (sys.argv[1:] + ["500", "0"][len(sys.argv) - 1 :]))
    resource.setrlimit(resource.RLIMIT_AS, (MOST_MEMORY, MOST_MEMORY))
    counts: Counter[str] = Counter()
    wrong = 0
    for number, (name, raised) in enumerate(fuzz(runs, seed)):
        kind = "loaded" if raised is None else "refused" if isinstance(raised, UserError) else "traceback"
        counts[f"{name}: {kind}"] += 1
        if any(word in str(raised).lower() for word in ("memory", "alloc")):
            print(f"run {number}: {name}: {raised}")
        if kind == "traceback":
            wrong += 1
            print(f"run {number}: {name}: {type(raised).__name__}: {raised}")
    print(*(f"{count:5} {what}" for what, count in sorted(counts.items())), sep="\n")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
