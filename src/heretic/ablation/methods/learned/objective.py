"""What is learned: the baseline's answers stay, its refusals go.

    loss = KL_1 + a mean(KL_2 .. KL_K) + b mean(KL on bad prompts) + lambda mean(softplus(log p(refusal) + margin))

KL_k is the divergence from the baseline at the k-th scored token of the baseline's own answers to good prompts, in
nats; log p(refusal) the log-probability of a whole piece of a refusal. Softplus stops pushing a refusal that is less
likely than exp(-margin): what is gone needs no more damage.

Of the divergences the loss is a weighted sum and of the refusals a sum over rows, so that rows can be run a few at a
time: the weights are known before.
"""

from collections.abc import Sequence

from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import softplus


def answer_weights(scored: Sequence[int], later: float) -> list[list[float]]:
    """Of each scored token of answers to good prompts, given how many are scored in each row.

    The first token's divergence is averaged over rows, the others' over all that are scored, times `later`.
    """
    others = max(1, sum(scored) - len(scored))
    return [[1 / len(scored), *[later / others] * (count - 1)] for count in scored]


def mean_weights(scored: Sequence[int]) -> list[list[float]]:
    """Of each scored token: those of the mean over all of them."""
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
