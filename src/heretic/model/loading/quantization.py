"""Quantised models: the kind of a checkpoint, the arguments that load it, and dense values of its packed weights."""

import importlib.util
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from ...errors import ModelError
from ...files import parse_json
from ...installing import install_command
from ..placement import device_of, is_offloaded, present
from ..sharding import whole
from .checkpoint import Checkpoint

if TYPE_CHECKING:
    from ...config import ModelSettings

COLUMNS = 256
"""Columns of a packed weight computed at once: a fast product, with 2 MB of unit vectors for a d_in of 4096."""

DENSE = frozenset({torch.float64, torch.float32, torch.float16, torch.bfloat16})


@dataclass(frozen=True, slots=True)
class Kind:
    """One kind of quantised checkpoint: the packages that it needs, and whether it is dequantised on loading."""

    packages: tuple[str, ...] = ()
    dequantized: bool = False


KINDS = {
    "bitsandbytes": Kind(("bitsandbytes",)),
    "gptq": Kind(("optimum", "gptqmodel")),
    "awq": Kind(("gptqmodel",)),
    # transformers dequantises these two by itself where no GPU can multiply them.
    "fp8": Kind(),
    "mxfp4": Kind(),
    # Its packed layers can be loaded and saved, but only vLLM has their matrix products.
    "compressed-tensors": Kind(("compressed_tensors",), dequantized=True),
}


MLX = "mlx"
"""The quantisation of Apple's MLX, which transformers can't read."""


def stored_quantization(checkpoint: Checkpoint) -> str | None:
    """The quantisation method in the checkpoint's configuration; None for plain weights.

    A GGUF file counts as plain: it is read as a checkpoint of full precision.
    """
    config = _quantization_config(checkpoint)
    if config is None:
        return None
    method = config.get("quant_method")
    if method:
        return str(method)
    # bitsandbytes did not always write its name, and MLX never does.
    return "bitsandbytes" if "load_in_4bit" in config else MLX if {"group_size", "bits"} <= config.keys() else "unknown"


def stored_bits(checkpoint: Checkpoint) -> str:
    """The value of `quantization` closest to a bitsandbytes checkpoint's own."""
    return "bnb_4bit" if (_quantization_config(checkpoint) or {}).get("load_in_4bit") else "bnb_8bit"


def _quantization_config(checkpoint: Checkpoint) -> dict[str, Any] | None:
    path = checkpoint.directory / "config.json"
    if checkpoint.gguf_file is not None or not path.is_file():
        return None
    try:
        config = parse_json(path.read_text(encoding="utf-8"))
    except ValueError:
        # Loading the checkpoint reports the error.
        return None
    if not isinstance(config, dict):
        return None
    text = config.get("text_config")
    found = config.get("quantization_config") or (text.get("quantization_config") if isinstance(text, dict) else None)
    return found if isinstance(found, dict) else None


def check_packages(settings: "ModelSettings") -> None:
    """Raises:
    ModelError: `quantization` is set, and the package that does it is missing.
    """
    if settings.quantization != "none" and importlib.util.find_spec("bitsandbytes") is None:
        raise ModelError(
            f"Expected bitsandbytes, which loads a model in fewer bits (quantization = {settings.quantization}), but "
            f"it is not installed. Install it with: {install_command('quantization')}"
        )


def check_quantization(checkpoint: Checkpoint, settings: "ModelSettings") -> None:
    """Checks that the checkpoint's own quantisation can be loaded, and is not quantised again.

    Raises:
        ModelError: a package is missing, or `quantization` is set too.
    """
    check_packages(settings)
    check_readable(checkpoint)
    method = stored_quantization(checkpoint)
    if method is not None and settings.quantization != "none":
        raise ModelError(
            f"Expected a model of full precision for quantization = {settings.quantization}, but {checkpoint.name} is "
            f"quantised already ({method}). Leave quantization out, or give the model that it was made from."
        )


def check_readable(checkpoint: Checkpoint) -> None:
    """Checks that this installation can read the checkpoint's own quantisation; of its files only config.json need be
    there.

    Raises:
        ModelError: it is that of another library, or a package is missing.
    """
    method = stored_quantization(checkpoint)
    if method == MLX:
        raise ModelError(
            f"Expected a model that transformers can read, but {checkpoint.name} is quantised for Apple's MLX. Give "
            "the model that it was made from, or convert it back first (mlx_lm.convert --dequantize)."
        )
    missing = [name for name in KINDS.get(method or "", Kind()).packages if importlib.util.find_spec(name) is None]
    if missing:
        raise ModelError(
            f"{checkpoint.name} is quantised ({method}), and transformers needs {' and '.join(missing)} to load that: "
            f"pip install {' '.join(missing).replace('_', '-')}. Or give the model that it was made from."
        )


def quantization_arguments(checkpoint: Checkpoint, settings: "ModelSettings", dtype: torch.dtype) -> dict[str, Any]:
    """Arguments of `from_pretrained` for quantisation."""
    if checkpoint.gguf_file:
        from transformers import GgufConfig

        # Packed weights would be unpacked again at every forward.
        return {"quantization_config": GgufConfig(dequantize=True)}
    if settings.quantization != "none":
        return {"quantization_config": _bits_and_bytes(settings.quantization, dtype)}
    if KINDS.get(stored_quantization(checkpoint) or "", Kind()).dequantized:
        return {"config": _dequantizing_config(checkpoint, settings)}
    return {}


def _bits_and_bytes(quantization: str, dtype: torch.dtype) -> Any:
    from transformers import BitsAndBytesConfig

    if quantization == "bnb_8bit":
        return BitsAndBytesConfig(load_in_8bit=True)
    return BitsAndBytesConfig(
        load_in_4bit=True, bnb_4bit_compute_dtype=dtype, bnb_4bit_quant_type="nf4", bnb_4bit_use_double_quant=True
    )


def _dequantizing_config(checkpoint: Checkpoint, settings: "ModelSettings") -> Any:
    from transformers import AutoConfig

    config = AutoConfig.from_pretrained(checkpoint.directory, trust_remote_code=settings.trust_remote_code or False)
    config.quantization_config = dict(config.quantization_config, dequantize=True)
    return config


def even_out(model: nn.Module, checkpoint: Checkpoint, dtype: torch.dtype) -> None:
    """Converts a model that was dequantised on loading to one dtype: some weights have that of their scales."""
    if stored_quantization(checkpoint) is not None and not any(map(is_packed, model.modules())):
        model.to(dtype)


def is_packed(module: nn.Module) -> bool:
    """Whether a linear module stores its weight as quantised codes."""
    weight = getattr(module, "weight", None)
    if not isinstance(weight, Tensor):
        return hasattr(module, "in_features")
    return hasattr(module, "in_features") and (
        weight.dtype not in DENSE or tuple(weight.shape) != (module.out_features, module.in_features)
    )


@torch.inference_mode()
def dense_weight(module: nn.Module) -> Tensor:
    """The weight that a linear module multiplies by: (d_out, d_in) where it is packed, else as it is stored.

    A packed weight is measured: its columns are the module's outputs for unit vectors, less the bias. So the result is
    that of the forward, whatever the format.
    """
    if not is_packed(module):
        offloaded = is_offloaded(module)
        with present(module):
            weight: Tensor = module.weight  # type: ignore[assignment]
            return weight.clone() if offloaded else whole(weight)
    d_in = int(module.in_features)  # type: ignore[arg-type]
    device, dtype = device_of(module), _input_dtype(module)
    bias = getattr(module, "bias", None)
    pieces = []
    for start in range(0, d_in, COLUMNS):
        width = min(COLUMNS, d_in - start)
        units = torch.zeros(width, d_in, device=device, dtype=dtype)
        units[torch.arange(width), torch.arange(start, start + width)] = 1
        written = module(units)
        pieces.append(written if bias is None else written - bias)
    return torch.cat(pieces).mT.contiguous()


def _input_dtype(module: nn.Module) -> torch.dtype:
    """The dtype that a packed module computes in: its `compute_dtype`, or that of its scales."""
    declared = getattr(module, "compute_dtype", None)
    if isinstance(declared, torch.dtype):
        return declared
    stored = [each.dtype for each in (*module.parameters(), *module.buffers()) if each.dtype in DENSE]
    return stored[0] if stored else torch.float16
