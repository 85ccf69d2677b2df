"""A model's measurements are cached across studies, for the same model, machine and program."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from heretic.session import autotune
from tests.support.accelerators import FakeAccelerator, use_accelerator


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(autotune, "measurements_path", lambda: tmp_path / "measured.json")
    return tmp_path / "measured.json"


def engine(digest: str = "1a2b") -> Any:
    checkpoint = SimpleNamespace(digest=lambda: digest)
    loaded = SimpleNamespace(device=torch.device("cuda"), dtype=torch.bfloat16, checkpoint=checkpoint)
    return SimpleNamespace(loaded=loaded, batch_size=800, uses_cuda_graphs=True)


SESSION: Any = SimpleNamespace(settings=SimpleNamespace(quantization="none", max_response_length=100))


def test_a_measurement_is_made_once_and_again_after_its_file_is_deleted(cache: Path) -> None:
    calls: list[int] = []

    def measure() -> int:
        calls.append(1)
        return 8

    for _ in range(2):
        assert autotune.measured_once("model", "candidates", measure) == 8
    assert len(calls) == 1
    cache.unlink()
    assert autotune.measured_once("model", "candidates", measure) == 8
    assert autotune.measured_once("other", "candidates", measure) == 8
    assert len(calls) == 3


def test_the_peak_of_a_search_is_kept_for_its_model(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    use_accelerator(monkeypatch, FakeAccelerator("cuda"))
    monkeypatch.setattr(autotune, "peak_memory", lambda _: 40 * 10**9)
    autotune.note_peak(engine(), SESSION)
    autotune.measured_once(autotune.tuning_key(engine(), SESSION), "candidates of 100", lambda: 8)
    assert autotune.noted_peaks("1a2b") == {800: 40 * 10**9}
    assert autotune.noted_peaks("1a2c") == {}


def test_a_cpu_keeps_no_peak(cache: Path) -> None:
    on_cpu = engine()
    on_cpu.loaded.device = torch.device("cpu")
    autotune.note_peak(on_cpu, SESSION)
    assert not cache.exists()
