"""Shapes in signatures are checked in the first calls that each test makes."""

import pytest
import torch

from heretic.ablation.edit import SiteEdit, edit_output
from tests.support.shape_checks import CALLS, Checks, limited


def test_a_wrong_shape_is_an_error() -> None:
    with pytest.raises(Exception, match="Type-check error"):
        SiteEdit(torch.zeros(3, 1), torch.zeros(3))
    edit = SiteEdit(torch.zeros(3, 1), torch.zeros(3, 1))
    with pytest.raises(Exception, match="Type-check error"):
        edit_output(edit, torch.zeros(3))


def test_the_first_calls_of_each_test_are_checked(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[str] = []
    call = limited(lambda: seen.append("plain"), lambda: seen.append("checked"))
    for test in (-5, -6):
        monkeypatch.setattr(Checks, "test", test)
        for _ in range(CALLS + 2):
            call()
    assert seen == [*["checked"] * CALLS, "plain", "plain"] * 2


NUMBERS: list[int] = []


@pytest.mark.parametrize("_", range(2))
def test_each_test_has_its_own_first_calls(_: int) -> None:
    NUMBERS.append(Checks.test)
    assert len(set(NUMBERS)) == len(NUMBERS)
