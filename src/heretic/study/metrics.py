"""Metrics of a search in its records: a value for each trial, and a description with the baseline's value."""

from typing import Any, Literal, Self

from pydantic import BaseModel, ConfigDict, SerializerFunctionWrapHandler, model_serializer, model_validator

Direction = Literal["minimize", "maximize"]


class Record(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


LARGEST = 2.0**53
"""Largest magnitude of a metric: above it, floats can't represent all whole numbers."""


def check_number(value: float, name: str) -> None:
    """Raises:
    ValueError: the value is impossible; a file that was edited by hand may hold it.
    """
    if not -LARGEST <= value <= LARGEST:
        raise ValueError(f"{name} is a finite number of at most {LARGEST:.0f}, got {value!r:.40}")


class Metric(Record):
    """One metric of one trial. A censored value is a lower bound: the trial was pruned before all was counted."""

    value: int | float
    censored: bool = False

    @model_validator(mode="after")
    def _is_a_number(self) -> Self:
        check_number(self.value, "value")
        return self

    @model_serializer(mode="wrap")
    def _without_defaults(self, handler: SerializerFunctionWrapHandler) -> dict[str, Any]:
        return {key: value for key, value in handler(self).items() if key != "censored" or value}


class BaselineMetric(Record):
    """The baseline's value of a metric, and a description by which the metric is compared and shown without its scorer.

    `label` is its short name in a sentence, `title` the long one of an axis, unit included. `of` is the number of
    prompts that a count is out of; None for a real number. `scale` is the distance from the ideal at which a metric has
    lost all its worth: the knee and the hypervolume weigh metrics by it. `details` belong to the scorer.
    """

    label: str
    title: str
    value: int | float
    of: int | None = None
    scale: float
    direction: Direction = "minimize"
    details: dict[str, Any] = {}

    @model_validator(mode="after")
    def _are_numbers(self) -> Self:
        check_number(self.value, "value")
        check_number(self.scale, "scale")
        if self.scale <= 0 or (self.of is not None and self.of < 1):
            raise ValueError(f"scale and of are above 0, got {self.scale} and {self.of}")
        return self

    @property
    def heading(self) -> str:
        """The label as the heading of a column."""
        return self.label[:1].upper() + self.label[1:]

    @property
    def rule(self) -> str:
        """The name of the rule that selects the best trial by this metric alone, such as `lowest-kl`."""
        best = "lowest" if self.direction == "minimize" else "highest"
        return f"{best}-{self.label.lower().replace(' ', '-')}"

    def cost(self, value: float) -> float:
        """The value, with its sign chosen so that less is better."""
        return value if self.direction == "minimize" else -value

    def loss(self, value: float) -> float:
        """The value in units of `scale`: 0 is ideal, 1 is worthless.

        The ideal is 0 for a metric that is minimised, and `scale` for one that is maximised.
        """
        return value / self.scale if self.direction == "minimize" else 1 - value / self.scale

    @model_serializer(mode="wrap")
    def _without_defaults(self, handler: SerializerFunctionWrapHandler) -> dict[str, Any]:
        return {key: value for key, value in handler(self).items() if value not in (None, {})}
