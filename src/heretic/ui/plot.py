"""The front as a picture of characters."""

import math
from collections.abc import Sequence

from rich.text import Text

from ..study.schema import BaselineRecord, TrialRecord

LEAST_KL = 1e-3
"""What is less stands at the left edge of the logarithmic axis."""
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
    """Refusals (up to the baseline's) against KL divergence, logarithmic; `height` rows and two for the axis.

    Of several trials at one place the knee is shown, or else one of the front.
    """
    measured = [trial for trial in (*trials, *front) if not trial.bound]
    most_kl = max([LEAST_KL * 10, *(trial.kl_divergence for trial in measured)])
    decades = math.ceil(math.log10(most_kl / LEAST_KL) - 1e-9)
    most = max([1, baseline.refusals, *(trial.refusals for trial in measured)])
    columns = width - MARGIN - 1
    cells = [[" "] * columns for _ in range(height)]
    ordered = [(OTHER, trial) for trial in measured] + [(ON_FRONT, trial) for trial in front]
    for mark, trial in [*ordered, *([(KNEE, best)] if best is not None else [])]:
        share = math.log10(max(trial.kl_divergence, LEAST_KL) / LEAST_KL) / decades
        row = round((1 - trial.refusals / most) * (height - 1))
        cells[row][round(min(1.0, share) * (columns - 1))] = mark
    text = Text(no_wrap=True, overflow="crop")
    for number, row_cells in enumerate(cells):
        value = round(most * (1 - number / (height - 1))) if number in (0, height - 1) else None
        text.append(f"{'' if value is None else value:>{MARGIN - 1}} │", style="dim")
        for cell in row_cells:
            text.append(cell, style=STYLES.get(cell, ""))
        text.append("\n")
    text.append(f"{'':>{MARGIN}}└{'─' * columns}\n", style="dim")
    text.append(_scale(decades, columns), style="dim")
    return text


def _scale(decades: int, columns: int) -> str:
    """Powers of ten below the axis, and what they count where there is room."""
    line = [" "] * (MARGIN + 1 + columns)
    for decade in range(decades + 1):
        name = f"{LEAST_KL * 10**decade:g}"
        place = MARGIN + 1 + round(decade / decades * (columns - 1))
        start = min(max(0, place - len(name) // 2), len(line) - len(name))
        line[start : start + len(name)] = name
    for title in (" refusals, KL (nats) ", " KL (nats) "):
        middle = MARGIN + 1 + round(0.5 * (columns - 1) / decades) - len(title) // 2
        if set(line[middle : middle + len(title)]) == {" "}:
            line[middle : middle + len(title)] = title
            break
    return "".join(line)
