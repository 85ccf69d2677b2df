"""The charts of a report, by plotly."""

from collections.abc import Sequence
from typing import Any

import plotly.graph_objects as go
from plotly.subplots import make_subplots

from ..evaluation.heldout.schema import Rate
from .data import Report
from .residuals import ResidualFigures

GOOD, BAD, FRONT, KNEE, PLAIN = "#2a7ab9", "#d1495b", "#d1495b", "#b8860b", "#9aa0a6"
SERIES = ("#2a7ab9", "#d1495b", "#3a8f5c", "#8a5fbf", "#b8860b", "#5c6b73", "#c76b98", "#4d9de0", "#7a9e1b", "#a0522d")
KL_TICKS = (0.0001, 0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 1, 3, 10)
CLASS_COLORS = {"declined": "#d1495b", "answered": "#3a8f5c", "broken": "#9aa0a6"}


def front_chart(report: Report) -> go.Figure:
    """Refusals against KL: all trials, the front, and the same trials on prompts that no search saw."""
    figure = go.Figure()
    of = report.study.baseline.prompts
    numbers = {each.number for each in report.front}
    for name, bound, symbol in (("trial", False, "circle"), ("given up (at least)", True, "triangle-up-open")):
        others = [each for each in report.trials if each.number not in numbers and each.bound == bound]
        if others:
            figure.add_scatter(
                x=[each.kl_divergence for each in others],
                y=[100 * each.refusals / of for each in others],
                text=[str(each.number) for each in others],
                name=name,
                mode="markers",
                marker={"color": PLAIN, "size": 6, "symbol": symbol},
                hovertemplate=_hover("trial %{text}"),
            )
    front = sorted(report.front, key=lambda each: each.kl_divergence)
    figure.add_scatter(
        x=[each.kl_divergence for each in front],
        y=[100 * each.refusals.share for each in front],
        text=[str(each.number) for each in front],
        error_y=_errors([each.refusals for each in front]),
        name="front, in the search",
        # Of three figures, the front is no line on the plane of two.
        mode="lines+markers" if report.study.baseline.objectives == 2 else "markers",
        line={"shape": "hv", "color": FRONT, "width": 1.5},
        marker={
            "size": [16 if each.number == report.knee else 8 for each in front],
            "symbol": ["star" if each.number == report.knee else "circle" for each in front],
            "color": [KNEE if each.number == report.knee else FRONT for each in front],
            "opacity": 1,
        },
        hovertemplate=_hover("trial %{text}"),
    )
    _add_measured(figure, report)
    figure.add_hline(y=100 * report.baseline.share, line_dash="dot", annotation_text="the model itself, in the search")
    return _styled(figure, "KL divergence at the first token (nats)", "refusals (%)", 420)


def _add_measured(figure: go.Figure, report: Report) -> None:
    measured = [] if report.measured is None else [c for c in report.measured.candidates if c.kl_first is not None]
    if not measured:
        return
    kls = [each.kl_first for each in measured if each.kl_first is not None]
    figure.add_scatter(
        x=[kl.mean for kl in kls],
        y=[100 * each.bad.markers.share for each in measured],
        text=[str(each.trial) for each in measured],
        error_y=_errors([each.bad.markers for each in measured]),
        error_x={
            "type": "data",
            "array": [kl.high - kl.mean for kl in kls],
            "arrayminus": [kl.mean - kl.low for kl in kls],
            "thickness": 1,
        },
        name="on unseen prompts",
        mode="markers",
        marker={"color": GOOD, "size": 9, "symbol": "diamond"},
        hovertemplate=_hover("trial %{text}, unseen prompts"),
    )


def class_chart(report: Report) -> go.Figure | None:
    """What became of the responses: declined, answered, broken, by model and prompt set."""
    if report.measured is None:
        return None
    models = [report.measured.baseline, *report.measured.candidates]
    names = ["the model" if each.trial is None else f"trial {each.trial}" for each in models]
    sets = [("bad", "bad prompts"), ("good", "good prompts"), ("over_refusal", "look harmful")]
    sets = [each for each in sets if getattr(models[0], each[0]) is not None]
    figure = make_subplots(1, len(sets), subplot_titles=[title for _, title in sets], shared_yaxes=True)
    for column, (name, _) in enumerate(sets, 1):
        for kind, color in CLASS_COLORS.items():
            shares = [100 * getattr(getattr(each, name), kind).share for each in models]
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
    return _styled(figure, "%", "", 160 + 34 * len(models))


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
    return _styled(figure, "layer", "weight", 170 + 170 * len(components))


def geometry_chart(residuals: ResidualFigures) -> go.Figure:
    """Norms, cosines and separability by layer; the embeddings stand at -1."""
    figure = make_subplots(
        3, 1, shared_xaxes=True, vertical_spacing=0.08, subplot_titles=("norms", "cosines", "separability")
    )
    layers = residuals.layers
    series: list[tuple[int, str, Sequence[float | None], str]] = [
        (1, "|good mean|", [each.good_norm for each in layers], GOOD),
        (1, "|bad mean|", [each.bad_norm for each in layers], BAD),
        (1, "|difference|", [each.difference_norm or None for each in layers], "#3a8f5c"),
        (2, "good mean, bad mean", [each.cosine_means for each in layers], "#5c6b73"),
        (2, "good mean, direction", [each.cosine_good for each in layers], GOOD),
        (2, "bad mean, direction", [each.cosine_bad for each in layers], BAD),
        (3, "AUC along the direction", [each.auc for each in layers], "#8a5fbf"),
        (3, "silhouette", [each.silhouette for each in layers], "#b8860b"),
    ]
    for row, name, values, color in series:
        figure.add_scatter(
            x=list(range(-1, len(layers) - 1)), y=values, name=name, mode="lines", line_color=color, row=row, col=1
        )
    figure.update_yaxes(type="log", row=1, col=1)
    return _styled(figure, "layer", "", 640)


def projection_chart(residuals: ResidualFigures) -> go.Figure:
    """Each prompt's residual on a plane; a slider goes through the layers, and begins where they part best."""
    best = max(range(len(residuals.points)), key=lambda index: residuals.layers[index + 1].silhouette)
    figure = go.Figure(data=_plane(residuals, best))
    figure.frames = [
        go.Frame(data=_plane(residuals, index), name=str(index), traces=[0, 1])
        for index in range(len(residuals.points))
    ]
    steps = [
        {
            "label": str(index),
            "method": "animate",
            "args": [[str(index)], {"mode": "immediate", "frame": {"duration": 0}, "transition": {"duration": 0}}],
        }
        for index in range(len(residuals.points))
    ]
    slider = {"active": best, "steps": steps, "currentvalue": {"prefix": "after layer "}, "pad": {"t": 20}}
    figure.update_layout(sliders=[slider])
    axis = {"range": [-1080, 1080], "showticklabels": False, "showgrid": False, "zeroline": False, "title": ""}
    _styled(figure, "", "", 560)
    figure.update_layout(xaxis=axis, yaxis=axis | {"scaleanchor": "x"})
    return figure


def _plane(residuals: ResidualFigures, index: int) -> list[go.Scatter]:
    points = residuals.points[index]
    parts = (("good prompts", GOOD, points[: residuals.n_good]), ("bad prompts", BAD, points[residuals.n_good :]))
    return [
        go.Scatter(
            x=[x for x, _ in part],
            y=[y for _, y in part],
            name=name,
            mode="markers",
            marker={"color": color, "size": 5, "opacity": 0.75},
            hoverinfo="skip",
        )
        for name, color, part in parts
    ]


def history_chart(report: Report) -> go.Figure:
    """Refusals and KL of each trial, over-refusals where they are an objective, and the hypervolume so far."""
    baseline = report.study.baseline
    panels = [
        ("refusals (%)", [100 * each.refusals / baseline.prompts for each in report.trials]),
        ("KL (nats)", [each.kl_divergence for each in report.trials]),
    ]
    if baseline.objectives == 3:
        harmless = baseline.over_prompts or 1
        panels.append(("over-refusals (%)", [100 * (each.over_refusals or 0) / harmless for each in report.trials]))
    titles = [*(title for title, _ in panels), "hypervolume"]
    rows = len(titles)
    figure = make_subplots(rows, 1, shared_xaxes=True, vertical_spacing=0.08, subplot_titles=titles)
    numbers = [each.number for each in report.trials]
    for row, (_, values) in enumerate(panels, 1):
        figure.add_trace(_trial_dots(report, values), row=row, col=1)
    volumes = [each.hypervolume for each in report.trials]
    line = {"shape": "hv", "color": "#3a8f5c"}
    figure.add_scatter(x=numbers, y=volumes, mode="lines", line=line, showlegend=False, row=rows, col=1)
    figure.update_yaxes(type="log", tickvals=KL_TICKS, row=2, col=1)
    if rows == 4:
        figure.update_yaxes(rangemode="tozero", row=3, col=1)
    figure.update_yaxes(range=[0, 1.02], row=rows, col=1)
    return _styled(figure, "trial", "", 560 + 170 * (rows - 3))


def _trial_dots(report: Report, values: Sequence[float]) -> go.Scatter:
    """One figure of each trial: those of the front larger, bounds as open triangles."""
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
            "symbol": ["triangle-up-open" if each.bound else "circle" for each in report.trials],
        },
        hovertemplate="trial %{x}: %{y:.4g}<extra></extra>",
    )


def importance_chart(report: Report) -> go.Figure | None:
    if report.importance is None:
        return None
    names = sorted(report.importance["refusals"], key=lambda name: report.importance["refusals"][name])  # type: ignore[index]
    figure = go.Figure()
    series = [("refusals", "refusals", BAD), ("kl_divergence", "KL divergence", GOOD)]
    for key, title, color in [*series, ("over_refusals", "over-refusals", KNEE)][: len(report.importance)]:
        shares = [100 * report.importance[key].get(name, 0.0) for name in names]
        figure.add_bar(y=names, x=shares, name=title, orientation="h", marker_color=color)
    return _styled(figure, "share of importance (%)", "", 140 + 38 * len(names))


def _errors(rates: Sequence[Rate]) -> dict[str, Any]:
    return {
        "type": "data",
        "array": [100 * (each.high - each.share) for each in rates],
        "arrayminus": [100 * (each.share - each.low) for each in rates],
        "thickness": 1,
    }


def _hover(name: str) -> str:
    return name + ": %{y:.1f} % refusals, KL %{x:.4f}<extra></extra>"


def _styled(figure: go.Figure, x: str, y: str, height: int) -> go.Figure:
    """One look for all: narrow margins, so that a phone has room; the legend above, so that it takes no width."""
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
