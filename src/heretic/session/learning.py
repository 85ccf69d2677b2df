"""Learned paths of a study: their training targets, their points in order, and their state on disk."""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import torch
from safetensors import SafetensorError
from torch import Tensor

from ..ablation.edit import ModelEdit, SiteEdit
from ..ablation.methods.learned.compile import cosines_with, kept_tensors, scaled, strengths_by_layer
from ..ablation.methods.learned.layout import layout_of, principal_directions, start_at_means
from ..ablation.methods.learned.parameters import LearnedParameters
from ..config import Settings
from ..engine.batch_size import whole_responses
from ..engine.learning.path import LearnedPoint, LearningSettings, PathLearner
from ..engine.learning.runners import step_runner
from ..engine.learning.step import StepRunner
from ..engine.learning.targets import (
    PARTS_OF_TARGETS,
    Targets,
    as_tensors,
    baseline_targets,
    behaviour_end_of,
    from_tensors,
    response_targets,
)
from ..engine.learning.walk import learn_paths
from ..engine.local import LocalEngine
from ..engine.protocol import Progress, Response, no_progress
from ..errors import ModelError, PromptError, StudyError
from ..evaluation.behaviour import behaviour_of
from ..evaluation.heldout.response_classes import repeats
from ..prompts.prompt import Prompt
from .context import LoadedStudy
from .prompt_filter import filter_direction_prompts
from .tensor_store import TensorStore

START_STRENGTH, FURTHER_STRENGTH = 0.3, 0.3
FIRST_EDITED = 8 / 30
"""The first edited layer as a share of all layers: those below it don't decide refusals."""
PIECE = 10
"""Tokens of a refusal that are scored together."""
ASKED_AGAIN = 64
"""Bad prompts that are answered again at each point."""
Answers = Callable[[Sequence[Prompt], Sequence[ModelEdit], int, Progress], list[list[Response]]]
"""Responses by edit and prompt, of at most so many tokens."""
AfterStep = Callable[[int, int, int], None]
"""Called with the number of a point, its finished steps, and its total steps."""

TARGETS, PATH, DIGESTS, WEIGHTS, N_SCALED = "targets.", "path", "digests", "weights", "scaled"


class LearnedPaths:
    """Paths of one study, one after the other, each with the next seed.

    Call `prepare` first. `next_point` learns a point or, after the path's last one, scales an earlier one. `keep`
    writes the state after a point, from which a resumed study continues.
    """

    def __init__(
        self,
        loaded: LoadedStudy,
        settings: LearningSettings | None = None,
        runner: Callable[[StepRunner], StepRunner] = lambda alone: alone,
        answers: Answers | None = None,
    ) -> None:
        """`runner` may replace the runner of steps, and `answers` the engine's responses, by several processes."""
        self._loaded = loaded
        self._engine = engine = loaded.engine
        self._settings = settings or LearningSettings()
        self._store = TensorStore(loaded.session.path)
        prompts = filter_direction_prompts(loaded.session.prompts, loaded.record.telling)
        self._good, self._bad = prompts.good.prompts, prompts.bad.prompts
        shown = behaviour_of(loaded.settings.refusal_markers, loaded.settings.refusal_openings)
        self._behaviour_end = behaviour_end_of(shown, engine.chat.decode)
        first = first_edited(engine)
        self._layout = layout_of(engine.sites, loaded.tensors.gains, first)
        self._new_runner = lambda: runner(step_runner(engine, first))
        self._generate = answers or partial(whole_responses, engine)
        self._targets: Targets | None = None
        self.forget()

    def forget(self) -> None:
        """Forgets what was learned since the last `keep`. Call `prepare` before the next point."""
        self._prepared = False
        # A new one: the rows that were prepared for an unfinished point would be in other batches the next time.
        self._runner = self._new_runner()
        self._path = self._n_scaled = 0
        self._learner: PathLearner | None = None
        self._digests: list[str] = []
        self._weights: list[float] = []

    def prepare(self) -> None:
        """Reads the state of an earlier run, or generates the baseline's answers and refusals.

        Raises:
            ModelError: the baseline declines none of the direction prompts.
            PromptError: there are fewer bad prompts than directions of an edit.
            StudyError: the state on disk is damaged.
        """
        if self._prepared:
            return
        rank = self._loaded.settings.learned_rank
        if rank > len(self._bad):
            raise PromptError(
                f"Expected at least {rank} bad_prompts for learned_rank = {rank}, one for each direction, got "
                f"{len(self._bad)}. Give more prompts, or set a lower learned_rank."
            )
        state = self._store.read_state()
        if state is None:
            self._targets = self._targets or self._baseline_targets()
            self._prepared = True
            return
        try:
            self._targets = from_tensors({name: state[f"{TARGETS}{name}"] for name in PARTS_OF_TARGETS})
            self._path = int(state[PATH])
            self._learner = self._new_learner()
            self._learner.load(state)
            self._digests = [bytes(line).hex() for line in state[DIGESTS].tolist()]
            self._weights = state[WEIGHTS].tolist()
            self._n_scaled = int(state[N_SCALED])
            self._prepared = True
        except (KeyError, RuntimeError, SafetensorError) as error:
            raise StudyError(
                f"Expected the state of a learned path next to {self._loaded.session.path}, found another one "
                f"({error!r}). Restore the folder from a copy, or begin a new study with --resume restart."
            ) from error

    def steps_of(self, count: int) -> int:
        """The steps of the next `count` candidates; scaled points take none."""
        point = 0 if self._learner is None else self._learner.point
        return steps_for(self._settings, count, point, self._n_scaled)

    def on_the_way(self, point: LearnedParameters) -> bool:
        """Whether it is no candidate. One that was dropped is recorded with its reason, as a failed trial."""
        return point.point < self._settings.warm_up and point.dropped is None

    @property
    def begins_to_scale(self) -> bool:
        """Whether the next candidate is the path's first one that is an earlier point with other strengths."""
        return self._scales and not self._n_scaled

    @property
    def _scales(self) -> bool:
        learned = self._learner is not None and self._learner.done
        return learned and self._n_scaled < len(self._settings.scaled_points)

    def next_point(
        self, after_step: AfterStep = lambda *_: None, best: Callable[[Sequence[str]], str | None] = lambda _: None
    ) -> LearnedParameters:
        """Learns the next point, or scales one, and keeps its tensors.

        `best` returns the best of some points, which are named by the digests of their tensors; None where none is
        known, which stands for the last one.

        Raises:
            ModelError: no gradient reaches the edits of this model, or not even one row fits the memory.
        """
        if self._scales:
            return self._scaled_point(best)
        if self._learner is None or self._learner.done:
            self._path += self._learner is not None
            self._learner = self._new_learner()
            self._digests, self._weights, self._n_scaled = [], [], 0
        number, learner = self._learner.point, self._learner
        self._runner.after_step = lambda: after_step(number, len(learner.losses), self._settings.steps_of(number))
        with torch.inference_mode(False), torch.enable_grad():
            _, point = next(learn_paths(self._runner, [self._learner], self._refresh))
        return self._parameters(point)

    def keep(self) -> None:
        """Writes the state that the next points depend on."""
        assert self._targets is not None and self._learner is not None
        targets = {f"{TARGETS}{name}": table for name, table in as_tensors(self._targets).items()}
        digests = torch.tensor([list(bytes.fromhex(each)) for each in self._digests], dtype=torch.uint8)
        own = {PATH: torch.tensor(self._path), DIGESTS: digests, N_SCALED: torch.tensor(self._n_scaled)}
        own[WEIGHTS] = torch.tensor(self._weights, dtype=torch.float64)
        self._store.write_state(self._learner.state() | targets | own)

    def _parameters(self, point: LearnedPoint) -> LearnedParameters:
        losses = [each.total for each in point.losses]
        self._weights.append(point.lam)
        return self._kept(
            kept_tensors(point.tensors, self._layout),
            point=point.number,
            losses=tuple(round(loss, 5) for loss in losses if abs(loss) < float("inf")),
            dropped=point.dropped,
        )

    def _scaled_point(self, best: Callable[[Sequence[str]], str | None]) -> LearnedParameters:
        point, scale = self._settings.scaled_points[self._n_scaled]
        self._n_scaled += 1
        if point is None:
            candidates = self._digests[self._settings.warm_up :]
            point = self._digests.index(best(candidates) or candidates[-1])
        return self._kept(scaled(self._store[self._digests[point]], scale), point=point, losses=(), scale=scale)

    def _kept(self, kept: Mapping[str, Tensor], point: int, **more: Any) -> LearnedParameters:
        """Stores the tensors, and returns a candidate that names them."""
        n_layers = len(self._engine.loaded.layers)
        digest = self._store.write(kept)
        if point == len(self._digests):
            self._digests.append(digest)
        return LearnedParameters(
            tensors=digest,
            path=self._path,
            point=point,
            refusal_weight=self._weights[point],
            strengths=strengths_by_layer(kept, self._layout, n_layers),
            cosines=cosines_with(kept, self._loaded.tensors.directions, n_layers),
            **more,
        )

    def _new_learner(self) -> PathLearner:
        assert self._targets is not None
        generator = torch.Generator().manual_seed(self._loaded.settings.seed + self._path)
        directions = [self._loaded.tensors.directions]
        rank = self._loaded.settings.learned_rank
        if rank > 1:
            batches = self._engine.residuals(self._bad, no_progress)
            residuals = torch.cat([states.clone() for _, states in batches])
            directions += principal_directions(residuals, directions[0], rank - 1)
        start = start_at_means(self._layout, directions, START_STRENGTH, further=FURTHER_STRENGTH)
        return PathLearner(self._layout, start, self._targets, self._settings, generator, self._runner.device)

    def _baseline_targets(self) -> Targets:
        good, bad = (self._answers(each, [{}], name)[0] for each, name in ((self._good, "good"), (self._bad, "bad")))
        targets = baseline_targets(
            self._tokens(self._good), good, self._tokens(self._bad), bad, self._behaviour_end, PIECE
        )
        if not targets.refusals:
            raise ModelError(
                f"Expected a model that declines some of the {len(self._bad)} bad direction prompts, but it declines "
                'none: there is nothing to learn from. Give bad_prompts that it declines, or use method = "kernel".'
            )
        return targets

    def _answers(self, prompts: Sequence[Prompt], edits: Sequence[ModelEdit], name: str) -> list[list[Response]]:
        length = self._settings.answer_tokens
        with self._loaded.session.reporter.step(f"The model's own answers to {name} prompts", len(prompts)) as progress:
            return self._generate(prompts, edits, length, progress)

    def _refresh(self, _: Sequence[int], edits: Sequence[ModelEdit]) -> list[Targets]:
        """Targets from the last point's refusals and answers to bad prompts, which are drawn anew for each point."""
        assert self._learner is not None
        seed = self._loaded.settings.seed + 1_000_003 * (self._path + 1) + self._learner.point
        order = torch.randperm(len(self._bad), generator=torch.Generator().manual_seed(seed))
        prompts = [self._bad[place] for place in order[:ASKED_AGAIN].tolist()]
        fixed = [
            {name: SiteEdit(each.left.detach(), each.right.detach()) for name, each in edit.items()} for edit in edits
        ]
        answered = self._generate(prompts, fixed, self._settings.answer_tokens, no_progress)
        tokens = self._tokens(prompts)
        return [response_targets(tokens, each, self._behaviour_end, PIECE, is_sound=_is_sound) for each in answered]

    def _tokens(self, prompts: Sequence[Prompt]) -> list[list[int]]:
        return [self._engine.chat.tokens(prompt) for prompt in prompts]


def steps_for(settings: LearningSettings, candidates: int, point: int = 0, scaled: int = 0) -> int:
    """The steps of the next so many candidates of a path that has `point` points and `scaled` ones with other
    strengths, which take none; after the last of these the next path begins."""
    steps, points = 0, len(settings.lambdas)
    for _ in range(candidates):
        if point == points and scaled >= len(settings.scaled_points):
            point = scaled = 0
        if point < points:
            begun, point = point, max(point, settings.warm_up) + 1
            steps += sum(map(settings.steps_of, range(begun, point)))
        else:
            scaled += 1
    return steps


def wanted_candidates(method: str, n_trials: int) -> int:
    """The candidates that a search ends with: of learned paths those of one, unless `n_trials` was set to another
    number than its default."""
    if method != "learned" or n_trials != Settings.model_fields["n_trials"].default:
        return n_trials
    return LearningSettings().candidates


def first_edited(engine: LocalEngine) -> int:
    """The first layer that learning edits."""
    last = max(site.layer for site in engine.sites)
    return min(round(FIRST_EDITED * len(engine.loaded.layers)), last)


def _is_sound(response: Response) -> bool:
    """Whether a response may serve as an example: it does not repeat itself."""
    return not repeats(response.text)
