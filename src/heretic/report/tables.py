"""The figures of the measurement at the end, as tables and sentences."""

from collections.abc import Iterable

from ..evaluation.heldout.schema import HeldoutReport, KLFigures, ModelMetrics, Paired, Rate, SelectionBias
from ..events import Reporter
from .text import kl

Table = tuple[str, tuple[str, ...], list[tuple[str, ...]]]

REFUSAL_COLUMNS = (
    "Trial",
    "Declined",
    "Markers",
    "(search)",
    "Against the model",
    "by markers",
    "Broken",
    "Over-refusal",
)
KL_COLUMNS = (
    "Trial",
    "KL mean",
    "(search)",
    "median",
    "trimmed",
    "worst prompt",
    "32 tokens",
    "Good declined",
    "broken",
)


def rate_text(rate: Rate) -> str:
    """3/100 (1-8 %): the count, and what it may be in truth."""
    return f"{rate.count}/{rate.of} ({100 * rate.low:.0f}-{100 * rate.high:.0f} %)"


def paired_text(paired: Paired | None) -> str:
    """What an exact McNemar test says of a candidate (second) against the model itself (first)."""
    if paired is None:
        return "-"
    chance = "p < 0.001" if paired.p_value < 0.001 else f"p = {paired.p_value:.2g}"
    if not paired.distinguishable:
        return f"not distinguishable ({chance})"
    return f"{'fewer' if paired.only_first > paired.only_second else 'more'} ({chance})"


def kl_interval(figures: KLFigures | None) -> str:
    if figures is None:
        return "infinite"
    infinite = f" + {figures.infinite} infinite" if figures.infinite else ""
    return f"{kl(figures.mean)} ({kl(figures.low)}-{kl(figures.high)}){infinite}"


def refusal_table(figures: HeldoutReport) -> Table:
    bad, over = figures.prompts["bad_heldout_prompts"].count, figures.prompts.get("over_refusal_heldout_prompts")
    title = f"On {bad} bad prompts that no search saw" + (f", {over.count} harmless that look harmful" if over else "")
    return title, REFUSAL_COLUMNS, [_refusal_row(each) for each in (figures.baseline, *figures.candidates)]


def kl_table(figures: HeldoutReport) -> Table:
    good = figures.prompts["good_heldout_prompts"].count
    rows = [_kl_row(each) for each in figures.candidates]
    return f"KL divergence on {good} good prompts that no search saw", KL_COLUMNS, rows


def judge_table(figures: HeldoutReport) -> Table:
    names = tuple(dict.fromkeys(each.judge for each in figures.judges))
    found = {(each.judge, each.trial): each for each in figures.judges}
    rows = [
        (
            "the model" if model.trial is None else str(model.trial),
            *(rate_text(found[name, model.trial].declined) for name in names),
        )
        for model in (figures.baseline, *figures.candidates)
    ]
    return "Declined, by judge", ("Trial", *names), rows


def show_figures(figures: HeldoutReport, reporter: Reporter) -> None:
    tables = [refusal_table(figures), kl_table(figures)]
    if len({each.judge for each in figures.judges}) > 2:
        tables.append(judge_table(figures))
    for title, columns, rows in tables:
        reporter.table(title, columns, rows)
    for line in sentences(figures):
        reporter.say(line)


def sentences(figures: HeldoutReport) -> list[str]:
    """What the figures say beside the tables: rounding, flattery, and what can't be told apart."""
    lines = ["Intervals are those of 95 %: Wilson for counts, bootstrap for means."]
    if figures.null_kl_first is not None:
        lines.append(
            f"The model itself under another batching: KL {kl(figures.null_kl_first.mean)} "
            f"(worst prompt {kl(figures.null_kl_first.worst)}). No KL below that means anything."
        )
    if figures.flattery is not None and figures.candidates:
        lines.append(flattery_text(figures.flattery, len(figures.candidates)))
    alike = [f"{pair.first} and {pair.second}" for pair in figures.pairs if not pair.declined.distinguishable]
    if alike:
        shown = alike if len(alike) <= 8 else [*alike[:8], f"{len(alike) - 8} more pairs"]
        lines.append(f"Not distinguishable by what they decline (exact McNemar, 5 %): {', '.join(shown)}.")
    for each in figures.agreement:
        agreed = "nothing to agree on" if each.kappa is None else f"Cohen's kappa {each.kappa:.2f}"
        lines.append(f"Judges {each.first} and {each.second}: {agreed}, alike on {rate_text(each.agree)}.")
    return lines


def flattery_text(flattery: SelectionBias, measured: int) -> str:
    """How far the search's figures of the front, which it was chosen by, are from those on unseen prompts."""
    points = 100 * (flattery.refusals_reported - flattery.refusals_searched)
    told = (
        f"its refusals were flattered by {points:.1f} points" if points > 0 else "its refusals were not flattered here"
    )
    kls = "" if flattery.kl_reported is None else f"; KL {kl(flattery.kl_searched)} and {kl(flattery.kl_reported)}"
    return (
        f"The front is the best of {flattery.trials} trials by the search's own figures, and such a choice flatters: "
        f"refusals {100 * flattery.refusals_searched:.1f} % there and {100 * flattery.refusals_reported:.1f} % here, "
        f"so {told}{kls} (trials measured: {measured}; the model itself, which nobody chose: "
        f"{100 * flattery.baseline_searched:.1f} % and {100 * flattery.baseline_reported:.1f} %)."
    )


def _refusal_row(model: ModelMetrics) -> tuple[str, ...]:
    over = rate_text(model.over_refusal.declined) if model.over_refusal else "-"
    return (
        "the model" if model.trial is None else str(model.trial),
        rate_text(model.bad.declined),
        f"{model.bad.markers.count}/{model.bad.markers.of}",
        "-" if model.search is None else f"{model.search.refusals.count}/{model.search.refusals.of}",
        paired_text(model.against_baseline),
        paired_text(model.markers_against_baseline),
        _broken(model.bad.broken, model.bad.reasons),
        over,
    )


def _kl_row(model: ModelMetrics) -> tuple[str, ...]:
    first = model.kl_first
    worst = "-" if first is None else f"{kl(first.worst)} = {100 * first.worst_share:.0f} %"
    return (
        str(model.trial),
        kl_interval(first),
        "-" if model.search is None else kl(model.search.kl_divergence),
        "-" if first is None else kl(first.median),
        "-" if first is None else kl(first.trimmed_mean),
        worst,
        kl_interval(model.kl_answers),
        str(model.good.declined.count),
        _broken(model.good.broken, model.good.reasons),
    )


def _broken(rate: Rate, reasons: Iterable[str]) -> str:
    return f"{rate.count}" + (f" ({', '.join(reasons)})" if rate.count else "")
