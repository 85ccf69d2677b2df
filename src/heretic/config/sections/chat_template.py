"""[Chat template] Variables of the chat template in addition to the conversation."""

import re
from datetime import date
from typing import Annotated, Any

from pydantic import AfterValidator, BeforeValidator, ConfigDict, Field

from ..types import Metavar
from .base import Section

_NAME = re.compile(r"[A-Za-z_]\w*")
TAKEN = frozenset({"messages", "tools", "documents", "add_generation_prompt", "continue_final_message"})
"""Variables of a template that the program sets itself."""


def check_arguments(value: dict[str, Any]) -> dict[str, Any]:
    """The arguments.

    Raises:
        ValueError: one of them can't be a template's variable.
    """
    for name in value:
        if _NAME.fullmatch(name) is None or name in TAKEN:
            raise ValueError(f"expected names of variables such as enable_thinking, got {name}")
    return value


def parse_date(value: object) -> object:
    """An ISO date from a date (TOML has such) or a text.

    Raises:
        ValueError: the text is no date.
    """
    if isinstance(value, date):
        return value.isoformat()[:10]
    if not isinstance(value, str) or value == "":
        return None if value == "" else value
    try:
        return date.fromisoformat(value).isoformat()
    except ValueError as error:
        raise ValueError("expected a date such as 2026-01-31") from error


class ChatTemplateSettings(Section):
    """Variables of the chat template in addition to the conversation."""

    model_config = ConfigDict(title="Chat template")

    chat_template_arguments: Annotated[dict[str, Any], AfterValidator(check_arguments), Metavar("TABLE")] = Field(
        default={},
        description="Variables for the chat template, such as { enable_thinking = true } or "
        "{ reasoning_effort = 'low' } (its switch for thinking is found if not given).",
    )
    chat_template_date: Annotated[str | None, BeforeValidator(parse_date), Metavar("YYYY-MM-DD")] = Field(
        default=None,
        description="Date that the chat template prints as today's (by default the day on which the study begins).",
        examples=["2026-01-31"],
    )
