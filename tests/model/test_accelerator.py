"""Devices of CUDA, XPU and MPS, with a stand-in for torch.accelerator: no machine has all of them."""

import re
from pathlib import Path

import psutil
import pytest
import torch

from heretic.config import ModelSettings
from heretic.errors import ModelError
from heretic.model.accelerator import (
    accelerator,
    allocated_memory,
    check_device_map,
    computes_bfloat16,
    device_count,
    device_name,
    devices,
    empty_cache,
    free_memory,
    limit_memory,
    peak_memory,
    peak_of,
    total_memory,
)
from heretic.model.loading.checkpoint import Checkpoint
from heretic.model.loading.load import choose_dtype, load_decoder
from tests.support.accelerators import GB, FakeAccelerator, use_accelerator
from tests.support.families import tiny

SOURCE = Path(__file__).parents[2] / "src" / "heretic"


@pytest.mark.parametrize("kind", ["cuda", "xpu"])
def test_devices_are_those_of_torch(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    fake = FakeAccelerator(kind, count=2)
    use_accelerator(monkeypatch, fake)
    assert (accelerator(), device_count()) == (kind, 2)
    assert [(each.index, each.name) for each in devices()] == [(0, f"Example {kind} 0"), (1, f"Example {kind} 1")]
    assert {(each.free, each.total) for each in devices()} == {(5 * GB, 8 * GB)}
    assert free_memory(torch.device(kind, 1)) == 5 * GB
    empty_cache()
    assert fake.emptied == [kind]


@pytest.mark.parametrize("kind", ["cuda", "xpu"])
def test_memory_of_tensors_is_counted(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    fake, device = FakeAccelerator(kind), torch.device(kind)
    use_accelerator(monkeypatch, fake)
    assert (total_memory(device), allocated_memory(device), peak_memory(device)) == (8 * GB, 2 * GB, 7 * GB)
    # What was taken before does not count.
    assert peak_of(device, lambda: setattr(fake, "peak", 5 * GB)) == 3 * GB


def test_mps_shares_the_machines_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    use_accelerator(monkeypatch, FakeAccelerator("mps"))
    [device] = devices()
    assert device.total == 12 * GB
    place = torch.device("mps")
    assert (total_memory(place), allocated_memory(place), peak_memory(place)) == (12 * GB, 3 * GB, None)
    assert peak_of(place, lambda: None) == 0
    assert 0 < device.free <= GB
    assert device.name
    assert computes_bfloat16("mps")


def test_without_an_accelerator_there_is_the_cpu(monkeypatch: pytest.MonkeyPatch) -> None:
    use_accelerator(monkeypatch, None)
    assert (accelerator(), device_count(), devices()) == (None, 0, [])
    for place in ("cpu", "meta"):
        assert 0 < free_memory(torch.device(place)) <= psutil.virtual_memory().total
    assert device_name(torch.device("cpu"))
    empty_cache()


@pytest.mark.parametrize(
    ("kind", "good", "bad"),
    [
        (None, ["auto", "cpu", "sequential", {"": "cpu"}, {"model": "cpu", "lm_head": "disk"}], ["mps", "cuda:0", 0]),
        ("cuda", ["auto", "cuda", "cuda:1", "1", {"": 1}, "cpu"], ["cuda:2", "mps", "xpu:0", {"": 2}, {"": "cuda:7"}]),
        ("xpu", ["xpu:0", {"": "xpu:1"}], ["cuda:0"]),
        ("mps", ["mps", "mps:0"], ["cuda", "mps:3"]),
    ],
)
def test_a_device_map_names_devices_that_are_there(
    kind: str | None, good: list[object], bad: list[object], monkeypatch: pytest.MonkeyPatch
) -> None:
    count = 1 if kind == "mps" else 2
    use_accelerator(monkeypatch, None if kind is None else FakeAccelerator(kind, count))
    for each in good:
        check_device_map(each)  # type: ignore[arg-type]
    for each in [*bad, "nonsense", "disk", {"": "meta"}]:
        with pytest.raises(ModelError, match=r"Expected a device of this machine in device_map, got .*: there is cpu"):
            check_device_map(each if not isinstance(each, int) else {"": each})  # type: ignore[arg-type]


def test_a_device_that_is_not_there_is_an_error_before_anything_loads(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    use_accelerator(monkeypatch, None)
    with pytest.raises(ModelError, match=r"'mps'.*auto"):
        load_decoder(Checkpoint("nothing", tmp_path), ModelSettings(device_map="mps"), lambda text: None)


def test_the_dtype_is_that_of_the_device(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tiny("llama").to(torch.bfloat16).save_pretrained(tmp_path)
    checkpoint = Checkpoint("tiny", tmp_path)
    monkeypatch.setattr("heretic.model.loading.load.fastest_cpu_dtype", lambda: torch.float32)
    for kind in ("cuda", "xpu", "mps"):
        use_accelerator(monkeypatch, FakeAccelerator(kind))
        assert choose_dtype(checkpoint, ModelSettings()) == torch.bfloat16
        assert choose_dtype(checkpoint, ModelSettings(device_map="cpu")) == torch.float32
    # A card without bfloat16 arithmetic.
    use_accelerator(monkeypatch, FakeAccelerator("cuda", bfloat16=False))
    assert choose_dtype(checkpoint, ModelSettings()) == torch.float16
    use_accelerator(monkeypatch, None)
    assert choose_dtype(checkpoint, ModelSettings()) == torch.float32


@pytest.mark.parametrize("kind", ["cuda", "xpu", "mps"])
def test_a_process_that_shares_a_device_is_limited(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    fake = FakeAccelerator(kind)
    use_accelerator(monkeypatch, fake)
    limit_memory(0.5)
    assert fake.limits == [0.5]


def test_only_graphs_call_cuda() -> None:
    """All else goes through torch.accelerator, so that it runs on other devices too."""
    calling = {
        path.relative_to(SOURCE).parts[:2]
        for path in SOURCE.rglob("*.py")
        if re.search(r"^[^#\"]*torch\.cuda\.\w", path.read_text(), re.MULTILINE)
    }
    assert calling == {("engine", "cuda_graphs")}
