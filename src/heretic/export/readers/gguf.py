"""Reads a GGUF file as if it were a checkpoint of full precision, dequantising one tensor at a time.

Names and the reshaping that llama.cpp's converter did are undone by transformers' own tables, so that the result is
what transformers loads from the same file.
"""

import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import torch
from torch import Tensor
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer, GenerationConfig
from transformers.modeling_gguf_pytorch_utils import TENSOR_PROCESSORS, TensorProcessor, get_gguf_hf_weights_map
from transformers.modeling_utils import PreTrainedModel

from ...errors import ExportError
from ...model.loading.chat_templates import settle_chat_template
from ...model.loading.checkpoint import Checkpoint, gguf_parts
from ...model.loading.fast_gguf import SplitGGUFReader, fast_gguf, open_gguf
from .tensors import TensorInfo

# transformers converts these by other tables, which work on whole models only.
NOT_BY_PROCESSORS = frozenset({"qwen35", "qwen35moe"})


class GGUFCheckpointReader:
    """A GGUF file under the names of the transformers model; output weights tied to the embedding are not there."""

    directory: Path | None = None

    def __init__(self, directory: Path, gguf_file: str) -> None:
        self._directory = directory
        self._gguf_file = gguf_file
        self.path = directory / gguf_file
        self.paths = gguf_parts(self.path)
        self.file = _open(self.path)
        with fast_gguf():
            self._config, self._model = _empty_model(directory, gguf_file)
        architecture = str(self.file.fields["general.architecture"].contents())
        if architecture in NOT_BY_PROCESSORS:
            raise ExportError(
                f"{self.path} is of the architecture {architecture}, whose GGUF files can't be exported yet: "
                "use the safetensors checkpoint of this model"
            )
        self._processor: TensorProcessor = TENSOR_PROCESSORS.get(architecture, TensorProcessor)(
            config=self._config.to_dict()
        )
        with fast_gguf():
            self._names: dict[str, str] = get_gguf_hf_weights_map(self._model, self._processor)
        self._dtype = _stored_dtype(self.file)
        self._sources = self._find_sources(architecture)

    @property
    def parts(self) -> list[gguf.GGUFReader]:
        """A reader of each part of a split file; else the one of the file."""
        return self.file.parts if isinstance(self.file, SplitGGUFReader) else [self.file]

    def tensors(self) -> tuple[TensorInfo, ...]:
        shapes = self._model.state_dict()
        return tuple(TensorInfo(key, self._dtype, tuple(shapes[key].shape)) for key in self._sources)

    def read(self, key: str) -> Tensor:
        return self.read_exact(key).to(self._dtype)

    def read_exact(self, key: str) -> Tensor:
        """The dequantised tensor before it is rounded to the stored type."""
        return self._loaded(key, (gguf.dequantize(each.data, each.tensor_type) for each in self._sources[key]))

    def sources(self, key: str) -> tuple[gguf.ReaderTensor, ...]:
        """The file's tensors that the model's tensor `key` is made of."""
        return tuple(self._sources[key])

    def order(self, key: str) -> Tensor | None:
        """How loading rearranges the one tensor of `key`: entry n of the model's tensor is entry order[n] of the
        file's, both in row-major order; None where they are the same.

        Raises:
            ExportError: the model's tensor is no rearrangement of one tensor of the file.
        """
        sources = self._sources[key]
        shape = tuple(reversed(sources[0].shape.tolist()))
        places = np.arange(sources[0].n_elements, dtype=np.int32 if sources[0].n_elements < 2**31 else np.int64)
        order = self._loaded(key, iter([places.reshape(shape)])).flatten() if len(sources) == 1 else None
        straight = torch.from_numpy(places)
        if order is None or order.dtype != straight.dtype or not torch.equal(order.sort().values, straight):
            raise ExportError(
                f"{key} is not stored in {self.path} as one tensor that could be put back edited: "
                "write the merged model instead (--export merge)"
            )
        return None if torch.equal(order, straight) else order.long()

    def _loaded(self, key: str, arrays: Iterator[np.ndarray]) -> Tensor:
        """The model's tensor, made of the file's by transformers' own table."""
        parsed: dict[str, dict[str, Tensor]] = {"tensors": {}}
        for source, array in zip(self._sources[key], arrays, strict=True):
            result = self._processor.process(
                weights=array, name=source.name, tensor_key_mapping=self._names, parsed_parameters=parsed
            )
            # A processor that joins several tensors into one stores the result itself.
            if key not in parsed["tensors"]:
                return torch.from_numpy(np.copy(result.weights))
        return parsed["tensors"][key]

    def write_companions(self, output: Path) -> None:
        with fast_gguf():
            tokenizer = AutoTokenizer.from_pretrained(str(self._directory), gguf_file=self._gguf_file)
            settle_chat_template(tokenizer, Checkpoint(self._gguf_file, self._directory, self._gguf_file))
        tokenizer.save_pretrained(str(output))
        GenerationConfig.from_model_config(self._config).save_pretrained(str(output))
        self._config.architectures = [type(self._model).__name__]
        self._config.dtype = self._dtype
        self._config.save_pretrained(str(output))

    def _find_sources(self, architecture: str) -> dict[str, list[gguf.ReaderTensor]]:
        """The file's tensors of each key of the model, in file order; tensors that it does not use are left out."""
        sources: dict[str, list[gguf.ReaderTensor]] = {}
        for tensor in self.file.tensors:
            # Fused experts are parameters, not modules: their names end before ".weight".
            key = self._names.get(tensor.name) or self._names.get(tensor.name.removesuffix(".weight"))
            if key is None and (architecture, tensor.name) == ("gpt2", "output.weight"):
                # Its processor knows this name, its table does not.
                key = "lm_head.weight"
            if key is not None:
                sources.setdefault(key, []).append(tensor)
        return sources


def _open(path: Path) -> gguf.GGUFReader:
    if not path.is_file():
        raise ExportError(f"{path} should be a GGUF file and is not there: name a file of that directory")
    try:
        return open_gguf(path)
    except (ValueError, IndexError, KeyError, OSError, struct.error) as error:
        raise ExportError(
            f"{path} should be a GGUF file and can't be read as one ({error}): it is damaged or was not downloaded to "
            "its end, download it again"
        ) from error


def _empty_model(directory: Path, gguf_file: str) -> tuple[Any, PreTrainedModel]:
    """Configuration, and the model without weights."""
    try:
        config = AutoConfig.from_pretrained(str(directory), gguf_file=gguf_file)
    except (ValueError, KeyError) as error:
        raise ExportError(
            f"transformers can't make a configuration from {directory / gguf_file} ({error}): "
            "use the safetensors checkpoint of this model"
        ) from error
    # What is written is no longer quantised.
    config.__dict__.pop("quantization_config", None)
    with torch.device("meta"):
        return config, AutoModelForCausalLM.from_config(config)


def _stored_dtype(file: gguf.GGUFReader) -> torch.dtype:
    """bfloat16 for a quantised file; a file of plain floats keeps its own type."""
    types = {tensor.tensor_type for tensor in file.tensors}
    if types <= {gguf.GGMLQuantizationType.F32}:
        return torch.float32
    # Norms are F32 in files of every type.
    if types <= {gguf.GGMLQuantizationType.F32, gguf.GGMLQuantizationType.F16}:
        return torch.float16
    return torch.bfloat16
