"""Attention of one new position: for bfloat16 on a CPU two matrix products over keys stored transposed, on a GPU the
kernel of masked_attention.py.

On a CPU, torch's kernel for this case converts and repacks keys and values at each token. With keys stored as (rows,
heads, head_dim, positions), the scores are a plain product, and the query heads of a group share one product.
"""

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from jaxtyping import Float, Shaped
from torch import Tensor
from torch.nn.functional import pad

from .gpu_kernels import MaskedAttention, gpu_kernels, kernel_shape
from .short_attention import is_short, short_attention

NAME = "heretic_decode"
GPU_NAME = "heretic_masked"
MAX_HEAD_DIM = 256
"""Largest head of the GPU's kernel, which holds a block of keys in registers."""


def use_decode_attention(model: Any) -> bool:
    """Sets the attention of a CPU in bfloat16 on a model that uses `sdpa`; False, and no change, elsewhere."""
    if model.device.type != "cpu" or model.dtype != torch.bfloat16 or not _can_be_set(model):
        return False
    _set(model, NAME, _attention_on_cpu)
    return True


def use_masked_attention(model: Any) -> bool:
    """Sets the attention of a GPU's recorded steps on a model that uses `sdpa`; False, and no change, without the
    kernel."""
    kernel = gpu_kernels(model.device, model.dtype, kernel_shape(model)).attention
    if kernel is None or not _can_be_set(model):
        return False
    _set(model, GPU_NAME, partial(_attention_on_gpu, kernel))
    return True


def _can_be_set(model: Any) -> bool:
    attends = getattr(model.config, "_attn_implementation", None)
    return attends in ("sdpa", NAME, GPU_NAME) and bool(model._can_set_attn_implementation())


def _set(model: Any, name: str, attention: Callable[..., Any]) -> None:
    from transformers.masking_utils import ALL_MASK_ATTENTION_FUNCTIONS
    from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

    ALL_ATTENTION_FUNCTIONS.register(name, attention)
    ALL_MASK_ATTENTION_FUNCTIONS.register(name, ALL_MASK_ATTENTION_FUNCTIONS["sdpa"])
    model.set_attn_implementation(name)


def _attention_on_cpu(
    module: Any, query: Tensor, key: Tensor, value: Tensor, attention_mask: Tensor | None, **kwargs: Any
) -> tuple[Tensor, Any]:
    if not _is_special(kwargs):
        if query.shape[-2] == 1 and stored_transposed(key):
            return decode_attention(query, key, value, attention_mask, kwargs.get("scaling")), None
        if is_short(query, key, attention_mask, _is_causal(module, kwargs)):
            return short_attention(query, key, value, attention_mask, kwargs.get("scaling")), None
    return _library_attention(module, query, key, value, attention_mask, **kwargs)


def _attention_on_gpu(
    kernel: MaskedAttention,
    module: Any,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    **kwargs: Any,
) -> tuple[Tensor, Any]:
    mask = attention_mask
    # A mask to add, one for each row and for all heads: that of a recorded step.
    fits = mask is not None and mask.is_floating_point() and mask.shape[:3] == (len(query), 1, 1)
    if query.shape[-2] != 1 or not fits or max(key.shape[-1], value.shape[-1]) > MAX_HEAD_DIM or _is_special(kwargs):
        return _library_attention(module, query, key, value, mask, **kwargs)
    assert mask is not None
    return kernel(query, key, value, mask, kwargs.get("scaling")), None


def _library_attention(*args: Any, **kwargs: Any) -> tuple[Tensor, Any]:
    from transformers.integrations.sdpa_attention import sdpa_attention_forward

    return sdpa_attention_forward(*args, **kwargs)


def _is_special(kwargs: dict[str, Any]) -> bool:
    unusual = any(kwargs.get(name) is not None for name in ("softcap", "position_bias", "s_aux", "cache"))
    return unusual or bool(kwargs.get("dropout"))


def _is_causal(module: Any, kwargs: dict[str, Any]) -> bool:
    given = kwargs.get("is_causal")
    return bool(getattr(module, "is_causal", True) if given is None else given)


def stored_transposed(key: Tensor) -> bool:
    """Whether positions, not features, are contiguous in memory."""
    return key.stride(-2) == 1 and key.stride(-1) != 1


def decode_attention(
    query: Float[Tensor, "row head 1 head_dim"],
    key: Float[Tensor, "row group position head_dim"],
    value: Float[Tensor, "row group position feature"],
    mask: Shaped[Tensor, "#row 1 1 position"] | None,
    scaling: float | None = None,
) -> Float[Tensor, "row 1 head feature"]:
    """Attention output of one new position, with a boolean or an additive mask. The softmax is computed in fp32."""
    rows, heads, _, head_dim = query.shape
    groups, positions = key.shape[1:3]
    scale = head_dim**-0.5 if scaling is None else scaling
    key, value = _whole_buffers(key, value)
    scores = ((query.reshape(rows, groups, heads // groups, head_dim) * scale) @ key.mT).float()
    n_unused = scores.shape[-1] - positions
    if mask is None:
        scores[..., positions:] = float("-inf")
    elif mask.dtype == torch.bool:
        scores.masked_fill_(pad(~mask, (0, n_unused), value=True), float("-inf"))
    else:
        scores.add_(pad(mask, (0, n_unused), value=float("-inf")))
    return (scores.softmax(dim=-1).to(value.dtype) @ value).reshape(rows, 1, heads, value.shape[-1])


def _whole_buffers(key: Tensor, value: Tensor) -> tuple[Tensor, Tensor]:
    """The buffers of which `key` (stored transposed) and `value` are the first positions, or both unchanged.

    A batched matrix product copies a part of a buffer first, but not a whole buffer. Unused positions must be finite
    (engine/kv_cache.py fills buffers with zeros).
    """
    rows, groups, _, head_dim = key.shape
    capacity = key.stride(-1)
    features = value.shape[-1]
    key_strides = groups * head_dim * capacity, head_dim * capacity
    value_strides = groups * capacity * features, capacity * features, features
    whole = key.stride()[:2] == key_strides and value.stride()[:3] == value_strides
    if not whole or key.storage_offset() or value.storage_offset():
        return key, value
    whole_key = key.mT.as_strided((rows, groups, head_dim, capacity), (*key_strides, capacity, 1))
    whole_value = value.as_strided((rows, groups, capacity, features), (*value_strides, 1))
    return whole_key.mT, whole_value
