"""Trials, a baseline and states of a search to show."""

from collections.abc import Sequence

from heretic.ablation.methods.kernel.parameters import KernelParameters
from heretic.ablation.parameters import WeightKernel
from heretic.events import SearchState
from heretic.study.pareto import knee
from heretic.study.schema import TrialRecord
from tests.support.study_toys import BASELINE, metrics


def trial(number: int, refusals: int, kl_divergence: float) -> TrialRecord:
    kernel = WeightKernel(max_weight=1.2, max_weight_position=9.0, min_weight=0.5, min_weight_distance=3.0)
    parameters = KernelParameters(
        direction_scope="per layer" if number % 2 else "global",
        direction_index=7.0,
        kernels={"attn.o_proj": kernel, "mlp.down_proj": kernel},
    )
    return TrialRecord(number=number, parameters=parameters, metrics=metrics(refusals, kl_divergence))


FRONT = [trial(123, 0, 0.9), trial(8, 4, 0.3), trial(1, 30, 0.05)]  # the knee is trial 8


def state(front: Sequence[TrialRecord] = FRONT, finished: int = 3, remaining: float | None = 65.0) -> SearchState:
    return SearchState(
        finished=finished,
        wanted=200,
        front=front,
        best=knee(front, BASELINE) if front else None,
        baseline=BASELINE,
        elapsed=3600.0,
        remaining=remaining,
    )
