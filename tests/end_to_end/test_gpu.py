"""On a GPU: a search, held-out evaluation and export are those of a CPU."""

import json
from pathlib import Path

import pytest

from heretic.cli import main
from heretic.evaluation.heldout.schema import BAD
from heretic.session.sidecars import read_heldout_report
from heretic.study.pareto import pareto_front
from heretic.study.reader import RecordedStudy

pytestmark = pytest.mark.gpu


def study(directory: Path, flags: list[str], planted: Path, device: str) -> RecordedStudy:
    report = [f"--{side}-heldout-prompts={planted}/{side}_report.txt" for side in ("good", "bad")]
    # The sampler learns nothing, so that a difference in the seventh digit changes no candidate.
    alike = ["--sampler", "random", "--no-prune-dominated", "--n-workers", "1", "--candidates-per-forward", "4"]
    place = ["--device-map", device, "--study-checkpoint-dir", str(directory)]
    assert main([str(planted / "planted"), *flags, *report, *alike, *place]) == 0
    [journal] = directory.glob("*.jsonl")
    return RecordedStudy(journal)


def test_a_study_on_a_gpu_is_that_on_a_cpu(planted_directory: Path, planted_flags: list[str], tmp_path: Path) -> None:
    on_cpu, on_gpu = (study(tmp_path / name, planted_flags, planted_directory, name) for name in ("cpu", "cuda:0"))
    for first, second in zip(on_cpu.trials, on_gpu.trials, strict=True):
        assert first.parameters == second.parameters
        assert first.metrics["refusals"] == second.metrics["refusals"]
        assert first.metrics["kl_divergence"].value == pytest.approx(second.metrics["kl_divergence"].value, abs=1e-5)
    report = read_heldout_report(on_gpu.path)
    assert report is not None
    front = pareto_front(on_gpu.trials, on_gpu.baseline)
    assert [each.trial for each in report.candidates] == [trial.number for trial in front]
    assert report.baseline.sets[BAD].classes.declined.count == 20
    assert report.candidates[0].sets[BAD].classes.declined.count < 20


def test_an_export_from_a_gpu_measures_as_recorded(
    planted_directory: Path, planted_flags: list[str], tmp_path: Path
) -> None:
    output = tmp_path / "edited"
    flags = ["--trial", "lowest-refusals", "--export", "merge", "--output", str(output), "--device-map", "cuda:0"]
    assert main([str(planted_directory / "planted"), *planted_flags, *flags]) == 0
    assert json.loads((output / "heretic.json").read_text())["trial"]["metrics"]["refusals"]["value"] == 0
