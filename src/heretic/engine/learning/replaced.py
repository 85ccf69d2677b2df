"""Temporary replacements of modules' forwards."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from torch import nn


@contextmanager
def replaced_forwards(replaced: Mapping[nn.Module, Any]) -> Iterator[None]:
    """Replaces modules' forwards inside the `with` block, and restores them even after an exception."""
    before = {module: module.__dict__.get("forward") for module in replaced}
    try:
        for module, forward in replaced.items():
            module.forward = forward
        yield
    finally:
        for module, own in before.items():
            if own is None:
                del module.forward
            else:
                module.forward = own
