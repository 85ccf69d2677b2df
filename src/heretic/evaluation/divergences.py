"""KL divergences of candidates from the baseline, prompt by prompt: at the first token, and along its answers."""

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from ..ablation.edit import ModelEdit
from ..engine.base import Engine, Progress, Response, no_progress
from ..prompts.prompt import Prompt
from .kl import kl_divergence

ANSWER_POSITIONS = 32


def first_token_divergences(
    engine: Engine,
    prompts: Sequence[Prompt],
    baseline: Float[Tensor, "prompt vocab"],
    edits: Sequence[ModelEdit],
    progress: Progress = no_progress,
) -> Float[Tensor, "candidate prompt"]:
    """KL divergence of the first response token from the baseline's log-probabilities, fp64."""
    rows = engine.first_token_log_probabilities(prompts, edits, progress)
    return torch.stack([kl_divergence(baseline, each) for each in rows]).double()


def answer_divergences(
    engine: Engine,
    prompts: Sequence[Prompt],
    answers: Sequence[Response],
    edits: Sequence[ModelEdit],
    progress: Progress = no_progress,
) -> Float[Tensor, "candidate prompt"]:
    """Mean KL divergence a token over the first `ANSWER_POSITIONS` of the baseline's own answers, fp64.

    Teacher-forced: every model reads the same answer, so that one early difference does not make all that follows
    incomparable. An answer that ended earlier counts up to its end of text. The baseline runs in the same batches.
    """
    forced = [_forced(answer) for answer in answers]
    found = torch.zeros(len(edits), len(prompts), dtype=torch.float64)
    for index, rows in engine.answer_log_probabilities(prompts, forced, [{}, *edits], progress):
        for candidate, each in enumerate(rows[1:]):
            found[candidate, index] = kl_divergence(rows[0], each).double().mean()
    return found


def _forced(answer: Response) -> tuple[int, ...]:
    """The tokens behind which a token of the answer was chosen, among its first: all but the last chosen one."""
    chosen = len(answer.tokens) + answer.complete
    return answer.tokens[: max(0, min(chosen, ANSWER_POSITIONS) - 1)]
