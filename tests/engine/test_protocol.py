"""The engine's protocol is all that evaluation and search use of it, and LocalEngine fulfils it."""

import ast
from pathlib import Path

import pytest

import heretic
from heretic.engine.protocol import Engine
from tests.support.engines import engine_for

SOURCE = Path(heretic.__file__).parent
SHARED = {"engine.protocol", "engine.divergence"}
"""The protocol, and the pure KL divergence that learning in the engine uses too."""
TIMES_THE_ENGINE = SOURCE / "search" / "parallelism.py"
RUNS_ENGINES = SOURCE / "search" / "cluster"
"""Opens engines on other machines, and calls them there."""
LEARNS = SOURCE / "search" / "forked_learning.py"
"""Runs steps of learning, which are the engine's, in other processes."""


@pytest.mark.parametrize("package", ["evaluation", "search"])
def test_only_the_protocol_is_imported(package: str) -> None:
    for path in {*(SOURCE / package).rglob("*.py")} - {TIMES_THE_ENGINE, LEARNS, *RUNS_ENGINES.iterdir()}:
        modules = {
            node.module or "" for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.ImportFrom)
        }
        assert {name for name in modules if name.startswith("engine")} <= SHARED, path


def test_another_batch_size_and_prefix_end_with_their_block() -> None:
    engine: Engine = engine_for("llama", 8)
    with pytest.raises(RuntimeError), engine.with_batch_size(2), engine.with_prefix("sure"):
        assert (engine.profile.batch_size, engine.profile.response_prefix) == (2, "sure")
        raise RuntimeError
    assert (engine.profile.batch_size, engine.profile.response_prefix) == (8, "")
    assert engine.profile.dtype == "float32"


def test_the_batch_size_halves_down_to_one() -> None:
    engine: Engine = engine_for("llama", 3)
    assert engine.halve_batch_size()
    assert engine.batch_size == 1
    assert not engine.halve_batch_size()
