"""The choice of the next token."""

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True, slots=True)
class Sampling:
    """How the next token is chosen: the likeliest at temperature 0, else drawn.

    Of the tokens to draw from, `top_k` keeps that many of the likeliest (0: all), and `top_p` the likeliest whose
    probabilities first sum to it (nucleus sampling, Holtzman et al. 2020, arXiv 1904.09751); both after the
    temperature.
    """

    temperature: float = 0.0
    top_p: float = 1.0
    top_k: int = 0


GREEDY = Sampling()


def choose(logits: Tensor, sampling: Sampling, generator: torch.Generator) -> int:
    """A token of `logits`, (vocab,) fp32 on the CPU."""
    if sampling.temperature == 0:
        return int(logits.argmax())
    probabilities, tokens = (logits / sampling.temperature).softmax(dim=-1).sort(descending=True, stable=True)
    kept = torch.ones_like(probabilities, dtype=torch.bool)
    if sampling.top_k:
        kept[sampling.top_k :] = False
    # A token stays while those before it sum to less: the one that reaches top_p is the last.
    kept &= (probabilities * kept).cumsum(dim=-1) - probabilities < sampling.top_p * (probabilities * kept).sum()
    drawn = torch.multinomial(probabilities * kept, 1, generator=generator)
    return int(tokens[drawn])
