"""A GGUF file from a checkpoint of transformers, with the edit in it; one tensor in memory at a time.

Names come from the gguf package's table, keys and changes of tensors from families.py, and the type of each tensor from
file_types.py.
"""

import math
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import torch
from gguf import GGMLQuantizationType
from torch import Tensor

from ...errors import ExportError
from ..directory import check_space
from ..formats.base import EditOf
from ..formats.merge import edited
from ..matching import Owner
from ..readers.base import CheckpointReader
from ..readers.tensors import TensorInfo
from .blocks import quantize
from .families import add_keys, find_family, rope_factors
from .file_types import FILE_TYPES, Model, quantised, tensor_type
from .header import Value
from .imatrix import ImportanceMatrix
from .vocabulary import Vocabulary

EXPERT = re.compile(r"\.experts\.(\d+)\.")
ELSEWHERE = re.compile(r"vision|visual|audio|multi_modal_projector|mtp\.|inv_freq|masked_bias|attn\.bias")
"""Parts of the names of tensors that no text model of llama.cpp has."""
PREFIXES = (
    ("model.language_model.", "model."),
    ("language_model.model.", "model."),
    ("language_model.lm_head", "lm_head"),
)
"""Names of a text decoder inside a multimodal model, and alone."""
SAME = {torch.float32: "F32", torch.float16: "F16", torch.bfloat16: "BF16"}


@dataclass(frozen=True, slots=True)
class Source:
    """Stored tensors that make up one of the file: several are stacked, as experts are. `half` is the first or second
    half of the rows of a stored tensor that holds two of the file's."""

    keys: tuple[str, ...]
    shape: tuple[int, ...]
    half: int | None = None


class ConvertedFile:
    """The file of a checkpoint whose weights of `owners` are edited.

    `changes` are general keys. A `wanted` type `same` is the checkpoint's own. `left_out` are stored tensors that a
    text model of llama.cpp does not have.

    Raises:
        ExportError: the model or its tokenizer can't be converted.
    """

    def __init__(
        self,
        reader: CheckpointReader,
        config: Any,
        tokenizer: Any,
        owners: Mapping[str, Owner],
        edit_of: EditOf,
        wanted: str = "same",
        importance: ImportanceMatrix | None = None,
        changes: Mapping[str, Value] | None = None,
    ) -> None:
        self._reader, self._config = reader, config
        self._owners, self._edit_of = owners, edit_of
        self._family = find_family(config)
        self._vocabulary = Vocabulary(tokenizer, int(config.vocab_size))
        self._importance = importance
        self._changes = changes or {}
        self.left_out: list[str] = []
        self._sources = self._find_sources()
        self.wanted = self._own_type() if wanted == "same" else wanted
        self._types = self._choose()

    def _own_type(self) -> str:
        matrices = [info.dtype for info in self._reader.tensors() if len(info.shape) > 1]
        return SAME.get(max(set(matrices), key=matrices.count), "BF16")

    def _find_sources(self) -> dict[str, Source]:
        """By name in the file, in the order of the layers."""
        config = self._config
        names = gguf.get_tensor_name_map(self._family.architecture, config.num_hidden_layers)
        found: dict[str, list[TensorInfo]] = {}
        sources: dict[str, Source] = {}
        for info in self._reader.tensors():
            key = plain_name(info.key)
            if key.startswith("lm_head.") and config.tie_word_embeddings:
                continue
            if key.endswith("mlp.experts.gate_up_proj"):
                sources |= _halves(names, key, info)
                continue
            stem = EXPERT.sub(".experts.", key)
            name = names.get_name(stem, try_suffixes=(".weight", ".bias"))
            # Experts in one tensor are parameters: their names have no suffix, and the file's have one.
            name = name or names.get_name(f"{stem}.weight", try_suffixes=(".weight",))
            if name is None:
                if ELSEWHERE.search(key) is None:
                    raise ExportError(f"llama.cpp's {self._family.architecture.name} has no tensor {info.key}")
                self.left_out.append(info.key)
                continue
            found.setdefault(name, []).append(info)
        for name, infos in found.items():
            several = EXPERT.search(infos[0].key) is not None
            infos = sorted(infos, key=lambda info: int(EXPERT.search(info.key)[1]) if several else 0)  # type: ignore[index]
            shape = (len(infos), *infos[0].shape) if several else infos[0].shape
            sources[name] = Source(tuple(info.key for info in infos), tuple(shape))
        return dict(sorted(sources.items(), key=_place))

    def _choose(self) -> dict[str, GGMLQuantizationType]:
        config = self._config
        heads = int(config.num_attention_heads)
        model = Model(
            layers=int(config.num_hidden_layers),
            grouped=heads // int(config.num_key_value_heads or heads),
            experts=int(getattr(config, "num_experts", 0) or 0),
            tied="output.weight" not in self._sources,
            importance=self._importance is not None,
        )
        file_type = FILE_TYPES[self.wanted]
        return {
            name: tensor_type(name, source.shape[-1], file_type, model)
            if quantised(name, len(source.shape))
            else GGMLQuantizationType.F32
            for name, source in self._sources.items()
        }

    def write(self, path: Path, progress: Callable[[int], None]) -> None:
        """Writes the file; `progress` is called once for each tensor.

        Raises:
            ExportError: it does not fit on the disk.
        """
        writer = gguf.GGUFWriter(path, gguf.MODEL_ARCH_NAMES[self._family.architecture])
        try:
            self._add_keys(writer)
            factors = rope_factors(self._config)
            if factors is not None:
                writer.add_tensor_info("rope_freqs.weight", factors.shape, np.dtype(np.float32), factors.nbytes)
            total = sum(self._add_info(writer, name, source) for name, source in self._sources.items())
            check_space(path.parent, total)
            writer.write_header_to_file()
            writer.write_kv_data_to_file()
            writer.write_ti_data_to_file()
            if factors is not None:
                writer.write_tensor_data(factors.numpy())
            for name, source in self._sources.items():
                writer.write_tensor_data(self._blocks(name, source))
                progress(1)
        finally:
            writer.close()

    def _add_keys(self, writer: gguf.GGUFWriter) -> None:
        for key, value in self._changes.items():
            if isinstance(value, str):
                writer.add_string(key, value)
            elif isinstance(value, int):
                writer.add_uint32(key, value)
            else:
                writer.add_array(key, list(value))
        add_keys(writer, self._family, self._config)
        writer.add_file_type(FILE_TYPES[self.wanted].number)
        writer.add_quantization_version(gguf.GGML_QUANT_VERSION)
        self._vocabulary.add_keys(writer)

    def _add_info(self, writer: gguf.GGUFWriter, name: str, source: Source) -> int:
        kind = self._types[name]
        block, block_bytes = gguf.GGML_QUANT_SIZES[kind]
        size = math.prod(source.shape) // block * block_bytes
        writer.add_tensor_info(name, source.shape, np.dtype(np.float32), size, raw_dtype=kind)
        return size

    def _blocks(self, name: str, source: Source) -> np.ndarray:
        tensors = [self._tensor(key) for key in source.keys]
        tensor = torch.stack(tensors) if len(tensors) > 1 or len(source.shape) > tensors[0].dim() else tensors[0]
        if source.half is not None:
            tensor = tensor.chunk(2, dim=1)[source.half]
        tensor = self._family.changed(name, tensor, self._config)
        assert tuple(tensor.shape) == source.shape, f"{name}: {tuple(tensor.shape)} is not {source.shape}"
        matrices = source.shape[0] if len(source.shape) > 2 else 1
        importance = None if self._importance is None else self._importance.of(name, source.shape[-1], matrices)
        return quantize(tensor.contiguous().numpy(), self._types[name], importance)

    def _tensor(self, key: str) -> Tensor:
        """A stored tensor with the edit in it, fp32; the edit is not rounded to the checkpoint's type."""
        tensor, owner = self._reader.read(key).float(), self._owners.get(key)
        return tensor if owner is None else edited(tensor, owner, self._edit_of)


def plain_name(key: str) -> str:
    """The name of a tensor of a text decoder, without that of the multimodal model around it."""
    for prefix, alone in PREFIXES:
        if key.startswith(prefix):
            return alone + key.removeprefix(prefix)
    return key


def _halves(names: gguf.TensorNameMap, key: str, info: TensorInfo) -> dict[str, Source]:
    """The file's two tensors that one stored tensor of all experts holds."""
    experts, rows, columns = info.shape
    found = {}
    for half, part in enumerate(("gate_proj", "up_proj")):
        name = names.get_name(f"{key.removesuffix('gate_up_proj')}{part}.weight", try_suffixes=(".weight",))
        assert name is not None
        found[name] = Source((info.key,), (experts, rows // 2, columns), half)
    return found


def _place(item: tuple[str, Source]) -> tuple[int, str]:
    number = re.match(r"blk\.(\d+)\.", item[0])
    return (int(number[1]) if number else -1, item[0])
