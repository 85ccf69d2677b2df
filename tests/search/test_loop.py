"""Studies that prune dominated candidates have the same front as studies that evaluate all candidates fully.

The random sampler draws the same candidates in both, whatever the results.
"""

import json
from collections import deque
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from heretic.cli import main
from heretic.engine import early_stop
from heretic.model.loading.demo_model import demo_model
from heretic.search.loop import Search
from heretic.search.time_budget import Clock
from heretic.study.pareto import pareto_front
from heretic.study.reader import RecordedStudy
from tests.support.recorders import Recorder


def test_a_first_edit_beyond_the_time_budget_is_announced_once() -> None:
    """Before it, learning can't be stopped in time; after it, it can."""
    shown: list[int] = []
    view: Any = SimpleNamespace(learning=lambda point, step, steps, left: shown.append(step))
    for left, finished, said in ((100.0, 0, 1), (100.0, 1, 0), (10.0, 0, 0)):
        search, reporter = Search.__new__(Search), Recorder()
        search._open, search._warned, search._reporter = deque(), False, reporter
        search._study = cast(Any, SimpleNamespace(n_finished=lambda finished=finished: finished))
        search._learned = cast(Any, SimpleNamespace(left=left))
        for step in range(1, 9):
            search._show_step(Clock(3, 60.0), view, 0, step, 48, 5.0)
        assert len(reporter.warnings) == said
        assert all("about 1 min 40 s more of learning" in each for each in reporter.warnings)
    assert shown == [*range(1, 9)] * 3


def recorded(directory: Path, *flags: str) -> RecordedStudy:
    settled = ["--sampler", "random", "--export", "none", "--heldout-trials", "0", "--candidates-per-forward", "1"]
    assert main([*flags, *settled, "--study-checkpoint-dir", str(directory)]) == 0
    [journal] = directory.glob("*.jsonl")
    return RecordedStudy(journal)


def check_fronts(tmp_path: Path, *flags: str) -> None:
    full = recorded(tmp_path / "full", "--no-prune-dominated", *flags)
    whole = {trial.parameters.model_dump_json(): trial for trial in full.trials}
    assert not any(trial.pruned for trial in full.trials)
    for order in ("--order-startup-trials", "--no-order-startup-trials"):
        early = recorded(tmp_path / order, order, *flags)
        # The same candidates, the most promising of them first or as they were drawn.
        keys = [trial.parameters.model_dump_json() for trial in early.trials]
        assert sorted(keys) == sorted(whole)
        assert (keys == list(whole)) == (order == "--no-order-startup-trials")
        ended = [trial for trial in early.trials if trial.pruned]
        assert len(ended) >= len(early.trials) // 4, "hardly one was ended: this test proves nothing"
        for key, trial in zip(keys, early.trials, strict=True):
            least = whole[key].value("refusals")
            assert trial.value("refusals") <= least if trial.pruned else trial.value("refusals") == least
            assert trial.value("kl_divergence") == pytest.approx(whole[key].value("kl_divergence"), abs=1e-5)
        fronts = [
            [(each.value("refusals"), each.parameters) for each in pareto_front(s.trials, s.baseline)]
            for s in (early, full)
        ]
        assert fronts[0] == fronts[1]


def test_the_front_of_the_planted_model(
    planted_directory: Path, planted_flags: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Its responses have four tokens: pruning has to decide earlier than for a real model.
    monkeypatch.setattr(early_stop, "MIN_TOKENS_BEFORE_PRUNING", 1)
    monkeypatch.setattr(early_stop, "CHECK_INTERVAL", 1)
    check_fronts(tmp_path, str(planted_directory / "planted"), *planted_flags, "--n-trials", "24")


@pytest.mark.slow
def test_the_front_of_a_real_model(tmp_path: Path) -> None:
    sizes = {"prompts": "direction[:16]", "evaluation-prompts": "search[:8]"}
    flags = [str(demo_model()), "--system-prompt", "none", "--batch-size", "32", "--dtypes", "float32"]
    flags += ["--response-prefix", ""]
    for side in ("good", "bad"):
        for name, split in sizes.items():
            source = {"dataset": "packaged:disclaimer", "split": split, "column": side}
            flags += [f"--{side}-{name}", json.dumps(source)]
    check_fronts(tmp_path, *flags, "--n-trials", "8", "--max-response-length", "16")
