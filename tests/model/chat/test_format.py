"""What a model reads: the user's text and the system prompt, exactly once, or a refusal."""

import pytest

from heretic.errors import ModelError
from heretic.model.chat.format import ChatFormat, chat_format, contains
from heretic.prompts.prompt import Prompt
from tests.support.planted import TEMPLATE, planted_tokenizer

ASKED = Prompt("word3 word4")
RAISES = "{% if m.role == 'system' %}{{ raise_exception('no system role') }}{% endif %}"
PARTS = "{% for part in m.content %}{% if part.type == 'text' %}{{ part.text + ' ' }}{% endif %}{% endfor %}"
TEMPLATES = {
    "plain": TEMPLATE,
    "trims": TEMPLATE.replace("m['content']", "(m['content'] | trim)"),
    "raises": TEMPLATE.replace("%}{{", "%}" + RAISES + "{{", 1),
    "drops": TEMPLATE.replace("in messages", "in messages if m.role != 'system'"),
    "parts": "{% for m in messages %}{{ '<' + m.role + '> ' }}" + PARTS + "{% endfor %}{{ '<assistant>' }}",
    "parts for the user": (
        "{% for m in messages %}{{ '<' + m.role + '> ' }}{% if m.role == 'user' %}" + PARTS + "{% else %}"
        "{{ m.content + ' ' }}{% endif %}{% endfor %}{{ '<assistant>' }}"
    ),
    "parts for the system": (
        "{% for m in messages %}{{ '<' + m.role + '> ' }}{% if m.role == 'system' %}{{ m.content[0].text + ' ' }}"
        "{% else %}{{ m.content + ' ' }}{% endif %}{% endfor %}{{ '<assistant>' }}"
    ),
    "parts, raising for the system": (
        "{% for m in messages %}" + RAISES + "{{ '<' + m.role + '> ' }}" + PARTS + "{% endfor %}{{ '<assistant>' }}"
    ),
}
FOLDING = ["raises", "drops", "parts, raising for the system"]


def format_of(template: str, system: str | None = None) -> ChatFormat:
    tokenizer = planted_tokenizer()
    tokenizer.chat_template = template
    return chat_format(tokenizer, system, "tiny")


def test_no_rows_are_no_texts() -> None:
    chat = chat_format(planted_tokenizer(), None, "tiny")
    assert chat.decode([]) == []
    assert len(chat.decode([[5]])) == 1


@pytest.mark.parametrize("name", TEMPLATES)
@pytest.mark.parametrize("system", ["word1 word2", "\nword1 word2\n"])
def test_both_texts_are_read_once(name: str, system: str) -> None:
    whole = " ".join(format_of(TEMPLATES[name], system).render(ASKED).split())
    wanted = "<user> word1 word2 word3 word4" if name in FOLDING else "<system> word1 word2 <user> word3 word4"
    assert whole == f"{wanted} <assistant>"


@pytest.mark.parametrize("name", TEMPLATES)
def test_the_system_prompt_of_one_prompt_is_tried_by_itself(name: str) -> None:
    chat = format_of(TEMPLATES[name])
    assert not chat.folds_system
    own = chat.render(Prompt(ASKED.text, "word1 word2"))
    assert own == format_of(TEMPLATES[name], "word1 word2").render(ASKED)
    assert chat.folds("word1 word2") == (name in FOLDING)
    assert "word1" not in chat.render(ASKED)


@pytest.mark.parametrize("name", TEMPLATES)
def test_a_conversation_goes_on(name: str) -> None:
    chat = format_of(TEMPLATES[name], "word1")
    turns = [*chat.messages(ASKED), {"role": "assistant", "content": "sure"}, {"role": "user", "content": "word5"}]
    words = chat.render_messages(turns).split()
    assert [word for word in words if not word.startswith("<")] == ["word1", "word3", "word4", "sure", "word5"]


@pytest.mark.parametrize(
    "template",
    [
        "{% for m in messages %}{{ m['content'] + ['x'] }}{% endfor %}",
        "{{ messages[0].content }}{{ messages[0].content }}",
        "{{ '<user> nothing <assistant>' }}",
    ],
)
def test_a_template_that_loses_the_users_text_is_refused(template: str) -> None:
    with pytest.raises(ModelError, match="chat template"):
        format_of(template)


def test_a_template_may_trim_and_fold_white_space() -> None:
    assert contains("<user> one two", "one\n\n two ")
    assert not contains("<user> one", "one two")
