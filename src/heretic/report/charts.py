"""The charts of a report, by plotly."""

from collections.abc import Sequence
from itertools import cycle
from typing import Any

import plotly.graph_objects as go
from plotly.subplots import make_subplots

from ..evaluation.heldout.schema import BAD, GOOD, OVER_REFUSAL, KLStatistics, ModelMetrics, Rate
from ..evaluation.scorers.registry import heldout_metric
from ..evaluation.statistics import rate
from ..study.metrics import BaselineMetric
from ..study.schema import BASELINE
from .data import Report, ReportedTrial
from .tables import model_name

GOOD_COLOR, BAD_COLOR, FRONT, KNEE, PLAIN = "#2a7ab9", "#d1495b", "#d1495b", "#b8860b", "#9aa0a6"
SERIES = ("#2a7ab9", "#d1495b", "#3a8f5c", "#8a5fbf", "#b8860b", "#5c6b73", "#c76b98", "#4d9de0", "#7a9e1b", "#a0522d")
LOG_TICKS = (0.0001, 0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 1, 3, 10)
CLASS_COLORS = {"declined": "#d1495b", "answered": "#3a8f5c", "broken": "#9aa0a6"}


def front_chart(report: Report) -> go.Figure:
    """The first metric against the second: all trials, the front, and its trials on held-out prompts."""
    figure = go.Figure()
    (y, upright), (x, across) = list(report.baseline.metrics.items())[:2]
    hover = f"trial %{{text}}: %{{y:.1f}}{_unit(upright)} {upright.label}, {across.label} %{{x:.4f}}<extra></extra>"
    numbers = {each.number for each in report.front}
    for name, pruned, symbol in (("trial", False, "circle"), ("pruned (lower bound)", True, "triangle-up-open")):
        others = [each for each in report.trials if each.number not in numbers and each.pruned == pruned]
        if others:
            figure.add_scatter(
                x=[each.value(x) for each in others],
                y=[_height(upright, each.value(y)) for each in others],
                text=[str(each.number) for each in others],
                name=name,
                mode="markers",
                marker={"color": PLAIN, "size": 6, "symbol": symbol},
                hovertemplate=hover,
            )
    front = sorted((report.trial(each.number) for each in report.front), key=lambda each: each.value(x))
    figure.add_scatter(
        x=[each.value(x) for each in front],
        y=[_height(upright, each.value(y)) for each in front],
        text=[str(each.number) for each in front],
        error_y=_count_errors(upright, [each.value(y) for each in front]),
        name="front, in the search",
        # With more than two metrics, the front is no line on the plane of two.
        mode="lines+markers" if len(report.baseline.metrics) == 2 else "markers",
        line={"shape": "hv", "color": FRONT, "width": 1.5},
        marker=_front_markers(front, report.knee),
        hovertemplate=hover,
    )
    _add_heldout(figure, report, x, y)
    level = _height(upright, upright.value)
    figure.add_hline(y=level, line_dash="dot", annotation_text=f"{BASELINE}, in the search")
    return styled(figure, across.title, f"{upright.label} (%)" if upright.of else upright.title, 420)


def _front_markers(front: Sequence[ReportedTrial], knee: int | None) -> dict[str, Any]:
    """Dots, and a star for the knee."""
    return {
        "size": [16 if each.number == knee else 8 for each in front],
        "symbol": ["star" if each.number == knee else "circle" for each in front],
        "color": [KNEE if each.number == knee else FRONT for each in front],
        "opacity": 1,
    }


def _add_heldout(figure: go.Figure, report: Report, x: str, y: str) -> None:
    """The held-out counterparts of both metrics, of the trials that have both."""
    measured: list[tuple[ModelMetrics, KLStatistics, Rate]] = []
    for each in report.measured.candidates if report.measured is not None else ():
        across, upright = heldout_metric(x, each), heldout_metric(y, each)
        if isinstance(across, KLStatistics) and isinstance(upright, Rate):
            measured.append((each, across, upright))
    if not measured:
        return
    kls, rates = [kl for _, kl, _ in measured], [counted for *_, counted in measured]
    figure.add_scatter(
        x=[kl.mean for kl in kls],
        y=[100 * each.share for each in rates],
        text=[str(each.trial) for each, *_ in measured],
        error_y=_errors(rates),
        error_x={
            "type": "data",
            "array": [kl.high - kl.mean for kl in kls],
            "arrayminus": [kl.mean - kl.low for kl in kls],
            "thickness": 1,
        },
        name="on held-out prompts",
        mode="markers",
        marker={"color": GOOD_COLOR, "size": 9, "symbol": "diamond"},
        hovertemplate="trial %{text}, held-out prompts: %{y:.1f} %, KL %{x:.4f}<extra></extra>",
    )


def _height(metric: BaselineMetric, value: float) -> float:
    """A count as percent of its prompts, a real number as it is."""
    return 100 * value / metric.of if metric.of else value


def _unit(metric: BaselineMetric) -> str:
    return " %" if metric.of else ""


def class_chart(report: Report) -> go.Figure | None:
    """Responses by class (declined, answered, broken), a bar a model, a panel a prompt set."""
    if report.measured is None:
        return None
    models = report.measured.models
    names = [model_name(each.trial) for each in models]
    titles = {BAD: "bad prompts", GOOD: "good prompts", OVER_REFUSAL: "look harmful"}
    sets = [(name, title) for name, title in titles.items() if name in models[0].sets]
    figure = make_subplots(1, len(sets), subplot_titles=[title for _, title in sets], shared_yaxes=True)
    for column, (name, _) in enumerate(sets, 1):
        for kind, color in CLASS_COLORS.items():
            shares = [100 * getattr(each.sets[name].classes, kind).share for each in models]
            figure.add_bar(
                y=names,
                x=shares,
                name=kind,
                orientation="h",
                marker_color=color,
                legendgroup=kind,
                showlegend=column == 1,
                hovertemplate="%{y}: %{x:.0f} % " + kind + "<extra></extra>",
                row=1,
                col=column,
            )
    figure.update_layout(barmode="stack")
    figure.update_yaxes(autorange="reversed")
    return styled(figure, "%", "", 160 + 34 * len(models))


def kernel_chart(report: Report) -> go.Figure | None:
    """Ablation weight by layer, one panel a component, one line a trial of the front."""
    if not report.front:
        return None
    components = list(report.front[0].strengths)
    figure = make_subplots(len(components), 1, subplot_titles=components, shared_xaxes=True, vertical_spacing=0.09)
    for row, component in enumerate(components, 1):
        for index, trial in enumerate(report.front):
            figure.add_scatter(
                y=trial.strengths[component],
                name=f"trial {trial.number}" + (" (knee)" if trial.number == report.knee else ""),
                legendgroup=str(trial.number),
                showlegend=row == 1,
                mode="lines",
                line={
                    "shape": "hvh",
                    "color": SERIES[index % len(SERIES)],
                    "width": 3 if trial.number == report.knee else 1.2,
                },
                row=row,
                col=1,
            )
    return styled(figure, "layer", "weight", 170 + 170 * len(components))


def history_chart(report: Report) -> go.Figure:
    """Each metric of each trial, a panel a metric, and the hypervolume so far."""
    metrics = report.baseline.metrics
    titles = [*(f"{each.label} (%)" if each.of else each.title for each in metrics.values()), "hypervolume"]
    rows = len(titles)
    figure = make_subplots(rows, 1, shared_xaxes=True, vertical_spacing=0.08, subplot_titles=titles)
    for row, (name, metric) in enumerate(metrics.items(), 1):
        values = [_height(metric, each.value(name)) for each in report.trials]
        figure.add_trace(_trial_dots(report, values), row=row, col=1)
        if metric.of is None and metric.direction == "minimize" and all(value >= 0 for value in values):
            figure.update_yaxes(type="log", tickvals=LOG_TICKS, row=row, col=1)
        elif row > 1:
            figure.update_yaxes(rangemode="tozero", row=row, col=1)
    figure.add_scatter(
        x=[each.number for each in report.trials],
        y=[each.hypervolume for each in report.trials],
        mode="lines",
        line={"shape": "hv", "color": "#3a8f5c"},
        showlegend=False,
        row=rows,
        col=1,
    )
    figure.update_yaxes(range=[0, 1.02], row=rows, col=1)
    return styled(figure, "trial", "", 560 + 170 * (rows - 3))


def _trial_dots(report: Report, values: Sequence[float]) -> go.Scatter:
    """One metric of each trial: those of the front larger, pruned ones as open triangles."""
    front = {each.number for each in report.front}
    numbers = [each.number for each in report.trials]
    return go.Scatter(
        x=numbers,
        y=values,
        mode="markers",
        showlegend=False,
        marker={
            "color": [FRONT if number in front else PLAIN for number in numbers],
            "size": [8 if number in front else 5 for number in numbers],
            "symbol": ["triangle-up-open" if each.pruned else "circle" for each in report.trials],
        },
        hovertemplate="trial %{x}: %{y:.4g}<extra></extra>",
    )


def importance_chart(report: Report) -> go.Figure | None:
    if report.importance is None:
        return None
    metrics = report.baseline.metrics
    first = report.importance[next(iter(metrics))]
    names = sorted(first, key=lambda name: first[name])
    figure = go.Figure()
    for (name, metric), color in zip(metrics.items(), cycle((BAD_COLOR, GOOD_COLOR, KNEE, *SERIES[2:]))):
        shares = [100 * report.importance[name].get(parameter, 0.0) for parameter in names]
        figure.add_bar(y=names, x=shares, name=metric.label, orientation="h", marker_color=color)
    return styled(figure, "share of importance (%)", "", 140 + 38 * len(names))


def _count_errors(metric: BaselineMetric, values: Sequence[float]) -> dict[str, Any] | None:
    """Wilson intervals of counts; None for real numbers, which have none."""
    return None if metric.of is None else _errors([rate(int(value), metric.of) for value in values])


def _errors(rates: Sequence[Rate]) -> dict[str, Any]:
    return {
        "type": "data",
        "array": [100 * (each.high - each.share) for each in rates],
        "arrayminus": [100 * (each.share - each.low) for each in rates],
        "thickness": 1,
    }


def styled(figure: go.Figure, x: str, y: str, height: int) -> go.Figure:
    """The common style: narrow margins for phones, and the legend above, where it takes no width."""
    figure.update_layout(
        template="plotly_white",
        height=height,
        margin={"l": 8, "r": 8, "t": 30, "b": 8},
        font={"family": "system-ui, sans-serif", "size": 12},
        # Above the titles of panels, whatever the height.
        legend={"orientation": "h", "yanchor": "bottom", "y": 1 + 28 / (height - 90), "x": 0},
        hoverlabel={"namelength": -1},
        dragmode=False,
    )
    figure.update_xaxes(automargin=True, fixedrange=True)
    figure.update_yaxes(automargin=True, fixedrange=True)
    rows = [axis for axis in figure.layout if axis.startswith("xaxis")]
    figure.layout[max(rows, key=lambda axis: int(axis[5:] or 1))].title = x
    if y:
        figure.update_yaxes(title=y)
    return figure
