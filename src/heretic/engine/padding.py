"""Whether rows may be padded: measured, since not every model leaves padding out."""

from typing import Any

import torch
from torch import Tensor

from ..errors import ModelError
from .forward import Forward
from .kv_cache import can_be_divided, make_cache

SHORT, LONG = 7, 48


@torch.inference_mode()
def padding_is_neutral(forward: Forward, config: Any, device: torch.device, pad: int, n_tokens: int) -> bool:
    """Whether a short row beside a long one gives the logits that it gives alone, at its end and one token later.

    A cache of positions alone is masked; what else a model keeps (recurrent states, compressed or selected keys) may
    take padding in. `n_tokens` is the size of the vocabulary.

    Raises:
        ModelError: the model takes no cache that can be made here.
    """
    if can_be_divided(make_cache(config, LONG), LONG) and not forward.is_stateful:
        return True
    long = torch.arange(3, 3 + LONG, device=device) % n_tokens
    short = long[:SHORT].flip(0)
    padding = torch.full((LONG - SHORT,), pad, device=device)
    mask = torch.ones(2, LONG, dtype=torch.long, device=device)
    mask[1, : LONG - SHORT] = 0
    rows = torch.stack([long, torch.cat([padding, short])])
    try:
        beside = _two_steps(forward, config, rows, mask)[:, 1]
    except (AttributeError, TypeError, ValueError) as error:
        raise ModelError(
            "Expected a model that goes on from earlier tokens by a cache of the usual kind or its own, made "
            f"without arguments; this one's forward failed ({type(error).__name__}: {error})."
        ) from error
    alone = _two_steps(forward, config, short[None], torch.ones_like(short[None]))[:, 0]
    # What rounding leaves in 16 bits is a few hundredths.
    return bool((beside - alone).abs().max() < 0.1 * alone.std())


def _two_steps(forward: Forward, config: Any, rows: Tensor, mask: Tensor) -> Tensor:
    """Logits, (2, rows, vocab) fp32, behind `rows` and behind one more token."""
    cache = make_cache(config, rows.shape[1] + 1)
    first = forward(rows, mask, cache)
    second = forward(rows[:, -1:], torch.cat([mask, mask[:, -1:]], dim=1), cache)
    return torch.stack([first, second]).float()
