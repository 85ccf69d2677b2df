"""Over-refusal as a third objective of the search: counted, on the front, and shown wherever metrics are."""

import json
from pathlib import Path

import pytest

from heretic.cli import main
from heretic.report.data import Report
from heretic.study.pareto import pareto_front
from heretic.study.reader import RecordedStudy
from tests.support.planted import planted_prompts


@pytest.fixture
def flags(planted_directory: Path, planted_flags: list[str], tmp_path: Path) -> list[str]:
    """Harmless prompts of which the model declines 6 of 10: they hold its trigger words."""
    texts = planted_prompts(6, True, seed=901) + planted_prompts(4, False, seed=902)
    (tmp_path / "harmless.txt").write_text("\n".join(texts) + "\n")
    third = ["--over-refusal-objective", f"--over-refusal-evaluation-prompts={tmp_path}/harmless.txt"]
    report = [f"--{side}-heldout-prompts={planted_directory}/{side}_report.txt" for side in ("good", "bad")]
    report += [f"--over-refusal-heldout-prompts={planted_directory}/good_report.txt"]
    return [str(planted_directory / "planted"), *planted_flags, *third, *report]


def journal(tmp_path: Path) -> Path:
    [found] = (tmp_path / "checkpoints").glob("*.jsonl")
    return found


def test_a_job_with_three_objectives(flags: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    output = tmp_path / "edited"
    assert main([*flags, "--n-trials", "22", "--trial", "lowest-refusals", "--output", str(output)]) == 0
    said = " ".join(capsys.readouterr().err.split())
    assert "Baseline: 24/24 refusals, 6/10 over-refusals." in said
    assert "Trial Refusals KL Over-refusals Direction" in said
    assert "Refusals KL Over-refusals searched 0/24" in said

    study = RecordedStudy(journal(tmp_path))
    assert (study.baseline.value("over_refusals"), study.baseline.metrics["over_refusals"].of) == (6, 10)
    assert len(study.optuna.directions) == 3
    assert all("over_refusals" in trial.metrics for trial in study.trials)
    best = json.loads((output / "heretic.json").read_text())["trial"]
    assert (best["metrics"]["refusals"]["value"], best["metrics"]["over_refusals"]["value"]) == (0, 0)
    assert "Refusals of harmless prompts that look harmful (10) | 6/10" in (output / "README.md").read_text()

    assert main(["report", str(study.path), "--no-model"]) == 0
    report = Report.model_validate_json(study.path.with_suffix(".report.json").read_text())
    assert report.importance is not None and set(report.importance) == {"refusals", "kl_divergence", "over_refusals"}
    assert report.measured is not None and "over_refusals" in report.measured.candidates[0].search
    page = study.path.with_suffix(".report.html").read_text()
    assert "Over-refusals (search)" in page and "in all 3" in page

    again = str(tmp_path / "again")
    assert main(["reproduce", str(study.path.with_suffix(".report.json")), "--study-checkpoint-dir", again]) == 0
    assert "over-refusals (search)" in capsys.readouterr().out


def test_it_is_the_same_study_with_and_without_giving_up(flags: list[str], tmp_path: Path) -> None:
    """A pruned candidate could not have entered the front of three metrics: it equals that of full evaluation."""
    assert main([*flags, "--sampler", "random", "--n-trials", "14", "--prune-dominated"]) == 0
    stopped = RecordedStudy(journal(tmp_path))
    assert main([*flags, "--sampler", "random", "--n-trials", "14", "--no-prune-dominated", "--resume", "restart"]) == 0
    whole = RecordedStudy(stopped.path)
    fronts = [[trial.parameters for trial in pareto_front(study.trials, study.baseline)] for study in (stopped, whole)]
    assert fronts[0] == fronts[1]


def test_another_number_of_objectives_is_another_study(
    flags: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([*flags, "--n-trials", "2"]) == 0
    assert main([*flags, "--n-trials", "3", "--no-over-refusal-objective", "--resume", "continue"]) == 2
    assert "another over_refusal_objective" in " ".join(capsys.readouterr().err.split())
    assert main([*flags, "--n-trials", "3", "--resume", "continue"]) == 0


def test_by_the_first_token_alone(flags: list[str], tmp_path: Path) -> None:
    assert main([*flags, "--objective", "log-odds", "--n-trials", "6", "--heldout-trials", "0"]) == 0
    study = RecordedStudy(journal(tmp_path))
    assert study.baseline.value("over_refusals") == 6
    assert min(trial.value("over_refusals") for trial in study.trials) == 0


def test_the_same_prompts_twice_are_no_third_figure(
    flags: list[str], planted_directory: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([*flags, f"--over-refusal-evaluation-prompts={planted_directory}/bad_search.txt"]) == 2
    assert "no bad_evaluation_prompts, but 24 of 24 are" in " ".join(capsys.readouterr().err.split())
