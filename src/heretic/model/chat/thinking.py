"""Switch of a chat template for thinking, found by rendering with it."""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from ...errors import ModelError
from ...prompts.prompt import Prompt
from .format import PROBE, ChatFormat

SWITCHES = ("enable_thinking", "thinking", "reasoning", "think", "enable_reasoning", "is_thinking", "thinking_enabled")
"""Variables that are true or false."""
AMOUNTS: Mapping[str, tuple[Any, ...]] = {
    "thinking_budget": (0,),
    "thinking_mode": ("off", "no_think", "disabled", "chat"),
    "reasoning_effort": ("none", "no_think", "off", "minimal", "low"),
    "thinking_effort": ("none", "no_think", "off", "minimal", "low"),
}
"""Variables of several values, with those that may mean none."""
JUDGED_BY_HEAD = ("thinking_budget", "thinking_mode")
"""Those whose value for none means just that, wherever the template prints it: a low effort is still an effort."""


@dataclass(frozen=True, slots=True)
class Thinking:
    """How thinking is switched on or off: by `arguments` of the template, or by `closing`, text after the prompt that
    closes the thought. Both are empty if nothing has to be done."""

    arguments: Mapping[str, Any] = field(default_factory=dict)
    closing: str = ""


def thinking_off(chat: ChatFormat) -> Thinking:
    """How this template switches thinking off; nothing where it does not think or has no switch.

    Where the rendering without thinking begins with the usual one, the rest is the closed thought. Where it differs
    before (another system message, say), the template has to be given the switch.
    """
    usual = _render(chat, {})
    passed: dict[str, Any] = {}
    for name, value in _off_values(chat):
        text = _render(chat, {name: value})
        if usual is None or text is None or text == usual:
            continue
        if text.startswith(usual):
            return Thinking(closing=text[len(usual) :])
        if not passed and name not in chat.template.arguments and (name in SWITCHES or name in JUDGED_BY_HEAD):
            passed = {name: value}
    return Thinking(passed)


def thinking_on(chat: ChatFormat) -> Thinking:
    """How this template switches thinking on; nothing where it thinks by itself or has no switch."""
    usual = _render(chat, {})
    for name in _named(chat, SWITCHES):
        if name in chat.template.arguments:
            continue
        on, off = _render(chat, {name: True}), _render(chat, {name: False})
        if on is not None and on not in (usual, off) and off == usual:
            return Thinking({name: True})
    return Thinking()


def _off_values(chat: ChatFormat) -> Iterator[tuple[str, Any]]:
    for name in _named(chat, SWITCHES):
        yield name, False
    for name in _named(chat, AMOUNTS):
        for value in AMOUNTS[name]:
            yield name, value


def _named(chat: ChatFormat, names: Any) -> list[str]:
    """Those of the names that the template's text has."""
    return [name for name in names if re.search(rf"\b{name}\b", chat.template.source)]


def _render(chat: ChatFormat, arguments: Mapping[str, Any]) -> str | None:
    """The prompt under these arguments; None where the template fails, or loses the user's text."""
    try:
        text = chat.with_arguments(**arguments).with_prefix("").render(Prompt(PROBE))
    except ModelError:
        return None
    return text if text.count(PROBE) == 1 else None
