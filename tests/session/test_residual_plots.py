"""Tables, plots and responses on request, on the planted model."""

import importlib
import io
import json
from pathlib import Path
from typing import Any

import pytest

from heretic.cli import main
from heretic.cli.registry import build_parser
from heretic.config import Settings
from heretic.engine.local import LocalEngine
from heretic.engine.protocol import Response
from heretic.prompts.prompt import Prompt
from heretic.session.response_log import response_shower
from heretic.ui.plain import PlainReporter
from tests.support.planted import LAYERS, PLANTED_LAYER


@pytest.fixture
def passes(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The number of prompts of each pass for residuals."""
    counts: list[int] = []
    residuals = LocalEngine.residuals

    def counted(self: LocalEngine, prompts: Any, progress: Any) -> Any:
        counts.append(len(prompts))
        return residuals(self, prompts, progress)

    monkeypatch.setattr(LocalEngine, "residuals", counted)
    return counts


def run(planted_directory: Path, flags: list[str], *more: str) -> int:
    return main([str(planted_directory / "planted"), *flags, "--n-trials", "2", *more])


def table_of(text: str) -> list[list[str]]:
    """Rows of the geometry's table, layers only."""
    lines = text.splitlines()
    [start] = [i for i, line in enumerate(lines) if line.startswith("Residuals of good and bad prompts (")]
    return [line.split() for line in lines[start + 3 : start + 3 + LAYERS]]


def test_the_geometry_shows_where_the_behaviour_begins(
    planted_directory: Path, planted_flags: list[str], capsys: pytest.CaptureFixture[str], passes: list[int]
) -> None:
    assert run(planted_directory, planted_flags, "--print-residual-geometry") == 0
    first = table_of(capsys.readouterr().err)
    assert passes == [60, 60], "the pass that the directions are fitted from"
    for layer, row in enumerate(first):
        assert int(row[0]) == layer
        cosine_means, cosine_good, cosine_bad, silhouette = map(float, row[4:])
        # By default the direction is orthogonalised against the good mean.
        assert abs(cosine_good) < 1e-3
        assert (silhouette > 0.9) == (cosine_bad > 0.5) == (cosine_means < 0.9) == (layer >= PLANTED_LAYER)
    # The recorded directions' residuals are measured when, and only when, they are asked for.
    assert run(planted_directory, planted_flags) == 0
    assert passes == [60, 60]
    assert run(planted_directory, planted_flags, "--print-residual-geometry") == 0
    assert table_of(capsys.readouterr().err) == first


@pytest.mark.slow
def test_all_layers_are_plotted(
    planted_directory: Path, planted_flags: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("pacmap")
    pytest.importorskip("matplotlib")
    flags = ["--plot-residuals", "--residual-plot-path", str(tmp_path / "plots")]
    assert run(planted_directory, planted_flags, *flags) == 0
    names = sorted(path.name for path in (tmp_path / "plots").iterdir())
    assert len(names) == LAYERS + 1
    assert [name.rsplit("-", 1)[1] for name in names] == [*(f"{i}.png" for i in range(LAYERS)), "layers.gif"]
    assert not any(name.startswith("-") for name in names), "a name that a shell takes for an option"
    assert "Plots of the residuals are in" in capsys.readouterr().err


def colored(planted_directory: Path, color: str) -> list[str]:
    table = {"dataset": str(planted_directory / "good_direction.txt"), "residual_plot_color": color}
    return ["--good-prompts", json.dumps(table)]


@pytest.mark.parametrize("wrong", ["style", "color", "directory"])
def test_plots_that_can_not_be_drawn_are_an_error_before_any_work(
    wrong: str,
    planted_directory: Path,
    planted_flags: list[str],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    pytest.importorskip("pacmap")
    pytest.importorskip("matplotlib")
    (tmp_path / "file").write_text("")
    flags, printed = {
        "style": (["--residual-plot-style", "dark_backgroud"], "did you mean dark_background?"),
        "color": (colored(planted_directory, "blau"), "'blau'"),
        "directory": (["--residual-plot-path", str(tmp_path / "file")], "residual_plot_path"),
    }[wrong]
    assert run(planted_directory, planted_flags, "--plot-residuals", *flags) == 2
    error = capsys.readouterr().err
    assert printed in error and "Loading" not in error
    assert not (tmp_path / "checkpoints").exists()


def test_missing_packages_are_named_with_the_extra(
    planted_directory: Path,
    planted_flags: list[str],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    found = importlib.import_module

    def missing(name: str, *rest: Any) -> Any:
        if name == "pacmap":
            raise ModuleNotFoundError(f"No module named {name!r}")
        return found(name, *rest)

    monkeypatch.setattr(importlib, "import_module", missing)
    assert run(planted_directory, planted_flags, "--plot-residuals") == 2
    error = capsys.readouterr().err
    assert "'pacmap'" in error and "pacmap>=" in error and "Loading" not in error


def test_counted_responses_are_shown_and_the_metrics_stay(
    planted_directory: Path, planted_flags: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    fronts = []
    for number, more in enumerate([[], ["--print-responses"]]):
        flags = [*planted_flags, "--study-checkpoint-dir", str(tmp_path / str(number)), *more]
        assert run(planted_directory, flags) == 0
        printed = capsys.readouterr().err
        [journal] = (tmp_path / str(number)).glob("*.jsonl")
        assert main(["results", str(journal), "--json"]) == 0
        fronts.append(json.loads(capsys.readouterr().out)["front"])
        assert ("Responses of" in printed) == bool(more)
    assert fronts[0] == fronts[1]
    parts = printed.split("Responses of ")[1:]
    assert [part.split(":")[0] for part in parts] == ["the baseline", "trial 0", "trial 1"]
    prompt = (planted_directory / "bad_search.txt").read_text().splitlines()[0]
    assert f"  [refusal] {prompt}\n    sorry cannot\n" in parts[0]
    assert parts[0].count("[refusal]") == 24
    for trial in fronts[1]:
        assert parts[1 + trial["number"]].count("[refusal]") == trial["refusals"]


def test_a_response_of_a_pruned_candidate_is_no_answer() -> None:
    texts = [("sorry", False, False), ("sure", False, True), ("sure here", True, False), ("", False, True)]
    responses = {i: Response(text, 1, complete, cut) for i, (text, complete, cut) in enumerate(texts)}
    said = io.StringIO()
    show = response_shower(
        [Prompt(f"word{i}") for i in range(4)], Settings().refusal_markers, "it", PlainReporter(said)
    )
    show(None, responses)
    assert said.getvalue().startswith("Responses of it: 1 refusals among 4\n")
    marks = [line.split("]")[0].strip() for line in said.getvalue().splitlines() if line.startswith("  [")]
    assert marks == ["[refusal", "[pruned", "[answer", "[pruned"]


def test_evaluate_shows_responses_in_addition_to_its_json(
    planted_directory: Path, planted_flags: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    taken = [
        part for pair in zip(planted_flags[::2], planted_flags[1::2], strict=True) for part in pair if usable(pair)
    ]
    arguments = ["evaluate", str(planted_directory / "planted"), "--json", "--print-responses", *taken]
    assert main(arguments) == 0
    captured = capsys.readouterr()
    assert json.loads(captured.out)["refusals"] == 24
    assert captured.err.count("[refusal]") == 24


def usable(pair: tuple[str, str]) -> bool:
    return pair[0] in build_parser("evaluate")._option_string_actions
