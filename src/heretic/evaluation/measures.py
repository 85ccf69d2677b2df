"""What was measured: of the baseline, and of a candidate."""

from dataclasses import dataclass
from typing import Literal

from jaxtyping import Float
from pydantic import BaseModel, ConfigDict
from torch import Tensor

from .scorers.refusal_logodds import RefusalTokens


class Evaluation(BaseModel):
    """What was measured of one candidate: refusals among `prompts` bad prompts, mean KL (nats) on the good ones.

    Where the candidate was given up as dominated, `bound` is True: it has at least `refusals`, and `estimate` is what
    it would probably have had. Where all was measured, `declined_at` holds for each bad prompt the token at which its
    response was known to be a refusal, None where it was none. `probability` is the mean probability that a response
    begins as refusals do, measured where the objective asks for it; `over_refusals` are those of harmless prompts that
    look harmful, always measured to the end, where they are an objective.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    version: Literal[1] = 1
    refusals: int
    prompts: int
    kl_divergence: float
    bound: bool = False
    estimate: float | None = None
    declined_at: tuple[int | None, ...] | None = None
    probability: float | None = None
    over_refusals: int | None = None


@dataclass(frozen=True, slots=True)
class Baseline:
    """What candidates are held against: the unmodified model's log-probabilities (fp32) and refusals.

    `tokens`: what its refusals begin with, and `probability` how likely that is on the bad prompts, where needed.
    `over_refusals` of `over_prompts` harmless prompts, where they are an objective.
    """

    log_probabilities: Float[Tensor, "prompt vocab"]
    refusals: int
    prompts: int
    tokens: RefusalTokens | None = None
    probability: float | None = None
    over_refusals: int | None = None
    over_prompts: int | None = None
