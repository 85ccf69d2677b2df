"""The choice of the next token."""

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor


@dataclass(frozen=True, slots=True)
class Sampling:
    """How the next token is chosen: the likeliest at temperature 0, else drawn.

    `top_k` keeps the k likeliest tokens (0: all), and `top_p` the likeliest tokens whose probabilities first sum to p
    (nucleus sampling, Holtzman et al. 2020, arXiv 1904.09751); both apply after the temperature.
    """

    temperature: float = 0.0
    top_p: float = 1.0
    top_k: int = 0


GREEDY = Sampling()


def choose(logits: Float[Tensor, " vocab"], sampling: Sampling, generator: torch.Generator) -> int:
    """The next token, from fp32 logits on the CPU."""
    if sampling.temperature == 0:
        return int(logits.argmax())
    probabilities, tokens = (logits / sampling.temperature).softmax(dim=-1).sort(descending=True, stable=True)
    kept = torch.ones_like(probabilities, dtype=torch.bool)
    if sampling.top_k:
        kept[sampling.top_k :] = False
    # A token stays while the likelier ones sum to less than top_p: the one that reaches it is the last.
    kept &= (probabilities * kept).cumsum(dim=-1) - probabilities < sampling.top_p * (probabilities * kept).sum()
    drawn = torch.multinomial(probabilities * kept, 1, generator=generator)
    return int(tokens[drawn])
