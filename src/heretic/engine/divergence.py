"""KL divergence between next-token distributions."""

from jaxtyping import Float
from torch import Tensor


def kl_divergence(
    baseline: Float[Tensor, "prompt vocab"], candidate: Float[Tensor, "prompt vocab"]
) -> Float[Tensor, " prompt"]:
    """KL(baseline || candidate) in nats, one a prompt, from log-probabilities.

    `Σ p_base (log p_base - log p_candidate)`; its mean is `F.kl_div(candidate, baseline, reduction="batchmean",
    log_target=True)`. A token to which the baseline gives probability 0 adds 0, for any probability of the candidate.
    """
    terms = baseline.exp() * (baseline - candidate)
    return terms.masked_fill(baseline.isneginf(), 0.0).sum(dim=-1)
