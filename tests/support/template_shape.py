"""What a chat template must give, and the parts that templates of several families share.

`S` and `U` stand for the system prompt and the user's text. The prompts are stated by hand: nothing here renders.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class Shape:
    """A template and what the model must read: `both` with a system prompt, `alone` without one.

    `closing` is the response prefix that closes the thought, `arguments` what the template is given.
    """

    template: str
    both: str
    alone: str
    closing: str = ""
    arguments: Mapping[str, Any] = field(default_factory=dict)
    note: str = "as it is"


FOLDED = "the system prompt goes before the user's text"
PARTS = "contents are given as parts"
CLOSED = "the rest of the template's prompt without thinking closes the thought"
SWITCHED = "the template is given its switch"
OFF = "the template closes the thought itself"
DATED = "the date is that of the study's beginning"


def turns(turn: str, asking: str = "", before: str = "", role: str = "{{ m.role }}") -> str:
    """A template that prints each message as `turn`, `ROLE` and `TEXT` in it replaced."""
    text = turn.replace("ROLE", role).replace("TEXT", "{{ m.content }}")
    loop = "{% for m in messages %}" + text + "{% endfor %}"
    return before + loop + ("{% if add_generation_prompt %}" + asking + "{% endif %}" if asking else "")


CHATML = "<|im_start|>ROLE\nTEXT<|im_end|>\n"
START = "<|im_start|>assistant\n"
CHAT_BOTH = f"<|im_start|>system\nS<|im_end|>\n<|im_start|>user\nU<|im_end|>\n{START}"
CHAT_ALONE = f"<|im_start|>user\nU<|im_end|>\n{START}"
NO_ROLE = "{% if messages[0].role == 'system' %}{{ raise_exception('System role not supported') }}{% endif %}"
IS_OFF = "enable_thinking is defined and enable_thinking is false"
NO_SYSTEM_ROLE = "{% if m.role == 'system' %}{{ raise_exception('Only user and assistant roles') }}{% endif %}"
EACH_PART = "{% for p in m.content %}{% if p.type == 'text' %}{{ p.text }}{% endif %}{% endfor %}"


def chatml(asking: str = "", before: str = "") -> str:
    return turns(CHATML, START + asking, before)


def switched(name: str, off: str, on: str = "", default_on: bool = True) -> str:
    """The text after the assistant's role with thinking off and on."""
    condition = f"{name} is defined and not {name}" if default_on else f"not ({name} is defined and {name})"
    return "{% if " + condition + " %}" + off + "{% else %}" + on + "{% endif %}"


def plain(template: str, both: str, alone: str, **more: Any) -> Shape:
    return Shape(template, both, alone, **more)


def like_chatml(behind: str = "", closing: str = "", **more: Any) -> Shape:
    """A shape of ChatML with this text after the assistant's role."""
    template = more.pop("template")
    return Shape(template, CHAT_BOTH + behind + closing, CHAT_ALONE + behind + closing, closing, **more)


ROLES_OF_LLAMA3 = "<|start_header_id|>ROLE<|end_header_id|>\n\n{{ m.content | trim }}<|eot_id|>"
LLAMA3_ASK = "<|start_header_id|>assistant<|end_header_id|>\n\n"
LLAMA3_USER = f"<|start_header_id|>user<|end_header_id|>\n\nU<|eot_id|>{LLAMA3_ASK}"
GEMMA = "<start_of_turn>{{ 'model' if m.role == 'assistant' else m.role }}\n{{ m.content | trim }}<end_of_turn>\n"
GEMMA_ASK = "<start_of_turn>model\n"
HARMONY = "<|start|>ROLE<|message|>TEXT<|end|>"
