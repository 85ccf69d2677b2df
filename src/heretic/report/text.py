"""Metrics, numbers and times in words."""

from collections.abc import Sequence

from ..evaluation.statistics import rate
from ..study.metrics import BaselineMetric
from ..study.schema import BASELINE, BaselineRecord, TrialRecord


def duration(seconds: float) -> str:
    """12 s, 3 min 5 s, 2 h 10 min."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    minutes, rest = divmod(whole, 60)
    if minutes < 60:
        return f"{minutes} min {rest} s" if rest else f"{minutes} min"
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min" if minutes else f"{hours} h"


def learning_text(point: int, step: int, steps: int, left: float) -> str:
    """Where the learning of a point is; points are counted from 1, as people read them."""
    return f"learning point {point + 1}: step {step} of {steps}, {duration(left)} left of it"


def number_text(value: float) -> str:
    """A real number with four decimals: as many as bf16 can mean of a KL divergence."""
    # `z`: rounding may leave a negative zero.
    return f"{value:z.4f}"


def value_text(metric: BaselineMetric, value: float) -> str:
    """3/100 for a count, 0.1234 for a real number."""
    return number_text(value) if metric.of is None else f"{value:g}/{metric.of}"


def metric_text(trial: TrialRecord, name: str, baseline: BaselineRecord) -> str:
    """A trial's value of one metric; `>=` marks the lower bound of a pruned trial."""
    bound = ">=" if trial.metrics[name].censored else ""
    return bound + value_text(baseline.metrics[name], trial.value(name))


def metrics_text(trial: TrialRecord, baseline: BaselineRecord) -> str:
    """A trial's metrics in one line: refusals 3/100, KL 0.1234."""
    return ", ".join(
        f"{metric.label} {metric_text(trial, name, baseline)}" for name, metric in baseline.metrics.items()
    )


def baseline_text(baseline: BaselineRecord) -> str:
    """The baseline's metrics in one line. A distance from the baseline is left out: it is 0."""
    values = [
        f"{value_text(metric, metric.value)} {metric.label}"
        for metric in baseline.metrics.values()
        if metric.of is not None or metric.value
    ]
    return f"{BASELINE}: {', '.join(values)}"


def share_interval(metric: BaselineMetric, value: float) -> str:
    """(1-8 %): the Wilson interval of 95 % of a count, as percent; nothing for a real number."""
    if metric.of is None:
        return ""
    interval = rate(int(value), metric.of)
    return f"({100 * interval.low:.0f}-{100 * interval.high:.0f} %)"


def value_with_interval(metric: BaselineMetric, value: float) -> str:
    """3/100 (1-8 %) for a count, 0.1234 for a real number."""
    return f"{value_text(metric, value)} {share_interval(metric, value)}".rstrip()


def strengths(trial: TrialRecord) -> str:
    """A trial's kernels in one short line."""
    parameters = trial.parameters
    kernels = ", ".join(
        f"{component.split('.')[0]} {kernel.max_weight:.2f} @ {kernel.max_weight_position:.0f}"
        for component, kernel in parameters.kernels.items()
    )
    return f"{parameters.brief()}; {kernels}" if kernels else parameters.brief()


def front_columns(baseline: BaselineRecord) -> tuple[str, ...]:
    """Columns of the front's table, one a metric among them."""
    return ("", "Trial", *(metric.heading for metric in baseline.metrics.values()), "Direction; strengths")


def front_rows(
    front: Sequence[TrialRecord], best: TrialRecord | None, baseline: BaselineRecord
) -> list[tuple[str, ...]]:
    """Rows of the front's table; the knee is marked with *."""
    return [
        (
            "*" if best is not None and trial.number == best.number else "",
            str(trial.number),
            *(metric_text(trial, name, baseline) for name in baseline.metrics),
            strengths(trial),
        )
        for trial in front
    ]
