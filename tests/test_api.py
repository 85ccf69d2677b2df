"""The job from Python and in a notebook: the documentation's examples run unchanged."""

import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import heretic
from heretic.errors import ConfigError, StudyError
from heretic.report.frames import front_figure, trials_frame
from tests.support import study_toys as toys
from tests.support.study_toys import trial as study_trial

PAGE = Path(__file__).parent.parent / "docs" / "notebooks.md"


@pytest.fixture
def world(planted_directory: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working directory with path/to/model, and a config.toml that fits it."""
    shutil.copytree(planted_directory / "planted", tmp_path / "path" / "to" / "model")
    lines = ['dtypes = ["float32"]', 'system_prompt = "none"', "batch_size = 64", "max_response_length = 4"]
    lines += ["heldout_trials = 0"]
    for side in ("good", "bad"):
        lines.append(f'{side}_prompts = "{planted_directory}/{side}_direction.txt"')
        lines.append(f'{side}_evaluation_prompts = "{planted_directory}/{side}_search.txt"')
    (tmp_path / "config.toml").write_text("\n".join(lines))
    monkeypatch.chdir(tmp_path)
    return tmp_path


def examples() -> list[str]:
    return re.findall(r"^```python\n(.*?)^```$", PAGE.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)


def test_the_first_example_has_ten_lines() -> None:
    assert len(examples()[0].splitlines()) <= 10


@pytest.mark.slow
def test_the_examples_run_in_a_notebook(world: Path) -> None:
    nbclient, nbformat = pytest.importorskip("nbclient"), pytest.importorskip("nbformat")
    cells = [*examples(), "front", "figure"]
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(cell) for cell in cells])
    nbclient.NotebookClient(notebook, timeout=120, resources={"metadata": {"path": str(world)}}).execute()
    assert (world / "path/to/edited/config.json").exists() and (world / "path/to/adapter/adapter_config.json").exists()
    first, *_, frame, figure = (cell.outputs for cell in notebook.cells)
    shown = [output.data for output in first if output.output_type == "display_data"]
    assert any("<progress" not in data["text/html"] and "Baseline" in data["text/html"] for data in shown)
    assert any("Pareto front so far" in data["text/html"] for data in shown), "the search has its block"
    assert not any("IntProgress" in str(data) or "ipywidgets" in str(data) for data in shown)
    assert "<table" in frame[0].data["text/html"]
    assert "application/vnd.plotly.v1+json" in figure[0].data


def test_a_search_from_python_gives_frames_answers_and_a_model(world: Path) -> None:
    study = heretic.search("path/to/model", n_trials=6, n_startup_trials=6)
    frame = study.frame()
    assert list(frame.index) == [trial.number for trial in study.trials] and len(frame) == 6
    assert set(study.front().index) == set(frame.index[frame["front"]])
    assert study.front()["kl_divergence"].is_monotonic_decreasing
    itself, edited = study.compare("word1 trigger1", [None, "lowest-refusals"], 4)
    assert "sorry" in itself and "sure here" in edited
    assert study.ask("word1 trigger1", "lowest-refusals", 4) == edited
    again = heretic.open_study("path/to/model")
    assert again.knee == study.knee
    with pytest.raises(StudyError, match="Trial 99"):
        again.trial(99)


def test_a_wrong_argument_is_an_error_with_the_nearest_key(world: Path) -> None:
    with pytest.raises(ConfigError, match="n_trials"):
        heretic.search("path/to/model", n_trails=3)


def figures(*trials: Any) -> Any:
    return front_figure(trials_frame(trials, toys.BASELINE), trials[0], toys.BASELINE)


def test_the_figure_holds_every_measured_trial_once_and_the_front_in_order() -> None:
    given = toys.trial(3, 5, 0.5), toys.trial(1, 20, 0.1), toys.trial(2, 30, 0.4), toys.trial(0, 0, 0.9)
    bound = study_trial(9, 40, 0.2, pruned=True)
    others, front, best = figures(*given, bound).data
    assert list(others.customdata) == [2]
    assert list(front.customdata) == [1, 3, 0] and list(front.y) == [20, 5, 0]
    assert list(best.customdata) == [3]
    assert (front.error_y.array > 0).all() and (front.error_y.arrayminus >= 0).all()


def test_a_study_without_trials_has_an_empty_frame() -> None:
    frame = trials_frame([], toys.BASELINE)
    assert len(frame) == 0 and "kl_divergence" in frame.columns
    assert front_figure(frame, None, toys.BASELINE).data


@pytest.mark.parametrize("package", ["pandas", "plotly.graph_objects"])
def test_a_missing_package_is_an_error_with_the_command_that_installs_it(
    package: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(ConfigError, match=rf"Expected {package.partition('.')[0]}.*pip install"):
        figures(toys.trial(0, 5, 0.5))


def test_importing_the_package_is_quick() -> None:
    import subprocess
    import sys

    program = "import sys, heretic; sys.exit(bool({'torch', 'pandas', 'optuna', 'pydantic'} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 0


def test_search_stays_a_function_when_the_package_of_its_name_is_imported() -> None:
    program = "import heretic.search.loop, heretic; assert heretic.search is heretic.api.search"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
