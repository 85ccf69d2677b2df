"""Text for rich without control characters, markup and emoji codes."""

from rich.style import Style
from rich.text import Text

from ..printable import printable


def shown(text: str, style: str | Style = "") -> Text:
    """The text as rich draws it, letter by letter."""
    return Text(printable(text), style=style)
