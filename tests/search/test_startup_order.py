"""Start-up candidates are previewed and evaluated most promising first, and none is lost or duplicated."""

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
from heretic.search.startup_order import FIRST_PREVIEWS, FIRST_TRIALS, MOST_TOGETHER, StartupQueue
from heretic.study.reader import RecordedStudy
from heretic.study.sampler import SamplerOptions
from heretic.study.study import Study
from tests.support.study_toys import SPACE, metrics, open_study

BROKEN = 7
NOTHING_KNOWN = PruningStatistics.of(4)


class Previews:
    """A measurer whose previews are a candidate's first parameter; one candidate has no finite metrics."""

    ahead = 1

    def __init__(self) -> None:
        self.open: list[EvaluationRequest] = []
        self.previewed: list[AblationParameters] = []

    def submit(self, job: EvaluationRequest) -> None:
        assert job.preview
        self.open.append(job)
        self.previewed.append(job.parameters)

    def outcomes(self, progress: Progress) -> list[EvaluationResult]:
        job = self.open.pop()
        index = job.parameters.direction_index
        if len(self.previewed) == FIRST_PREVIEWS and job.number == BROKEN:
            return [(job, CandidateError("not a number"))]
        return [(job, Preview({"kl_divergence": index}, {"refusals": int(index)}))]


def queued(path: Path, ordering: bool, count: int) -> tuple[list[AblationParameters], list[float | None], Previews]:
    previews = Previews()
    with open_study(path, startup=count) as study:
        queue = StartupQueue(study, previews, ordering, SPACE.literature())
        candidates = []
        for _ in range(count):
            queue.refill(count - len(candidates), NOTHING_KNOWN, no_progress)
            candidates += study.ask(1)
        assert len(queue) == 0
        assert study.n_waiting() == 0
        return (
            [each.parameters for each in candidates],
            [each.known.get("kl_divergence") for each in candidates],
            previews,
        )


def test_the_same_candidates_in_another_order(tmp_path: Path) -> None:
    drawn, unknown, _ = queued(tmp_path / "drawn.jsonl", False, 30)
    ordered, known, previews = queued(tmp_path / "ordered.jsonl", True, 30)
    assert set(unknown) == {None}
    assert drawn[: len(SPACE.literature())] == SPACE.literature()
    assert sorted(map(repr, ordered)) == sorted(map(repr, drawn))
    assert len(previews.previewed) == 30
    # A few are evaluated before the others are previewed; all the rest is then ordered together.
    finite = [each.direction_index for n, each in enumerate(previews.previewed[:FIRST_PREVIEWS]) if n != BROKEN]
    first = sorted(finite)
    assert [each.direction_index for each in ordered[:FIRST_TRIALS]] == first[:FIRST_TRIALS]
    rest = [each.direction_index for each in ordered[FIRST_TRIALS:-1]]
    assert rest == sorted(rest)
    assert ordered[-1] == previews.previewed[BROKEN]
    # A candidate without finite metrics comes last, and is evaluated as one without a preview.
    assert known[-1] is None
    assert known[:-1] == [each.direction_index for each in ordered[:-1]]


def test_the_next_previews_wait_until_all_enqueued_candidates_are_requested(tmp_path: Path) -> None:
    with open_study(tmp_path / "study.jsonl", "tpe", startup=30) as study:
        queue = StartupQueue(study, Previews(), True)
        assert queue.waits
        queue.refill(30, NOTHING_KNOWN, no_progress)
        assert not queue.waits
        study.ask(FIRST_TRIALS)
        assert queue.waits
        queue.refill(30 - FIRST_TRIALS, NOTHING_KNOWN, no_progress)
        study.ask(30 - FIRST_TRIALS)
        assert not queue.waits


def test_previewed_candidates_need_no_second_preview(tmp_path: Path) -> None:
    with open_study(tmp_path / "study.jsonl", "tpe", startup=FIRST_PREVIEWS) as study:
        queue = StartupQueue(study, Previews(), True)
        queue.refill(FIRST_PREVIEWS, NOTHING_KNOWN, no_progress)
        study.ask(FIRST_TRIALS)
        assert len(queue) == FIRST_PREVIEWS - FIRST_TRIALS
        assert not queue.waits


def test_trials_come_between_many_previews(tmp_path: Path) -> None:
    previews = Previews()
    with open_study(tmp_path / "study.jsonl") as study:
        queue = StartupQueue(study, previews, True)
        for _ in range(FIRST_TRIALS):
            queue.refill(500, NOTHING_KNOWN, no_progress)
            study.ask(1)
        queue.refill(500, NOTHING_KNOWN, no_progress)
        assert len(previews.previewed) <= FIRST_PREVIEWS + MOST_TOGETHER
        assert study.n_waiting() == MOST_TOGETHER


def test_a_resumed_study_takes_waiting_candidates_and_draws_others(tmp_path: Path) -> None:
    path = tmp_path / "study.jsonl"
    with open_study(path, "tpe", startup=20) as study:
        StartupQueue(study, Previews(), True).refill(20, NOTHING_KNOWN, no_progress)
        waiting = study.n_waiting()
        [asked] = study.ask(1)
    assert waiting == FIRST_TRIALS
    with open_study(path, "tpe", startup=20) as study:
        # The requested one without a result waits again, and its KL divergence is still known.
        assert study.n_waiting() == waiting
        assert study.unguided(99) == 20 - waiting
        again = study.ask(waiting)
        assert asked.parameters in [each.parameters for each in again]
        assert all(each.known for each in again)
        assert not set(map(repr, study.draw(5))) & {repr(each.parameters) for each in again}
        assert study.holds(asked.parameters)
        assert not study.holds(study.draw(1)[0])


def test_nothing_is_drawn_at_random_once_the_sampler_learns(tmp_path: Path) -> None:
    with Study(tmp_path / "study.jsonl", SPACE, SamplerOptions("tpe", n_startup_trials=3)) as study:
        for candidate in study.ask(3):
            study.tell(candidate, metrics(1, 0.1), (0.1, 0.1))
        assert study.unguided(10) == 0
        StartupQueue(study, Previews(), True).refill(10, NOTHING_KNOWN, no_progress)
        assert study.n_waiting() == 0


def test_metrics_of_a_preview_are_not_measured_again(
    planted_directory: Path, planted_flags: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from heretic.cli import main

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


def test_previews_use_the_statistics_of_the_baseline(
    planted_directory: Path, planted_flags: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    from heretic.cli import main

    given: list[PruningStatistics] = []
    preview = Evaluator.preview

    def noting(self, edits, baseline, progress, statistics):  # type: ignore[no-untyped-def]
        given.append(statistics)
        return preview(self, edits, baseline, progress, statistics)

    monkeypatch.setattr(Evaluator, "preview", noting)
    flags = [*planted_flags, "--n-workers", "1", "--candidates-per-forward", "1", "--heldout-trials", "0"]
    assert main([str(planted_directory / "planted"), *flags, "--n-trials", "4", "--n-startup-trials", "4"]) == 0
    assert len(given) == 4
    # The baseline declines all of its 24 prompts.
    assert all(each.order.declined == (1,) * 24 for each in given)


def test_a_preview_waits_for_the_trials_before_it(
    planted_directory: Path, planted_flags: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    from heretic.cli import main

    kinds: list[bool] = []
    submit = InProcessMeasurer.submit

    def watched(self: InProcessMeasurer, job: EvaluationRequest) -> None:
        submit(self, job)
        kinds.append(job.preview)
        assert len({each.preview for each in self._open}) == 1, "a preview and a trial are open together"

    monkeypatch.setattr(InProcessMeasurer, "submit", watched)
    flags = [*planted_flags, "--n-workers", "1", "--candidates-per-forward", "4", "--heldout-trials", "0"]
    model = str(planted_directory / "planted")
    assert main([model, *flags, "--n-trials", "26", "--n-startup-trials", "26"]) == 0
    first = [True] * FIRST_PREVIEWS + [False] * FIRST_TRIALS
    left = 26 - FIRST_PREVIEWS
    assert kinds == [*first, *[True] * left, *[False] * (26 - FIRST_TRIALS)]
