"""What a method may have measured of the running model, before a search begins."""

from typing import Protocol, runtime_checkable


@runtime_checkable
class ModelMeasurements(Protocol):
    """The running model and the direction prompts."""
