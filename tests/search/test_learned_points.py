"""Candidates of a learned path, the one whose strengths are scaled, and what a kill leaves."""

from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from heretic.ablation.methods.learned.parameters import LearnedParameters
from heretic.ablation.methods.learned.space import LearnedSpace
from heretic.engine.protocol import no_progress
from heretic.evaluation.pruning.statistics import PruningStatistics
from heretic.search.learned_points import LearnedPoints, best_point
from heretic.session.learning import LearnedPaths
from heretic.study.sampler import SamplerOptions
from heretic.study.schema import TrialRecord
from heretic.study.study import Study
from tests.support.learned_trials import learned_parameters
from tests.support.study_toys import BASELINE, record, trial

WARM_UP = 2


class Killed(Exception):
    pass


class Paths:
    """A path whose state is the number of its next point; kills the run before or after it writes the state."""

    def __init__(self) -> None:
        self.point = self.kept = 0
        self.kills: str | None = None
        self.learned: list[int] = []
        self.forgotten = 0

    def forget(self) -> None:
        self.forgotten += 1

    def next_point(self, after_step: Any, best: Any) -> LearnedParameters:
        assert self.point < 9, "no point of it becomes a candidate"
        after_step(self.point, 1, 1)
        self.learned.append(self.point)
        self.point += 1
        return learned_parameters(tensors=f"{self.point - 1}", point=self.point - 1)

    def steps_of(self, count: int) -> int:
        return count

    def on_the_way(self, point: LearnedParameters) -> bool:
        return point.point < WARM_UP

    def keep(self) -> None:
        if self.kills == "before" and self.point > WARM_UP:
            raise Killed
        self.kept = self.point
        if self.kills == "after" and self.point > WARM_UP:
            raise Killed

    def resumed(self) -> "Paths":
        again = Paths()
        again.point = again.kept = self.kept
        return again


@pytest.fixture
def study(tmp_path: Path) -> Study:
    found = Study(tmp_path / "s.jsonl", LearnedSpace(("attn.o_proj",), 1), SamplerOptions("random", 0, 5, 16))
    found.begin(record())
    return found


def refill(study: Study, paths: Paths) -> LearnedPoints:
    points = LearnedPoints(study, cast(LearnedPaths, paths), ahead=2)
    points.refill(5, PruningStatistics.of(3), no_progress)
    return points


def asked(study: Study) -> int:
    [candidate] = study.ask(1)
    assert isinstance(candidate.parameters, LearnedParameters)
    return candidate.parameters.point


def test_points_on_the_way_are_learned_and_kept_but_no_candidates(study: Study) -> None:
    with study:
        paths = Paths()
        refill(study, paths)
        assert (paths.learned, paths.kept, study.n_waiting()) == ([0, 1, 2], 3, 1)
        refill(study, paths)
        assert paths.learned == [0, 1, 2], "none is learned while one waits"
        assert asked(study) == 2
        refill(study, paths)
        assert (asked(study), paths.kept) == (3, 4)


@pytest.mark.parametrize(("kills", "again"), [("before", [2, 3]), ("after", [])])
def test_a_point_that_the_journal_holds_is_no_second_candidate_after_a_kill(
    study: Study, kills: str, again: list[int]
) -> None:
    """The journal has the point before the state says that it is learned: no kill loses a point."""
    with study:
        paths = Paths()
        paths.kills = kills
        with pytest.raises(Killed):
            refill(study, paths)
        assert asked(study) == 2
        study.take_back_running()
        assert paths.forgotten == 1, "a search that goes on in this process reads the kept state too"
        resumed = paths.resumed()
        refill(study, resumed)
        assert (study.n_waiting(), asked(study)) == (1, 2), "its parameters wait again"
        refill(study, resumed)
        assert (resumed.learned, asked(study)) == (again or [3], 3)


@pytest.mark.parametrize(
    ("points", "best"),
    [
        # Few refusals: the divergence decides.
        ([(0.00, 0.9), (0.04, 0.5), (0.30, 0.1)], 1),
        # None has few: the least there are.
        ([(0.30, 0.2), (0.20, 0.9), (0.20, 0.4)], 2),
        ([(0.02, 0.5), (0.02, 0.5)], 0),
        ([], None),
    ],
)
def test_the_best_point_has_the_least_divergence_with_few_refusals(
    points: Sequence[tuple[float, float]], best: int | None
) -> None:
    trials = [trial(n, round(share * 100), kl) for n, (share, kl) in enumerate(points)]
    baseline = BASELINE.model_copy(
        update={
            "metrics": {**BASELINE.metrics, "refusals": BASELINE.metrics["refusals"].model_copy(update={"scale": 100})}
        }
    )
    found = best_point(trials, baseline)
    assert (None if found is None else found.number) == best


def test_a_pruned_trial_is_not_the_best() -> None:
    assert best_point([trial(0, 0, 0.1, pruned=True)], BASELINE) is None


def learned_trial(number: int, digest: str, kl: float, scale: float = 1.0) -> TrialRecord:
    return trial(number, 0, kl).model_copy(update={"parameters": learned_parameters(tensors=digest, scale=scale)})


def test_only_points_of_this_path_with_their_own_strengths_count() -> None:
    """Trials of the kernel method, of another path and with scaled strengths may be better."""
    trials = [
        trial(0, 0, 0.1),
        learned_trial(1, "other", 0.2),
        learned_trial(2, "a", 0.3, 0.5),
        learned_trial(3, "a", 0.5),
        learned_trial(4, "b", 0.4),
    ]
    study: Any = SimpleNamespace(trials=trials, record=SimpleNamespace(baseline=BASELINE))
    points = LearnedPoints(study, SimpleNamespace(begins_to_scale=True), 1)  # type: ignore[arg-type]
    assert points._best(["a", "b"]) == "b"
    assert points._best(["c"]) is None
    assert points.waits
