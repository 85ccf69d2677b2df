"""Chat templates from where transformers' tokenizers don't look for them."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ...errors import ModelError
from ...files import parse_json
from .checkpoint import Checkpoint

FILE = "chat_template.jinja"
PROCESSOR_FILE = "chat_template.json"
"""Older processors (LLaVA, Qwen2-VL, Mllama) kept the template here, and their tokenizers none."""
GGUF_KEY = "tokenizer.chat_template."


def settle_chat_template(tokenizer: Any, checkpoint: Checkpoint) -> None:
    """Gives the tokenizer the template next to a GGUF file, or, where it has none, a processor's or a GGUF file's named
    ones.

    Raises:
        ModelError: the file of one can't be read.
    """
    directory = checkpoint.directory
    if checkpoint.gguf_file is not None and (directory / FILE).is_file():
        tokenizer.chat_template = _read(directory / FILE)
    elif not getattr(tokenizer, "chat_template", None):
        found = _of_gguf(directory / checkpoint.gguf_file) if checkpoint.gguf_file else _of_processor(directory)
        if found:
            tokenizer.chat_template = found


def _of_processor(directory: Path) -> str | Mapping[str, str] | None:
    path = directory / PROCESSOR_FILE
    if not path.is_file():
        return None
    try:
        template = parse_json(_read(path))["chat_template"]
    except (ValueError, KeyError, TypeError) as error:
        raise ModelError(
            f'Expected {{"chat_template": TEMPLATE}} in {path}, could not read it ({error}). Mend it, or put the '
            f"template next to the weights as {FILE}."
        ) from error
    if isinstance(template, list):
        return {each["name"]: each["template"] for each in template}
    return str(template)


def _of_gguf(path: Path) -> dict[str, str]:
    """The named templates of a GGUF file."""
    import gguf

    fields = gguf.GGUFReader(str(path)).fields
    return {key.removeprefix(GGUF_KEY): str(fields[key].contents()) for key in fields if key.startswith(GGUF_KEY)}


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ModelError(f"Expected a chat template in {path}, could not read it ({error}). Mend the file.") from error
