"""An export that can't be written, and a search that can't have what is asked, are refused before a search."""

from pathlib import Path
from types import SimpleNamespace

import pytest

from heretic.commands import early_checks
from heretic.commands.early_checks import check_search, check_target, check_trial
from heretic.config import Settings
from heretic.errors import ConfigError, ExportError


@pytest.fixture(autouse=True)
def own_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "model-heretic").mkdir()
    (tmp_path / "taken").write_text("")


@pytest.mark.parametrize(
    "settings",
    [Settings(export="merge"), Settings(export="adapter"), Settings(output="taken"), Settings(output="taken/below")],
)
def test_an_output_that_is_taken_is_refused_at_once(settings: Settings) -> None:
    with pytest.raises(ExportError):
        check_target("some/model", settings)


@pytest.mark.parametrize("settings", [Settings(), Settings(export="none"), Settings(export="merge", output="free")])
def test_others_are_not(settings: Settings) -> None:
    assert check_target("some/model", settings) == "some/model"


def test_a_learned_path_has_no_fiftieth_trial() -> None:
    check_trial(Settings(method="auto", trial=50))
    check_trial(Settings(method="learned", trial=50, n_trials=60))
    with pytest.raises(ConfigError, match="8 trials"):
        check_trial(Settings(method="learned", trial=50))


def test_a_search_does_not_begin_with_learned_edits(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for method in ("kernel", "learned"):
        begun = SimpleNamespace(record=SimpleNamespace(settings={"method": method}))
        monkeypatch.setattr(early_checks, "find_study", lambda *_, study=begun: study)
        if method == "kernel":
            check_search(Settings(warm_start="old"), tmp_path / "study.jsonl")
            continue
        with pytest.raises(ConfigError, match="were learned"):
            check_search(Settings(warm_start="old"), tmp_path / "study.jsonl")
