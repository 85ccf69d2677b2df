"""Numbers and times as people read them."""

from collections.abc import Sequence

from ..study.schema import BaselineRecord, TrialRecord


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


def kl(value: float) -> str:
    """KL divergence in nats: four decimals, as many as bf16 can mean."""
    # `z`: rounding may leave a hair below 0, which is no less than 0.
    return f"{value:z.4f}"


def refusals(trial: TrialRecord, baseline: BaselineRecord) -> str:
    """Refusals of all prompts; a trial that was given up as dominated has at least these."""
    return f"{'>=' if trial.bound else ''}{trial.refusals}/{baseline.prompts}"


def over_refusals(trial: TrialRecord, baseline: BaselineRecord) -> str:
    """Over-refusals of all harmless prompts that look harmful."""
    return f"{trial.over_refusals}/{baseline.over_prompts}"


def figures(trial: TrialRecord, baseline: BaselineRecord) -> str:
    """The figures that the search minimises, in one line."""
    line = f"refusals {refusals(trial, baseline)}, KL {kl(trial.kl_divergence)}"
    return line if trial.over_refusals is None else f"{line}, over-refusals {over_refusals(trial, baseline)}"


def itself(baseline: BaselineRecord) -> str:
    """What the model itself declines."""
    line = f"the model itself: {baseline.refusals}/{baseline.prompts} refusals"
    over = baseline.over_refusals
    return line if over is None else f"{line}, {over}/{baseline.over_prompts} over-refusals"


def strengths(trial: TrialRecord) -> str:
    """A trial's kernels in one short line."""
    parameters = trial.parameters
    kernels = ", ".join(
        f"{component.split('.')[0]} {kernel.max_weight:.2f} @ {kernel.max_weight_position:.0f}"
        for component, kernel in parameters.kernels.items()
    )
    return f"{parameters.brief()}; {kernels}"


def front_columns(baseline: BaselineRecord) -> tuple[str, ...]:
    """Columns of the front's table: one more where over-refusals are an objective."""
    over = () if baseline.over_refusals is None else ("Over-ref.",)
    return ("", "Trial", "Refusals", "KL", *over, "Direction; strengths")


def front_rows(
    front: Sequence[TrialRecord], best: TrialRecord | None, baseline: BaselineRecord
) -> list[tuple[str, ...]]:
    """Rows of the front's table; the knee is marked with *."""
    return [
        (
            "*" if best is not None and trial.number == best.number else "",
            str(trial.number),
            refusals(trial, baseline),
            kl(trial.kl_divergence),
            *([] if baseline.over_refusals is None else [over_refusals(trial, baseline)]),
            strengths(trial),
        )
        for trial in front
    ]
