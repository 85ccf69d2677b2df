"""Trials as a data frame, and the front as a picture."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from ..errors import ConfigError
from ..evaluation.statistics import rate
from ..study.pareto import pareto_front
from ..study.schema import BaselineRecord, TrialRecord

if TYPE_CHECKING:
    import pandas as pd
    import plotly.graph_objects as go


def trials_frame(trials: Sequence[TrialRecord], baseline: BaselineRecord) -> "pd.DataFrame":
    """A row a trial, indexed by its number.

    `refusals_low` and `refusals_high` are the Wilson interval of 95 %, as counts. Of a `bound` (given up as dominated)
    `refusals` is what it has at least, and it has no interval. There are `over_refusals` where these are an objective.
    """
    import pandas as pd

    front = {trial.number for trial in pareto_front(trials, baseline)}
    rows = []
    for trial in trials:
        interval = rate(trial.refusals, baseline.prompts)
        parameters = trial.parameters
        kernels = {
            f"{component}.{name}": value
            for component, kernel in parameters.kernels.items()
            for name, value in kernel.model_dump().items()
        }
        rows.append(
            {
                "trial": trial.number,
                "refusals": trial.refusals,
                "refusals_low": None if trial.bound else interval.low * baseline.prompts,
                "refusals_high": None if trial.bound else interval.high * baseline.prompts,
                "kl_divergence": trial.kl_divergence,
                **({} if trial.over_refusals is None else {"over_refusals": trial.over_refusals}),
                "front": trial.number in front,
                "bound": trial.bound,
                **parameters.values(),
                **kernels,
            }
        )
    columns = ["trial", "refusals", "refusals_low", "refusals_high", "kl_divergence", "front", "bound"]
    return pd.DataFrame(rows, columns=None if rows else columns).set_index("trial")


def front_figure(frame: "pd.DataFrame", best: TrialRecord | None, baseline: BaselineRecord) -> "go.Figure":
    """Refusals against KL divergence: all measured trials, the front as a line, `best` as a star.

    Raises:
        ConfigError: plotly is not installed.
    """
    try:
        import plotly.graph_objects as go
    except ImportError as error:
        raise ConfigError(
            f'Expected plotly, which draws the front, but {error}. Install it with: pip install "heretic[notebook]"'
        ) from error
    measured = frame[~frame["bound"].astype(bool)]
    front = measured[measured["front"].astype(bool)].sort_values("kl_divergence")
    figure = go.Figure()
    others = measured[~measured["front"].astype(bool)]
    figure.add_scatter(
        x=others["kl_divergence"], y=others["refusals"], customdata=others.index, name="trials", **_points("#9aa0a6", 7)
    )
    _add_front(figure, front, baseline.objectives)
    if best is not None:
        figure.add_scatter(
            x=[best.kl_divergence],
            y=[best.refusals],
            customdata=[best.number],
            name="knee",
            **_points("#edae49", 18, symbol="star"),
        )
    figure.add_hline(y=baseline.refusals, line_dash="dot", annotation_text="the model itself")
    figure.update_layout(
        template="plotly_white",
        xaxis_title="KL divergence at the first token (nats)",
        yaxis_title=f"refusals of {baseline.prompts} bad prompts",
        legend={"orientation": "h", "y": 1.1},
        margin={"t": 40, "b": 50, "l": 60, "r": 20},
    )
    return figure


def _add_front(figure: "go.Figure", front: "pd.DataFrame", objectives: int) -> None:
    """The front with the intervals of its refusals. Of three figures, it is no line on the plane of two."""
    errors = {
        "type": "data",
        "array": front["refusals_high"] - front["refusals"],
        "arrayminus": front["refusals"] - front["refusals_low"],
        "thickness": 1,
    }
    figure.add_scatter(
        x=front["kl_divergence"],
        y=front["refusals"],
        customdata=front.index,
        name="front",
        error_y=errors,
        line={"shape": "vh", "color": "#d1495b", "width": 1},
        **_points("#d1495b", 10, "lines+markers" if objectives == 2 else "markers"),
    )


def _points(color: str, size: int, mode: str = "markers", symbol: str = "circle") -> dict[str, object]:
    return {
        "mode": mode,
        "marker": {"color": color, "size": size, "symbol": symbol, "line": {"width": 1, "color": "white"}},
        "hovertemplate": "trial %{customdata}<br>refusals %{y}<br>KL %{x:.4f}<extra></extra>",
    }
