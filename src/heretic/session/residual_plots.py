"""What is shown of residuals on request: a table of their geometry, and pictures."""

import difflib
import importlib
from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor

from ..ablation.directions import Directions
from ..ablation.residuals import winsorize
from ..config import Settings, resolve_prompts
from ..engine.local import LocalEngine
from ..errors import ConfigError
from ..events import Reporter
from ..files import write_atomically
from ..report.geometry import GEOMETRY_COLUMNS, GEOMETRY_TITLE, geometry, geometry_rows
from ..report.plots import PlotStyle, animate, draw
from ..report.projection import LEAST_POINTS, project_layers
from .directions import mean_residuals
from .prompts import RunPrompts

EXTRA = ("pacmap", "matplotlib", "PIL")
LABELS = ("good prompts", "bad prompts")
COLORS = ("royalblue", "darkorange")


class ResidualReport:
    """Keeps residuals while directions are fitted, so that no second pass is needed, then shows what is asked for."""

    def __init__(self, settings: Settings, name: str, reporter: Reporter) -> None:
        self._settings = settings
        self._name = name
        self._reporter = reporter
        self._kept: dict[str, dict[int, Tensor]] = {"good": {}, "bad": {}}

    @property
    def wanted(self) -> bool:
        return self._settings.print_residual_geometry or self._settings.plot_residuals

    def keep(self, side: str, indices: Sequence[int], residuals: Tensor) -> None:
        """Residuals of the prompts `indices` of one side, as the directions see them."""
        clamped = winsorize(residuals.float().cpu(), self._settings.winsorization_quantile)
        self._kept[side] |= dict(zip(indices, clamped, strict=True))

    def measure_and_show(self, engine: LocalEngine, prompts: RunPrompts, directions: Directions) -> None:
        """Runs the direction prompts first, if anything is asked for: the directions were read from a file."""
        if not self.wanted:
            return
        for side, each in (("good", prompts.good), ("bad", prompts.bad)):
            mean_residuals(engine, each, self._settings, side, self._reporter, self.keep)
        self.show(directions)

    def show(self, directions: Directions) -> None:
        """Shows what is asked for and lets go of the residuals."""
        if not self.wanted:
            return
        good, bad = (torch.stack([rows[i] for i in sorted(rows)]) for rows in self._kept.values())
        self._kept = {"good": {}, "bad": {}}
        if self._settings.print_residual_geometry:
            self._reporter.table(GEOMETRY_TITLE, GEOMETRY_COLUMNS, geometry_rows(geometry(good, bad, directions)))
        if self._settings.plot_residuals:
            self._plot(good, bad)

    def _plot(self, good: Tensor, bad: Tensor) -> None:
        # The embedding of the last token is the same for all prompts: there is nothing to see.
        residuals = torch.cat([good, bad])[:, 1:]
        n_prompts, n_layers = residuals.shape[:2]
        method = ""
        if n_prompts < LEAST_POINTS:
            method = " (principal components)"
            self._reporter.warn(
                f"PaCMAP needs {LEAST_POINTS} prompts, got {n_prompts}: the pictures show principal components."
            )
        projected = []
        with self._reporter.step("Projecting residuals", n_layers) as progress:
            for points in project_layers(residuals):
                projected.append(points)
                progress(1)
        style = plot_style(self._settings)
        pictures = []
        for layer, points in enumerate(projected):
            caption = f"after layer {layer} of 0 to {n_layers - 1}{method}"
            pictures.append(draw(points, len(good), caption, style))
        self._write(pictures)

    def _write(self, pictures: Sequence[bytes]) -> None:
        directory = self._settings.residual_plot_path
        digits = len(str(len(pictures) - 1))
        for layer, picture in enumerate(pictures):
            write_atomically(directory / f"{self._name}-layer-{layer:0{digits}}.png", picture)
        animation = directory / f"{self._name}-layers.gif"
        write_atomically(animation, animate(pictures))
        self._reporter.say(f"Pictures of the residuals are in {directory}; {animation.name} shows them in turn.")


def plot_style(settings: Settings) -> PlotStyle:
    """Title and style sheet of the run, labels and colours of the direction prompts."""
    sources = resolve_prompts(settings)
    sides = (sources.good_prompts, sources.bad_prompts)
    good_label, bad_label = (s.residual_plot_label or label for s, label in zip(sides, LABELS, strict=True))
    good_color, bad_color = (s.residual_plot_color or color for s, color in zip(sides, COLORS, strict=True))
    return PlotStyle(
        settings.residual_plot_title,
        settings.residual_plot_style,
        (good_label, bad_label),
        (good_color, bad_color),
    )


def check_plots(settings: Settings) -> None:
    """That pictures can be drawn, if they are wanted.

    Raises:
        ConfigError: a package is missing, a style sheet or colour is unknown, the directory can't be made.
    """
    if not settings.plot_residuals:
        return
    try:
        for package in EXTRA:
            importlib.import_module(package)
    except ImportError as error:
        raise ConfigError(
            f"Expected the packages that plot_residuals draws with, but {error}. "
            'Install them with: pip install "heretic[research]"'
        ) from error
    style = plot_style(settings)
    _check_style_sheet(style.sheet)
    _check_colors(style.colors)
    try:
        settings.residual_plot_path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ConfigError(
            f"Expected a directory for the pictures of residuals (residual_plot_path), but {error}. Name another one."
        ) from error


def _check_style_sheet(sheet: str) -> None:
    import matplotlib.style

    known = ["default", *matplotlib.style.available]
    if sheet in known or Path(sheet).is_file():
        return
    near = difflib.get_close_matches(sheet, known, n=1)
    advice = f"did you mean {near[0]}?" if near else f"choose one of {', '.join(known)}."
    raise ConfigError(f"Expected a style sheet of matplotlib in residual_plot_style, got {sheet!r}: {advice}")


def _check_colors(colors: Sequence[str]) -> None:
    from matplotlib.colors import is_color_like

    for color in colors:
        if not is_color_like(color):
            raise ConfigError(
                f"Expected a colour in residual_plot_color, got {color!r}. Name one (royalblue, darkorange) or give "
                "its value (#4169e1)."
            )
