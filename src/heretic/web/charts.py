"""The front and a trial's kernels as SVG without a script; points can be clicked, or reached from the keyboard."""

import html
import math
from collections.abc import Sequence
from dataclasses import dataclass

from ..printable import printable
from ..report.text import metrics_text, value_text
from ..study.metrics import BaselineMetric
from ..study.pareto import knee, pareto_front
from ..study.schema import BASELINE, BaselineRecord, TrialRecord

LEAST = 1e-3
"""Smaller values are shown at the left end of the logarithmic axis."""
COLORS = ("#2a6f97", "#d1495b", "#6a994e", "#9a6fb0", "#c77d2e")
STYLE = (
    "text{font:12px system-ui,sans-serif;fill:#333}.axis{stroke:#999}.grid{stroke:#e4e4e4}"
    ".trial{fill:#9aa0a6;stroke:#fff;cursor:pointer}.front{fill:#d1495b}.knee{fill:#edae49}"
    ".selected{stroke:#111;stroke-width:3}.line{fill:none;stroke:#d1495b;stroke-width:1.5}"
    "@media(max-width:600px){.wide text{font-size:18px}}"
)
WIDE = 600
"""Width in pixels from which a picture, shrunk to a phone's width, needs larger text."""


@dataclass(frozen=True, slots=True)
class _Frame:
    """The place of the plot within the picture, and the spans of its axes."""

    width: int
    height: int
    low: float
    high: float
    most: float
    left: int = 56
    right: int = 16
    top: int = 16
    bottom: int = 46

    def y(self, value: float) -> float:
        return self.height - self.bottom - (self.height - self.top - self.bottom) * value / self.most

    def across(self, share: float) -> float:
        return self.left + (self.width - self.left - self.right) * share

    def log_x(self, value: float) -> float:
        position = math.log10(max(value, self.low) / self.low) / math.log10(self.high / self.low)
        return self.across(min(1.0, position))


def _escaped(text: str) -> str:
    return html.escape(printable(text))


def front_svg(
    trials: Sequence[TrialRecord],
    baseline: BaselineRecord,
    selected: int | None = None,
    width: int = 680,
    height: int = 400,
) -> str:
    """The first metric against the second (logarithmic): every measured trial, the front as a staircase, the knee."""
    (y, upright), (x, across) = list(baseline.metrics.items())[:2]
    measured = [trial for trial in trials if not trial.pruned]
    front = pareto_front(measured, baseline)
    best = knee(front, baseline).number if front else None
    highest = max([trial.value(x) for trial in measured], default=1.0)
    high = 10.0 ** max(0, math.ceil(math.log10(max(highest, LEAST))))
    most = max([upright.value, 1, *(trial.value(y) for trial in measured)]) * 1.05
    frame = _Frame(width, height, LEAST, high, most)
    corners = sorted((trial.value(x), trial.value(y)) for trial in front)
    on_front = {trial.number for trial in front}
    # The front is drawn last, so that it lies on top.
    ordered = sorted(measured, key=lambda trial: (trial.number in on_front, trial.number == best))
    points = []
    for trial in ordered:
        place = frame.log_x(trial.value(x)), frame.y(trial.value(y))
        words = f"trial {trial.number}: {metrics_text(trial, baseline)}"
        points.append(_point(trial.number, place, words, trial.number in on_front, trial.number == best, selected))
    # With more than two metrics, a trial of the front may lie above the staircase of two of them.
    stairs = _stairs(corners, frame) if len(baseline.metrics) == 2 else ""
    parts = [*_axes(frame, upright, across), stairs, *points]
    return _picture(frame, f"{upright.heading} against {across.label}", parts)


def kernels_svg(trial: TrialRecord, n_layers: int, width: int = 460, height: int = 220) -> str:
    """A trial's ablation strength by layer, a line a component."""
    weights = trial.parameters.by_layer(range(n_layers))
    most = max([1.0, *(value for each in weights.values() for value in each)]) * 1.1
    frame = _Frame(width, height, 0.0, float(n_layers - 1), most)
    parts = _rulers(frame, [0.0, 0.5, 1.0, 1.5], "strength")
    step = max(1, round(n_layers / 12))
    for layer in range(0, n_layers, step):
        parts.append(_label(frame.across(layer / max(1, n_layers - 1)), frame.height - frame.bottom + 18, str(layer)))
    parts.append(_label(frame.across(0.5), frame.height - 8, "layer"))
    for number, (name, values) in enumerate(weights.items()):
        color = COLORS[number % len(COLORS)]
        places = [(frame.across(layer / max(1, n_layers - 1)), frame.y(value)) for layer, value in enumerate(values)]
        path = " ".join(f"{x:.1f},{y:.1f}" for x, y in places)
        parts.append(f'<polyline points="{path}" fill="none" stroke="{color}" stroke-width="2"/>')
        place = f'x="{frame.left + 8}" y="{frame.top + 12 + 16 * number}"'
        parts.append(f'<text {place} style="fill:{color}">{_escaped(name)}</text>')
    return _picture(frame, f"Ablation strength of trial {trial.number} by layer", parts)


def _point(
    number: int, place: tuple[float, float], words: str, on_front: bool, best: bool, selected: int | None
) -> str:
    kinds = ["trial", *(["front"] if on_front else []), *(["knee"] if best else [])]
    kinds += ["selected"] if number == selected else []
    words = _escaped(words)
    reach = 'tabindex="0" role="button"' if on_front else 'role="button"'
    return (
        f'<circle class="{" ".join(kinds)}" data-trial="{number}" {reach} aria-label="{words}" '
        f'cx="{place[0]:.1f}" cy="{place[1]:.1f}" r="{8 if best else 6 if on_front else 4}">'
        f"<title>{words}</title></circle>"
    )


def _stairs(corners: Sequence[tuple[float, float]], frame: _Frame) -> str:
    """The least height that any trial reaches up to each place of the horizontal axis."""
    steps: list[str] = []
    for number, (across, height) in enumerate(corners):
        if number:
            steps.append(f"{frame.log_x(across):.1f},{frame.y(corners[number - 1][1]):.1f}")
        steps.append(f"{frame.log_x(across):.1f},{frame.y(height):.1f}")
    return f'<polyline class="line" points="{" ".join(steps)}"/>'


def _axes(frame: _Frame, upright: BaselineMetric, across: BaselineMetric) -> list[str]:
    spacing = next(step for step in (1, 2, 5, 10, 20, 25, 50, 100, 10**9) if frame.most / step <= 8)
    parts = _rulers(frame, [float(value) for value in range(0, int(frame.most) + 1, spacing)], upright.label)
    exponent = round(math.log10(frame.low))
    while 10.0**exponent <= frame.high * 1.001:
        x, name = frame.log_x(10.0**exponent), f"{10.0**exponent:g}"
        parts.append(
            f'<line class="grid" x1="{x:.1f}" x2="{x:.1f}" y1="{frame.top}" y2="{frame.height - frame.bottom}"/>'
        )
        parts.append(_label(x, frame.height - frame.bottom + 18, f"≤ {name}" if name == f"{frame.low:g}" else name))
        exponent += 1
    parts.append(_label(frame.across(0.5), frame.height - 8, across.title))
    y = frame.y(upright.value)
    ends = f'x1="{frame.left}" x2="{frame.width - frame.right}" y1="{y:.1f}" y2="{y:.1f}"'
    parts.append(f'<line {ends} stroke="#666" stroke-dasharray="4 4"/>')
    words = _escaped(f"{BASELINE}: {value_text(upright, upright.value)}")
    parts.append(f'<text x="{frame.width - frame.right}" y="{y + 14:.1f}" text-anchor="end">{words}</text>')
    return parts


def _rulers(frame: _Frame, values: Sequence[float], name: str) -> list[str]:
    parts = []
    for value in values:
        if value <= frame.most:
            y = frame.y(value)
            parts.append(
                f'<line class="grid" x1="{frame.left}" x2="{frame.width - frame.right}" y1="{y:.1f}" y2="{y:.1f}"/>'
            )
            parts.append(f'<text x="{frame.left - 8}" y="{y + 4:.1f}" text-anchor="end">{value:g}</text>')
    middle = (frame.top + frame.height - frame.bottom) / 2
    parts.append(f'<text x="14" y="{middle}" text-anchor="middle" transform="rotate(-90 14 {middle})">{name}</text>')
    return parts


def _label(x: float, y: float, text: str) -> str:
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="middle">{_escaped(text)}</text>'


def _picture(frame: _Frame, title: str, parts: Sequence[str]) -> str:
    style = f"max-width:{frame.width * 1.6:.0f}px;background:#fff"
    kind = ' class="wide"' if frame.width > WIDE else ""
    size = f'viewBox="0 0 {frame.width} {frame.height}" width="100%" style="{style}"'
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg"{kind} {size} role="img" aria-label="{_escaped(title)}">'
        f"<style>{STYLE}</style>{''.join(parts)}</svg>"
    )
