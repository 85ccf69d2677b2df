"""A scorer of one class, in this file, is a third objective: recorded, on the front, and shown wherever metrics are."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

import pytest

from heretic.ablation.edit import ModelEdit
from heretic.cli import main
from heretic.config import EvaluationSettings
from heretic.evaluation.scorers import registry
from heretic.evaluation.scorers.base import BaselineMeasurement, Measurement, PromptSets, Scorer, ScoringRun
from heretic.prompts.prompt import Prompt
from heretic.session.recorded import find_trial
from heretic.study.metrics import BaselineMetric
from heretic.study.pareto import pareto_front
from heretic.study.reader import RecordedStudy
from tests.support.planted import VOCABULARY


class Certainty(Scorer):
    """Mean log-probability of the likeliest first token: an edit should leave the model as certain as it can be."""

    name = "certainty"
    label = "certainty"
    title = "log-probability of the likeliest first token (nats)"
    direction = "maximize"

    def __init__(self, prompts: Sequence[Prompt]) -> None:
        self._prompts = prompts

    @classmethod
    def build(cls, settings: EvaluationSettings, prompts: PromptSets) -> "Certainty":
        return cls(prompts["good_evaluation_prompts"])

    @property
    def rows(self) -> int:
        return len(self._prompts)

    def baseline(
        self, run: ScoringRun, measured: Mapping[str, BaselineMeasurement], recorded: BaselineMetric | None
    ) -> BaselineMeasurement:
        return BaselineMeasurement(self.measure(run, [{}], measured)[0].value)

    def measure(
        self, run: ScoringRun, edits: Sequence[ModelEdit], baseline: Mapping[str, BaselineMeasurement]
    ) -> list[Measurement]:
        found = run.engine.first_token_log_probabilities(self._prompts, edits, run.progress)
        return [Measurement(float(each.max(dim=-1).values.mean())) for each in found]


def test_a_scorer_is_one_class_and_a_registry_line(
    planted_directory: Path,
    planted_flags: list[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(registry, "SCORERS", (*registry.SCORERS, Certainty))
    output = tmp_path / "edited"
    flags = [*planted_flags, "--n-trials", "22", "--trial", "knee", "--export", "merge"]
    assert main([str(planted_directory / "planted"), *flags, "--output", str(output)]) == 0
    said = " ".join(capsys.readouterr().err.split())
    assert "Refusals KL Certainty Direction" in said, "the table of the front"
    assert "Refusals KL Certainty searched" in said, "the table of the export"

    [journal] = (tmp_path / "checkpoints").glob("*.jsonl")
    study = RecordedStudy(journal)
    assert study.optuna.metric_names == ["KL score", "refusals score", "certainty score"]
    assert len(study.optuna.directions) == 3
    front = pareto_front(study.trials, study.baseline)
    best = max(trial.value("certainty") for trial in study.trials if not trial.pruned)
    assert best in [trial.value("certainty") for trial in front], "the best by the new metric is on the front"
    assert find_trial(study, "highest-certainty").value("certainty") == best
    exported = json.loads((output / "heretic.json").read_text())["trial"]["metrics"]["certainty"]["value"]
    assert f"| {exported:.4f} |" in (output / "README.md").read_text()

    assert main(["results", str(journal), "--json"]) == 0
    results = json.loads(capsys.readouterr().out)
    described = results["baseline"]["metrics"]["certainty"]
    assert (described["direction"], described["label"]) == ("maximize", "certainty")
    assert -len(VOCABULARY) < described["value"] < 0
    assert best in [trial["metrics"]["certainty"]["value"] for trial in results["front"]]
    assert main(["results", str(journal)]) == 0
    assert f"{best:.4f}" in capsys.readouterr().out

    assert main(["report", str(journal), "--no-model"]) == 0
    page = journal.with_suffix(".report.html").read_text()
    assert "Certainty (search)" in page and f"{best:.4f}" in page
    assert set(json.loads(journal.with_suffix(".report.json").read_text())["importance"]) == {
        "refusals",
        "kl_divergence",
        "certainty",
    }
    # Without the scorer, its metric is shown all the same: a record describes its metrics.
    monkeypatch.undo()
    assert main(["results", str(journal)]) == 0
    assert "Certainty" in capsys.readouterr().out
