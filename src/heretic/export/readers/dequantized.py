"""Reads a quantised model as if it were a checkpoint of full precision, one dequantised weight at a time."""

import json
from pathlib import Path

import torch
from torch import Tensor, nn

from ...files import parse_json
from ...model.loading.quantization import dense_weight, is_packed
from ..companions import CONFIG, copy_companions
from .tensors import TensorInfo

DTYPE = torch.bfloat16


class DequantizedReader:
    """The tensors of a loaded model under its own names; packed weights are bfloat16, the others as they are."""

    directory: Path | None = None

    def __init__(self, model: nn.Module, directory: Path) -> None:
        self._directory = directory
        self._packed = {name: module for name, module in model.named_modules() if is_packed(module)}
        self._plain = self._plain_tensors(model)

    def tensors(self) -> tuple[TensorInfo, ...]:
        packed = [
            TensorInfo(f"{name}.weight", DTYPE, (int(module.out_features), int(module.in_features)))
            for name, module in self._packed.items()
        ]
        plain = [TensorInfo(key, tensor.dtype, tuple(tensor.shape)) for key, tensor in self._plain.items()]
        return (*packed, *plain)

    def read(self, key: str) -> Tensor:
        if key in self._plain:
            return self._plain[key].detach().cpu()
        return dense_weight(self._packed[key.removesuffix(".weight")]).to(DTYPE).cpu()

    def write_companions(self, output: Path) -> None:
        copy_companions(self._directory, output)
        config = parse_json((output / CONFIG).read_text(encoding="utf-8"))
        for part in (config, config.get("text_config") or {}):
            part.pop("quantization_config", None)
            part.pop("torch_dtype", None)
        config["dtype"] = str(DTYPE).removeprefix("torch.")
        (output / CONFIG).write_text(json.dumps(config, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")

    def _plain_tensors(self, model: nn.Module) -> dict[str, Tensor]:
        """The tensors that are not packed; of tied tensors only the first.

        `state_dict` is not called: on some CPUs bitsandbytes unpacks its weights for it, and gets other values.
        """
        tensors: dict[str, Tensor] = {}
        seen: set[int] = set()
        for prefix, module in model.named_modules():
            buffers = {
                name: tensor
                for name, tensor in module.named_buffers(recurse=False)
                if name not in module._non_persistent_buffers_set
            }
            # Codes and scales of a packed module; quantisers hang more modules below it.
            packed = next((name for name in self._packed if f"{prefix}.".startswith(f"{name}.")), None)
            for name, tensor in (*module.named_parameters(recurse=False), *buffers.items()):
                inside = packed is not None and (name != "bias" or prefix != packed)
                if inside or tensor.data_ptr() in seen:
                    continue
                seen.add(tensor.data_ptr())
                tensors[f"{prefix}.{name}" if prefix else name] = tensor
        return tensors
