"""Chat template of a model, with the arguments and the date that it is rendered with."""

import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import datetime
from threading import RLock
from typing import Any

from ...errors import ModelError

Message = Mapping[str, Any]
SPECIAL_PURPOSE = re.compile(r"tool|rag|function|judge|fim", re.IGNORECASE)
"""Names of templates that are not for conversations."""

_CLOCK = RLock()


@dataclass(frozen=True, slots=True)
class ChatTemplate:
    """A tokenizer's chat template.

    `text` is passed to the tokenizer where it holds several templates, else None. `arguments` are the variables that
    the template gets in addition to the messages. `date` (ISO) is what it prints as today's.
    """

    tokenizer: Any
    model_name: str
    text: str | None = None
    arguments: Mapping[str, Any] = field(default_factory=dict)
    date: str | None = None

    @property
    def source(self) -> str:
        """The template's text; "" where the tokenizer renders without one."""
        template = self.text if self.text is not None else getattr(self.tokenizer, "chat_template", None)
        return template if isinstance(template, str) else ""

    @property
    def prints_date(self) -> bool:
        """Whether the rendering of a conversation depends on the date."""
        if "strftime" not in self.source:
            return False
        conversation = [{"role": "user", "content": "Hello"}]
        days = []
        for day in ("2001-02-03", "2014-11-25"):
            try:
                days.append(replace(self, date=day).render(conversation))
            except ModelError:
                days.append("")
        return days[0] != days[1]

    def with_arguments(self, **arguments: Any) -> "ChatTemplate":
        return replace(self, arguments={**self.arguments, **arguments})

    def render(self, messages: Sequence[Message], continued: bool = False) -> str:
        """The conversation as text, up to the start of the next response, or open at the end of the last message
        (`continued`).

        Raises:
            ModelError: the template fails.
        """
        chosen: dict[str, Any] = {} if self.text is None else {"chat_template": self.text}
        end = {"continue_final_message": True} if continued else {"add_generation_prompt": True}
        try:
            with fixed_date(self.date):
                text = self.tokenizer.apply_chat_template(
                    list(messages), tokenize=False, **end, **chosen, **self.arguments
                )
        # A template is third-party code: it may raise anything.
        except Exception as error:
            roles = ", ".join(str(message.get("role")) for message in messages)
            raise ModelError(
                f"The chat template of {self.model_name} fails on a conversation of {roles}: {_told(error)}. Mend the "
                "template (chat_template.jinja next to the weights takes precedence), or pass what it asks "
                "for with chat_template_arguments."
            ) from error
        return str(text)


def find_chat_template(
    tokenizer: Any, model_name: str, arguments: Mapping[str, Any] | None = None, date: str | None = None
) -> ChatTemplate:
    """The tokenizer's template for conversations.

    Raises:
        ModelError: it has none.
    """
    found = getattr(tokenizer, "chat_template", None)
    if not found:
        raise ModelError(
            f"Expected a chat model, but {model_name} has no chat template. Use its instruction-tuned version, or put "
            "the template next to the weights as chat_template.jinja."
        )
    text = _choose(found, model_name) if isinstance(found, Mapping) else None
    return ChatTemplate(tokenizer, model_name, text, dict(arguments or {}), date or datetime.now().date().isoformat())


def _choose(named: Mapping[str, str], model_name: str) -> str:
    chatting = [name for name in named if not SPECIAL_PURPOSE.search(name)]
    name = "default" if "default" in named else chatting[0] if len(chatting) == 1 else None
    if name is None:
        raise ModelError(
            f"Expected one chat template in {model_name}, found {', '.join(named)} and none called default. Put the "
            "one for conversations next to the weights as chat_template.jinja."
        )
    return named[name]


@contextmanager
def fixed_date(date: str | None) -> Iterator[None]:
    """Makes chat templates print `date` as today's inside the `with` block."""
    if date is None:
        yield
        return
    from transformers.utils import chat_template_utils

    moment = datetime.fromisoformat(date)

    class Calendar(datetime):
        @classmethod
        def now(cls, tz: Any = None) -> Any:
            return moment if tz is None else moment.replace(tzinfo=tz)

    # Compiled templates are cached for the process, and transformers takes no clock as an argument: all templates read
    # the date from this module.
    with _CLOCK:
        before = chat_template_utils.datetime
        chat_template_utils.datetime = Calendar  # type: ignore[misc]
        try:
            yield
        finally:
            chat_template_utils.datetime = before  # type: ignore[misc]


def _told(error: Exception) -> str:
    first = next(iter(str(error).strip().splitlines()), "")
    return (f"{type(error).__name__}: {first}" if first else type(error).__name__)[:300].rstrip(".")
