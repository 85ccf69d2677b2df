"""Attention of one new position, for bfloat16 on a CPU: two matrix products over keys that are stored transposed.

The library's kernel for this case converts and repacks keys and values at each token. Here keys lie as (rows, heads,
head_dim, positions), so that the scores are a plain product, and the query heads of a group share one product.
"""

from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import pad

NAME = "heretic_decode"


def use_decode_attention(model: Any) -> bool:
    """Lets a model that attends by `sdpa` decode this way; False (and nothing changed) where it is of no use."""
    from transformers.integrations.sdpa_attention import sdpa_attention_forward
    from transformers.masking_utils import ALL_MASK_ATTENTION_FUNCTIONS
    from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

    attends = getattr(model.config, "_attn_implementation", None)
    if model.device.type != "cpu" or model.dtype != torch.bfloat16 or attends not in ("sdpa", NAME):
        return False
    if not model._can_set_attn_implementation():
        return False

    def attention(
        module: Any, query: Tensor, key: Tensor, value: Tensor, attention_mask: Tensor | None, **kwargs: Any
    ) -> tuple[Tensor, Any]:
        special = any(kwargs.get(name) is not None for name in ("softcap", "position_bias", "s_aux", "cache"))
        if query.shape[-2] != 1 or not stored_transposed(key) or special:
            return sdpa_attention_forward(module, query, key, value, attention_mask, **kwargs)
        return decode_attention(query, key, value, attention_mask, kwargs.get("scaling")), None

    ALL_ATTENTION_FUNCTIONS.register(NAME, attention)
    ALL_MASK_ATTENTION_FUNCTIONS.register(NAME, ALL_MASK_ATTENTION_FUNCTIONS["sdpa"])
    model.set_attn_implementation(NAME)
    return True


def stored_transposed(key: Tensor) -> bool:
    """Whether positions, not features, lie side by side in memory."""
    return key.stride(-2) == 1 and key.stride(-1) != 1


def decode_attention(
    query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None, scaling: float | None = None
) -> Tensor:
    """Attention output (rows, 1, heads, head_dim) of one new position.

    query: (rows, heads, 1, head_dim); key and value: (rows, groups, positions, head_dim); mask: boolean or additive,
    (rows or 1, 1, 1, positions). The softmax is taken in fp32.
    """
    rows, heads, _, head_dim = query.shape
    groups, positions = key.shape[1:3]
    scale = head_dim**-0.5 if scaling is None else scaling
    key, value = _whole_buffers(key, value)
    scores = ((query.reshape(rows, groups, heads // groups, head_dim) * scale) @ key.mT).float()
    room = scores.shape[-1] - positions
    if mask is None:
        scores[..., positions:] = float("-inf")
    elif mask.dtype == torch.bool:
        scores.masked_fill_(pad(~mask, (0, room), value=True), float("-inf"))
    else:
        scores.add_(pad(mask, (0, room), value=float("-inf")))
    return (scores.softmax(dim=-1).to(value.dtype) @ value).reshape(rows, 1, heads, value.shape[-1])


def _whole_buffers(key: Tensor, value: Tensor) -> tuple[Tensor, Tensor]:
    """The buffers of which `key` (stored transposed) and `value` are the first positions, or both as they are.

    A batch of matrix products copies a part of a buffer before it multiplies; the whole is taken as it lies. What
    stands behind the positions in use must be finite (engine/kv_cache.py fills buffers with zeros).
    """
    rows, groups, _, head_dim = key.shape
    room = key.stride(-1)
    features = value.shape[-1]
    lie_alike = key.stride()[:2] == (groups * head_dim * room, head_dim * room) and value.stride()[:3] == (
        groups * room * features,
        room * features,
        features,
    )
    if not lie_alike or key.storage_offset() or value.storage_offset():
        return key, value
    whole_key = key.mT.as_strided((rows, groups, head_dim, room), (groups * head_dim * room, head_dim * room, room, 1))
    whole_value = value.as_strided((rows, groups, room, features), (*value.stride()[:3], 1))
    return whole_key.mT, whole_value
