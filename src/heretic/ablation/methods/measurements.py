"""Measurements of the running model that a method may request before a search begins."""

from collections.abc import Iterator, Mapping
from typing import Literal, Protocol, runtime_checkable

from torch import Tensor

from ..sites import ExpertSite, FusedExpertsSite, Site

N_PROMPT, N_ANSWER = 4, 4
"""Positions at which outputs are captured: the last of the prompt, whose template all prompts share, and the first of
the model's own answer, where it decides whether to decline."""

PROMPT, ANSWER = slice(0, N_PROMPT), slice(N_PROMPT, N_PROMPT + N_ANSWER)
"""Their places among the captured positions."""


# Checked at run time by tests.
@runtime_checkable
class ModelMeasurements(Protocol):
    """The running model and the direction prompts."""

    def site_outputs(self, side: Literal["good", "bad"]) -> Iterator[Mapping[str, Tensor]]:
        """What sites write, without bias, batch by batch: (prompt, position, d_model) by the name of `capture_point`.

        A position beyond the end of a short answer is NaN.
        """
        ...


def capture_point(site: Site) -> str:
    """The module at whose output a site's writing is captured: its own, or for experts the block that sums them."""
    return site.block if isinstance(site, (ExpertSite, FusedExpertsSite)) else site.module
