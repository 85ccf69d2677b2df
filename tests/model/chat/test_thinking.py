"""The switch of a template for thinking, whatever its name and its values."""

from typing import Any

import pytest

from heretic.model.chat.format import ChatFormat, chat_format
from heretic.model.chat.thinking import Thinking, thinking_off, thinking_on
from tests.support.planted import planted_tokenizer

ROLES = "{% for m in messages %}{{ '<' + m['role'] + '> ' + m['content'] + ' ' }}{% endfor %}<assistant>"
EFFORT = (
    "{% if reasoning_effort | default('none') == 'none' %}</think>{% elif reasoning_effort == 'high' %}!{% endif %}"
)


def chat_of(asking: str, head: str = "") -> ChatFormat:
    tokenizer = planted_tokenizer()
    tokenizer.chat_template = head + ROLES + asking
    return chat_format(tokenizer, None, "tiny", {}, "2026-01-31")


def choice(condition: str) -> str:
    """A template's end that closes the thought under this condition, and opens it otherwise."""
    return "{% if " + condition + " %}</think>{% else %}<think>{% endif %}"


CONDITIONS = {
    "enable_thinking": ("enable_thinking is defined and not enable_thinking", False),
    "use_reasoning": ("use_reasoning is defined and not use_reasoning", False),
    "thoughts_enabled": ("thoughts_enabled is defined and not thoughts_enabled", False),
    "disable_thinking": ("disable_thinking", True),
    "no_think": ("no_think", True),
    "thinking_mode": ("thinking_mode == 'disabled'", "disabled"),
    "cot_option": ('cot_option == "off"', "off"),
    "reasoning_effort": ("reasoning_effort in ['no_think']", "no_think"),
    "thinking_budget": ("thinking_budget == 0", 0),
}


@pytest.mark.parametrize("name", CONDITIONS)
def test_switches_are_found_by_what_they_change(name: str) -> None:
    condition, value = CONDITIONS[name]
    assert thinking_off(chat_of(choice(condition))) == Thinking({name: value})


def test_a_value_is_one_that_the_template_names() -> None:
    # It prints any value, and closes the thought at its own alone.
    head = "{{ thinking_mode | default('adaptive') }} 'off' "
    chat = chat_of("{% if thinking_mode == 'disabled' %}</think>{% endif %}", head)
    assert thinking_off(chat).arguments == {"thinking_mode": "disabled"}


def test_a_low_effort_is_still_an_effort() -> None:
    head = "{{ reasoning_effort | default('high') }} {% if reasoning_effort == 'low' %}Briefly.{% endif %} "
    assert thinking_off(chat_of("", head)) == Thinking()


@pytest.mark.parametrize(
    ("asking", "arguments"),
    [
        ("{% if not enable_thinking %}</think>{% endif %}", {"enable_thinking": True}),
        ("{% if thinking %}<think>{% endif %}", {"thinking": True}),
        (EFFORT, {"reasoning_effort": "high"}),
        ("{% if no_think is not defined or no_think %}</think>{% endif %}", {"no_think": False}),
        ("<think>", {}),
        (choice("enable_thinking is defined and not enable_thinking"), {}),
    ],
)
def test_thinking_is_switched_on_where_it_is_off(asking: str, arguments: dict[str, Any]) -> None:
    assert thinking_on(chat_of(asking)) == Thinking(arguments)
