"""Settings of what is shown and drawn beside the search."""

from pathlib import Path

from pydantic import ConfigDict, Field

from .section import Section
from .types import Folder


class ReportSettings(Section):
    """What is shown beyond the progress of the search."""

    model_config = ConfigDict(title="Report")

    print_residual_geometry: bool = Field(
        default=False, description="Show how good and bad residuals lie, layer by layer."
    )
    plot_residuals: bool = Field(default=False, description="Draw a picture of good and bad residuals for each layer.")
    residual_plot_path: Folder = Field(default=Path("plots"), description="Directory that the pictures are written to.")
    residual_plot_title: str = Field(
        default="PaCMAP of the residuals of good and bad prompts", description="Title of the pictures."
    )
    residual_plot_style: str = Field(
        default="dark_background", description="Style sheet of matplotlib for the pictures."
    )
