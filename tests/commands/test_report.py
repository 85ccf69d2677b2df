"""heretic report on the planted model: one page, one JSON file, both whole."""

import json
import re
import shutil
from collections.abc import Sequence
from html.parser import HTMLParser
from pathlib import Path

import pytest

pytest.importorskip("plotly")

from heretic.cli import main
from heretic.config import ExportSettings
from heretic.events import Action
from heretic.report.data import Report, without_home
from heretic.study.reader import RecordedStudy
from heretic.study.schema import BaselineRecord, TrialRecord
from heretic.ui.flags import FlagChooser
from tests.support.planted import search_flags

SECTIONS = ["front", "responses", "side-effects", "kernels", "residuals", "search", "run"]


class Page(HTMLParser):
    """What a browser would fetch, the identifiers, and the text."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.fetched: list[str] = []
        self.ids: list[str] = []
        self.words: list[str] = []
        self.open: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = dict(attrs)
        self.fetched += [str(given[name]) for name in ("src", "href") if name in given and tag != "a"]
        self.ids += [given["id"]] if given.get("id") else []
        self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        while self.open and self.open.pop() != tag:
            pass

    def handle_data(self, data: str) -> None:
        if not {"script", "style"} & set(self.open):
            self.words.append(data)


@pytest.fixture(scope="module")
def recorded(planted_directory: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory with a study, which no test changes, and its model."""
    place = tmp_path_factory.mktemp("recorded")
    # A model's name is text, whatever it holds.
    model = place / "planted <b>&amp;"
    model.symlink_to(planted_directory / "planted", target_is_directory=True)
    flags = search_flags(planted_directory, place / "checkpoints")
    files = [f"--{side}-heldout-prompts={planted_directory}/{side}_report.txt" for side in ("good", "bad")]
    assert main([str(model), *flags, *files, "--n-trials", "24", "--seed", "3"]) == 0
    return place


@pytest.fixture
def study(recorded: Path, tmp_path: Path) -> Path:
    """The study in the test's own directory of studies."""
    shutil.copytree(recorded / "checkpoints", tmp_path / "checkpoints")
    [journal] = (tmp_path / "checkpoints").glob("*.jsonl")
    return journal


def test_a_page_and_its_data(study: Path, tmp_path: Path) -> None:
    page = tmp_path / "out" / "report.html"
    assert main(["report", str(study), "--page", str(page)]) == 0
    text = page.read_text()
    read = Page(text)
    # Nothing is fetched: the page is complete without a network.
    assert read.fetched == []
    assert [each for each in read.ids if each in SECTIONS] == SECTIONS
    # plotly's code is in it once, and each chart draws.
    assert text.count("plotly.js v") == 1
    assert text.count("Plotly.newPlot(") == 7
    shown = " ".join(" ".join(read.words).split())
    assert "planted <b>&amp;" in shown and "<b>&amp;" not in text
    assert "declined → answered: 20 of 20" in shown
    assert "sorry cannot" in shown and "sure here" in shown

    report = Report.model_validate_json(page.with_suffix(".json").read_text())
    recorded = RecordedStudy(study)
    assert [each.number for each in report.trials] == [each.number for each in recorded.trials]
    assert report.study == without_home(recorded.record)
    assert report.knee in [each.number for each in report.front]
    [run] = report.runs
    assert (run.settings["seed"], run.settings["n_trials"]) == (3, 24)
    assert {"processor", "memory"} <= set(run.hardware)
    assert all(0 <= a.hypervolume <= b.hypervolume <= 1 for a, b in zip(report.trials, report.trials[1:], strict=False))
    assert report.importance is not None
    assert sum(report.importance["refusals"].values()) == pytest.approx(1)
    for trial in report.front:
        kernel = report.trial(trial.number).parameters.kernels["attn.o_proj"]
        assert trial.strengths["attn.o_proj"] == [kernel.weight(layer) for layer in range(6)]


def test_residuals_tell_where_the_behaviour_is(study: Path) -> None:
    assert main(["report", str(study)]) == 0
    report = Report.model_validate_json(study.with_suffix(".report.json").read_text())
    residuals = report.residuals
    assert residuals is not None and len(residuals.layers) == 7
    # From the planted layer on, every bad prompt lies farther along the direction than every good one.
    assert [each.auc for each in residuals.layers[4:]] == [1.0] * 3
    assert residuals.layers[6].silhouette > residuals.layers[2].silhouette
    assert [len(points) for points in residuals.points] == [120] * 6
    assert max(abs(value) for points in residuals.points for point in points for value in point) == 1000


def test_no_model_is_loaded_where_none_is_wanted_or_needed(
    study: Path, planted_directory: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["report", str(study), "--no-model"]) == 0
    report = Report.model_validate_json(study.with_suffix(".report.json").read_text())
    assert report.residuals is None
    assert 'id="residuals"' not in study.with_suffix(".report.html").read_text()
    assert main(["report", str(study)]) == 0
    capsys.readouterr()
    # What was measured once is kept.
    assert main(["report", str(study)]) == 0
    assert "Loading" not in capsys.readouterr().err
    assert Report.model_validate_json(study.with_suffix(".report.json").read_text()).residuals is not None


class AsksForReport(FlagChooser):
    """Somebody who chooses a report in the menu, twice, and leaves."""

    def __init__(self, model: str, export: ExportSettings, *_: object) -> None:
        super().__init__(export, "continue", model)
        self._left = 2

    def next_action(self, front: Sequence[TrialRecord], baseline: BaselineRecord) -> Action:
        self._left -= 1
        return Action("report", front[0]) if self._left >= 0 else Action("leave")


def test_the_menu_writes_one_with_the_model_that_is_loaded(
    study: Path, planted_flags: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("heretic.cli.search._chooser", AsksForReport)
    capsys.readouterr()
    model = RecordedStudy(study).record.model
    assert main([model, *planted_flags, "--seed", "3", "--heldout-trials", "0"]) == 0
    printed = capsys.readouterr().err
    assert printed.count("Report: ") == 2
    # No second model, and no second pass over the direction prompts.
    assert printed.count(f"Loading {model} ...") == printed.count("Residuals of bad prompts ...") == 1
    report = Report.model_validate_json(study.with_suffix(".report.json").read_text())
    assert report.residuals is not None and [each.auc for each in report.residuals.layers[4:]] == [1.0] * 3


def test_a_study_without_a_report_part_says_so(
    planted_directory: Path, planted_flags: list[str], tmp_path: Path
) -> None:
    assert main([str(planted_directory / "planted"), *planted_flags, "--n-trials", "3"]) == 0
    [journal] = (tmp_path / "checkpoints").glob("*.jsonl")
    assert main(["report", str(journal), "--no-model"]) == 0
    text = journal.with_suffix(".report.html").read_text()
    assert "Nothing was measured on held-out prompts" in text
    assert "The importance of parameters is estimated from 20 trials on" in text


def test_the_home_directory_is_not_disclosed(study: Path, monkeypatch: pytest.MonkeyPatch, recorded: Path) -> None:
    monkeypatch.setattr(Path, "home", lambda: recorded)
    assert main(["report", str(study), "--no-model"]) == 0
    data = study.with_suffix(".report.json").read_text()
    assert json.loads(data)["study"]["model"] == "~/planted <b>&amp;"
    assert str(recorded) not in data
    assert str(recorded) not in re.sub(r"<script>.*?</script>", "", study.with_suffix(".report.html").read_text())


def test_no_file_of_others_is_replaced(short_study: Path, tmp_path: Path) -> None:
    from heretic.commands.report import check_new_page
    from heretic.errors import ConfigError

    (tmp_path / "notes.html").write_text("mine")
    (tmp_path / "page.json").write_text("mine")
    (tmp_path / "link.html").symlink_to("nowhere")
    for page in (tmp_path / "notes.html", tmp_path / "page.html", tmp_path / "link.html", short_study):
        with pytest.raises(ConfigError, match="exists already"):
            check_new_page(page)
    with pytest.raises(ConfigError, match="Name it"):
        check_new_page(tmp_path / "new.json")
    check_new_page(tmp_path / "new.html")
