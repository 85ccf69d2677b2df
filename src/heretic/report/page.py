"""A report as one page that needs nothing else: no network, no other file."""

import re
from importlib.resources import files

from ..errors import ConfigError
from ..export.public_names import model_name
from ..installing import install_command
from ..printable import printable
from .data import Report


def check_page() -> None:
    """Raises:
    ConfigError: plotly is not installed.
    """
    try:
        import plotly  # noqa: F401
    except ImportError as error:
        raise ConfigError(
            f"Expected plotly, which draws the report's charts, but {error}. Install it with: "
            f"{install_command('report')}"
        ) from error


def together(text: str) -> str:
    """The text with its intervals kept on one line: no break before a percent sign or after a minus."""
    return re.sub(r"(?<=\d)-(?=\d)", "-\u2060", text.replace(" %", "\u00a0%"))


def _printable(value: object) -> object:
    """A text of others without controls; markup of this program as it is."""
    return printable(value) if type(value) is str else value


def render(report: Report) -> str:
    """The page; responses, names of models and names of files are escaped, so they are never markup."""
    from jinja2 import Environment, StrictUndefined
    from markupsafe import Markup
    from plotly.offline import get_plotlyjs

    from .sections import key_metrics, sections_of, states_text

    template = (files(__package__) / "page.html").read_text(encoding="utf-8")
    environment = Environment(autoescape=True, undefined=StrictUndefined, finalize=_printable)
    environment.filters["together"] = together
    return environment.from_string(template).render(
        title=model_name(report.study),
        report=report,
        states=states_text(report),
        key=key_metrics(report),
        sections=sections_of(report),
        # The library's own code is no text to escape.
        plotly_js=Markup(get_plotlyjs()),
    )
