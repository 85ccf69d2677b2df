"""One way to read every kind of checkpoint, a tensor at a time."""

from pathlib import Path
from typing import Protocol

from torch import Tensor

from ...errors import ExportError
from .bin import BinReader
from .safetensors import SafetensorsReader
from .shards import find_shards
from .tensors import TensorInfo

__all__ = ["CheckpointReader", "TensorInfo", "open_checkpoint"]


class CheckpointReader(Protocol):
    """A stored checkpoint. `directory` holds its configuration; None where it has the names of the model in memory."""

    directory: Path | None

    def tensors(self) -> tuple[TensorInfo, ...]:
        """The stored tensors' headers, in file order; no weight is read."""

    def read(self, key: str) -> Tensor:
        """One tensor as it is stored; not to be written to, since it may be the file itself."""

    def write_companions(self, output: Path) -> None:
        """Writes every other file that a complete model needs into `output`, config.json last."""


def open_checkpoint(directory: Path, gguf_file: str | None = None) -> CheckpointReader:
    """A reader of the checkpoint in `directory`: safetensors, else `.bin`; or of the named GGUF file in it.

    Raises:
        ExportError: there are no weights, a shard is missing, or a file is damaged.
    """
    if gguf_file is not None:
        # Imported here: it brings in transformers, which the others do without.
        from .gguf import GGUFCheckpointReader

        return GGUFCheckpointReader(directory, gguf_file)
    shards = find_shards(directory, "model.safetensors")
    if shards is not None:
        return SafetensorsReader(directory, shards)
    shards = find_shards(directory, "pytorch_model.bin")
    if shards is not None:
        return BinReader(directory, shards)
    ggufs = sorted(path.name for path in directory.glob("*.gguf"))
    hint = f"name one of its GGUF files ({', '.join(ggufs[:3])})" if ggufs else "give the directory of a checkpoint"
    raise ExportError(
        f"{directory} should hold model.safetensors or pytorch_model.bin (or an index of their shards) and holds "
        f"neither: {hint}"
    )
