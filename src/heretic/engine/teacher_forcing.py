"""Teacher forcing: what the model would say at each place of an answer that it is given."""

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

from .forward import Forward
from .prefill import AssignCandidates

MOST_LOGITS = 1 << 28
"""Most fp32 logits to hold at once: 1 GiB."""


class ForcedAnswers:
    """Runs prompts with answers behind them, several candidates at once, and keeps the logits along the answers."""

    def __init__(
        self, forward: Forward, device: torch.device, pad: int, most_rows: int, assign: AssignCandidates
    ) -> None:
        self._forward = forward
        self._device = device
        self._pad = pad
        self._most_rows = most_rows
        self._assign = assign

    def run(
        self, rows: Sequence[Sequence[int]], answers: Sequence[Sequence[int]], n_candidates: int
    ) -> Iterator[tuple[int, Tensor]]:
        """(index, log-probabilities (candidate, answer + 1, vocab)) of each prompt, shortest first."""
        whole = [[*row, *answer] for row, answer in zip(rows, answers, strict=True)]
        order = sorted(range(len(whole)), key=lambda index: len(whole[index]))
        most_prompts = max(1, self._most_rows // n_candidates)
        start = 0
        while start < len(order):
            part = order[start : start + most_prompts]
            positions = max(len(answers[index]) for index in part) + 1
            logits = self._logits([whole[index] for index in part], positions, n_candidates)
            for place, index in enumerate(part):
                # On the left stands padding, or the prompt's own end.
                kept = logits[place :: len(part), positions - len(answers[index]) - 1 :]
                yield index, kept.float().log_softmax(dim=-1)
            start += len(part)
            most_prompts = min(most_prompts, max(1, MOST_LOGITS // (n_candidates * positions * logits.shape[-1])))

    def _logits(self, rows: list[list[int]], positions: int, n_candidates: int) -> Tensor:
        """Logits of the last positions, (candidate-major rows, positions, vocab); padding on the left."""
        longest = max(map(len, rows))
        ids = [[self._pad] * (longest - len(row)) + row for row in rows] * n_candidates
        mask = [[0] * (longest - len(row)) + [1] * len(row) for row in rows] * n_candidates
        self._assign(torch.arange(n_candidates).repeat_interleave(len(rows)))
        tensors = torch.tensor(ids, device=self._device), torch.tensor(mask, device=self._device)
        return self._forward.last(*tensors, positions)
