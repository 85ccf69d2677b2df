"""Errors of the user's machine become a paragraph; those that may be bugs don't."""

import errno
import os

import pytest

from heretic.errors import REMEDIES, system_paragraph


@pytest.mark.parametrize("number", sorted(REMEDIES))
def test_an_error_of_the_machine_says_where_what_and_what_to_do(number: int) -> None:
    text = system_paragraph(OSError(number, os.strerror(number), "some/file"))
    assert text is not None
    assert "some/file" in text
    assert os.strerror(number) in text
    assert REMEDIES[number] in text


@pytest.mark.parametrize("number", [errno.ENOENT, errno.ECHILD, None])
def test_what_may_be_a_bug_keeps_its_traceback(number: int | None) -> None:
    assert system_paragraph(OSError(number, "text", "some/file")) is None
