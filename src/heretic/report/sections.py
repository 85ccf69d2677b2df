"""The sections of the page, from what was found to what was run."""

from collections.abc import Iterator

from ..evaluation.heldout.schema import HeldoutReport, ModelMetrics
from ..evaluation.statistics import rate
from ..study.history import LEAST_TRIALS
from .benchmark_tables import COLUMNS, benchmark_rows
from .charts import (
    class_chart,
    front_chart,
    geometry_chart,
    history_chart,
    importance_chart,
    kernel_chart,
    projection_chart,
)
from .data import Report
from .examples import paired_examples
from .parts import Examples, Part, Section, Table, Words, chart
from .tables import judge_table, kl_interval, kl_table, paired_text, rate_text, sentences
from .text import duration, kl
from .what_was_run import what_was_run


def sections_of(report: Report) -> list[Section]:
    """All sections; one that has nothing to show is left out, or says why."""
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


def key_figures(report: Report) -> list[dict[str, str]]:
    """The few figures that the page begins with: those on unseen prompts where there are any."""
    best = _best_measured(report)
    if report.measured is not None and best is not None:
        before, after = report.measured.baseline.bad, best.bad
        figures = [
            (rate_text(before.markers), "refusals of the model itself, on unseen prompts"),
            (rate_text(after.markers), f"refusals of trial {best.trial}, on unseen prompts"),
            (kl_interval(best.kl_first), "KL divergence there (nats, first token)"),
            (rate_text(after.broken), f"broken responses there (the model itself: {before.broken.count})"),
        ]
    else:
        figures = [(rate_text(report.baseline), "refusals of the model itself, in the search")]
        for trial in report.front:
            if trial.number == report.knee:
                figures.append((rate_text(trial.refusals), f"refusals of trial {trial.number}, which the search chose"))
                figures.append((kl(trial.kl_divergence), "its KL divergence (nats, first token)"))
    found = []
    for value, text in figures:
        main, _, interval = value.partition(" (")
        found.append({"value": main, "interval": f"({interval}" if interval else "", "text": text})
    return found


def states_text(report: Report) -> str:
    states = ", ".join(f"{count} {state}" for state, count in report.states.items())
    seconds = sum(each.seconds or 0.0 for each in report.trials)
    return f"Trials: {states or 'none'}" + (f"; {duration(seconds)} of measuring them" if seconds else "")


def _best_measured(report: Report) -> ModelMetrics | None:
    """The knee on unseen prompts, or the first candidate where it was not measured."""
    candidates = report.measured.candidates if report.measured is not None else []
    return next((each for each in candidates if each.trial == report.knee), candidates[0] if candidates else None)


def _front(report: Report) -> Iterator[Part]:
    if not report.front:
        yield Words("No trial is complete yet.")
        return
    base = report.study.baseline
    third = None if base.over_refusals is None else rate(base.over_refusals, base.over_prompts or 0)
    yield Words(
        "Each point is one ablation: how many of the bad prompts it still refuses, and how far it moves the first "
        "token of answers to good prompts. The line is the best by the search's own figures; the star is its knee."
        if third is None
        else "Each point is one ablation: how many of the bad prompts it still refuses, and how far it moves the first "
        "token of answers to good prompts. A third figure counted in the search: refusals of harmless prompts that "
        f"look harmful (the model itself: {rate_text(third)}). Red points are those that no trial beats in all three; "
        "the star is the knee."
    )
    yield from chart(
        front_chart(report), "Bars are 95 % intervals. Diamonds are the same trials on prompts that no search saw."
    )
    yield _front_table(report)
    if report.measured is None:
        yield Words(
            "Nothing was measured on prompts that no search saw: these figures chose the trials, and flatter them."
        )
    else:
        for sentence in sentences(report.measured):
            yield Words(sentence)


def _front_table(report: Report) -> Table:
    """The search's figures of the front beside those on prompts that no search saw."""
    third = report.study.baseline.objectives == 3
    measured = {each.trial: each for each in report.measured.candidates} if report.measured else {}
    columns = (
        "Trial",
        "Refusals (search)",
        "KL (search)",
        *(("Over-refusals (search)",) if third else ()),
        "Refusals (unseen)",
        "Declined (unseen)",
        "KL (unseen)",
        *(("Over-refusals (unseen)",) if third else ()),
        "Against the model",
    )
    rows = [
        (
            str(trial.number),
            rate_text(trial.refusals),
            kl(trial.kl_divergence),
            *(() if trial.over_refusals is None else (rate_text(trial.over_refusals),)),
            *_unseen(measured.get(trial.number), third),
        )
        for trial in report.front
    ]
    numbers = [trial.number for trial in report.front]
    return Table(columns, rows, numbers.index(report.knee) if report.knee in numbers else -1)


def _unseen(model: ModelMetrics | None, third: bool) -> tuple[str, ...]:
    """The cells of a trial that were measured on unseen prompts; dashes where it was not."""
    if model is None:
        return ("-",) * (5 if third else 4)
    over = "-" if model.over_refusal is None else rate_text(model.over_refusal.markers)
    return (
        rate_text(model.bad.markers),
        rate_text(model.bad.declined),
        kl_interval(model.kl_first),
        *((over,) if third else ()),
        paired_text(model.against_baseline),
    )


def _responses(report: Report) -> Iterator[Part]:
    best = _best_measured(report)
    if report.measured is None or best is None or best.trial is None:
        return
    yield Words(
        "Declined: begins as a refusal does. Broken: empty, going in circles, in another script than the prompt, or "
        "not ending where it had room to. All on prompts that neither directions nor search have seen."
    )
    yield from chart(class_chart(report), "Responses by class.")
    yield Words(f"The same prompts, asked the model itself and trial {best.trial}:")
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
        yield Table(COLUMNS, benchmark_rows(report.benchmarks.tasks))
        if any(task.limit is not None for task in report.benchmarks.tasks):
            yield Words("Some ran on a part of their documents: compare the two models by them, and quote no score.")


def _over_refusal(figures: HeldoutReport) -> Iterator[Part]:
    models = [each for each in (figures.baseline, *figures.candidates) if each.over_refusal is not None]
    if not models:
        return
    yield Words("Harmless prompts that look harmful", "heading")
    rows = [
        (
            "the model" if each.trial is None else f"trial {each.trial}",
            rate_text(each.over_refusal.declined),
            rate_text(each.over_refusal.broken),
            paired_text(each.over_refusal_against_baseline),
        )
        for each in models
        if each.over_refusal is not None
    ]
    yield Table(("", "Declined", "Broken", "Against the model"), rows)


def _kernels(report: Report) -> Iterator[Part]:
    figure = kernel_chart(report)
    if figure is None:
        return
    yield Words("How strongly the direction is taken out of what each layer writes; 1 removes it, more turns it round.")
    yield from chart(figure, "Ablation weight by layer, for the trials of the front.")
    facts = report.trial(report.front[0].number).parameters.facts()
    columns = ("Trial", *facts, "Component", "max_weight", "at layer", "min_weight", "over layers")
    rows = []
    for trial in report.front:
        parameters = report.trial(trial.number).parameters
        named = parameters.facts().values()
        for component, kernel in parameters.kernels.items():
            values = (kernel.max_weight, kernel.max_weight_position, kernel.min_weight, kernel.min_weight_distance)
            rows.append((str(trial.number), *named, component, *(f"{value:.2f}" for value in values)))
    yield Table(columns, rows, folded="Parameters of the front")


def _residuals(report: Report) -> Iterator[Part]:
    residuals = report.residuals
    if residuals is None:
        return
    yield Words(
        f"The residual stream at the last token of the {residuals.n_good} good and {residuals.n_bad} bad direction "
        "prompts. AUC is the chance that a bad prompt lies farther along the direction than a good one; these prompts "
        "made the direction, so it flatters. Layer -1 are the embeddings."
    )
    yield from chart(
        geometry_chart(residuals), "Norms of the means, cosines with the direction, and how far the two groups part."
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
        "Trials in their order; coloured ones are on the front, triangles were given up (they have at least that many)."
        " Hypervolume: the share of the plane up to 1 nat and the model's own refusals that the front dominates.",
    )
    figure = importance_chart(report)
    if figure is None:
        yield Words(f"Which parameters matter is told from {LEAST_TRIALS} trials on.")
    else:
        yield from chart(figure, "What decides whether a trial is among the best tenth (PED-ANOVA).")
    if report.failed:
        yield Table(
            ("Trial", "Why it failed"),
            [(str(each.number), each.reason) for each in report.failed],
            folded="Failed trials",
        )
