"""One step of learning, with gradient accumulation over groups of rows of similar length.

The loss is a sum over rows, so its gradient is the sum of the groups' gradients. Small groups need little memory for
activations, and rows of similar length need little padding.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import chain
from typing import Literal

import torch
from torch import Tensor

from ...ablation.edit import ModelEdit
from ...ablation.methods.learned.objective import answer_weights, mean_weights, refusal_losses
from ...errors import ModelError
from ..protocol import MEMORY_ERRORS, out_of_memory
from .forward import AnswerForward, EditedForward
from .path import Losses, PathLearner
from .rows import ScoredRow

Kind = Literal["good", "bad", "refusals", "loops"]
KINDS: tuple[Kind, ...] = ("good", "bad", "refusals", "loops")
UNLIKELY = ("refusals", "loops")
"""Kinds whose whole pieces become less likely; the tokens of the others stay near the baseline."""

MOST_POSITIONS = 768
"""Positions of one group at most on a CPU: longer ones are hardly faster a position, shorter ones are less padded
(docs/decisions/learned-path.md)."""


@dataclass(frozen=True, slots=True)
class Part:
    """A row of one path's step; `weights` are its scored tokens' weights in the path's loss (a refusal has one)."""

    path: int
    kind: Kind
    row: ScoredRow
    weights: tuple[float, ...]

    def __len__(self) -> int:
        """Positions that the row takes."""
        return len(self.row.row.prompt) + self.row.places[-1]


class StepRunner:
    """Takes steps of paths; a group holds at most `most` positions, or all of them if None.

    When memory runs out, the group size is halved for this and all later steps, and the step is repeated.
    """

    def __init__(self, forward: AnswerForward, most: int | None = None) -> None:
        self.forward = forward
        self.most = most
        self.after_step: Callable[[], None] = lambda: None

    @property
    def device(self) -> torch.device:
        """The device of the paths' tensors."""
        return self.forward.device

    def take(self, paths: Sequence[PathLearner]) -> None:
        """One step of each path.

        Raises:
            ModelError: not even one row fits the memory, or no gradient reaches the edits of this model.
        """
        parts = [part for number, path in enumerate(paths) for part in parts_of(path, number)]
        while True:
            try:
                terms = self._backward(paths, parts)
                break
            except MEMORY_ERRORS as error:
                if not out_of_memory(error):
                    raise
            self._halve(parts)
        for path, losses in zip(paths, terms, strict=True):
            path.losses.append(losses)
            path.step()
        self.after_step()

    def _halve(self, parts: Sequence[Part]) -> None:
        """Raises:
        ModelError: groups hold one row each already.
        """
        longest = max(map(len, parts))
        now = longest * len(parts) if self.most is None else self.most
        if now <= longest:
            raise ModelError(
                "Learning needs more memory than there is, even row by row. Set quantization = bnb_4bit, or use "
                'method = "oblique" or "kernel".'
            )
        self.most = max(longest, now // 2)

    def _backward(self, paths: Sequence[PathLearner], parts: Sequence[Part]) -> list[Losses]:
        """Adds gradients to the tensors of the paths, unless a loss is not finite; returns the losses."""
        for tensor in chain.from_iterable(path.tensors.values() for path in paths):
            tensor.grad = None
        edits = [path.edit() for path in paths]
        leaves = [cut(edit) for edit in edits]
        weights = [weights_of(path) for path in paths]
        terms = torch.zeros(len(paths), len(KINDS))
        if self._accumulate(leaves, weights, list(groups_of(parts, self.most)), terms):
            _pass_on(edits, leaves)
        return [_losses(each, row) for each, row in zip(weights, terms.tolist(), strict=True)]

    def _accumulate(
        self,
        leaves: Sequence[ModelEdit],
        weights: Sequence["LossWeights"],
        groups: Sequence[Sequence[Part]],
        terms: Tensor,
    ) -> bool:
        """Adds the groups' gradients to the leaves, in the groups' order, and their losses to `terms`, (path, kind);
        False where a loss is not finite."""
        return all(add_group(leaves, terms, *each) for each in self.gradients(leaves, weights, groups))

    def gradients(
        self, edits: Sequence[ModelEdit], weights: Sequence["LossWeights"], groups: Sequence[Sequence[Part]]
    ) -> Iterator[tuple["GroupLoss", "Gradients"]]:
        """The loss and the gradients of each group, in order; runners in several processes have their own way."""
        return (group_gradients(self.forward, edits, weights, group) for group in groups)


@dataclass(frozen=True, slots=True)
class LossWeights:
    """What a path's loss depends on besides its rows: the weight of each kind of term, and the margins of those that
    become unlikely."""

    weights: Mapping[Kind, float]
    margins: Mapping[Kind, float]


def weights_of(path: PathLearner) -> LossWeights:
    """Those of the path's present point."""
    chosen = path.settings
    return LossWeights(
        {"good": 1.0, "bad": chosen.bad, "refusals": path.lam, "loops": chosen.loops},
        {"refusals": chosen.margin, "loops": chosen.loop_margin},
    )


@dataclass(frozen=True, slots=True)
class GroupLoss:
    """A group's part of the sum of all paths' losses; by row, its unweighted term and that term's place among those of
    (path, kind)."""

    total: Tensor
    terms: Tensor
    places: Tensor

    def add_to(self, terms: Tensor) -> None:
        terms.view(-1).index_add_(0, self.places, self.terms)


def parts_of(path: PathLearner, number: int) -> list[Part]:
    """The rows of a path's next step."""
    good, bad, refusals, loops = path.batch()
    chosen = path.settings
    counts = [[len(each.places) for each in rows] for rows in (good, bad)]
    kinds: list[tuple[Kind, Sequence[ScoredRow], list[list[float]]]] = [
        ("good", good, answer_weights(counts[0], chosen.later)),
        ("bad", bad, mean_weights(counts[1])),
        ("refusals", refusals, [[1 / len(refusals)]] * len(refusals)),
        ("loops", loops, [[1 / len(loops)]] * len(loops) if loops else []),
    ]
    return [
        Part(number, kind, row, tuple(each))
        for kind, rows, weights in kinds
        for row, each in zip(rows, weights, strict=True)
    ]


def groups_of(parts: Sequence[Part], most: int | None) -> Iterator[list[Part]]:
    """Groups of rows, longest first, each of at most `most` positions with padding; all of them in one if None.

    There are as few groups as `most` allows, but two at least, for two processes; the largest is as small as possible.
    """
    ordered = sorted(parts, key=len, reverse=True)
    if most is None or not ordered:
        yield from [ordered] if ordered else []
        return
    count = max(2, len(_sizes(ordered, most)))
    low, high = 0, max(most, len(ordered[0]))
    while low + 1 < high:
        middle = (low + high) // 2
        low, high = (low, middle) if len(_sizes(ordered, middle)) <= count else (middle, high)
    start = 0
    for size in _sizes(ordered, high):
        yield ordered[start : start + size]
        start += size


def _sizes(ordered: Sequence[Part], most: int) -> list[int]:
    """Rows of each group, if each takes as many as have at most `most` positions, or a single row."""
    sizes, start = [], 0
    while start < len(ordered):
        sizes.append(min(max(1, most // len(ordered[start])), len(ordered) - start))
        start += sizes[-1]
    return sizes


def group_loss(edited: EditedForward, paths: Sequence[LossWeights], group: Sequence[Part]) -> GroupLoss:
    """The group's part of the loss, in nats; `paths` by the number that its rows name."""
    kept = [part for part in group if part.kind not in UNLIKELY]
    gone = [part for part in group if part.kind in UNLIKELY]
    rows = [*kept, *gone]
    candidates = torch.tensor([part.path for part in rows])
    divergences, found, batch = edited([part.row for part in kept], [part.row for part in gone], candidates)
    weights = divergences.new_tensor(
        [[*part.weights, *[0.0] * (divergences.shape[1] - len(part.weights))] for part in kept]
    ).view(divergences.shape)
    counted = batch.counted[len(kept) :].to(divergences.device)
    margins = divergences.new_tensor([paths[part.path].margins[part.kind] for part in gone])
    shares = [(divergences * weights).sum(dim=1)] if kept else []
    if gone:
        by_row = divergences.new_tensor([part.weights[0] for part in gone])
        shares.append(refusal_losses(found, counted, margins) * by_row)
    each = torch.cat(shares)
    places = torch.tensor([len(KINDS) * part.path + KINDS.index(part.kind) for part in rows])
    total = (each * each.new_tensor([paths[part.path].weights[part.kind] for part in rows])).sum()
    return GroupLoss(total, each.detach().cpu(), places)


Gradients = list[dict[str, tuple[Tensor | None, Tensor | None]]]
"""By candidate and module, those of `left` and `right`."""


def group_gradients(
    forward: AnswerForward, edits: Sequence[ModelEdit], weights: Sequence[LossWeights], group: Sequence[Part]
) -> tuple[GroupLoss, Gradients]:
    """The loss of a group of rows, without a graph, and its gradients with respect to the edits, on their devices."""
    leaves = [cut(edit) for edit in edits]
    with forward.edited(leaves) as edited:
        loss = group_loss(edited, weights, group)
        if bool(torch.isfinite(loss.total)):
            loss.total.backward()
    found = [{name: (each.left.grad, each.right.grad) for name, each in edit.items()} for edit in leaves]
    return replace(loss, total=loss.total.detach().cpu()), found


def add_group(leaves: Sequence[ModelEdit], terms: Tensor, loss: GroupLoss, gradients: Gradients) -> bool:
    """Adds what `group_gradients` returned, on any device, to the leaves' gradients and to `terms`, (path, kind); False
    where the loss is not finite."""
    loss.add_to(terms)
    if not bool(torch.isfinite(loss.total)):
        return False
    for edit, found in zip(leaves, gradients, strict=True):
        for name, (left, right) in found.items():
            _add(edit[name].left, left)
            _add(edit[name].right, right)
    return True


def _add(leaf: Tensor, gradient: Tensor | None) -> None:
    if gradient is not None:
        here = gradient.to(leaf.device)
        leaf.grad = here if leaf.grad is None else leaf.grad + here


def _losses(path: LossWeights, terms: Sequence[float]) -> Losses:
    total = sum(path.weights[kind] * term for kind, term in zip(KINDS, terms, strict=True))
    return Losses(total, *terms)


def cut(edit: ModelEdit) -> ModelEdit:
    """A copy of the edit whose `left` and `right` are leaves of the graph: a group's backward pass ends at them."""
    return {
        name: replace(each, left=each.left.detach().requires_grad_(), right=each.right.detach().requires_grad_())
        for name, each in edit.items()
    }


def _pass_on(edits: Sequence[ModelEdit], leaves: Sequence[ModelEdit]) -> None:
    """Propagates the gradients accumulated at the leaves to the tensors that the edits were compiled from."""
    pairs = [
        (side, leaf.grad)
        for edit, cut in zip(edits, leaves, strict=True)
        for name, each in edit.items()
        for side, leaf in ((each.left, cut[name].left), (each.right, cut[name].right))
        if leaf.grad is not None
    ]
    torch.autograd.backward([side for side, _ in pairs], [gradient for _, gradient in pairs])
