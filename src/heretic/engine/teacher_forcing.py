"""Teacher forcing: the model's log-probabilities at each position of a given answer."""

from collections.abc import Iterator, Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from .forward import Forward
from .prefill import AssignCandidates

MAX_LOGITS = 1 << 28
"""Most fp32 logits held at once: 1 GiB."""


class AnswerScorer:
    """Runs prompts followed by their answers, several candidates at once, and keeps the logits along the answers."""

    def __init__(
        self, forward: Forward, device: torch.device, pad: int, batch_size: int, assign: AssignCandidates
    ) -> None:
        self._forward = forward
        self._device = device
        self._pad = pad
        self._batch_size = batch_size
        self._assign = assign

    def run(
        self, prompts: Sequence[Sequence[int]], answers: Sequence[Sequence[int]], n_candidates: int
    ) -> Iterator[tuple[int, Float[Tensor, "candidate position vocab"]]]:
        """(index, log-probabilities) of each prompt, shortest first; len(answer) + 1 positions each."""
        texts = [[*prompt, *answer] for prompt, answer in zip(prompts, answers, strict=True)]
        order = sorted(range(len(texts)), key=lambda index: len(texts[index]))
        n_prompts = max(1, self._batch_size // n_candidates)
        start = 0
        while start < len(order):
            batch = order[start : start + n_prompts]
            positions = max(len(answers[index]) for index in batch) + 1
            logits = self._logits([texts[index] for index in batch], positions, n_candidates)
            for row, index in enumerate(batch):
                # A shorter answer is preceded by padding, or by the end of its prompt.
                along = logits[row :: len(batch), positions - len(answers[index]) - 1 :]
                yield index, along.float().log_softmax(dim=-1)
            start += len(batch)
            n_prompts = min(n_prompts, max(1, MAX_LOGITS // (n_candidates * positions * logits.shape[-1])))

    def _logits(
        self, texts: list[list[int]], positions: int, n_candidates: int
    ) -> Float[Tensor, "row {positions} vocab"]:
        """Logits of the last positions; rows are candidate-major, padded on the left."""
        longest = max(map(len, texts))
        ids = [[self._pad] * (longest - len(text)) + text for text in texts] * n_candidates
        mask = [[0] * (longest - len(text)) + [1] * len(text) for text in texts] * n_candidates
        self._assign(torch.arange(n_candidates).repeat_interleave(len(texts)))
        tensors = torch.tensor(ids, device=self._device), torch.tensor(mask, device=self._device)
        return self._forward.last_logits(*tensors, positions)
