"""The loss of learned edits: keep the baseline's answers, and make its refusals and answers in circles unlikely.

    loss = KL_1 + a mean(KL_2 .. KL_K) + b mean(KL on bad prompts) + lambda mean(softplus(log p(refusal) + margin))
         + c mean(softplus(log p(loop) + loop margin))

KL_k is the divergence from the baseline at the k-th scored token of the baseline's own answers to good prompts, in
nats; log p(refusal) is the log-probability of a whole piece of a refusal. The gradient of the softplus vanishes for a
refusal that is less likely than exp(-margin): it needs no further damage. log p(loop) is the same of the first piece
that a response repeats.

The loss is a weighted sum over divergences and refusals whose weights are known in advance, so rows can run a few at a
time.
"""

from collections.abc import Sequence

from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import softplus


def answer_weights(scored: Sequence[int], later: float) -> list[list[float]]:
    """The weight of each scored token of answers to good prompts, given the number of scored tokens in each row.

    The first token's divergence is averaged over rows, the others' over all that are scored, times `later`.
    """
    others = max(1, sum(scored) - len(scored))
    return [[1 / len(scored), *[later / others] * (count - 1)] for count in scored]


def mean_weights(scored: Sequence[int]) -> list[list[float]]:
    """The weight of each scored token in the mean over all of them."""
    total = max(1, sum(scored))
    return [[1 / total] * count for count in scored]


def refusal_losses(
    log_probabilities: Float[Tensor, "row scored"],
    counted: Float[Tensor, "row scored"],
    margins: Float[Tensor, " row"],
) -> Float[Tensor, " row"]:
    """softplus(log p of the whole piece + margin) of each row."""
    whole = (log_probabilities * counted).sum(dim=-1)
    return softplus(whole + margins)
