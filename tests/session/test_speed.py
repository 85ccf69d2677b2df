"""The speed of a machine, kept from search to search."""

from pathlib import Path

import pytest
import torch

from heretic.session import speed
from heretic.session.speed import product_rate, record_search, recorded_share, work_of


@pytest.fixture
def path(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    monkeypatch.setattr(speed, "user_cache_path", lambda _: tmp_path)
    return tmp_path / "speed.json"


def test_the_last_search_on_a_device_is_kept_as_a_share_of_its_products(path: Path) -> None:
    assert recorded_share() is None
    record_search(100.0, 10.0, 20.0)
    record_search(300.0, 10.0, 20.0)
    assert recorded_share() == 1.5
    # Pruning speeds up a search, and learning hardly.
    assert recorded_share(learned=True) is None
    record_search(100.0, 10.0, 20.0, learned=True)
    assert (recorded_share(), recorded_share(learned=True)) == (1.5, 0.5)


# The last one is of an earlier version, which kept operations a second.
@pytest.mark.parametrize("text", ["", "[]", "{", f'{{"{speed.device_key()}": 4.4e10}}'])
def test_a_damaged_file_counts_as_none(path: Path, text: str) -> None:
    path.write_text(text)
    assert recorded_share() is None
    record_search(100.0, 10.0, 20.0)
    assert recorded_share() == 0.5


def test_a_trial_costs_two_operations_a_parameter_and_token() -> None:
    assert work_of(10, (3, 2), 7) == 2 * 10 * (3 * 50 + 2 * 57)


def test_products_are_timed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(speed, "SECONDS", 0.0)
    monkeypatch.setitem(speed.SIDE, "cpu", 64)
    assert product_rate(torch.float32) > 0
