"""A chat template's switch for thinking, found by rendering."""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from ...errors import ModelError
from ...prompts.prompt import Prompt
from .format import PROBE, ChatFormat

_WORD = r"(?:thinking|think|reasoning|reason|thoughts?|cot)"
NAME = re.compile(
    rf"\b(?:(?:enable|use|is|with|do)_)?{_WORD}(?:_(?:enabled|on|budget|mode|option|effort|level|strength))?\b"
)
"""A variable that switches thinking on: enable_thinking, thinking, reasoning_effort, thinking_budget."""
INVERSE = re.compile(rf"\b(?:disable|skip|no)_?{_WORD}\b")
"""One that switches it off: disable_thinking, no_think."""
USUAL = ("enable_thinking", "thinking", "reasoning", "think")
"""Those that are tried first, in this order."""
NUMBER = re.compile(r"_budget\Z")
TEXT = re.compile(r"_(?:mode|option|effort|level|strength)\Z")
STATEMENT = re.compile(r"\{[%{].*?[%}]\}", re.DOTALL)
NONE = ("none", "no_think", "nothink", "off", "disabled", "disable", "chat")
"""Values that mean no thinking, wherever the template prints them."""
LITTLE = ("minimal", "low")
"""Values that mean no thinking only if the template then closes the thought: a model may still think at low effort."""
FULL = ("on", "enabled", "enable", "think", "thinking", "high")


@dataclass(frozen=True, slots=True)
class Thinking:
    """How thinking is switched on or off: by `arguments` of the template, or by `closing`, text after the prompt that
    closes the thought. Both are empty if nothing has to be done."""

    arguments: Mapping[str, Any] = field(default_factory=dict)
    closing: str = ""


def thinking_off(chat: ChatFormat) -> Thinking:
    """How this template switches thinking off; empty where it does not think or has no switch.

    Where the rendering without thinking starts with the usual one, the remainder is the closed thought. Where it
    differs earlier (another system message, say), the template needs the switch.
    """
    usual = _render(chat, {})
    passed: dict[str, Any] = {}
    for name, value in _off_values(chat):
        text = _render(chat, {name: value})
        if usual is None or text is None or text == usual:
            continue
        if text.startswith(usual):
            return Thinking(closing=text[len(usual) :])
        if not passed and name not in chat.template.arguments and value not in LITTLE:
            passed = {name: value}
    return Thinking(passed)


def thinking_on(chat: ChatFormat) -> Thinking:
    """How this template switches thinking on; empty where it thinks by default or has no switch."""
    usual = _render(chat, {})
    off = {name for name, value in _off_values(chat) if _render(chat, {name: value}) == usual}
    for name, value in _on_values(chat):
        text = _render(chat, {name: value})
        if name in off and name not in chat.template.arguments and text not in (None, usual):
            return Thinking({name: value})
    return Thinking()


def _off_values(chat: ChatFormat) -> Iterator[tuple[str, Any]]:
    for name in _names(chat):
        if NUMBER.search(name):
            yield name, 0
        elif TEXT.search(name):
            yield from ((name, value) for value in (*NONE, *LITTLE) if _knows(chat, name, value))
        else:
            yield name, INVERSE.fullmatch(name) is not None


def _on_values(chat: ChatFormat) -> Iterator[tuple[str, Any]]:
    for name in _names(chat):
        if TEXT.search(name):
            yield from ((name, value) for value in FULL if _knows(chat, name, value))
        elif not NUMBER.search(name):
            yield name, INVERSE.fullmatch(name) is None


def _names(chat: ChatFormat) -> list[str]:
    """Names in the template's text that may be its switches: the usual ones, those that are true or false, others."""
    found = dict.fromkeys(match[0] for pattern in (NAME, INVERSE) for match in pattern.finditer(chat.template.source))
    order = {name: place for place, name in enumerate(USUAL)}
    return sorted(found, key=lambda name: (bool(NUMBER.search(name) or TEXT.search(name)), order.get(name, len(order))))


def _knows(chat: ChatFormat, name: str, value: str) -> bool:
    """Whether the template names this value in a statement about the variable: others have no known meaning."""
    statements = (statement for statement in STATEMENT.findall(chat.template.source) if name in statement)
    return any(f"'{value}'" in statement or f'"{value}"' in statement for statement in statements)


def _render(chat: ChatFormat, arguments: Mapping[str, Any]) -> str | None:
    """The prompt under these arguments; None where the template fails, or loses the user's text."""
    try:
        text = chat.with_arguments(**arguments).with_prefix("").render(Prompt(PROBE))
    except ModelError:
        return None
    return text if text.count(PROBE) == 1 else None
