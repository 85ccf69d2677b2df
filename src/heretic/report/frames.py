"""Trials as a data frame, and the front as a picture."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from ..errors import ConfigError
from ..evaluation.statistics import rate
from ..installing import install_command
from ..study.pareto import pareto_front
from ..study.schema import BASELINE, BaselineRecord, TrialRecord

if TYPE_CHECKING:
    import pandas as pd
    import plotly.graph_objects as go


def trials_frame(trials: Sequence[TrialRecord], baseline: BaselineRecord) -> "pd.DataFrame":
    """A row a trial, indexed by its number, with one column a metric.

    `NAME_low` and `NAME_high` are the Wilson interval of 95 % of the primary metric, as counts. A `pruned` trial has a
    lower bound in place of the value, and no interval.

    Raises:
        ConfigError: pandas is not installed.
    """
    try:
        import pandas as pd
    except ImportError as error:
        raise ConfigError(
            f"Expected pandas, which holds the table of trials, but {error}. Install it with: "
            f"{install_command('notebook')}"
        ) from error

    front = {trial.number for trial in pareto_front(trials, baseline)}
    rows = []
    for trial in trials:
        kernels = {
            f"{component}.{name}": value
            for component, kernel in trial.parameters.kernels.items()
            for name, value in kernel.model_dump().items()
        }
        rows.append(
            {
                "trial": trial.number,
                **_metric_columns(trial, baseline),
                "front": trial.number in front,
                "pruned": trial.pruned,
                **trial.parameters.values(),
                **kernels,
            }
        )
    primary, *others = baseline.metrics
    columns = ["trial", primary, f"{primary}_low", f"{primary}_high", *others, "front", "pruned"]
    return pd.DataFrame(rows, columns=None if rows else columns).set_index("trial")


def _metric_columns(trial: TrialRecord, baseline: BaselineRecord) -> dict[str, float | None]:
    primary, *others = baseline.metrics
    of, value = baseline.metrics[primary].of, trial.value(primary)
    interval = None if of is None or trial.pruned else rate(int(value), of)
    return {
        primary: value,
        f"{primary}_low": interval.low * (of or 0) if interval else None,
        f"{primary}_high": interval.high * (of or 0) if interval else None,
        **{name: trial.value(name) for name in others},
    }


def front_figure(frame: "pd.DataFrame", best: TrialRecord | None, baseline: BaselineRecord) -> "go.Figure":
    """The first metric against the second: all fully evaluated trials, the front as a line, `best` as a star.

    Raises:
        ConfigError: plotly is not installed.
    """
    try:
        import plotly.graph_objects as go
    except ImportError as error:
        raise ConfigError(
            f"Expected plotly, which draws the front, but {error}. Install it with: {install_command('notebook')}"
        ) from error
    y, x = list(baseline.metrics)[:2]
    upright, across = baseline.metrics[y], baseline.metrics[x]
    measured = frame[~frame["pruned"].astype(bool)]
    front = measured[measured["front"].astype(bool)].sort_values(x)
    figure = go.Figure()
    others = measured[~measured["front"].astype(bool)]
    points = _Points(f"{upright.label} %{{y}}<br>{across.label} %{{x:.4f}}")
    figure.add_scatter(x=others[x], y=others[y], customdata=others.index, name="trials", **points.of("#9aa0a6", 7))
    errors = {
        "type": "data",
        "array": front[f"{y}_high"] - front[y],
        "arrayminus": front[y] - front[f"{y}_low"],
        "thickness": 1,
    }
    # With more than two metrics, the front is no line on the plane of two.
    mode = "lines+markers" if len(baseline.metrics) == 2 else "markers"
    figure.add_scatter(
        x=front[x],
        y=front[y],
        customdata=front.index,
        name="front",
        error_y=errors,
        line={"shape": "vh", "color": "#d1495b", "width": 1},
        **points.of("#d1495b", 10, mode),
    )
    if best is not None:
        knee = points.of("#edae49", 18, symbol="star")
        figure.add_scatter(x=[best.value(x)], y=[best.value(y)], customdata=[best.number], name="knee", **knee)
    figure.add_hline(y=upright.value, line_dash="dot", annotation_text=BASELINE)
    figure.update_layout(
        template="plotly_white",
        xaxis_title=across.title,
        yaxis_title=upright.title if upright.of is None else f"{upright.title} (of {upright.of})",
        legend={"orientation": "h", "y": 1.1},
        margin={"t": 40, "b": 50, "l": 60, "r": 20},
    )
    return figure


class _Points:
    """The look of points whose hover text ends with `values`."""

    def __init__(self, values: str) -> None:
        self._values = values

    def of(self, color: str, size: int, mode: str = "markers", symbol: str = "circle") -> dict[str, object]:
        return {
            "mode": mode,
            "marker": {"color": color, "size": size, "symbol": symbol, "line": {"width": 1, "color": "white"}},
            "hovertemplate": f"trial %{{customdata}}<br>{self._values}<extra></extra>",
        }
