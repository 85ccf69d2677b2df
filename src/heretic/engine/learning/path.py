"""A path of learned edits: each starts from the last one, with a weight of the refusals of its own.

Adam (Kingma and Ba 2015, arXiv 1412.6980) trains the edits' tensors alone; the model's weights are frozen. The path
starts with a large weight, and so with few refusals, and goes on to less damage: one run gives a front.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from itertools import chain

import torch
from torch import Tensor

from ...ablation.edit import ModelEdit
from ...ablation.methods.learned.layout import Layout, LearnedTensors, compile_learned, detached
from .averages import TailAverage
from .rows import ScoredRow
from .targets import PARTS_OF_TARGETS, Targets, as_tensors, draw, draw_refusals, from_tensors, spread

DECAY, EPSILON = 0.9, 1e-8
DIVERGED = 4.0
"""A point is dropped if its last steps' loss is this many times that of its first ones."""


@dataclass(frozen=True, slots=True)
class LearningSettings:
    """How a path is learned.

    `lambdas` in order; `first_steps` for the first of them, `steps` for each of the others. The first `warm_up` points
    are only on the way: later ones have fewer refusals or less damage. Their lambda is the last one times a factor, if
    the model was asked in between: `factors` are pairs of a share of responses that show the behaviour and the factor
    up to that share; `lambdas` are those where nothing was asked. A step draws `good_rows`, `bad_rows`,
    `refusal_rows` and `loop_rows`; of an answer `scored` tokens among the first `answer_tokens` count, but not the
    first `skipped` of an answer to a prompt that the baseline declines: there it wants to decline. `later`, `bad` and
    `loops` are the weights of later tokens, of bad prompts and of loops; `margin` and `loop_margin` are the
    log-probabilities, in nats and negated, below which refusals and loops need no further change. `direction_step` is
    the initial step of a direction, about in radians; `strength_step` that of a strength. Within a point both decay by
    a cosine to `final` times their start: `restart` times the initial step after the first point. `decays` are those
    of Adam's second moment for the first point and for the later ones; in between Adam forgets its moments. A point has
    the mean of the tensors over its steps and those of earlier points, `averaged` points in all, but not of the first
    (0: the tensors after its last step). Strengths stay within `bounds`; `sparsity` is the weight of their L1 penalty.
    After the path come points of it again, with other strengths: `scalings` are pairs of a point (-1: the last, None:
    the best by the search's metrics) and the number that multiplies them. The defaults were the best
    (docs/decisions/learned-path.md).
    """

    lambdas: tuple[float, ...] = (30.0, 5.0, 1.2, 0.5, 0.3, 0.2)
    warm_up: int = 3
    factors: tuple[tuple[float, float], ...] = ((0.0, 0.42), (0.035, 0.65), (0.08, 1.0), (1.0, 1.8))
    first_steps: int = 48
    steps: int = 14
    good_rows: int = 4
    bad_rows: int = 2
    refusal_rows: int = 4
    loop_rows: int = 2
    scored: int = 16
    answer_tokens: int = 64
    later: float = 1.0
    bad: float = 1.0
    skipped: int = 1
    margin: float = 8.0
    loops: float = 1.0
    loop_margin: float = 3.0
    direction_step: float = 0.24
    strength_step: float = 0.05
    decays: tuple[float, float] = (0.999, 0.95)
    restart: float = 0.25
    final: float = 1.0
    averaged: int = 3
    sparsity: float = 0.0
    bounds: tuple[float, float] = (-0.2, 1.6)
    scalings: tuple[tuple[int | None, float], ...] = ((None, 1.25), (-3, 2.0), (None, 0.85), (None, 0.65), (None, 0.5))

    def steps_of(self, point: int) -> int:
        return self.steps if point else self.first_steps

    def lambda_of(self, point: int, last: float, shown: float | None) -> float:
        """The weight of refusals at a point: `last` is that of the one before, and `shown` the share of its responses
        to bad prompts that show the behaviour."""
        if shown is None or point < max(1, self.warm_up) or not self.factors:
            return self.lambdas[point]
        return last * next(factor for share, factor in self.factors if shown <= share)

    @property
    def scaled_points(self) -> list[tuple[int | None, float]]:
        """The candidates that follow the path: pairs of a point's number, or None for the best one, and a scale."""
        count = len(self.lambdas)
        pairs = [(None if point is None else point % count, scale) for point, scale in self.scalings]
        return [(point, scale) for point, scale in pairs if point is None or point >= self.warm_up]

    @property
    def candidates(self) -> int:
        """Candidates of one path."""
        return len(self.lambdas) - self.warm_up + len(self.scaled_points)

    def share(self, point: int, step: int) -> float:
        """The factor of both step sizes at this step of the point."""
        begin = self.restart if point else 1.0
        last = max(1, self.steps_of(point) - 1)
        return self.final * begin + (1 - self.final) * begin * 0.5 * (1 + math.cos(math.pi * step / last))


@dataclass(frozen=True, slots=True)
class Losses:
    """Losses of one step, in nats: the total, the divergence on answers to good prompts (first token plus the others),
    the divergence on bad prompts, and the mean softplus of the refusals and of the loops."""

    total: float
    good: float
    bad: float
    refusals: float
    loops: float = 0.0


@dataclass(frozen=True, slots=True)
class LearnedPoint:
    """One edit of a path; `dropped` is the reason why it can't be used (its tensors are then those of steps before
    it)."""

    number: int
    lam: float
    tensors: Mapping[str, Tensor]
    losses: tuple[Losses, ...]
    dropped: str | None = None


@dataclass
class PathLearner:
    """One path: its tensors, Adam's moments, their average and the row sampler's generator. `state` saves it, `load`
    restores it."""

    layout: Layout
    start: LearnedTensors
    targets: Targets
    settings: LearningSettings
    generator: torch.Generator
    device: torch.device
    point: int = 0
    taken: int = 0
    losses: list[Losses] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.tensors = {
            name: each.detach().to(self.device, torch.float32).clone().requires_grad_(True)
            for name, each in self.start.items()
        }
        self.parts = [self.targets]
        self.lam = self._last_lam = self.settings.lambdas[0]
        self._moments = {name: [torch.zeros_like(each), torch.zeros_like(each)] for name, each in self.tensors.items()}
        self._average = TailAverage(self.settings.averaged)
        self._good_point = self.state()

    @property
    def done(self) -> bool:
        return self.point == len(self.settings.lambdas)

    @property
    def at_point(self) -> bool:
        """Whether the current point has taken all its steps, or its loss is not finite."""
        if self.losses and not math.isfinite(self.losses[-1].total):
            return True
        return len(self.losses) == self.settings.steps_of(self.point)

    def add(self, targets: Targets) -> None:
        """Adds targets for the steps of the point that begins, whose weight follows from them."""
        self._extend(targets)
        self.lam = self.settings.lambda_of(self.point, self._last_lam, targets.shown)
        self._good_point = self.state()

    def _extend(self, targets: Targets) -> None:
        self.parts.append(targets)
        self.targets = self.targets.with_more(targets)

    def edit(self) -> ModelEdit:
        return compile_learned(self.tensors, self.layout)

    def batch(self) -> tuple[list[ScoredRow], ...]:
        """Rows of good prompts, of bad ones and refusals for one step."""
        chosen, own = self.settings, self.generator
        good, bad = (
            [spread(row, chosen.scored, chosen.answer_tokens, own) for row in draw(rows, count, own)]
            for rows, count in ((self.targets.good, chosen.good_rows), (self.targets.bad, chosen.bad_rows))
        )
        if chosen.skipped:
            declined = {each.row.prompt for each in self.targets.refusals}
            bad = [each.behind(chosen.skipped) if each.row.prompt in declined else each for each in bad]
        refusals = draw_refusals(self.targets, chosen.refusal_rows, own)
        loops = draw(self.targets.loops, chosen.loop_rows, own) if chosen.loops else []
        return good, bad, refusals, loops

    @torch.no_grad()
    def step(self) -> None:
        """One step of Adam along the tensors' gradients."""
        self.taken += 1
        decay = self.settings.decays[min(self.point, 1)]
        share = self.settings.share(self.point, len(self.losses) - 1)
        pull = self.settings.sparsity / self.tensors["strengths"].numel()
        for name, tensor in self.tensors.items():
            gradient = tensor.grad
            tensor.grad = None
            if gradient is None:
                continue
            if name == "strengths":
                gradient = gradient + pull * tensor.sign()
            first, second = self._moments[name]
            first.lerp_(gradient, 1 - DECAY)
            second.lerp_(gradient.square(), 1 - decay)
            steered = first / (1 - DECAY**self.taken)
            spread_ = (second / (1 - decay**self.taken)).sqrt() + EPSILON
            tensor.sub_(share * self._step_size(name, tensor) * steered / spread_)
        self.tensors["strengths"].clamp_(*self.settings.bounds)
        directions = self.tensors["directions"]
        directions.div_(directions.norm(dim=1, keepdim=True).clamp_min(1e-12))
        self._average.add(self.tensors)

    def _step_size(self, name: str, tensor: Tensor) -> float:
        """The step of each entry: a direction's angle is divided by sqrt(d_model), the scale of its entries."""
        if name == "strengths":
            return self.settings.strength_step
        return self.settings.direction_step / math.sqrt(tensor.shape[1])

    def finish(self) -> LearnedPoint:
        """Finishes the current point, returns it, and moves on to the next one."""
        dropped = self._fault()
        number, lam, losses = self.point, self.lam, tuple(self.losses)
        if dropped is not None:
            position = self.generator.get_state()
            self.load(self._good_point)
            self.generator.set_state(position)
        self.point, self.losses = number + 1, []
        self._last_lam = lam
        if not self.done:
            self.lam = self.settings.lambda_of(self.point, lam, None)
        # A dropped point has no steps in the average: it is that of the points before it.
        tensors = self._average.mean(self.tensors)
        self._begin_point()
        self._good_point = self.state()
        return LearnedPoint(number, lam, detached(tensors), losses, dropped)

    def _begin_point(self) -> None:
        """After the first point, Adam forgets its moments: the weight of refusals was so large there that later steps
        would be tiny. No average has that point's steps."""
        if self.point == 1:
            self.taken = 0
            for moment in chain.from_iterable(self._moments.values()):
                moment.zero_()
        self._average.begin()

    def _fault(self) -> str | None:
        """Why the current point can't be used, or None."""
        if not all(bool(torch.isfinite(each).all()) for each in self.tensors.values()):
            return "a learned tensor is not finite"
        totals = [each.total for each in self.losses]
        if not all(map(math.isfinite, totals)):
            return "the loss is not finite"
        part = max(1, len(totals) // 4)
        first, last = sum(totals[:part]) / part, sum(totals[-part:]) / part
        if last > DIVERGED * first and last > DIVERGED * 0.01:
            return f"the loss diverges: {first:.3g} nats over the first {part} steps, {last:.3g} over the last"
        return None

    def state(self) -> dict[str, Tensor]:
        """The state at the end of a point, which determines the rest of the path."""
        kept = {f"tensor.{name}": each.detach().clone() for name, each in self.tensors.items()}
        for name, (first, second) in self._moments.items():
            kept |= {f"first.{name}": first.clone(), f"second.{name}": second.clone()}
        for number, part in enumerate(self.parts[1:]):
            kept |= {f"part.{number}.{name}": table for name, table in as_tensors(part).items()}
        kept |= {f"average.{name}": each for name, each in self._average.state().items()}
        counts = {"point": torch.tensor(self.point), "taken": torch.tensor(self.taken)}
        counts["lambda"] = torch.tensor(self.lam, dtype=torch.float64)
        return kept | counts | {"generator": self.generator.get_state()}

    @torch.no_grad()
    def load(self, state: Mapping[str, Tensor]) -> None:
        """Restores a state of this path."""
        for name, tensor in self.tensors.items():
            tensor.copy_(state[f"tensor.{name}"])
            for moment, kind in zip(self._moments[name], ("first", "second"), strict=True):
                moment.copy_(state[f"{kind}.{name}"])
        self.point, self.taken = int(state["point"]), int(state["taken"])
        self.lam = float(state["lambda"])
        self.generator.set_state(state["generator"].cpu())
        self.targets, self.parts = self.parts[0], self.parts[:1]
        for number in range(len([name for name in state if name.startswith("part.") and name.endswith(".good")])):
            tables = {name: state[f"part.{number}.{name}"] for name in PARTS_OF_TARGETS}
            self._extend(from_tensors(tables))
        self.losses = []
        self._average.load({name[8:]: state[name].to(self.device) for name in state if name.startswith("average.")})
        self._good_point = self.state()
