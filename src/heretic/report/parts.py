"""The parts of a section of the page."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, ClassVar

from markupsafe import Markup

from .examples import SetExamples

if TYPE_CHECKING:
    import plotly.graph_objects as go


@dataclass(frozen=True, slots=True)
class Words:
    """A paragraph, a heading or a command."""

    text: str
    kind: str = "text"


@dataclass(frozen=True, slots=True)
class Table:
    """Columns and rows; `marked` is the place of a highlighted row; `folded`, if given, what to click to see it; the
    cells of a `long` one may break anywhere."""

    columns: Sequence[str]
    rows: Sequence[Sequence[str]]
    marked: int = -1
    folded: str = ""
    long: bool = False
    kind: ClassVar[str] = "table"


@dataclass(frozen=True, slots=True)
class Chart:
    html: Markup
    caption: str
    kind: ClassVar[str] = "chart"


@dataclass(frozen=True, slots=True)
class Examples:
    trial: int
    sets: Sequence[SetExamples]
    kind: ClassVar[str] = "examples"


Part = Words | Table | Chart | Examples


@dataclass(frozen=True, slots=True)
class Section:
    id: str
    title: str
    parts: list[Part] = field(default_factory=list)


def chart(figure: "go.StoredValue | None", caption: str) -> list[Part]:
    """The figure as a part of the page, which contains plotly's code once; nothing without a figure."""
    if figure is None:
        return []
    options = {"responsive": True, "displayModeBar": False, "scrollZoom": False}
    html = figure.to_html(full_html=False, include_plotlyjs=False, config=options, auto_play=False)
    return [Chart(Markup(html), caption)]
