"""The memory of a row is measured by one forward."""

from collections.abc import Callable

import pytest
import torch

from heretic.engine.kv_cache import HEADROOM
from heretic.engine.measured_plan import bytes_a_row, fitting_rows, measured_plan
from heretic.engine.memory_plan import MemoryPlan
from heretic.model.accelerator import peak_of
from tests.support.accelerators import GB, FakeAccelerator, use_accelerator
from tests.support.engines import PROMPTS, engine_for


def test_a_row_is_measured_with_its_response(monkeypatch: pytest.MonkeyPatch) -> None:
    def peak(device: torch.device, task: Callable[[], None]) -> int:
        task()
        return 10**6

    monkeypatch.setattr("heretic.engine.measured_plan.peak_of", peak)
    monkeypatch.setattr("heretic.engine.measured_plan.allocated_memory", lambda _: 5 * GB)
    engine = engine_for("llama", 4)
    longest = max(len(engine.chat.tokens(prompt)) for prompt in PROMPTS)
    found = measured_plan(engine, PROMPTS, 40)
    # Keys and values of a position by arithmetic: 4 bytes, and the tiny model's sizes.
    config = engine.loaded.model.config
    a_position = 2 * config.num_hidden_layers * config.num_key_value_heads * config.head_dim * 4
    assert bytes_a_row(engine, longest) == (longest + HEADROOM) * a_position
    assert found.keys_and_values == (longest + 40) * a_position
    # Without a kernel, each row has copies of the factors of every site.
    copies = 3 * 4 * engine.loaded.d_model * len(engine.sites)
    assert found.prefill == 10**6 - bytes_a_row(engine, longest) + copies
    assert found.weights == 5 * GB


def test_rows_leave_headroom_of_the_whole_device(monkeypatch: pytest.MonkeyPatch) -> None:
    """5 of 8 GB are free, of which 15 % of 8 GB stay free."""
    fake, engine = FakeAccelerator("cuda"), engine_for("llama", 4)
    use_accelerator(monkeypatch, fake)
    monkeypatch.setattr("heretic.engine.measured_plan.free_memory", lambda _: 5 * GB)
    monkeypatch.setattr("heretic.engine.measured_plan.total_memory", lambda _: 8 * GB)
    assert fitting_rows(engine, MemoryPlan(0, 10**7, 10**6, 10**6)) == int(3.8 * GB / 12e6)
    assert fake.emptied


def test_a_device_that_counts_nothing_has_no_peak() -> None:
    ran: list[int] = []
    assert peak_of(torch.device("cpu"), lambda: ran.append(1)) == 0
    assert ran == [1]
