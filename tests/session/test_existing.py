"""A study that exists before a run: how many of its trials are done."""

from pathlib import Path

from heretic.config import ExportSettings, SearchSettings
from heretic.session.existing import settle_existing
from heretic.ui.flags import FlagChooser
from tests.support.recorders import Recorder
from tests.support.study_toys import open_study, search


def test_trials_that_failed_count_as_done(tmp_path: Path) -> None:
    path, reporter = tmp_path / "m.jsonl", Recorder()
    with open_study(path) as study:
        search(study, 2)
        study.fail(study.ask(1)[0], "NaN")
        finished = study.n_finished()
    assert settle_existing(path, SearchSettings(n_trials=3), FlagChooser(ExportSettings(), None, "m"), reporter)
    assert reporter.lines == [f"Resuming {path}: {finished} of 3 trials are done."]
    assert finished == 3
