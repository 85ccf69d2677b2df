"""The choice among several templates, their variables, and the errors when they fail."""

from datetime import datetime
from typing import Any

import pytest
import transformers.utils.chat_template_utils as transformers_templates

from heretic.errors import ModelError
from heretic.model.chat.template import ChatTemplate, find_chat_template, fixed_date
from tests.support.planted import TEMPLATE, planted_tokenizer

ASKED = [{"role": "user", "content": "word1"}]
DATED = "{{ strftime_now('%d %b %Y') }} {% for m in messages %}{{ m.content }}{% endfor %}"


def template_of(template: Any, **arguments: Any) -> ChatTemplate:
    tokenizer = planted_tokenizer()
    tokenizer.chat_template = template
    return find_chat_template(tokenizer, "tiny", **arguments)


def test_a_tokenizer_without_a_template_is_refused() -> None:
    with pytest.raises(ModelError, match="no chat template"):
        template_of(None)


@pytest.mark.parametrize(
    "named", [{"tool_use": "tools", "default": TEMPLATE}, {"rag": "documents", "chatml": TEMPLATE, "tool_use": "tools"}]
)
def test_of_named_templates_the_one_for_conversations_is_taken(named: dict[str, str]) -> None:
    assert template_of(named).render(ASKED) == template_of(TEMPLATE).render(ASKED)


@pytest.mark.parametrize("named", [{"tool_use": TEMPLATE, "rag": TEMPLATE}, {"chatml": TEMPLATE, "alpaca": TEMPLATE}])
def test_named_templates_of_which_none_is_the_one_are_listed(named: dict[str, str]) -> None:
    with pytest.raises(ModelError, match=", ".join(named)):
        template_of(named)


@pytest.mark.parametrize(
    "template",
    [
        "{{ raise_exception('no system role') }}",
        "{{ messages[0].content + ['x'] }}",
        "{{ messages[7].content.text }}",
        "{{ 1 / 0 }}",
        "{{ functions | length }}{{ undefined_thing.field }}",
        "{% if %}",
        "{{ messages[0].content | no_such_filter }}",
    ],
)
def test_whatever_a_template_raises_is_one_paragraph(template: str) -> None:
    with pytest.raises(ModelError) as caught:
        template_of(template).render(ASKED)
    assert "chat template of tiny fails" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_arguments_reach_the_template() -> None:
    template = "{{ messages[0].content }}{% if thinking %} deep{% endif %}{{ effort }}"
    assert template_of(template, arguments={"thinking": True}).render(ASKED) == "word1 deep"
    assert template_of(template, arguments={"thinking": True}).with_arguments(effort=3).render(ASKED) == "word1 deep3"


def test_a_date_stays_that_of_the_beginning(monkeypatch: pytest.MonkeyPatch) -> None:
    day = [3]

    class Clock(datetime):
        @classmethod
        def now(cls, tz: Any = None) -> datetime:
            return datetime(2031, 2, day[0], tzinfo=tz)

    monkeypatch.setattr(transformers_templates, "datetime", Clock)
    dated = template_of(DATED)
    before = dated.render(ASKED)
    day[0] = 4
    assert dated.render(ASKED) == before
    assert template_of(DATED, date="2026-01-31").render(ASKED) == "31 Jan 2026 word1"
    assert transformers_templates.datetime is Clock, "the library's own clock is back"


def test_the_clock_comes_back_after_a_failure() -> None:
    before = transformers_templates.datetime
    with pytest.raises(ZeroDivisionError), fixed_date("2026-01-31"):
        raise ZeroDivisionError
    assert transformers_templates.datetime is before


def test_a_template_that_prints_no_date_has_none() -> None:
    assert template_of(DATED).prints_date
    assert not template_of(TEMPLATE).prints_date
    assert not template_of("{% if false %}{{ strftime_now('%Y') }}{% endif %}{{ messages[0].content }}").prints_date


def test_a_response_is_gone_on_with() -> None:
    messages = [*ASKED, {"role": "assistant", "content": "sure"}]
    assert template_of(TEMPLATE).render(messages, continued=True).endswith("<assistant> sure")
