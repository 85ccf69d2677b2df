"""A study's measurements of its model, from which every candidate is compiled."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from torch import Tensor

from ..directions import Directions


@dataclass(frozen=True, slots=True)
class StudyTensors:
    """Directions, the gain of each post-norm after a site by module name, and what the study's method keeps.

    `store` holds tensors of single trials, by the digest that their parameters name.
    """

    directions: Directions
    gains: Mapping[str, Tensor]
    method: Mapping[str, Tensor] = field(default_factory=dict)
    store: Mapping[str, Mapping[str, Tensor]] = field(default_factory=dict)
