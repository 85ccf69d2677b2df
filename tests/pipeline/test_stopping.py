"""Studies in which candidates that have lost end early have the front of those in which all are measured to their end.

The random sampler asks for the same candidates in both, whatever it is told.
"""

import json
from pathlib import Path

import pytest

from heretic.cli import main
from heretic.engine import watch
from heretic.model.demo_model import demo_model
from heretic.study.pareto import pareto_front
from heretic.study.study import RecordedStudy


def recorded(directory: Path, *flags: str) -> RecordedStudy:
    settled = ["--sampler", "random", "--export", "none", "--report-candidates", "0", "--candidates", "1"]
    assert main([*flags, *settled, "--study-checkpoint-dir", str(directory)]) == 0
    [journal] = directory.glob("*.jsonl")
    return RecordedStudy(journal)


def check_fronts(tmp_path: Path, *flags: str) -> None:
    full = recorded(tmp_path / "full", "--no-stop-dominated", *flags)
    early = recorded(tmp_path / "early", *flags)
    assert [trial.parameters for trial in early.trials] == [trial.parameters for trial in full.trials]
    ended = [trial for trial in early.trials if trial.bound]
    assert len(ended) >= len(early.trials) // 4, "hardly one was ended: this test proves nothing"
    assert not any(trial.bound for trial in full.trials)
    for trial, whole in zip(early.trials, full.trials, strict=True):
        assert trial.refusals <= whole.refusals if trial.bound else trial.refusals == whole.refusals
    figures = [[(trial.number, trial.refusals) for trial in pareto_front(study.trials)] for study in (early, full)]
    assert figures[0] == figures[1]


def test_the_front_of_the_planted_model(
    planted_directory: Path, planted_flags: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Its responses have four tokens: they must be judged earlier than a real model's.
    monkeypatch.setattr(watch, "FIRST_VERDICT", 1)
    monkeypatch.setattr(watch, "CHECK_EVERY", 1)
    check_fronts(tmp_path, str(planted_directory / "planted"), *planted_flags, "--n-trials", "24")


@pytest.mark.slow
def test_the_front_of_a_real_model(tmp_path: Path) -> None:
    sizes = {"prompts": "direction[:24]", "evaluation-prompts": "search[:8]"}
    flags = [str(demo_model()), "--system-prompt", "none", "--batch-size", "32", "--dtypes", "float32"]
    flags += ["--response-prefix", ""]
    for side in ("good", "bad"):
        for name, split in sizes.items():
            source = {"dataset": "packaged:disclaimer", "split": split, "column": side}
            flags += [f"--{side}-{name}", json.dumps(source)]
    check_fronts(tmp_path, *flags, "--n-trials", "9", "--max-response-length", "16")
