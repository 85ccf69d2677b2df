"""What is learned: the baseline's answers stay, its refusals go.

    loss = KL_1 + a mean(KL_2 .. KL_K) + b mean(KL on bad prompts) + lambda mean(softplus(log p(refusal) + margin))

KL_k is the divergence from the baseline at the k-th scored token of the baseline's own answers to good prompts, in
nats; log p(refusal) the log-probability of a whole piece of a refusal. Softplus stops pushing a refusal that is less
likely than exp(-margin): what is gone needs no more damage.
"""

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import softplus


@dataclass(frozen=True, slots=True)
class Weights:
    """`later` is a, `bad` is b, `margin` in nats."""

    later: float
    bad: float
    margin: float


def answer_loss(
    divergences: Float[Tensor, "row scored"], counted: Float[Tensor, "row scored"], later: float
) -> Float[Tensor, ""]:
    """The first token's divergence, and `later` times the mean of the others', averaged over rows."""
    others = (divergences[:, 1:] * counted[:, 1:]).sum() / counted[:, 1:].sum().clamp_min(1)
    return divergences[:, 0].mean() + later * others


def mean_divergence(
    divergences: Float[Tensor, "row scored"], counted: Float[Tensor, "row scored"]
) -> Float[Tensor, ""]:
    """The mean over all counted places."""
    return (divergences * counted).sum() / counted.sum().clamp_min(1)


def refusal_loss(
    log_probabilities: Float[Tensor, "row scored"], counted: Float[Tensor, "row scored"], margin: float
) -> Float[Tensor, ""]:
    """softplus(log p of the whole piece + margin), averaged over rows."""
    whole = (log_probabilities * counted).sum(dim=-1)
    return softplus(whole + margin).mean()


def total_loss(
    good: Float[Tensor, ""], bad: Float[Tensor, ""] | None, refusals: Float[Tensor, ""], weights: Weights, lam: float
) -> Float[Tensor, ""]:
    """The loss; `bad` is None where there are no answers to bad prompts."""
    total = good + lam * refusals
    return total if bad is None else total + weights.bad * torch.as_tensor(bad)
