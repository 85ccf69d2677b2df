"""Measurements on the direction prompts that a method asks of the running model."""

from collections.abc import Iterator, Mapping
from typing import Literal

from torch import Tensor

from ..ablation.methods.measurements import N_ANSWER
from ..engine.local import LocalEngine
from ..engine.site_outputs import site_outputs
from ..events import Reporter
from .prompts import RunPrompts


class SiteMeasurements:
    """Measures the engine's model on the direction prompts, each followed by the start of the model's answer."""

    def __init__(self, engine: LocalEngine, prompts: RunPrompts, reporter: Reporter) -> None:
        self._engine = engine
        self._prompts = {"good": prompts.good.prompts, "bad": prompts.bad.prompts}
        self._reporter = reporter

    def site_outputs(self, side: Literal["good", "bad"]) -> Iterator[Mapping[str, Tensor]]:
        prompts = self._prompts[side]
        with self._reporter.step(f"Outputs of sites on {side} prompts", 2 * len(prompts)) as progress:
            [answers] = self._engine.generate(prompts, [{}], N_ANSWER, None, progress)
            for indices, outputs in site_outputs(self._engine, prompts, [answer.tokens for answer in answers]):
                yield outputs
                progress(len(indices))
