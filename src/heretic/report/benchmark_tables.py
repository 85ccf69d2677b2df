"""Benchmarks of candidates beside the model itself, as a table and sentences."""

from collections.abc import Sequence

from ..benchmark.figures import MetricFigures, TaskFigures
from ..evaluation.heldout.schema import Rate
from ..events import Reporter

COLUMNS = ("Benchmark", "Metric", "Trial", "The model", "The trial", "Difference", "Paired test", "Unfinished")


def show_benchmarks(tasks: Sequence[TaskFigures], reporter: Reporter) -> None:
    if not tasks:
        return
    reporter.table("Benchmarks, the model itself and trials on the same documents", COLUMNS, benchmark_rows(tasks))
    reporter.say(
        "Intervals are those of 95 %. The test is McNemar's, exact, where a document is right or wrong, else a "
        "permutation of the pairs; unfinished are answers that the length limit cut off (the model, the trial)."
    )
    limited = [task.name for task in tasks if task.limit is not None]
    if limited:
        reporter.say(f"Not all documents were used: {', '.join(dict.fromkeys(limited))}. Don't quote these as scores.")


def benchmark_rows(tasks: Sequence[TaskFigures]) -> list[tuple[str, ...]]:
    """A row for each metric of each task, under `COLUMNS`."""
    return [_row(task, metric) for task in tasks for metric in task.metrics]


def _row(task: TaskFigures, metric: MetricFigures) -> tuple[str, ...]:
    return (
        f"{task.name} ({metric.documents})",
        metric.metric,
        str(task.trial),
        _score_text(metric.baseline, metric.baseline_rate),
        _score_text(metric.candidate, metric.candidate_rate),
        _difference_text(metric),
        _verdict_text(metric),
        _unfinished_text(task),
    )


def _score_text(mean: float, rate: Rate | None) -> str:
    """Percent with its interval; a mean that is no share as it is."""
    if rate is None:
        return f"{mean:.4g}"
    return f"{100 * rate.share:.1f} % ({100 * rate.low:.0f}-{100 * rate.high:.0f})"


def _difference_text(metric: MetricFigures) -> str:
    if metric.paired is None:
        return f"{metric.candidate - metric.baseline:+.4g} ({metric.low:+.4g} to {metric.high:+.4g})"
    points, low, high = (100 * value for value in (metric.candidate - metric.baseline, metric.low, metric.high))
    return f"{points:+.1f} ({low:+.1f} to {high:+.1f}) points"


def _verdict_text(metric: MetricFigures) -> str:
    """Whether the candidate is better or worse, as far as can be told."""
    chance = "p < 0.001" if metric.p_value < 0.001 else f"p = {metric.p_value:.2g}"
    if not metric.distinguishable:
        return f"not distinguishable ({chance})"
    better = (metric.candidate > metric.baseline) == metric.higher_is_better
    return f"{'better' if better else 'worse'} ({chance})"


def _unfinished_text(task: TaskFigures) -> str:
    first, second = task.baseline_unfinished, task.candidate_unfinished
    if first is None or second is None:
        return "-"
    return f"{100 * first.share:.0f} %, {100 * second.share:.0f} %"
