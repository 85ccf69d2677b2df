"""Which engine a search gets: this process's, or actors on all GPUs of the machine."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from heretic.config import Settings
from heretic.installing import install_command
from heretic.search.cluster import open as opening
from heretic.search.cluster.open import Versions, uses_cluster
from heretic.search.cluster.system import ActorFacts
from heretic.session.context import Session
from heretic.session.records import versions
from tests.support.accelerators import FakeAccelerator, use_accelerator
from tests.support.inline_actors import planted_session
from tests.support.recorders import Recorder


def session(directory: Path, **settings: Any) -> tuple[Session, Recorder]:
    made, reporter = planted_session(directory, Settings(**settings)), Recorder()
    return replace(made, reporter=reporter), reporter


@pytest.mark.parametrize(
    ("kind", "count", "settings", "used"),
    [
        ("cuda", 4, {}, True),
        ("xpu", 2, {}, True),
        ("cuda", 1, {}, False),
        ("mps", 1, {}, False),
        ("cuda", 4, {"ray": False}, False),
        ("cuda", 4, {"device_map": "cuda:1"}, False),
        ("cuda", 4, {"method": "learned"}, True),
        ("cuda", 1, {"ray": True}, True),
        ("cuda", 1, {"ray_address": "auto"}, True),
    ],
)
def test_all_gpus_are_used_without_a_flag(
    kind: str,
    count: int,
    settings: dict[str, Any],
    used: bool,
    planted_directory: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    use_accelerator(monkeypatch, FakeAccelerator(kind, count))
    monkeypatch.setattr(opening, "is_installed", lambda: True)
    made, reporter = session(planted_directory, **settings)
    assert uses_cluster(made) is used
    by_itself = used and settings in ({}, {"method": "learned"})
    assert reporter.lines == (
        [f"All {count} GPUs of this machine are used, each by a model of its own (--no-ray uses one)."]
        if by_itself
        else []
    )


def test_without_ray_several_gpus_are_named(planted_directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    use_accelerator(monkeypatch, FakeAccelerator("cuda", 3))
    monkeypatch.setattr(opening, "is_installed", lambda: False)
    made, reporter = session(planted_directory)
    assert not uses_cluster(made)
    [line] = reporter.lines
    assert "3 GPUs, of which one is used" in line
    assert f"Install Ray to use all: {install_command('ray')}" in line


def test_a_model_that_needs_several_gpus_is_spread_as_before(
    planted_directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    use_accelerator(monkeypatch, FakeAccelerator("cuda", 4))
    monkeypatch.setattr(opening, "_size", lambda _: 5 * 10**9)
    made, reporter = session(planted_directory)
    assert not uses_cluster(made)
    assert reporter.lines == []


def test_other_releases_on_a_node_are_named_once_and_another_heretic_is_refused(planted_directory: Path) -> None:
    made, reporter = session(planted_directory)
    check, ours = Versions(made), versions()
    assert check(ActorFacts("a", "GPU", ours)) is None
    for _ in range(2):
        assert check(ActorFacts("b", "GPU", ours | {"torch": "1.0", "transformers": "2.0"})) is None
    [warning] = reporter.warnings
    assert f"b has torch 1.0 (here {ours['torch']}) and transformers 2.0" in warning
    reason = check(ActorFacts("c", "GPU", ours | {"heretic": "0.0.1"}))
    assert reason is not None
    assert "found 0.0.1" in reason
