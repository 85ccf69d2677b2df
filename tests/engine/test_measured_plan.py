"""The memory of a row is measured by one forward."""

from collections.abc import Callable

import pytest
import torch

from heretic.engine.kv_cache import HEADROOM
from heretic.engine.measured_plan import bytes_a_row, fitting_rows, measured_plan
from heretic.engine.memory_plan import MemoryPlan
from heretic.engine.options import PLAIN
from heretic.model.accelerator import peak_of
from tests.support.accelerators import GB, FakeAccelerator, use_accelerator
from tests.support.captured_engines import captured
from tests.support.engines import PROMPTS, engine_for


def test_a_row_is_measured_with_its_response(monkeypatch: pytest.MonkeyPatch) -> None:
    """A forward takes 3 MB, 1 MB a row, and its cache."""
    engine = engine_for("llama", 4)
    rows: list[int] = []

    def peak(device: torch.device, task: Callable[[], None]) -> int:
        with engine.forward.observed(lambda ids: rows.append(len(ids))):
            task()
        return 3 * 10**6 + rows[-1] * (10**6 + bytes_a_row(engine, longest))

    monkeypatch.setattr("heretic.engine.measured_plan.peak_of", peak)
    monkeypatch.setattr("heretic.engine.measured_plan.allocated_memory", lambda _: 5 * GB)
    lengths = [len(engine.chat.tokens(prompt)) for prompt in PROMPTS]
    longest = max(lengths)
    found = measured_plan(engine, PROMPTS, 40)
    assert rows == [1, 5]
    # Keys and values of a position by arithmetic: 4 bytes, and the tiny model's sizes.
    config, d_model = engine.loaded.model.config, engine.loaded.d_model
    a_position = 2 * config.num_hidden_layers * config.num_key_value_heads * config.head_dim * 4
    assert bytes_a_row(engine, longest) == (longest + HEADROOM) * a_position
    assert found.keys_and_values == (longest + 40) * a_position
    # Without a kernel, each row has copies of the factors of every site.
    copies = 3 * 4 * d_model * len(engine.sites)
    assert found.prefill == 10**6 + copies
    # The layer cache keeps each layer's output, keys and values, at each token of the prompts.
    kept = sum(lengths) * (config.num_hidden_layers * d_model * 4 + a_position)
    assert found.fixed == 3 * 10**6 + kept
    assert found.weights == 5 * GB
    assert found.peak(10, 5) == 5 * GB + found.fixed + 10 * (found.keys_and_values + found.logits) + 5 * found.prefill


def test_recorded_steps_have_buffers_of_a_multiple_of_32(monkeypatch: pytest.MonkeyPatch) -> None:
    plain = engine_for("llama", 4, PLAIN)
    longest = max(len(plain.chat.tokens(prompt)) for prompt in PROMPTS)
    exact, padded = (measured_plan(engine, PROMPTS, 65 - longest) for engine in (plain, captured(plain)))
    assert padded.keys_and_values == exact.keys_and_values // 65 * 96
    # Without a layer cache, and where memory is not counted, nothing is fixed.
    assert exact.fixed == 0


def test_rows_leave_headroom_of_the_whole_device(monkeypatch: pytest.MonkeyPatch) -> None:
    """5 of 8 GB are free, of which 15 % of 8 GB stay free."""
    fake, engine = FakeAccelerator("cuda"), engine_for("llama", 4)
    use_accelerator(monkeypatch, fake)
    monkeypatch.setattr("heretic.engine.measured_plan.free_memory", lambda _: 5 * GB)
    monkeypatch.setattr("heretic.engine.measured_plan.total_memory", lambda _: 8 * GB)
    assert fitting_rows(engine, MemoryPlan(0, 10**7, 10**6, 10**6)) == int(3.8 * GB / 12e6)
    assert fitting_rows(engine, MemoryPlan(0, 10**7, 10**6, 10**6, fixed=GB)) == int(2.8 * GB / 12e6)
    assert fake.emptied


def test_a_device_that_counts_nothing_has_no_peak() -> None:
    ran: list[int] = []
    assert peak_of(torch.device("cpu"), lambda: ran.append(1)) == 0
    assert ran == [1]
