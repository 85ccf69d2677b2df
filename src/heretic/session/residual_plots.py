"""A table of the residuals' geometry and plots of them, on request."""

import difflib
import importlib
from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor

from ..ablation.directions import Directions
from ..config import PlotSettings, PromptSource, PromptSources
from ..errors import ConfigError
from ..files import make_directory, write_atomically
from ..installing import install_command
from ..report.geometry import GEOMETRY_COLUMNS, GEOMETRY_TITLE, geometry, geometry_rows
from ..report.plots import PlotStyle, animate, draw
from ..report.projection import LEAST_POINTS, project_layers
from .context import Session
from .directions import ResidualCollector

EXTRA = ("pacmap", "matplotlib", "PIL")
LABELS = ("good prompts", "bad prompts")
COLORS = ("royalblue", "darkorange")


def wants_residuals(settings: PlotSettings) -> bool:
    """Whether the settings ask for a table or plots of residuals."""
    return settings.print_residual_geometry or settings.plot_residuals


def show_residuals(session: Session, collected: ResidualCollector, directions: Directions) -> None:
    """Prints the table and writes the plots that the settings ask for."""
    good, bad = collected.residuals("good"), collected.residuals("bad")
    if session.settings.print_residual_geometry:
        session.reporter.table(GEOMETRY_TITLE, GEOMETRY_COLUMNS, geometry_rows(geometry(good, bad, directions)))
    if session.settings.plot_residuals:
        _write_plots(session, _plots(session, good, bad))


def _plots(session: Session, good: Tensor, bad: Tensor) -> list[bytes]:
    """A plot of each layer, as PNG."""
    # The first residual is the embedding of the last token, which all prompts have in common.
    residuals = torch.cat([good, bad])[:, 1:]
    n_prompts, n_layers = residuals.shape[:2]
    method = ""
    if n_prompts < LEAST_POINTS:
        method = " (principal components)"
        session.reporter.warn(
            f"PaCMAP needs {LEAST_POINTS} prompts, got {n_prompts}: the plots show principal components."
        )
    projected = []
    with session.reporter.step("Projecting residuals", n_layers) as progress:
        for points in project_layers(residuals):
            projected.append(points)
            progress(1)
    sources = session.prompts.sources
    style = plot_style(session.settings, sources["good_prompts"], sources["bad_prompts"])
    captions = (f"after layer {layer} of 0 to {n_layers - 1}{method}" for layer in range(n_layers))
    return [draw(points, len(good), caption, style) for points, caption in zip(projected, captions, strict=True)]


def _write_plots(session: Session, plots: Sequence[bytes]) -> None:
    """Writes one file a layer, and an animation of all."""
    directory, name = session.settings.residual_plot_path, session.path.stem.lstrip("-")
    digits = len(str(len(plots) - 1))
    for layer, plot in enumerate(plots):
        write_atomically(directory / f"{name}-layer-{layer:0{digits}}.png", plot)
    animation = directory / f"{name}-layers.gif"
    write_atomically(animation, animate(plots))
    session.reporter.say(f"Plots of the residuals are in {directory}; {animation.name} shows all layers.")


def plot_style(settings: PlotSettings, good: PromptSource, bad: PromptSource) -> PlotStyle:
    """Title and style sheet of the settings, labels and colours of the two sets of direction prompts."""
    sides = (good, bad)
    good_label, bad_label = (s.residual_plot_label or label for s, label in zip(sides, LABELS, strict=True))
    good_color, bad_color = (s.residual_plot_color or color for s, color in zip(sides, COLORS, strict=True))
    return PlotStyle(
        settings.residual_plot_title,
        settings.residual_plot_style,
        (good_label, bad_label),
        (good_color, bad_color),
    )


def check_plots(settings: PlotSettings, sources: PromptSources) -> None:
    """Makes sure that wanted plots can be drawn and written.

    Raises:
        ConfigError: a package is missing, a style sheet or colour is unknown, or the directory can't be created.
    """
    if not settings.plot_residuals:
        return
    try:
        for package in EXTRA:
            importlib.import_module(package)
    except ImportError as error:
        raise ConfigError(
            f"Expected the packages that plot_residuals draws with, but {error}. "
            f"Install them with: {install_command('research')}"
        ) from error
    style = plot_style(settings, sources.good_prompts, sources.bad_prompts)
    _check_style_sheet(style.sheet)
    _check_colors(style.colors)
    try:
        make_directory(settings.residual_plot_path)
    except OSError as error:
        raise ConfigError(
            f"Expected a directory for the plots of residuals (residual_plot_path), but {error}. Name another one."
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
