"""heretic benchmark on the planted model: a task of its own, run by lm-evaluation-harness without a network."""

import json
import shutil
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("lm_eval")

from heretic.benchmark.schema import BenchmarkResults
from heretic.cli import main
from heretic.search.cluster import open as opening
from heretic.session.context import Session
from tests.support.inline_actors import InlineSystem, worker_spec
from tests.support.planted_task import write_task


@pytest.fixture
def study(short_study: Path, tmp_path: Path) -> Path:
    """The module's study, in a directory of the test's own."""
    return Path(shutil.copytree(short_study.parent, tmp_path / "studies")) / short_study.name


def test_a_candidate_and_the_model_itself_answer_the_same_documents(
    study: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    task = write_task(tmp_path, tokens=8)
    samples = tmp_path / "samples"
    flags = ["--tasks", str(task), "--trials", "lowest-refusals", "--samples", str(samples)]
    assert main(["benchmark", str(study), *flags]) == 0
    shown = capsys.readouterr().out
    assert "better (p < 0.001)" in shown
    kept = BenchmarkResults.model_validate_json(study.with_suffix(".benchmarks.json").read_text())
    [result] = kept.tasks
    [metric] = result.metrics
    # The behaviour is gone, and with it all that the model got wrong.
    assert (metric.metric, metric.baseline, metric.candidate) == ("exact_match", 0.25, 1.0)
    assert metric.paired is not None
    # Exact McNemar of 12 pairs that all differ the same way: 2 * 0.5 ** 12.
    assert (metric.paired.only_first, metric.paired.only_second) == (0, 12)
    assert metric.p_value == pytest.approx(2 * 0.5**12)
    assert result.baseline_unfinished is not None and result.baseline_unfinished.count == 0
    # The scores are kept, the texts are where they were asked for.
    assert "sure" not in study.with_suffix(".benchmarks.json").read_text()
    lines = (samples / f"planted.trial-{result.trial}.jsonl").read_text().splitlines()
    assert len(lines) == 16
    logged = json.loads(lines[0])
    assert logged["filtered_resps"] == ["sure here"]
    # With the chat template, and without a second start.
    assert logged["arguments"][0][0].startswith("<user> ") and logged["arguments"][0][0].endswith("<assistant>")


def test_actors_answer_as_this_process(
    study: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    flags = ["benchmark", str(study), "--tasks", str(write_task(tmp_path, tokens=2)), "--json"]
    assert main(flags) == 0
    expected = json.loads(capsys.readouterr().out)
    systems: list[InlineSystem] = []

    def system(_: Any, session: Session) -> InlineSystem:
        systems.append(InlineSystem(2, worker_spec(session)))
        return systems[-1]

    monkeypatch.setattr(opening, "ray_cluster", lambda _: nullcontext())
    monkeypatch.setattr(opening, "_system", system)
    assert main([*flags, "--ray"]) == 0
    shown = capsys.readouterr()
    assert json.loads(shown.out) == expected
    assert len(systems) == 1 and "Actors measure the candidates" in shown.err


def test_answers_that_the_length_limit_cuts_off_are_counted(
    study: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    task = write_task(tmp_path, tokens=1)
    assert main(["benchmark", str(study), "--tasks", str(task), "--limit", "5", "--json"]) == 0
    [result] = json.loads(capsys.readouterr().out)
    assert (result["limit"], result["documents"]) == (5, 5)
    assert result["baseline_unfinished"]["count"] == result["candidate_unfinished"]["count"] == 5


def test_results_of_another_benchmark_are_kept(study: Path, tmp_path: Path) -> None:
    task = write_task(tmp_path, tokens=8)
    other = tmp_path / "other.yaml"
    other.write_text(task.read_text().replace("task: planted", "task: other"))
    assert main(["benchmark", str(study), "--tasks", f"{other},{task}", "--limit", "4"]) == 0
    assert main(["benchmark", str(study), "--tasks", str(task), "--limit", "3"]) == 0
    kept = BenchmarkResults.model_validate_json(study.with_suffix(".benchmarks.json").read_text())
    assert [(Path(each.task).stem, each.limit) for each in kept.tasks] == [("other", 4), ("planted", 3)]


@pytest.mark.parametrize(
    ("task", "said"),
    [("hellaswagg", "Did you mean hellaswag"), ("missing.yaml", "there is no such file")],
)
def test_an_unknown_task_is_an_error_before_anything_runs(
    study: Path, task: str, said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["benchmark", str(study), "--tasks", task]) == 2
    assert said in capsys.readouterr().err


def test_without_the_harness_it_says_what_to_install(
    study: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    assert main(["benchmark", str(study)]) == 2
    assert 'pip install "lm-eval>=' in capsys.readouterr().err


def test_a_task_that_the_harness_refuses_is_an_error(study: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The planted model's tokenizer knows no word of it: to the harness its answers are empty."""
    assert main(["benchmark", str(study), "--tasks", "heretic-facts", "--limit", "2"]) == 2
    assert "lm-evaluation-harness stopped at a check of its own" in capsys.readouterr().err
