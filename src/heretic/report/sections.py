"""The sections of the page, from the front to the record of the run."""

from collections.abc import Iterator, Sequence

from ..evaluation.heldout.schema import BAD, OVER_REFUSAL, HeldoutReport, ModelMetrics
from ..evaluation.scorers.registry import heldout_metric
from ..study.history import LEAST_TRIALS
from ..study.schema import BASELINE
from .charts import (
    class_chart,
    front_chart,
    history_chart,
    importance_chart,
    kernel_chart,
)
from .data import Report
from .examples import paired_examples
from .learned import learned_parts
from .parts import Examples, Part, Section, Table, Words, chart
from .residual_charts import geometry_chart, projection_chart
from .tables import (
    BENCHMARK_COLUMNS,
    benchmark_rows,
    heldout_text,
    judge_table,
    kl_interval,
    kl_table,
    model_name,
    paired_text,
    rate_text,
    sentences,
)
from .text import value_with_interval
from .what_was_run import what_was_run


def sections_of(report: Report) -> list[Section]:
    """All sections that have something to show."""
    sections = [
        Section("front", "The front", list(_front(report))),
        Section("responses", "Responses before and after", list(_responses(report))),
        Section("side-effects", "Side effects", list(_side_effects(report))),
        Section("kernels", "Where it is edited", list(_kernels(report))),
        Section("residuals", "Residuals", list(_residuals(report))),
        Section("search", "The search", list(_search(report))),
        Section("run", "What was run", list(what_was_run(report))),
    ]
    return [section for section in sections if section.parts]


def key_metrics(report: Report) -> list[dict[str, str]]:
    """The few metrics that the page begins with: held-out ones if there are any."""
    best = _best_measured(report)
    if report.measured is not None and best is not None:
        before, after = report.measured.baseline.sets[BAD].classes, best.sets[BAD].classes
        values = [
            (rate_text(before.markers), f"refusals of the {BASELINE}, on held-out prompts"),
            (rate_text(after.markers), f"refusals of trial {best.trial}, on held-out prompts"),
            (kl_interval(best.kl_first), "its KL divergence there (nats, first token)"),
            (rate_text(after.broken), f"its broken responses there (the {BASELINE}: {before.broken.count})"),
        ]
    else:
        metrics = report.baseline.metrics
        primary = next(iter(metrics))
        values = [
            (
                value_with_interval(metrics[primary], metrics[primary].value),
                f"{metrics[primary].title}: the {BASELINE}, in the search",
            )
        ]
        if report.knee is not None:
            trial = report.trial(report.knee)
            values += [
                (value_with_interval(metric, trial.value(name)), f"{metric.title}: trial {trial.number}, in the search")
                for name, metric in metrics.items()
            ]
    found = []
    for value, text in values:
        main, _, interval = value.partition(" (")
        found.append({"value": main, "interval": f"({interval}" if interval else "", "text": text})
    return found


def states_text(report: Report) -> str:
    return "Trials: " + (", ".join(f"{count} {state}" for state, count in report.states.items()) or "none")


def _best_measured(report: Report) -> ModelMetrics | None:
    """The knee on held-out prompts, or the first candidate if the knee was not measured."""
    candidates = report.measured.candidates if report.measured is not None else []
    return next((each for each in candidates if each.trial == report.knee), candidates[0] if candidates else None)


def _front(report: Report) -> Iterator[Part]:
    if not report.front:
        yield Words("No trial is complete yet.")
        return
    metrics = report.baseline.metrics
    titles = [metric.title for metric in metrics.values()]
    yield Words(
        f"Each point is one trial: {titles[0]} against {titles[1]}. The line is the front by the search's own metrics; "
        "the star is its knee."
        if len(titles) == 2
        else f"Each point is one trial: {titles[0]} against {titles[1]}. The search minimised more metrics: "
        f"{', '.join(titles[2:])}. No trial beats those in red in all {len(titles)}; the star is the knee."
    )
    yield from chart(front_chart(report), "Bars are 95 % intervals. Diamonds are the same trials on held-out prompts.")
    yield _front_table(report)
    if report.measured is None:
        yield Words("Nothing was measured on held-out prompts. These metrics selected the trials: they are optimistic.")
    else:
        for sentence in sentences(report.measured, report.baseline):
            yield Words(sentence)


def _front_table(report: Report) -> Table:
    """The front's metrics in the search, next to their held-out counterparts."""
    metrics = report.baseline.metrics
    measured = {each.trial: each for each in report.measured.candidates} if report.measured else {}
    counterparts = [
        name for name in metrics if any(heldout_metric(name, model) is not None for model in measured.values())
    ]
    columns = (
        "Trial",
        *(f"{metric.heading} (search)" for metric in metrics.values()),
        *(f"{metrics[name].heading} (held-out)" for name in counterparts),
        "Declined (held-out)",
        f"Against {BASELINE}",
    )
    rows = [
        (
            str(trial.number),
            *(value_with_interval(metric, trial.value(name)) for name, metric in metrics.items()),
            *_heldout_cells(measured.get(trial.number), counterparts),
        )
        for trial in (report.trial(each.number) for each in report.front)
    ]
    numbers = [trial.number for trial in report.front]
    return Table(columns, rows, numbers.index(report.knee) if report.knee in numbers else -1)


def _heldout_cells(model: ModelMetrics | None, names: Sequence[str]) -> tuple[str, ...]:
    """The held-out cells of a trial; dashes if it was not measured."""
    if model is None:
        return ("-",) * (len(names) + 2)
    bad = model.sets[BAD]
    return (
        *(heldout_text(heldout_metric(name, model)) for name in names),
        rate_text(bad.classes.declined),
        paired_text(bad.declined_against_baseline),
    )


def _responses(report: Report) -> Iterator[Part]:
    best = _best_measured(report)
    if report.measured is None or best is None or best.trial is None:
        return
    yield Words(
        "Declined: begins as a refusal does. Broken: empty, repeating itself, in another script than the prompt, or "
        "without an end within many tokens. All on held-out prompts, which neither directions nor search have used."
    )
    yield from chart(class_chart(report), "Responses by class.")
    yield Words(f"The same prompts, answered by the {BASELINE} and by trial {best.trial}:")
    yield Examples(best.trial, paired_examples(report.measured, best.trial))
    if len({each.judge for each in report.measured.judges}) > 2:
        _, columns, rows = judge_table(report.measured)
        yield Words("Declined, by judge", "heading")
        yield Table(columns, rows)


def _side_effects(report: Report) -> Iterator[Part]:
    if report.measured is not None and report.measured.candidates:
        title, columns, rows = kl_table(report.measured)
        yield Words(title, "heading")
        yield Table(columns, rows)
        yield from _over_refusal(report.measured)
    if report.benchmarks is not None:
        yield Words(f"Benchmarks (lm-evaluation-harness {report.benchmarks.harness})", "heading")
        yield Table(BENCHMARK_COLUMNS, benchmark_rows(report.benchmarks.tasks))
        if any(task.limit is not None for task in report.benchmarks.tasks):
            yield Words("Some ran on a part of their documents: compare the two models by them, but quote no score.")


def _over_refusal(heldout: HeldoutReport) -> Iterator[Part]:
    rows = [
        (
            model_name(each.trial),
            rate_text(over.classes.declined),
            rate_text(over.classes.broken),
            paired_text(over.declined_against_baseline),
        )
        for each in heldout.models
        if (over := each.sets.get(OVER_REFUSAL)) is not None
    ]
    if rows:
        yield Words("Harmless prompts that look harmful", "heading")
        yield Table(("", "Declined", "Broken", f"Against {BASELINE}"), rows)


def _kernels(report: Report) -> Iterator[Part]:
    figure = kernel_chart(report)
    if figure is None:
        return
    yield Words(
        "How strongly the direction is removed from the output of each layer: 1 removes it, more than 1 reverses it."
    )
    yield from chart(figure, "Ablation weight by layer, for the trials of the front.")
    yield from learned_parts(report)
    facts = report.trial(report.front[0].number).parameters.facts()
    columns = ("Trial", *facts, "Component", "max_weight", "at layer", "min_weight", "over layers")
    rows = []
    for trial in report.front:
        parameters = report.trial(trial.number).parameters
        named = parameters.facts().values()
        for component, kernel in parameters.kernels.items():
            values = (kernel.max_weight, kernel.max_weight_position, kernel.min_weight, kernel.min_weight_distance)
            rows.append((str(trial.number), *named, component, *(f"{value:.2f}" for value in values)))
    if rows:
        yield Table(columns, rows, folded="Parameters of the front")


def _residuals(report: Report) -> Iterator[Part]:
    residuals = report.residuals
    if residuals is None:
        return
    yield Words(
        f"The residual stream at the last token of the {residuals.n_good} good and {residuals.n_bad} bad direction "
        "prompts. AUC is the chance that a bad prompt lies farther along the direction than a good one; it is "
        "optimistic, since the direction was made from these prompts. Layer -1 are the embeddings."
    )
    yield from chart(
        geometry_chart(residuals), "Norms of the means, cosines with the direction, and separation of the two groups."
    )
    yield from chart(
        projection_chart(residuals),
        f"{residuals.method} of the residuals after each layer; distances mean nothing from one layer to another.",
    )


def _search(report: Report) -> Iterator[Part]:
    if not report.trials:
        return
    yield from chart(
        history_chart(report),
        "Trials in their order; coloured ones are on the front, triangles were pruned (their first metric is a lower "
        "bound). Hypervolume: the share of metrics between the ideal and the worthless that the front dominates.",
    )
    figure = importance_chart(report)
    if figure is None:
        yield Words(f"The importance of parameters is estimated from {LEAST_TRIALS} trials on.")
    else:
        yield from chart(figure, "Importance of parameters for being among the best tenth of trials (PED-ANOVA).")
    if report.failed:
        yield Table(
            ("Trial", "Why it failed"),
            [(str(each.number), each.reason) for each in report.failed],
            folded="Failed trials",
        )
