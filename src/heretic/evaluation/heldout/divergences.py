"""KL divergences of candidates from the baseline, prompt by prompt: at the first token, and along its answers."""

from collections.abc import Sequence
from functools import singledispatch
from itertools import chain

import torch
from jaxtyping import Float
from torch import Tensor

from ...ablation.edit import ModelEdit
from ...engine.divergence import kl_divergence
from ...engine.protocol import Engine, Progress, Response, no_progress
from ...prompts.prompt import Prompt

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
    """The first tokens of the answer without the last one, after which nothing is compared."""
    chosen = len(answer.tokens) + answer.complete
    return answer.tokens[: max(0, min(chosen, ANSWER_POSITIONS) - 1)]


# An engine whose model is in other processes has its own implementation: it would have to send all log-probabilities.
@singledispatch
def null_divergences(
    engine: Engine, prompts: Sequence[Prompt], answers: Sequence[Response]
) -> tuple[Float[Tensor, " prompt"], Float[Tensor, " prompt"]]:
    """The unedited model's divergence from itself under another batching, at the first token and along its answers.

    In exact arithmetic both are 0. Here they measure the rounding that every other divergence contains too.
    """
    other = 8 if engine.batch_size > 8 else engine.batch_size + 4
    first = engine.first_token_log_probabilities(prompts, [{}], no_progress)[0]
    forced = [_forced(answer) for answer in answers]
    rows = engine.answer_log_probabilities(prompts, forced, [{}], no_progress)
    along = torch.zeros(len(prompts), dtype=torch.float64)
    begun = [next(rows)]
    with engine.with_batch_size(other):
        again = engine.first_token_log_probabilities(prompts, [{}], no_progress)[0]
        # Both run side by side, so that no more than a batch of log-probabilities is held.
        for (index, ours), (same, theirs) in zip(
            chain(begun, rows), engine.answer_log_probabilities(prompts, forced, [{}], no_progress), strict=True
        ):
            assert index == same
            along[index] = kl_divergence(ours[0], theirs[0]).double().mean()
    return kl_divergence(first, again).double(), along
