"""Whether the rows of a batch may be padded: measured, since in some models padding changes the state."""

from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

from ..errors import ModelError
from .forward import Forward
from .kv_cache import is_kv_only, make_cache

SHORT, LONG = 7, 48
"""Tokens of the two rows compared: most of the short one is padding."""

MAX_DIFFERENCE = 0.1
"""Tolerance in standard deviations of the logits. Rounding in 16 bits gives a few hundredths."""


@torch.inference_mode()
def padding_is_neutral(forward: Forward, config: Any, device: torch.device, pad: int, n_vocab: int) -> bool:
    """Whether a short row padded to the length of a long one has the logits that it has alone, at its end and one token
    later.

    In a cache of keys and values alone, the mask excludes padding. Other state (recurrent, compressed or selected keys)
    may take it in.

    Raises:
        ModelError: the model works with none of the caches that the engine can make.
    """
    if is_kv_only(make_cache(config, LONG), LONG) and not forward.is_stateful:
        return True
    long = torch.arange(3, 3 + LONG, device=device) % n_vocab
    short = long[:SHORT].flip(0)
    padding = torch.full((LONG - SHORT,), pad, device=device)
    mask = torch.ones(2, LONG, dtype=torch.long, device=device)
    mask[1, : LONG - SHORT] = 0
    rows = torch.stack([long, torch.cat([padding, short])])
    try:
        padded = _two_steps(forward, config, rows, mask)[:, 1]
    except torch.OutOfMemoryError:
        raise
    except (AttributeError, RuntimeError, TypeError, ValueError) as error:
        raise ModelError(
            "Expected a model that continues earlier tokens with a cache of transformers' usual kind, or with one of "
            f"its own that is made without arguments; this one's forward failed ({type(error).__name__}: {error}). "
            "Another version of transformers may have it right; else this family can't be searched."
        ) from error
    alone = _two_steps(forward, config, short[None], torch.ones_like(short[None]))[:, 0]
    return bool((padded - alone).abs().max() < MAX_DIFFERENCE * alone.std())


def _two_steps(
    forward: Forward, config: Any, rows: Int[Tensor, "row position"], mask: Int[Tensor, "row position"]
) -> Float[Tensor, "2 row vocab"]:
    """Logits, fp32, after `rows` and after one more token."""
    cache = make_cache(config, rows.shape[1] + 1)
    first = forward(rows, mask, cache)
    second = forward(rows[:, -1:], torch.cat([mask, mask[:, -1:]], dim=1), cache)
    return torch.stack([first, second]).float()
