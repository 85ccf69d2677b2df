"""Answers through an edited model, differentiable in the edits.

Layers below the first edited one run once, for the baseline, and build no graph. The prompts' common prefix runs once a
candidate. The final norm and the head run only on scored positions, a few rows at a time. Activations can be recomputed
in the backward pass instead of stored (gradient checkpointing, Chen et al. 2016, arXiv 1604.06174).
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint
from transformers.cache_utils import DynamicCache

from ...ablation.edit import ModelEdit
from ...errors import NoGradientError
from ...model.hooks.edits import EditHooks, edited_model
from ...model.layers import hidden, hooks
from ...model.loading.load import LoadedModel
from ..divergence import kl_divergence
from ..forward import Forward
from ..prefill import common_prefix_length
from .packed import check_differentiable, differentiable_products
from .prefix import cache_for_rows, empty_cache, keeps_positions, mask_behind
from .replaced import replaced_forwards
from .rows import Batch, Row, ScoredRow, join, padded_states

MOST_LOGITS = 1 << 26
"""Most logits that one graph holds, 256 MiB in fp32; beyond, they are recomputed in the backward pass."""

PROOF = {True: 1e-3, False: 0.05}
"""Tolerance for equal logits, as a share of the largest one: for fp32 (True), and for 16-bit formats (False)."""


@dataclass(frozen=True, slots=True)
class Kept:
    """A row's baseline states: the input of the first edited layer, (positions, d_model), empty where the model runs as
    a whole; and the output of the last layer at the positions that predict the answer's tokens, (answer, d_model)."""

    below: Tensor
    last: Tensor


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
        self._layers = loaded.layers
        self._forward = forward
        self._pad = pad
        self._first = first_layer
        self._checkpoints = checkpoints
        self._most_logits = most_logits
        self._returned: int | None = None
        self._prefix: tuple[int, ...] | None = None
        self._kept: dict[Row, Kept] = {}
        self.divisible: bool | None = None
        """Whether the layers can run in parts; None until the first rows have run."""

    @property
    def device(self) -> torch.device:
        return self._loaded.device

    @torch.no_grad()
    def prepare(self, rows: Sequence[Row], at_once: int = 32) -> None:
        """Runs new rows through the baseline, and keeps their states."""
        new = sorted({row for row in rows if row not in self._kept}, key=len)
        self._find_prefix(new)
        for start in range(0, len(new), at_once):
            part = new[start : start + at_once]
            batch = self._whole(part)
            below, last, logits = self._observed(batch)
            if self.divisible is None:
                self.divisible = self._can_be_divided(batch, below, last, logits)
            if not self.divisible:
                last = self._all_logits(batch)
                # The state between layers may have other dimensions (Gemma 3n: several streams first).
                below = last[:, :, :0]
            for number, row in enumerate(part):
                end = len(row.answer) + 1
                self._kept[row] = Kept(below[number, -len(row) :].clone(), last[number, -end:-1].clone())

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
        if not self.divisible:
            output = self._all_logits(batch)
        else:
            lengths = batch.mask.sum(dim=1).tolist()
            kept = [self._kept[each.row].below[:length] for each, length in zip(rows, lengths, strict=True)]
            output = self._above(batch, kept, candidates, applied)
        numbers = torch.arange(len(rows), device=output.device)
        shared = batch.ids.shape[1] - output.shape[1]
        return output[numbers[:, None], batch.positions.to(output.device) - shared]

    def _above(self, batch: Batch, kept: Sequence[Tensor], candidates: Tensor, applied: EditHooks) -> Tensor:
        """Output of the last layer, (row, position, d_model), after the common prefix."""
        shared = 0 if self._checkpoints or not self._prefix else len(self._prefix)
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
        with self._skipping(self._first, below), self._observing({}) as seen:
            self._forward.last_logits(ids, mask, 1, cache)
        return seen[len(self._layers)]

    def _prefix_cache(self, below: Tensor, candidates: Tensor, applied: EditHooks) -> DynamicCache:
        """Keys and values of the common prefix for each row, computed once a candidate."""
        count = int(candidates.max()) + 1
        applied.assign(torch.arange(count))
        ids = torch.tensor([self._prefix] * count, device=self._loaded.device)
        whole = empty_cache(self._loaded.model)
        with self._skipping(self._first, below.expand(count, -1, -1)):
            self._forward.last_logits(ids, torch.ones_like(ids), 1, whole)
        return cache_for_rows(self._loaded.model, whole, candidates)

    def baseline_states(self, rows: Sequence[ScoredRow], scored: int) -> Tensor:
        """Output of the baseline's last layer at the scored positions, (row, scored, d_model)."""
        places = [[*each.places, *[each.places[-1]] * (scored - len(each.places))] for each in rows]
        return torch.stack([self._kept[each.row].last[place] for each, place in zip(rows, places, strict=True)])

    def log_probabilities(self, states: Tensor) -> Tensor:
        """Log-probabilities of the next token, (row, scored, vocab) fp32, from the last layer's output."""
        return self.head(states).float().log_softmax(dim=-1)

    def head(self, states: Tensor) -> Tensor:
        """Logits, (row, scored, vocab), from the last layer's output; all layers are skipped."""
        if not self.divisible:
            return states
        blank = torch.full(states.shape[:2], self._pad, device=self._loaded.device)
        with self._skipping(len(self._layers), states):
            return self._forward.last_logits(blank, torch.ones_like(blank), states.shape[1])

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

    def _find_prefix(self, new: Sequence[Row]) -> None:
        """Finds the common prefix of all rows so far; empty if the model's cache holds more than keys and values."""
        if not new:
            return
        # `common_prefix_length` is below the shortest length: the -1 keeps the earlier prefix whole.
        starts = [row.prompt for row in new] + ([] if self._prefix is None else [(*self._prefix, -1)])
        plain = not self._forward.is_stateful and keeps_positions(self._loaded.model)
        self._prefix = tuple(starts[0][: common_prefix_length(starts)]) if plain else ()

    def _whole(self, rows: Sequence[Row]) -> Batch:
        """Rows with their whole answers, last token included."""
        ids = [[self._pad] * (len(rows[-1]) - len(row)) + [*row.prompt, *row.answer] for row in rows]
        mask = [[0] * (len(rows[-1]) - len(row)) + [1] * len(row) for row in rows]
        tensors = [torch.tensor(each, device=self._loaded.device) for each in (ids, mask)]
        nothing = torch.zeros(len(rows), 1, device=self._loaded.device, dtype=torch.long)
        return Batch(tensors[0], tensors[1], nothing, nothing, nothing)

    def _observed(self, batch: Batch) -> tuple[Tensor, Tensor, Tensor]:
        """Input of the first edited layer, output of the last and logits of the last position, in the baseline."""
        with self._observing({}) as seen:
            logits = self._forward.last_logits(batch.ids, batch.mask, 1)
        return seen[self._first], seen[len(self._layers)], logits

    def _all_logits(self, batch: Batch) -> Tensor:
        return self._forward.last_logits(batch.ids, batch.mask, batch.ids.shape[1])

    def _can_be_divided(self, batch: Batch, below: Tensor, last: Tensor, logits: Tensor) -> bool:
        """Whether running the layers from the first edited one on, and the head by itself, gives the same logits.

        It may not where a model has several residual streams, or where its layers pass on more than the stream.
        """
        shape = (*batch.ids.shape, self._loaded.d_model)
        if below.shape != shape or last.shape != shape:
            return False
        self.divisible = True
        with self._skipping(self._first, below), self._observing({}) as seen:
            above = self._forward.last_logits(batch.ids, batch.mask, 1)
        same_last = _close(seen[len(self._layers)][:, -1], last[:, -1])
        return same_last and _close(above, logits) and _close(self.head(last[:, -2:])[:, -1:], logits)

    @contextmanager
    def _observing(self, seen: dict[int, Tensor]) -> Iterator[dict[int, Tensor]]:
        """Sets `seen[n]` to the output of the first n layers: at the first edited layer, and after the last."""

        def before(_: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
            seen[self._first] = args[0] if args else kwargs["hidden_states"]

        def after(_: nn.Module, __: Any, output: Any) -> None:
            self._returned = len(output) if isinstance(output, tuple) else None
            seen[len(self._layers)] = hidden(output)

        first = self._layers[self._first].register_forward_pre_hook
        last = self._layers[-1].register_forward_hook
        with hooks(partial(first, before, with_kwargs=True), partial(last, after)):
            yield seen

    @contextmanager
    def _skipping(self, count: int, states: Tensor) -> Iterator[None]:
        """Skips the first `count` layers; the last of them returns `states`."""

        def stand_in(index: int, *args: Any, **kwargs: Any) -> Any:
            output = states if index == count - 1 else args[0] if args else kwargs["hidden_states"]
            return output if self._returned is None else (output, *[None] * (self._returned - 1))

        with replaced_forwards({layer: partial(stand_in, n) for n, layer in enumerate(self._layers[:count])}):
            yield

    @contextmanager
    def _checkpointing(self) -> Iterator[None]:
        layers = self._layers[self._first :]
        with replaced_forwards({each: partial(checkpoint, each.forward, use_reentrant=False) for each in layers}):
            yield


class EditedForward:
    """Runs rows through the model while its edits are applied."""

    def __init__(self, parts: AnswerForward, applied: EditHooks) -> None:
        self._parts = parts
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
        batch = self._parts.join(rows)
        states = self._parts.states(batch, rows, candidates, self._applied)
        if torch.is_grad_enabled() and not states.requires_grad:
            raise NoGradientError("none does: this family computes without autograd")
        divergences = states.new_zeros(0, batch.tokens.shape[1], dtype=torch.float32)
        if kept:
            before = self._parts.baseline_states(kept, batch.tokens.shape[1]).to(states.device)
            divergences = self._parts.in_parts(self._divergence, states[: len(kept)], before)
        tokens = batch.tokens[len(kept) :].to(states.device)
        found = self._parts.in_parts(self._of_tokens, states[len(kept) :], tokens) if gone else divergences[:0]
        return divergences, found, batch

    def _divergence(self, states: Tensor, before: Tensor) -> Tensor:
        with torch.no_grad():
            baseline = self._parts.log_probabilities(before)
        edited = self._parts.log_probabilities(states)
        return kl_divergence(baseline.flatten(0, 1), edited.flatten(0, 1)).view(states.shape[:2])

    def _of_tokens(self, states: Tensor, tokens: Tensor) -> Tensor:
        return self._parts.log_probabilities(states).gather(-1, tokens[..., None])[..., 0]


def _close(first: Tensor, second: Tensor) -> bool:
    """Whether two results of the same operations in another batching are the same but for rounding."""
    tolerance = PROOF[second.dtype == torch.float32] * float(second.abs().max())
    return bool(((first - second).abs() <= tolerance).all())
