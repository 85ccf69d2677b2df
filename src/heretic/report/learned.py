"""Learned trials on the page: the loss along the path, and how far directions moved from the difference of means."""

from collections.abc import Iterator

import plotly.graph_objects as go

from ..ablation.methods.learned.parameters import LearnedParameters
from .charts import SERIES, styled
from .data import Report, ReportedTrial
from .parts import Part, Table, Words, chart


def learned_parts(report: Report) -> Iterator[Part]:
    """Nothing for a study of another method."""
    points = [(trial, trial.parameters) for trial in report.trials if isinstance(trial.parameters, LearnedParameters)]
    if not points:
        return
    yield Words(
        "Directions and strengths were learned by gradient: each point of a path begins where the last one ended, with "
        "less weight on the refusals (lambda). Trials with a scale have the strengths of an earlier point times that."
    )
    yield from chart(loss_chart(points), "The loss along the path, a line a point (nats).")
    yield from chart(
        cosine_chart(points), "Cosine between each layer's learned direction and its difference of means; 1: unchanged."
    )
    rows = [(str(trial.number), *parameters.facts().values()) for trial, parameters in points]
    yield Table(("Trial", *points[0][1].facts()), rows, folded="The points of the path")


def loss_chart(points: list[tuple[ReportedTrial, LearnedParameters]]) -> go.Figure:
    figure, done = go.Figure(), 0
    learned = [(trial, parameters) for trial, parameters in points if parameters.losses]
    for number, (trial, parameters) in enumerate(learned):
        steps = list(range(done, done + len(parameters.losses)))
        done += len(steps)
        name = f"trial {trial.number}, lambda {parameters.refusal_weight:.3g}"
        color = SERIES[number % len(SERIES)]
        figure.add_scatter(x=steps, y=list(parameters.losses), name=name, mode="lines+markers", line={"color": color})
    figure.update_yaxes(type="log")
    return styled(figure, "step", "loss", 320)


def cosine_chart(points: list[tuple[ReportedTrial, LearnedParameters]]) -> go.Figure:
    figure = go.Figure()
    # Scaled points have the directions of earlier ones.
    for number, (trial, parameters) in enumerate(each for each in points if each[1].scale == 1):
        layers = [layer for layer, cosine in enumerate(parameters.cosines) if cosine]
        figure.add_scatter(
            x=layers,
            y=[parameters.cosines[layer] for layer in layers],
            name=f"trial {trial.number}",
            mode="lines+markers",
            line={"color": SERIES[number % len(SERIES)]},
        )
    return styled(figure, "layer", "cosine", 320)
