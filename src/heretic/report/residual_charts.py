"""The charts of residuals, by plotly."""

from collections.abc import Sequence

import plotly.graph_objects as go
from plotly.subplots import make_subplots

from .charts import BAD_COLOR, GOOD_COLOR, styled
from .residuals import ResidualMetrics


def geometry_chart(residuals: ResidualMetrics) -> go.Figure:
    """Norms, cosines and separability by layer; the embeddings are at -1."""
    figure = make_subplots(
        3, 1, shared_xaxes=True, vertical_spacing=0.08, subplot_titles=("norms", "cosines", "separability")
    )
    layers = residuals.layers
    series: list[tuple[int, str, Sequence[float | None], str]] = [
        (1, "|good mean|", [each.good_norm for each in layers], GOOD_COLOR),
        (1, "|bad mean|", [each.bad_norm for each in layers], BAD_COLOR),
        (1, "|difference|", [each.difference_norm or None for each in layers], "#3a8f5c"),
        (2, "good mean, bad mean", [each.cosine_means for each in layers], "#5c6b73"),
        (2, "good mean, direction", [each.cosine_good for each in layers], GOOD_COLOR),
        (2, "bad mean, direction", [each.cosine_bad for each in layers], BAD_COLOR),
        (3, "AUC along the direction", [each.auc for each in layers], "#8a5fbf"),
        (3, "silhouette", [each.silhouette for each in layers], "#b8860b"),
    ]
    for row, name, values, color in series:
        figure.add_scatter(
            x=list(range(-1, len(layers) - 1)), y=values, name=name, mode="lines", line_color=color, row=row, col=1
        )
    figure.update_yaxes(type="log", row=1, col=1)
    return styled(figure, "layer", "", 640)


def projection_chart(residuals: ResidualMetrics) -> go.Figure:
    """Each prompt's residual on a plane, with a slider over layers that begins at the best separation."""
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
    styled(figure, "", "", 560)
    figure.update_layout(xaxis=axis, yaxis=axis | {"scaleanchor": "x"})
    return figure


def _plane(residuals: ResidualMetrics, index: int) -> list[go.Scatter]:
    points = residuals.points[index]
    parts = (
        ("good prompts", GOOD_COLOR, points[: residuals.n_good]),
        ("bad prompts", BAD_COLOR, points[residuals.n_good :]),
    )
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
