"""A plain question on a terminal."""

from collections.abc import Sequence

from ..events import Reporter
from ..printable import printable


def yes_no(question: str) -> bool:
    """Whether the answer is yes; Enter, Escape and Ctrl+C are no."""
    import questionary

    from .menus import ask

    return bool(ask(questionary.confirm(printable(question), default=False)))


def confirmed(reporter: Reporter, asks: bool, text: str, details: Sequence[str], question: str) -> bool:
    """Shows the text and asks the `question`; False unless a person at a terminal says yes."""
    if not asks:
        return False
    reporter.warn(text)
    for line in details:
        reporter.say(f"  {line}")
    return yes_no(question)
