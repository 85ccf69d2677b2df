"""[Plots] Residuals of good and bad prompts, printed and drawn."""

from pathlib import Path

from pydantic import ConfigDict, Field

from ..types import Folder
from .base import Section


class PlotSettings(Section):
    """What is printed and drawn about residuals before the search."""

    model_config = ConfigDict(title="Plots")

    print_residual_geometry: bool = Field(
        default=False, description="Print a table of how good and bad residuals differ, layer by layer."
    )
    plot_residuals: bool = Field(
        default=False,
        description="Draw a PaCMAP plot of good and bad residuals for each layer (needs the research extra).",
    )
    residual_plot_path: Folder = Field(default=Path("plots"), description="Directory of the plots.")
    residual_plot_title: str = Field(
        default="PaCMAP of the residuals of good and bad prompts", description="Title of the plots."
    )
    residual_plot_style: str = Field(default="dark_background", description="Matplotlib style sheet of the plots.")
