"""The kernels of an engine's options, set on its model."""

from typing import Any

from ..model.kernels.decode_attention import use_decode_attention, use_masked_attention
from ..model.kernels.fused_norm import fuse_norms
from ..model.kernels.packed_linear import pack_weights
from .options import EngineOptions


def use_kernels(model: Any, options: EngineOptions) -> None:
    """Replaces attention, norms and linear products of the model by faster ones where its device has them."""
    if options.fast_attention:
        use_decode_attention(model)
    if options.gpu_kernels:
        use_masked_attention(model)
        if model.device.type == "cuda":
            fuse_norms(model)
    if options.packed_weights:
        pack_weights(model)
