"""A search whose last actor dies ends with what to do, and the same command continues it."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from heretic.cli import main
from heretic.search.cluster import open as opening
from heretic.search.cluster.system import ActorLost
from heretic.search.cluster.worker import ModelWorker
from heretic.session.context import Session
from heretic.study.reader import RecordedStudy
from tests.support.inline_actors import InlineSystem, worker_spec


class MortalSystem(InlineSystem):
    """Two actors; after `lives` measurements both die, and there is no room for others."""

    def __init__(self, session: Session, lives: int) -> None:
        super().__init__(2, worker_spec(session))
        self._lives = lives
        self._clock = 0.0

    def room(self) -> list[str]:
        return super().room() if self._lives > 0 else []

    def now(self) -> float:
        self._clock += 1.0
        return self._clock

    def result(self, call: tuple[ModelWorker, str, bytes]) -> Any:
        self._lives -= call[1] == "perform" and b"measure" in call[2]
        if self._lives <= 0:
            raise ActorLost("its machine was switched off")
        return super().result(call)


def test_the_same_command_continues_after_the_last_actor_was_gone(
    planted_directory: Path,
    planted_flags: list[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    @contextmanager
    def no_ray(_: Any) -> Iterator[None]:
        yield None

    lives = [6]
    monkeypatch.setattr(opening, "ray_cluster", no_ray)
    monkeypatch.setattr(opening, "_system", lambda _, session: MortalSystem(session, lives[0]))
    command = [str(planted_directory / "planted"), *planted_flags, "--ray", "--heldout-trials", "0"]
    # More candidates at once, where that was measured to be faster, would need fewer measurements than there are lives.
    command += ["--no-order-startup-trials", "--candidates-per-forward", "1"]

    def trials() -> list[Any]:
        [journal] = (tmp_path / "checkpoints").glob("*.jsonl")
        return RecordedStudy(journal).trials

    assert main(command) == 2
    told = " ".join(capsys.readouterr().err.split())
    assert "The last actor is gone (its machine was switched off)" in told
    assert "run the same command again to continue" in told
    first = trials()
    assert 0 < len(first) < 12
    lives[0] = 1000
    assert main(command) == 0
    assert len(trials()) == 12
    assert trials()[: len(first)] == first
