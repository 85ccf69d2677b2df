"""The files of a checkpoint that are no weights: configuration, tokenizer, chat template, code, licence."""

import re
import shutil
from pathlib import Path

WEIGHT_SUFFIXES = frozenset(
    {".safetensors", ".bin", ".pt", ".pth", ".ckpt", ".gguf", ".ggml", ".h5", ".msgpack"}
    | {".onnx", ".onnx_data", ".npz", ".npy", ".tflite", ".ot", ".mlmodel"}
)
WEIGHT_INDEX = re.compile(r".*\.index(\..+)?\.json")
# The export gets a card of its own, and an adapter's configuration without its weights would break loading.
LEFT_OUT = frozenset({"readme.md", "adapter_config.json"})
CONFIG = "config.json"


def companions(directory: Path) -> tuple[Path, ...]:
    """Every file that belongs in an export of this checkpoint in addition to its weights, by name, config.json last.

    Of subdirectories only code and chat templates: they may also hold the same weights in another format, with
    settings for another program.
    """
    found = [path for path in sorted(directory.iterdir()) if path.is_file() and _belongs(path.name)]
    for folder in sorted(directory.iterdir()):
        if folder.is_dir() and not folder.name.startswith("."):
            found += [path for path in sorted(folder.rglob("*")) if path.suffix in {".py", ".jinja"}]
    return tuple(sorted(found, key=lambda path: path == directory / CONFIG))


def copy_companions(directory: Path, output: Path) -> None:
    """Copies the companions byte for byte; config.json comes last, since without it nothing loads."""
    for path in companions(directory):
        target = output / path.relative_to(directory)
        target.parent.mkdir(parents=True, exist_ok=True)
        # `copyfile` follows links: a hub cache is made of them.
        shutil.copyfile(path, target)


def _belongs(name: str) -> bool:
    lower = name.lower()
    weights = Path(lower).suffix in WEIGHT_SUFFIXES or WEIGHT_INDEX.fullmatch(lower) is not None
    return not (weights or lower.startswith(".") or lower in LEFT_OUT)
