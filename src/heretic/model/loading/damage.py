"""Errors of damaged or incomplete checkpoints, as one paragraph, missing weights among them."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch

from ...errors import ModelError, UserError
from .checkpoint import Checkpoint

WEIGHTS_A_BYTE = 8
SMALLEST = 1 << 20
"""Bytes that weight files count as at least: smaller models cost nothing, and headers are most of their files."""
SHOWN = 5
"""Most names of tensors in one message; more would hide the sentence."""


@contextmanager
def reading(what: str, checkpoint: Checkpoint, remedy: str) -> Iterator[None]:
    """Converts any error while a file is read to a ModelError: expected `what`, got the error, do `remedy`.

    On a damaged file, readers of other libraries and a model's own code raise all kinds of errors: KeyError,
    struct.error, safetensors' own errors, panics of Rust. None of them is a bug of this program.
    """
    try:
        yield
    except (KeyboardInterrupt, SystemExit, GeneratorExit, UserError):
        raise
    # A panic of Rust (tokenizers, safetensors) derives from BaseException alone.
    except BaseException as error:
        raise ModelError(
            f"Expected {what} in {checkpoint.name}, could not read it ({type(error).__name__}: {first_line(error)}). "
            f"{remedy}"
        ) from error


def check_adapter(checkpoint: Checkpoint) -> None:
    """Refuses a directory that holds base weights and a PEFT adapter: transformers would load their sum, and an export
    would write the base weights without the adapter.

    Raises:
        ModelError: there is an adapter_config.json next to the weights.
    """
    if checkpoint.gguf_file is None and (checkpoint.directory / "adapter_config.json").exists():
        raise ModelError(
            f"Expected a model in {checkpoint.name}, found an adapter next to its weights (adapter_config.json). Merge "
            "the adapter into the model first (PEFT: merge_and_unload, then save_pretrained), or move "
            "adapter_config.json and the adapter's weights out of the directory."
        )


def check_size(kind: Any, configuration: Any, checkpoint: Checkpoint, trust_remote_code: bool) -> None:
    """Refuses a configuration that describes a model far larger than its weight files, before memory is taken for it:
    weights that the files lack would be allocated and filled at random first.

    The bound is loose: no format stores more than eight weights a byte.

    Raises:
        ModelError: the model has more than eight weights for each byte of the weight files.
    """
    stored = sum((checkpoint.directory / name).stat().st_size for name in checkpoint.weight_files())
    try:
        with torch.device("meta"):
            model = kind.from_config(configuration, trust_remote_code=trust_remote_code)
        weights = sum(parameter.numel() for parameter in model.parameters())
    # If the model can't be built without memory, loading fails later with a message of its own.
    except Exception:  # noqa: BLE001
        return
    if weights > WEIGHTS_A_BYTE * max(stored, SMALLEST):
        raise ModelError(
            f"Expected weight files that fit the configuration of {checkpoint.name}, but it describes a model of "
            f"{weights:,} weights and the files hold {stored:,} bytes. Check that all weight files are there and "
            "whole, and that config.json belongs to them."
        )


def check_weights(info: Mapping[str, Any], checkpoint: Checkpoint, say: Callable[[str], None]) -> None:
    """Refuses a model some of whose weights its checkpoint lacks, which transformers would fill at random.

    `info` is the `output_loading_info` of transformers. Tensors that the model does not use are listed once.

    Raises:
        ModelError: weights are missing, or have another shape.
    """
    missing = sorted({*info.get("missing_keys", ()), *(each[0] for each in info.get("mismatched_keys", ()))})
    if missing:
        raise ModelError(
            f"Expected all weights of the model in {checkpoint.name}, but {len(missing)} are missing or have another "
            f"shape: {_some(missing)}. They would be random. Check that all weight files are there and whole, and that "
            "config.json belongs to them; a model without a language-modelling head can't be searched."
        )
    unused = sorted(info.get("unexpected_keys", ()))
    if unused:
        say(f"{len(unused)} tensors of the checkpoint are not used by the model: {_some(unused)}.")


def first_line(error: BaseException) -> str:
    """The first line of an error's text, at most 300 characters; its class where it has no text."""
    lines = str(error).strip().splitlines()
    return lines[0][:300] if lines else type(error).__name__


def _some(names: list[str]) -> str:
    rest = len(names) - SHOWN
    return ", ".join(names[:SHOWN]) + (f" and {rest} more" if rest > 0 else "")
