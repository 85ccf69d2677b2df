"""The front as a picture of characters."""

import math
from collections.abc import Sequence

from rich.text import Text

from ..printable import printable
from ..study.metrics import BaselineMetric
from ..study.schema import BaselineRecord, TrialRecord

LEAST = 1e-3
"""Smaller values are shown at the left end of the logarithmic axis."""
OTHER, ON_FRONT, KNEE = "·", "●", "★"
STYLES = {OTHER: "dim", ON_FRONT: "red", KNEE: "bold green"}
MARGIN = 5


def front_plot(
    trials: Sequence[TrialRecord],
    front: Sequence[TrialRecord],
    best: TrialRecord | None,
    baseline: BaselineRecord,
    width: int,
    height: int,
) -> Text:
    """The first metric (up to the baseline's) against the second, logarithmic; `height` rows and two for the axis.

    Of several trials in one place the knee is shown, or else one of the front.
    """
    (y, upright), (x, across) = list(baseline.metrics.items())[:2]
    measured = [trial for trial in (*trials, *front) if not trial.pruned]
    farthest = max([LEAST * 10, *(trial.value(x) for trial in measured)])
    decades = math.ceil(math.log10(farthest / LEAST) - 1e-9)
    most = max([1, upright.value, *(trial.value(y) for trial in measured)])
    columns = width - MARGIN - 1
    cells = [[" "] * columns for _ in range(height)]
    ordered = [(OTHER, trial) for trial in measured] + [(ON_FRONT, trial) for trial in front]
    for mark, trial in [*ordered, *([(KNEE, best)] if best is not None else [])]:
        share = math.log10(max(trial.value(x), LEAST) / LEAST) / decades
        row = round((1 - trial.value(y) / most) * (height - 1))
        cells[row][round(min(1.0, share) * (columns - 1))] = mark
    text = Text(no_wrap=True, overflow="crop")
    for number, row_cells in enumerate(cells):
        value = round(most * (1 - number / (height - 1))) if number in (0, height - 1) else None
        text.append(f"{'' if value is None else value:>{MARGIN - 1}} │", style="dim")
        for cell in row_cells:
            text.append(cell, style=STYLES.get(cell, ""))
        text.append("\n")
    text.append(f"{'':>{MARGIN}}└{'─' * columns}\n", style="dim")
    text.append(printable(_scale(decades, columns, upright.label, across)), style="dim")
    return text


def _scale(decades: int, columns: int, upright: str, across: BaselineMetric) -> str:
    """Powers of ten below the axis, and the names of both axes where there is room."""
    line = [" "] * (MARGIN + 1 + columns)
    for decade in range(decades + 1):
        name = f"{LEAST * 10**decade:g}"
        place = MARGIN + 1 + round(decade / decades * (columns - 1))
        start = min(max(0, place - len(name) // 2), len(line) - len(name))
        line[start : start + len(name)] = name
    for title in (f" {upright}, {across.label} ", f" {across.label} "):
        middle = MARGIN + 1 + round(0.5 * (columns - 1) / decades) - len(title) // 2
        if set(line[middle : middle + len(title)]) == {" "}:
            line[middle : middle + len(title)] = title
            break
    return "".join(line)
