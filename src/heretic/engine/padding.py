"""Whether rows may be padded: measured, since not every model leaves padding out."""

from typing import Any

import torch

from .cache import can_be_divided, make_cache
from .forward import Forward

SHORT, LONG = 7, 48


@torch.inference_mode()
def padding_is_neutral(forward: Forward, config: Any, device: torch.device, pad: int, n_tokens: int) -> bool:
    """Whether a short row beside a long one gives the logits that it gives alone.

    A cache of positions alone is masked; what else a model keeps (recurrent states, compressed or selected keys) may
    take padding in. `n_tokens` is the size of the vocabulary.
    """
    if can_be_divided(make_cache(config, LONG), LONG):
        return True
    long = torch.arange(3, 3 + LONG, device=device) % n_tokens
    short = long[:SHORT].flip(0)
    padding = torch.full((LONG - SHORT,), pad, device=device)
    mask = torch.ones(2, LONG, dtype=torch.long, device=device)
    mask[1, : LONG - SHORT] = 0
    rows = torch.stack([long, torch.cat([padding, short])])
    beside = forward(rows, mask, make_cache(config, LONG))[1].float()
    alone = forward(short[None], torch.ones_like(short[None]), make_cache(config, LONG))[0].float()
    # What rounding leaves in 16 bits is a few hundredths.
    return bool((beside - alone).abs().max() < 0.1 * alone.std())
