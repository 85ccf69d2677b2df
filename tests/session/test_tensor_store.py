"""Tensors are read as they were written, or an error is raised."""

from pathlib import Path

import pytest
import torch

from heretic.errors import StudyError
from heretic.session.tensor_store import TensorStore
from heretic.study.journal import set_aside

TENSORS = {"directions": torch.arange(6.0).view(2, 3), "strengths": torch.ones(4, dtype=torch.bfloat16)}


def test_what_is_written_is_read_by_its_digest(tmp_path: Path) -> None:
    store = TensorStore(tmp_path / "study.jsonl")
    digest = store.write(TENSORS)
    read = TensorStore(tmp_path / "study.jsonl")[digest]
    assert read.keys() == TENSORS.keys()
    assert all(torch.equal(read[name], TENSORS[name]) for name in TENSORS)


def test_equal_tensors_are_one_file_and_others_another(tmp_path: Path) -> None:
    store = TensorStore(tmp_path / "study.jsonl")
    first = store.write(TENSORS)
    assert store.write(dict(reversed(TENSORS.items()))) == first
    assert list(store) == [first] and len(store) == 1
    other = store.write(TENSORS | {"strengths": torch.zeros(4, dtype=torch.bfloat16)})
    assert sorted(store) == sorted([first, other])


def test_a_damaged_file_is_an_error(tmp_path: Path) -> None:
    store = TensorStore(tmp_path / "study.jsonl")
    digest = store.write(TENSORS)
    path = tmp_path / "study.tensors" / f"{digest}.safetensors"
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    with pytest.raises(StudyError, match="the file is damaged"):
        store[digest]


def test_a_missing_file_is_an_error(tmp_path: Path) -> None:
    store = TensorStore(tmp_path / "study.jsonl")
    assert list(store) == []
    with pytest.raises(StudyError, match="Restore the folder"):
        store["0" * 32]


def test_a_study_that_is_set_aside_takes_its_tensors_with_it(tmp_path: Path) -> None:
    path = tmp_path / "study.jsonl"
    path.write_text("{}\n")
    digest = TensorStore(path).write(TENSORS)
    kept = set_aside(path)
    assert len(TensorStore(path)) == 0
    assert torch.equal(TensorStore(kept)[digest]["directions"], TENSORS["directions"])


def test_a_state_is_replaced_and_has_no_digest(tmp_path: Path) -> None:
    store = TensorStore(tmp_path / "study.jsonl")
    assert store.read_state() is None
    for point in (1, 2):
        store.write_state(TENSORS | {"point": torch.tensor(point)})
    state = TensorStore(tmp_path / "study.jsonl").read_state()
    assert state is not None and int(state["point"]) == 2
    assert len(store) == 0
    (tmp_path / "study.tensors" / "path.state").write_bytes(b"no tensors")
    with pytest.raises(StudyError, match="state of a learned path"):
        store.read_state()
