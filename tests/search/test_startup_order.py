"""The candidates of the random start-up are looked at, measured most promising first, and none is lost or doubled."""

from pathlib import Path

import pytest

from heretic.ablation.parameters import AblationParameters
from heretic.engine.local import LocalEngine
from heretic.engine.protocol import Progress, no_progress
from heretic.errors import CandidateError
from heretic.evaluation.evaluator import Evaluator
from heretic.evaluation.pruning.preview import Preview
from heretic.evaluation.pruning.statistics import PruningStatistics
from heretic.search.measurer import EvaluationRequest, EvaluationResult, InProcessMeasurer
from heretic.search.startup_order import FIRST_LOOK, FIRST_TRIALS, MOST_TOGETHER, StartupQueue
from heretic.study.reader import RecordedStudy
from heretic.study.study import Study
from tests.support.study_toys import SPACE, metrics, open_study

BROKEN = 7


class Looks:
    """Stands for the measurer: a candidate promises what its first parameter says, and one has no finite figures."""

    ahead = 1

    def __init__(self) -> None:
        self.open: list[EvaluationRequest] = []
        self.looked: list[AblationParameters] = []

    def submit(self, job: EvaluationRequest) -> None:
        assert job.looking
        self.open.append(job)
        self.looked.append(job.parameters)

    def outcomes(self, progress: Progress) -> list[EvaluationResult]:
        job = self.open.pop()
        index = job.parameters.direction_index
        if len(self.looked) == FIRST_LOOK and job.number == BROKEN:
            return [(job, CandidateError("not a number"))]
        return [(job, Preview(index, int(index)))]


def lined_up(path: Path, looking: bool, count: int) -> tuple[list[AblationParameters], list[float | None], Looks]:
    looks = Looks()
    with open_study(path, startup=count) as study:
        line = StartupQueue(study, looks, looking, PruningStatistics(4), SPACE.literature())
        candidates = []
        for _ in range(count):
            line.refill(count - len(candidates), no_progress)
            candidates += study.ask(1)
        assert len(line) == 0
        assert study.n_waiting() == 0
        return [each.parameters for each in candidates], [each.known.get("kl_divergence") for each in candidates], looks


def test_the_same_candidates_in_another_order(tmp_path: Path) -> None:
    drawn, unknown, _ = lined_up(tmp_path / "drawn.jsonl", False, 30)
    ordered, known, looks = lined_up(tmp_path / "ordered.jsonl", True, 30)
    assert set(unknown) == {None}
    assert drawn[: len(SPACE.literature())] == SPACE.literature()
    assert sorted(map(repr, ordered)) == sorted(map(repr, drawn))
    assert len(looks.looked) == 30
    # Few of the first are measured before the others are looked at; behind them, all that is left is in one order.
    finite = [each.direction_index for n, each in enumerate(looks.looked[:FIRST_LOOK]) if n != BROKEN]
    first = sorted(finite)
    assert [each.direction_index for each in ordered[:FIRST_TRIALS]] == first[:FIRST_TRIALS]
    rest = [each.direction_index for each in ordered[FIRST_TRIALS:-1]]
    assert rest == sorted(rest)
    assert ordered[-1] == looks.looked[BROKEN]
    # What has no figures comes last, and is measured as one that nobody looked at.
    assert known[-1] is None
    assert known[:-1] == [each.direction_index for each in ordered[:-1]]


def test_the_second_look_comes_when_all_that_was_enqueued_is_asked_for(tmp_path: Path) -> None:
    with open_study(tmp_path / "study.jsonl", "tpe", startup=30) as study:
        line = StartupQueue(study, Looks(), True, PruningStatistics(4))
        assert line.wants_preview
        line.refill(30, no_progress)
        assert not line.wants_preview
        study.ask(FIRST_TRIALS)
        assert line.wants_preview
        line.refill(30 - FIRST_TRIALS, no_progress)
        study.ask(30 - FIRST_TRIALS)
        assert not line.wants_preview


def test_those_that_are_looked_at_already_wait_for_nothing(tmp_path: Path) -> None:
    with open_study(tmp_path / "study.jsonl", "tpe", startup=FIRST_LOOK) as study:
        line = StartupQueue(study, Looks(), True, PruningStatistics(4))
        line.refill(FIRST_LOOK, no_progress)
        study.ask(FIRST_TRIALS)
        assert len(line) == FIRST_LOOK - FIRST_TRIALS
        assert not line.wants_preview


def test_no_search_looks_for_long_without_measuring(tmp_path: Path) -> None:
    looks = Looks()
    with open_study(tmp_path / "study.jsonl") as study:
        line = StartupQueue(study, looks, True, PruningStatistics(4))
        for _ in range(FIRST_TRIALS):
            line.refill(500, no_progress)
            study.ask(1)
        line.refill(500, no_progress)
        assert len(looks.looked) <= FIRST_LOOK + MOST_TOGETHER
        assert study.n_waiting() == MOST_TOGETHER


def test_a_study_that_goes_on_takes_what_waits_and_draws_others(tmp_path: Path) -> None:
    path = tmp_path / "study.jsonl"
    with open_study(path, "tpe", startup=20) as study:
        StartupQueue(study, Looks(), True, PruningStatistics(4)).refill(20, no_progress)
        waiting = study.n_waiting()
        [asked] = study.ask(1)
    assert waiting == FIRST_TRIALS
    with open_study(path, "tpe", startup=20) as study:
        # The one that was asked for and never told waits again, and its KL is still known.
        assert study.n_waiting() == waiting
        assert study.unguided(99) == 20 - waiting
        again = study.ask(waiting)
        assert asked.parameters in [each.parameters for each in again]
        assert all(each.known for each in again)
        assert not set(map(repr, study.draw(5))) & {repr(each.parameters) for each in again}
        assert study.holds(asked.parameters)
        assert not study.holds(study.draw(1)[0])


def test_nothing_is_drawn_blindly_once_the_sampler_learns(tmp_path: Path) -> None:
    with Study(tmp_path / "study.jsonl", SPACE) as study:
        study.use_sampler("tpe", 0, 3, 8)
        for candidate in study.ask(3):
            study.tell(candidate, metrics(1, 0.1), (0.1, 0.1))
        assert study.unguided(10) == 0
        StartupQueue(study, Looks(), True, PruningStatistics(4)).refill(10, no_progress)
        assert study.n_waiting() == 0


def test_what_a_look_measured_is_not_measured_again(
    planted_directory: Path, planted_flags: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from heretic.cli.main import main

    model = str(planted_directory / "planted")
    asked: list[int] = []
    whole = LocalEngine.first_token_log_probabilities

    def counting(self, prompts, edits, progress):  # type: ignore[no-untyped-def]
        asked.extend(len(edit) for edit in edits if edit)
        return whole(self, prompts, edits, progress)

    monkeypatch.setattr(LocalEngine, "first_token_log_probabilities", counting)
    flags = [*planted_flags, "--n-workers", "1", "--heldout-trials", "0", "--n-startup-trials", "12"]
    assert main([model, *flags]) == 0
    [journal] = (tmp_path / "checkpoints").glob("*.jsonl")
    assert len(RecordedStudy(journal).trials) == 12
    assert len(asked) == 12


def test_looks_go_by_what_the_baseline_taught(
    planted_directory: Path, planted_flags: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    from heretic.cli.main import main

    measured: list[Evaluator] = []
    looking: list[Evaluator] = []
    baseline, look = Evaluator.baseline, Evaluator.look

    def first(self, *arguments):  # type: ignore[no-untyped-def]
        measured.append(self)
        return baseline(self, *arguments)

    def then(self, *arguments):  # type: ignore[no-untyped-def]
        looking.append(self)
        return look(self, *arguments)

    monkeypatch.setattr(Evaluator, "baseline", first)
    monkeypatch.setattr(Evaluator, "look", then)
    flags = [*planted_flags, "--n-workers", "1", "--candidates-per-forward", "1", "--heldout-trials", "0"]
    assert main([str(planted_directory / "planted"), *flags, "--n-trials", "4", "--n-startup-trials", "4"]) == 0
    assert len(measured) == 1
    assert len(looking) == 4
    assert all(each is measured[0] for each in looking)


def test_a_look_waits_for_the_trials_before_it(
    planted_directory: Path, planted_flags: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    from heretic.cli.main import main

    kinds: list[bool] = []
    submit = InProcessMeasurer.submit

    def watched(self: InProcessMeasurer, job: EvaluationRequest) -> None:
        submit(self, job)
        kinds.append(job.looking)
        assert len({each.looking for each in self._open}) == 1, "a look and a trial are open together"

    monkeypatch.setattr(InProcessMeasurer, "submit", watched)
    flags = [*planted_flags, "--n-workers", "1", "--candidates-per-forward", "4", "--heldout-trials", "0"]
    model = str(planted_directory / "planted")
    assert main([model, *flags, "--n-trials", "26", "--n-startup-trials", "26"]) == 0
    first = [True] * FIRST_LOOK + [False] * FIRST_TRIALS
    left = 26 - FIRST_LOOK
    assert kinds == [*first, *[True] * left, *[False] * (26 - FIRST_TRIALS)]
