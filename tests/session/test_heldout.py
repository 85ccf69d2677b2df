"""The front is measured once, on held-out prompts, and the metrics are stored."""

import json
from collections.abc import Generator
from pathlib import Path
from typing import Any

import pytest

from heretic.cli import main
from heretic.evaluation.heldout.measurer import SharedForwards
from heretic.evaluation.heldout.schema import BAD, GOOD, HeldoutReport
from heretic.search import study_search
from heretic.session.heldout import spread
from heretic.session.sidecars import read_heldout_report
from heretic.study.pareto import knee, pareto_front, select
from heretic.study.reader import RecordedStudy
from heretic.study.schema import TrialRecord
from tests.support.study_toys import baseline as baseline_record
from tests.support.study_toys import trial


@pytest.fixture
def measured_flags(planted_directory: Path, planted_flags: list[str]) -> list[str]:
    report = [f"--{side}-heldout-prompts={planted_directory}/{side}_report.txt" for side in ("good", "bad")]
    over = f"--over-refusal-heldout-prompts={planted_directory}/good_report.txt"
    return [str(planted_directory / "planted"), *planted_flags, *report, over]


@pytest.fixture
def journal(tmp_path: Path, planted_directory: Path) -> Path:
    from heretic.study.journal import study_path

    return study_path(tmp_path / "checkpoints", str(planted_directory / "planted"))


def test_a_run_ends_with_heldout_metrics_of_the_front_and_the_baseline(
    measured_flags: list[str], journal: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(measured_flags) == 0
    said = capsys.readouterr().err
    report = read_heldout_report(journal)
    assert report is not None
    study = RecordedStudy(journal)
    front = pareto_front(study.trials, study.baseline)
    assert [each.trial for each in report.candidates] == [trial.number for trial in front]
    assert report.baseline.sets[BAD].classes.declined.count == report.baseline.sets[BAD].classes.markers.count == 20
    assert report.baseline.sets[GOOD].classes.answered.count == 20
    assert report.baseline.log_odds is not None
    best = report.candidates[0]
    assert best.sets[BAD].classes.declined.count < 20
    assert best.sets[BAD].declined_against_baseline is not None
    assert best.sets[BAD].declined_against_baseline.only_first == 20 - best.sets[BAD].classes.declined.count
    assert best.log_odds is not None
    assert best.log_odds < report.baseline.log_odds
    assert best.kl_first is not None
    assert best.kl_first.prompts == 20
    assert report.null_kl_first is not None
    assert report.null_kl_first.worst < 1e-4
    assert report.selection_bias is not None
    assert report.selection_bias.trials == len(RecordedStudy(journal).trials)
    assert "Refusals on 20 held-out bad prompts" in said
    assert "Selection bias" in said
    assert best.sets[BAD].markers_against_baseline == best.sets[BAD].declined_against_baseline


def test_what_is_measured_is_not_measured_again(
    measured_flags: list[str], journal: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(measured_flags) == 0
    file, former = journal.with_suffix(".heldout.json"), journal.with_suffix(".figures.json")
    before = file.read_bytes()
    # Earlier versions gave the file another name.
    file.rename(former)
    capsys.readouterr()
    assert main([*measured_flags, "--resume", "continue"]) == 0
    said = capsys.readouterr().err
    assert "Refusals on 20 held-out bad prompts" in said
    assert "Measuring on held-out prompts" not in said
    assert former.read_bytes() == before and not file.exists()
    # Other markers define other classes: metrics measured with the old ones are not reused.
    assert main([*measured_flags, "--resume", "continue", "--refusal-openings", "sorry cannot"]) == 0
    assert "Measuring on held-out prompts" in capsys.readouterr().err
    assert file.exists() and not former.exists()


def test_results_show_the_heldout_metrics_and_their_json_is_the_file(
    measured_flags: list[str], journal: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(measured_flags) == 0
    capsys.readouterr()
    assert main(["results", str(journal)]) == 0
    assert "Refusals on 20 held-out bad prompts" in capsys.readouterr().out
    assert main(["results", str(journal), "--json"]) == 0
    found = json.loads(capsys.readouterr().out)["measured"]
    assert HeldoutReport.model_validate(found) == read_heldout_report(journal)


@pytest.mark.parametrize("flags", [["--heldout-trials", "0"], []])
def test_off_or_without_a_report_part_nothing_is_measured(
    flags: list[str], measured_flags: list[str], journal: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    given = measured_flags if flags else [each for each in measured_flags if "-heldout-prompts=" not in each]
    assert main([*given, *flags]) == 0
    said = capsys.readouterr().err
    assert read_heldout_report(journal) is None
    assert ("No held-out evaluation" in said) is not bool(flags)


def test_prompts_that_the_search_has_seen_are_refused(
    measured_flags: list[str], planted_directory: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    seen = f"--bad-heldout-prompts={planted_directory}/bad_search.txt"
    assert main([*measured_flags, seen]) == 2
    said = capsys.readouterr().err
    assert "bad_heldout_prompts that directions and search do not use, but 24 of 24" in said
    assert "bad_evaluation_prompts too" in said


def test_damaged_heldout_metrics_are_an_error_that_says_what_to_do(
    measured_flags: list[str], journal: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(measured_flags) == 0
    journal.with_suffix(".heldout.json").write_text("{}")
    assert main(["results", str(journal)]) == 2
    assert "Remove the file" in " ".join(capsys.readouterr().err.split())


def trials(count: int) -> list[TrialRecord]:
    return [trial(i, i * i, 1.0 / (i + 1)) for i in range(count)]


@pytest.mark.parametrize(("count", "most"), [(3, 10), (10, 10), (25, 10), (40, 2), (12, 3), (9, 1), (5, 0)])
def test_a_long_front_is_measured_at_its_ends_its_knee_and_between(count: int, most: int) -> None:
    front, baseline = trials(count), baseline_record(100)
    chosen = spread(front, baseline, most)
    assert len(chosen) == min(count, most)
    assert [each.number for each in chosen] == sorted({each.number for each in chosen})
    assert most == 0 or knee(front, baseline) in chosen
    if most >= 3:
        assert {chosen[0].number, chosen[-1].number} == {0, count - 1}


def test_a_judge_that_fails_costs_no_figure(
    measured_flags: list[str], journal: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([*measured_flags, "--judges", '[{"endpoint": "http://127.0.0.1:9/v1", "model": "none"}]']) == 0
    said = " ".join(capsys.readouterr().err.split())
    assert "The judge none at http://127.0.0.1:9/v1 gave no answer" in said
    assert "Verdicts by openings and by markers agree on" in said
    report = read_heldout_report(journal)
    assert report is not None
    assert {each.judge for each in report.judges} == {"openings", "markers"}
    [agreement] = report.agreement
    assert agreement.agree.of == 20 * (1 + len(report.candidates))


def test_a_judges_verdicts_are_shown_next_to_the_word_lists(
    measured_flags: list[str], journal: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A fake judge that counts the responses it is given; tests/evaluation/heldout/test_judges.py has the real ones."""
    asked: list[int] = []

    class Contrary:
        name = "contrary"

        def verdicts(self, prompts: list[str], responses: list[str]) -> list[str]:
            asked.append(len(responses))
            return ["answered" if text.startswith("sorry") else "declined" for text in responses]

    monkeypatch.setattr("heretic.evaluation.heldout.agreement.open_judge", lambda _: Contrary())
    judge = ["--judges", '[{"classifier": "contrary", "declined": ["x"]}]']
    assert main([*measured_flags, *judge]) == 0
    said = " ".join(capsys.readouterr().err.split())
    assert "Declined, by judge" in said
    report = read_heldout_report(journal)
    assert report is not None
    [kappa] = [each.kappa for each in report.agreement if (each.first, each.second) == ("openings", "contrary")]
    assert kappa is not None
    assert kappa < 0
    assert "Verdicts by openings and by contrary agree on 0/" in said and f", Cohen's kappa {kappa:.2f}." in said
    assert asked == [20] * (1 + len(report.candidates))
    # Existing verdicts are not requested again.
    assert main([*measured_flags, *judge, "--resume", "continue"]) == 0
    assert len(asked) == 1 + len(report.candidates)


def numbers_measured(journal: Path) -> list[int | None]:
    report = read_heldout_report(journal)
    return [each.trial for each in report.candidates] if report else []


def front_of(journal: Path) -> list[int]:
    study = RecordedStudy(journal)
    return [trial.number for trial in pareto_front(study.trials, study.baseline)]


def test_a_trial_selected_by_a_flag_is_measured_alone_and_others_on_request(
    measured_flags: list[str], journal: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The trial and the baseline first; the rest of the front where heldout_trials is given."""
    alone = [*measured_flags, "--trial", "lowest-kl", "--export", "none"]
    assert main(alone) == 0
    front = front_of(journal)
    assert len(front) > 1
    [selected] = numbers_measured(journal)
    assert selected in front
    assert main([*alone, "--heldout-trials", "10"]) == 0
    assert numbers_measured(journal) == front
    # Earlier metrics are kept, and not measured again.
    capsys.readouterr()
    assert main(alone) == 0
    assert numbers_measured(journal) == front
    assert "Measuring on held-out prompts" not in capsys.readouterr().err


def test_the_selected_trial_comes_first_and_what_is_measured_outlives_a_stop(
    measured_flags: list[str], journal: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Ctrl+C after one candidate: the baseline and that one are on disk, and it is not measured again."""
    asked: list[int] = []

    class Stopped(SharedForwards):
        def measure(self, evaluator: Any, requests: Any, progress: Any) -> Generator[Any, None, None]:
            asked.extend(request.trial for request in requests)
            for done, result in enumerate(super().measure(evaluator, requests, progress)):
                yield result
                # Each candidate is on disk before the next one is measured.
                assert len(numbers_measured(journal)) == done
                if done == 1:
                    raise KeyboardInterrupt

    monkeypatch.setattr(study_search, "open_heldout", lambda *_: Stopped())
    flags = [*measured_flags, "--trial", "lowest-kl", "--heldout-trials", "10", "--export", "none"]
    assert main(flags) == 130
    front = front_of(journal)
    assert len(front) > 1
    study = RecordedStudy(journal)
    selected = select(pareto_front(study.trials, study.baseline), study.baseline, "lowest-kl").number
    assert asked[0] == selected
    assert sorted(asked) == sorted(front)
    assert numbers_measured(journal) == asked[:1]
    monkeypatch.undo()
    asked.clear()
    monkeypatch.setattr(study_search, "open_heldout", lambda *_: Counted())

    class Counted(SharedForwards):
        def measure(self, evaluator: Any, requests: Any, progress: Any) -> Generator[Any, None, None]:
            asked.extend(request.trial for request in requests)
            return super().measure(evaluator, requests, progress)

    assert main(flags) == 0
    assert asked == [number for number in front if number != selected]
    assert numbers_measured(journal) == front


def test_a_selected_trial_takes_the_place_of_the_knee() -> None:
    front, baseline = trials(25), baseline_record(100)
    for selected in front:
        chosen = spread(front, baseline, 5, selected)
        assert selected in chosen
        assert len(chosen) == 5
