"""Checks of the shapes in signatures: those of jaxtyping, for the first calls of each function in each test."""

import functools
import inspect
from collections.abc import Callable
from typing import Any

import jaxtyping

CALLS = 50
"""Calls of a function that a test has checked. Later ones repeat them: a token, a step or a trial more, at a cost of a
third of the time of the engine's tests."""


class Checks:
    """Which test runs: each has its own first calls."""

    test = 0


def check_first_calls() -> None:
    """Replaces the decorator that jaxtyping's import hook applies; only modules that are imported later have it."""
    every_call = jaxtyping.jaxtyped

    def jaxtyped(*args: Any, **options: Any) -> Any:
        decorated = every_call(*args, **options)
        return decorated if args else lambda function: _first_calls(function, decorated(function))

    jaxtyping.jaxtyped = jaxtyped


def _first_calls(function: Any, checked: Any) -> Any:
    """`checked` for the first calls of each test, then `function`; another kind of object stays checked."""
    if not inspect.isfunction(function):
        return checked
    return limited(function, checked)


def limited(function: Callable[..., Any], checked: Callable[..., Any]) -> Callable[..., Any]:
    test, left = -1, 0

    @functools.wraps(function)
    def call(*args: Any, **kwargs: Any) -> Any:
        nonlocal test, left
        if test != Checks.test:
            test, left = Checks.test, CALLS
        if left == 0:
            return function(*args, **kwargs)
        left -= 1
        return checked(*args, **kwargs)

    return call
