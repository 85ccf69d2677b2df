"""Answers through an edited model, differentiable in the edits.

Layers below the first edited one run once, for the baseline, and build no graph. The prompts' common prefix runs once a
candidate. The final norm and the head run only on scored positions, a few rows at a time. Activations can be recomputed
in the backward pass instead of stored (gradient checkpointing, Chen et al. 2016, arXiv 1604.06174).
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from functools import partial

import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint
from transformers.cache_utils import DynamicCache

from ...ablation.edit import ModelEdit
from ...errors import NoGradientError
from ...model.hooks.edits import EditHooks, edited_model
from ...model.loading.load import LoadedModel
from ..divergence import kl_divergence
from ..forward import Forward
from .baseline_states import BaselineStates
from .model_parts import ModelParts
from .packed import check_differentiable, differentiable_products
from .prefix import cache_for_rows, empty_cache, mask_behind
from .replaced import replaced_forwards
from .rows import Batch, Row, ScoredRow, join, padded_states

MOST_LOGITS = 1 << 26
"""Most logits that one graph holds, 256 MiB in fp32; beyond, they are recomputed in the backward pass."""


class AnswerForward:
    """Runs rows through the edited model.

    `first_layer` is the first layer that any edit changes. With `checkpoints`, layers are recomputed in the backward
    pass. Models that pass more than one hidden state between layers run as a whole.
    """

    def __init__(
        self,
        loaded: LoadedModel,
        forward: Forward,
        pad: int,
        first_layer: int,
        checkpoints: bool = False,
        most_logits: int = MOST_LOGITS,
    ) -> None:
        self._loaded = loaded
        self._pad = pad
        self.parts = ModelParts(loaded, forward, pad, first_layer)
        self._baseline = BaselineStates(self.parts)
        self._checkpoints = checkpoints
        self._most_logits = most_logits

    @property
    def device(self) -> torch.device:
        return self._loaded.device

    def prepare(self, answers: Sequence[Row], pieces: Sequence[Row] = ()) -> None:
        """Runs new rows through the baseline, and keeps their states: `answers` to stay near, and `pieces` that become
        unlikely, for which the baseline's probabilities are not needed."""
        self._baseline.prepare(answers, pieces)

    @contextmanager
    def edited(self, edits: Sequence[ModelEdit]) -> Iterator["EditedForward"]:
        """The model with `edits` applied, one a candidate. Run backward passes inside the `with` block: they may
        recompute layers."""
        check_differentiable(self._loaded.model)
        with ExitStack() as stack:
            stack.enter_context(differentiable_products(self._loaded.model))
            if self._checkpoints:
                stack.enter_context(self._checkpointing())
            applied = stack.enter_context(edited_model(self._loaded.model, edits, self._loaded.sites))
            yield EditedForward(self, applied)

    def states(self, batch: Batch, rows: Sequence[ScoredRow], candidates: Tensor, applied: EditHooks) -> Tensor:
        """Output of the last layer at the scored positions, (row, scored, d_model)."""
        applied.assign(candidates)
        if not self.parts.divisible:
            output = self.parts.all_logits(batch.ids, batch.mask)
        else:
            kept = self._baseline.below(rows, batch.mask.sum(dim=1).tolist())
            output = self._above(batch, kept, candidates, applied)
        numbers = torch.arange(len(rows), device=output.device)
        shared = batch.ids.shape[1] - output.shape[1]
        return output[numbers[:, None], batch.positions.to(output.device) - shared]

    def _above(self, batch: Batch, kept: Sequence[Tensor], candidates: Tensor, applied: EditHooks) -> Tensor:
        """Output of the last layer, (row, position, d_model), after the common prefix."""
        shared = 0 if self._checkpoints else len(self._baseline.prefix or ())
        cache = self._prefix_cache(kept[0][:shared], candidates, applied) if shared else None
        applied.assign(candidates)
        below = padded_states([state[shared:] for state in kept])
        ids, mask = batch.ids[:, shared:], batch.mask[:, shared:]
        if shared:
            # Padding normally precedes the prompt; with the prefix in the cache, it follows the prefix.
            longest = mask.shape[1]
            mask = torch.cat(
                [torch.ones_like(mask[:, :1]).expand(-1, shared), mask_behind(kept, shared, longest, mask)], 1
            )
        parts = self.parts
        with parts.skipping(parts.first, below), parts.observing({}) as seen:
            parts.forward.last_logits(ids, mask, 1, cache)
        return seen[len(parts.layers)]

    def _prefix_cache(self, below: Tensor, candidates: Tensor, applied: EditHooks) -> DynamicCache:
        """Keys and values of the common prefix for each row, computed once a candidate."""
        count = int(candidates.max()) + 1
        applied.assign(torch.arange(count))
        ids = torch.tensor([self._baseline.prefix] * count, device=self._loaded.device)
        whole = empty_cache(self._loaded.model)
        with self.parts.skipping(self.parts.first, below.expand(count, -1, -1)):
            self.parts.forward.last_logits(ids, torch.ones_like(ids), 1, whole)
        return cache_for_rows(self._loaded.model, whole, candidates)

    def baseline_states(self, rows: Sequence[ScoredRow], scored: int) -> Tensor:
        """Output of the baseline's last layer at the scored positions, (row, scored, d_model)."""
        return self._baseline.last(rows, scored)

    def log_probabilities(self, states: Tensor) -> Tensor:
        """Log-probabilities of the next token, (row, scored, vocab) fp32, from the last layer's output."""
        return self.parts.head(states).float().log_softmax(dim=-1)

    def in_parts(self, function: Callable[..., Tensor], *tensors: Tensor) -> Tensor:
        """`function` applied to a few rows at a time, so that memory holds at most `most_logits` logits."""
        rows, scored = tensors[0].shape[:2]
        vocabulary = len(self._loaded.model.get_input_embeddings().weight)  # type: ignore[operator]
        size = max(1, self._most_logits // (scored * vocabulary))
        if size >= rows:
            return function(*tensors)
        parts = zip(*(each.split(size) for each in tensors), strict=True)
        return torch.cat([checkpoint(function, *part, use_reentrant=False) for part in parts])

    def join(self, rows: Sequence[ScoredRow]) -> Batch:
        return join(rows, self._pad, self._loaded.device)

    @contextmanager
    def _checkpointing(self) -> Iterator[None]:
        layers = self.parts.layers[self.parts.first :]
        with replaced_forwards({each: partial(checkpoint, each.forward, use_reentrant=False) for each in layers}):
            yield


class EditedForward:
    """Runs rows through the model while its edits are applied."""

    def __init__(self, forward: AnswerForward, applied: EditHooks) -> None:
        self._forward = forward
        self._applied = applied

    def __call__(
        self, kept: Sequence[ScoredRow], gone: Sequence[ScoredRow], candidates: Tensor
    ) -> tuple[Tensor, Tensor, Batch]:
        """KL divergence from the baseline at each scored place of `kept`, (row, scored), and the log-probability of
        each scored token of `gone`, (row, scored), both fp32; and the batch of them all, in this order.

        Row r belongs to candidate `candidates[r]`. Values beyond a row's last scored token are padding. All rows must
        have been prepared.
        """
        rows = [*kept, *gone]
        batch = self._forward.join(rows)
        states = self._forward.states(batch, rows, candidates, self._applied)
        if torch.is_grad_enabled() and not states.requires_grad:
            raise NoGradientError("none does: this family computes without autograd")
        divergences = states.new_zeros(0, batch.tokens.shape[1], dtype=torch.float32)
        if kept:
            before = self._forward.baseline_states(kept, batch.tokens.shape[1]).to(states.device)
            divergences = self._forward.in_parts(self._divergence, states[: len(kept)], before)
        tokens = batch.tokens[len(kept) :].to(states.device)
        found = self._forward.in_parts(self._of_tokens, states[len(kept) :], tokens) if gone else divergences[:0]
        return divergences, found, batch

    def _divergence(self, states: Tensor, before: Tensor) -> Tensor:
        with torch.no_grad():
            baseline = self._forward.log_probabilities(before)
        edited = self._forward.log_probabilities(states)
        return kl_divergence(baseline.flatten(0, 1), edited.flatten(0, 1)).view(states.shape[:2])

    def _of_tokens(self, states: Tensor, tokens: Tensor) -> Tensor:
        return self._forward.log_probabilities(states).gather(-1, tokens[..., None])[..., 0]
