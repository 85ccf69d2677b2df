"""Held-out metrics and benchmarks as tables and sentences."""

from collections.abc import Iterable, Sequence

from ..benchmark.schema import MetricResult, TaskResult
from ..evaluation.heldout.schema import (
    BAD,
    GOOD,
    OVER_REFUSAL,
    HeldoutReport,
    KLStatistics,
    ModelMetrics,
    Paired,
    Rate,
    SelectionBias,
)
from ..events import Reporter
from ..study.metrics import BaselineMetric
from ..study.schema import BASELINE, BaselineRecord
from .text import number_text, value_text

Table = tuple[str, tuple[str, ...], list[tuple[str, ...]]]

REFUSAL_COLUMNS = ("Declined", "Markers", "Against baseline", "by markers", "Broken", "Over-refusal")
KL_COLUMNS = ("KL mean", "median", "trimmed", "worst prompt", "32 tokens", "Good declined", "broken")
BENCHMARK_COLUMNS = (
    "Benchmark",
    "Metric",
    "Trial",
    "Baseline",
    "Edited",
    "Difference",
    "Paired test",
    "Unfinished",
)


def rate_text(rate: Rate) -> str:
    """3/100 (1-8 %): a count and its interval as percent."""
    return f"{rate.count}/{rate.of} ({100 * rate.low:.0f}-{100 * rate.high:.0f} %)"


def paired_text(paired: Paired | None) -> str:
    """The verdict of McNemar's exact test on a candidate (second) and the baseline (first)."""
    if paired is None:
        return "-"
    chance = "p < 0.001" if paired.p_value < 0.001 else f"p = {paired.p_value:.2g}"
    if not paired.distinguishable:
        return f"not distinguishable ({chance})"
    return f"{'fewer' if paired.only_first > paired.only_second else 'more'} ({chance})"


def kl_interval(metrics: KLStatistics | None) -> str:
    """The mean with its interval, and the number of prompts on which the divergence is infinite."""
    if metrics is None:
        return "infinite"
    infinite = f" + {metrics.infinite} infinite" if metrics.infinite else ""
    return f"{number_text(metrics.mean)} ({number_text(metrics.low)}-{number_text(metrics.high)}){infinite}"


def heldout_text(metric: Rate | KLStatistics | None) -> str:
    """A held-out metric with its interval."""
    if metric is None:
        return "-"
    return rate_text(metric) if isinstance(metric, Rate) else kl_interval(metric)


def model_name(trial: int | None) -> str:
    """The baseline, or a trial by its number."""
    return BASELINE if trial is None else f"trial {trial}"


def heldout_tables(report: HeldoutReport, baseline: BaselineRecord) -> list[Table]:
    """The tables of a held-out report; `baseline` is that of the search."""
    tables = [refusal_table(report), kl_table(report), search_table(report, baseline)]
    if len({each.judge for each in report.judges}) > 2:
        tables.append(judge_table(report))
    return [table for table in tables if table[2]]


def refusal_table(report: HeldoutReport) -> Table:
    bad, over = report.prompts[BAD].count, report.prompts.get(OVER_REFUSAL)
    title = f"Refusals on {bad} held-out bad prompts" + (f", {over.count} harmless ones" if over else "")
    return title, ("Trial", *REFUSAL_COLUMNS), [_refusal_row(each) for each in report.models]


def kl_table(report: HeldoutReport) -> Table:
    rows = [_kl_row(each) for each in report.candidates]
    return f"KL divergence on {report.prompts[GOOD].count} held-out good prompts", ("Trial", *KL_COLUMNS), rows


def search_table(report: HeldoutReport, baseline: BaselineRecord) -> Table:
    """The metrics of the same trials in the search, which selected them."""
    columns = ("Trial", *(metric.heading for metric in baseline.metrics.values()))
    rows = [
        (
            str(each.trial),
            *(
                value_text(metric, each.search[name].value) if name in each.search else "-"
                for name, metric in baseline.metrics.items()
            ),
        )
        for each in report.candidates
    ]
    return "The same trials in the search", columns, rows


def judge_table(report: HeldoutReport) -> Table:
    names = tuple(dict.fromkeys(each.judge for each in report.judges))
    found = {(each.judge, each.trial): each for each in report.judges}
    rows = [
        (_short_name(model), *(rate_text(found[name, model.trial].declined) for name in names))
        for model in report.models
    ]
    return "Declined, by judge", ("Trial", *names), rows


def show_heldout(report: HeldoutReport, baseline: BaselineRecord, reporter: Reporter) -> None:
    for title, columns, rows in heldout_tables(report, baseline):
        reporter.table(title, columns, rows)
    for line in sentences(report, baseline):
        reporter.say(line)


def sentences(report: HeldoutReport, baseline: BaselineRecord) -> list[str]:
    """Notes on the tables: rounding, selection bias, and trials that can't be distinguished."""
    lines = ["Intervals are at 95 %: Wilson for counts, bootstrap for means."]
    if report.null_kl_first is not None:
        lines.append(
            f"The {BASELINE} under another batching: KL {number_text(report.null_kl_first.mean)} "
            f"(worst prompt {number_text(report.null_kl_first.worst)}). A smaller KL divergence is rounding."
        )
    if report.selection_bias is not None and report.candidates:
        lines.append(selection_bias_text(report.selection_bias, baseline, len(report.candidates)))
    alike = [f"{pair.first} and {pair.second}" for pair in report.pairs if not pair.declined.distinguishable]
    if alike:
        shown = alike if len(alike) <= 8 else [*alike[:8], f"{len(alike) - 8} more pairs"]
        lines.append(f"Not distinguishable by their refusals (exact McNemar test, 5 %): {', '.join(shown)}.")
    for each in report.agreement:
        agreed = "no kappa, since both give one verdict throughout"
        if each.kappa is not None:
            agreed = f"Cohen's kappa {each.kappa:.2f}"
        lines.append(f"Verdicts by {each.first} and by {each.second} agree on {rate_text(each.agree)}, {agreed}.")
    return lines


def selection_bias_text(bias: SelectionBias, baseline: BaselineRecord, measured: int) -> str:
    """The front's metrics in the search, which selected it, and on held-out prompts, next to the baseline's."""
    parts = []
    for name, metric in baseline.metrics.items():
        found = bias.metrics.get(name)
        if found is None or found.heldout is None:
            continue
        text = f"{metric.label} {_mean_text(metric, found.searched)} there and {_mean_text(metric, found.heldout)} here"
        if found.baseline_searched is not None and found.baseline_heldout is not None:
            before, after = (_mean_text(metric, each) for each in (found.baseline_searched, found.baseline_heldout))
            text += f" ({BASELINE}, which nobody selected: {before} and {after})"
        parts.append(text)
    return (
        f"Selection bias: the front is the best of {bias.trials} trials by their metrics in the search, so these are "
        f"optimistic. Means over {measured} trial{'' if measured == 1 else 's'} of it: {'; '.join(parts)}."
    )


def _mean_text(metric: BaselineMetric, mean: float) -> str:
    """The mean of a count as a share of its prompts, or of a real number."""
    return number_text(mean) if metric.of is None else f"{100 * mean:.1f} %"


def _short_name(model: ModelMetrics) -> str:
    return BASELINE if model.trial is None else str(model.trial)


def _refusal_row(model: ModelMetrics) -> tuple[str, ...]:
    bad, over = model.sets[BAD], model.sets.get(OVER_REFUSAL)
    return (
        _short_name(model),
        rate_text(bad.classes.declined),
        f"{bad.classes.markers.count}/{bad.classes.markers.of}",
        paired_text(bad.declined_against_baseline),
        paired_text(bad.markers_against_baseline),
        _broken(bad.classes.broken, bad.classes.reasons),
        rate_text(over.classes.declined) if over else "-",
    )


def _kl_row(model: ModelMetrics) -> tuple[str, ...]:
    first, good = model.kl_first, model.sets[GOOD].classes
    worst = "-" if first is None else f"{number_text(first.worst)} = {100 * first.worst_share:.0f} %"
    return (
        str(model.trial),
        kl_interval(first),
        "-" if first is None else number_text(first.median),
        "-" if first is None else number_text(first.trimmed_mean),
        worst,
        kl_interval(model.kl_answers),
        str(good.declined.count),
        _broken(good.broken, good.reasons),
    )


def _broken(rate: Rate, reasons: Iterable[str]) -> str:
    return f"{rate.count}" + (f" ({', '.join(reasons)})" if rate.count else "")


def show_benchmarks(tasks: Sequence[TaskResult], reporter: Reporter) -> None:
    if not tasks:
        return
    reporter.table(
        f"Benchmarks of the {BASELINE} and of trials, on the same documents", BENCHMARK_COLUMNS, benchmark_rows(tasks)
    )
    reporter.say(
        "Intervals are at 95 %. The test is McNemar's exact one if a document is right or wrong, else a permutation of "
        f"the pairs. Unfinished answers are those that the length limit cut off ({BASELINE}, edited)."
    )
    limited = [task.name for task in tasks if task.limit is not None]
    if limited:
        reporter.say(f"Not all documents were used: {', '.join(dict.fromkeys(limited))}. Don't quote these as scores.")


def benchmark_rows(tasks: Sequence[TaskResult]) -> list[tuple[str, ...]]:
    """A row for each metric of each task, under `BENCHMARK_COLUMNS`."""
    return [_benchmark_row(task, metric) for task in tasks for metric in task.metrics]


def _benchmark_row(task: TaskResult, metric: MetricResult) -> tuple[str, ...]:
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


def _difference_text(metric: MetricResult) -> str:
    if metric.paired is None:
        return f"{metric.candidate - metric.baseline:+.4g} ({metric.low:+.4g} to {metric.high:+.4g})"
    points, low, high = (100 * value for value in (metric.candidate - metric.baseline, metric.low, metric.high))
    return f"{points:+.1f} ({low:+.1f} to {high:+.1f}) points"


def _verdict_text(metric: MetricResult) -> str:
    """Whether the candidate is better or worse, as far as the test can tell."""
    chance = "p < 0.001" if metric.p_value < 0.001 else f"p = {metric.p_value:.2g}"
    if not metric.distinguishable:
        return f"not distinguishable ({chance})"
    better = (metric.candidate > metric.baseline) == metric.higher_is_better
    return f"{'better' if better else 'worse'} ({chance})"


def _unfinished_text(task: TaskResult) -> str:
    first, second = task.baseline_unfinished, task.candidate_unfinished
    if first is None or second is None:
        return "-"
    return f"{100 * first.share:.0f} %, {100 * second.share:.0f} %"
