"""The prompt that a chat template renders by plain Jinja, without the program, and a simulation of its model."""

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from jinja2 import TemplateError, meta, nodes
from jinja2.ext import Extension, loopcontrols
from jinja2.parser import Parser
from jinja2.sandbox import ImmutableSandboxedEnvironment

Messages = Sequence[Mapping[str, Any]]
ANSWER, THOUGHT = "Ansverbit.", "Thoghtbit"
"""Texts that occur in no template."""
OFF: Mapping[str, tuple[Any, ...]] = {
    "enable_thinking": (False,),
    "thinking": (False,),
    "reasoning": (False,),
    "thinking_budget": (0,),
    "thinking_mode": ("disabled", "off"),
    "thinking_option": ("off",),
    "reasoning_effort": ("none", "no_think"),
}
"""The switches that publishers of models document for thinking off."""
LEAST: Mapping[str, tuple[Any, ...]] = {"reasoning_effort": ("minimal", "low")}
"""Values of an effort with which some templates close the thought."""
ON: Mapping[str, tuple[Any, ...]] = {
    "enable_thinking": (True,),
    "thinking": (True,),
    "reasoning": (True,),
    "thinking_mode": ("on", "enabled"),
    "thinking_option": ("on",),
    "reasoning_effort": ("high",),
}
THOUGHTS = {
    "<judge>": ("<judge>\n", "\n</judge>\n\n<think_off>\n"),
    "</think>": ("<think>\n", "\n</think>\n\n"),
    "</seed:think>": ("<seed:think>\n", "\n</seed:think>"),
    "[/THINK]": ("[THINK]", "[/THINK]"),
    "<|END_THINKING|>": ("<|START_THINKING|>", "<|END_THINKING|>"),
    "<|channel>thought": ("<|channel>thought\n", "\n<channel|>"),
    "<|channel|>analysis": (
        "<|channel|>analysis<|message|>",
        "<|end|><|start|>assistant<|channel|>final<|message|>",
    ),
    "[BEGIN FINAL RESPONSE]": ("Here are my reasoning steps:\n", "\n[BEGIN FINAL RESPONSE]\n"),
    "<Thought>": ("<Thought>\n", "\n</Thought>\n<Output>\n"),
}
"""Texts around a thought of models whose template prints no earlier thoughts, by a text of the template."""
LITERAL = re.compile(
    r"<[|｜][^<>{}\n]{1,40}[|｜]>|</?[a-z_:]{1,20}>|\[/?[A-Z_]{2,20}\]|<[a-z_]{1,20}\|>|<\|[a-z_]{1,20}>"
)


class _Generation(Extension):
    """`{% generation %}`, which marks a model's own tokens for training, as a plain block."""

    tags = frozenset({"generation"})

    def parse(self, parser: Parser) -> nodes.Node:
        line = next(parser.stream).lineno
        return nodes.Scope(parser.parse_statements(("name:endgeneration",), drop_needle=True), lineno=line)


@dataclass(frozen=True)
class Reference:
    """A template rendered by plain Jinja on a given day (ISO)."""

    source: str
    date: str
    special: Mapping[str, str] = field(default_factory=lambda: {"bos_token": "<s>", "eos_token": "</s>"})

    def render(self, messages: Messages, ask: bool = True, **variables: Any) -> str | None:
        """The conversation as text; None where the template fails."""
        values = {"messages": messages, "add_generation_prompt": ask, "tools": None, "documents": None}
        try:
            return _environment(self.date).from_string(self.source).render(values | dict(self.special) | variables)
        # A template is foreign code and may raise anything.
        except Exception:  # noqa: BLE001
            return None

    def asked(self, user: str, **variables: Any) -> str | None:
        """The prompt of one user's text, in the form that the template reads."""
        return self.render(mixed([{"role": "user", "content": user}], False, bool(self.in_parts(user))), **variables)

    def in_parts(self, user: str) -> bool | None:
        """Whether the template reads a user's text as a list of parts; None where neither form prints it once."""
        for parts in (False, True):
            if count(self.render(mixed([{"role": "user", "content": user}], False, parts)), user) == 1:
                return parts
        return None

    def switched(self, table: Mapping[str, Sequence[Any]], user: str) -> list[str]:
        """The prompts under the switches of a table that the template has, one at a time."""
        names = meta.find_undeclared_variables(_environment(self.date).parse(self.source)) & set(table)
        pairs = ((name, value) for name in sorted(names) for value in table[name] if self._knows(name, value))
        return [text for name, value in pairs if (text := self.asked(user, **{name: value})) is not None]

    def literals(self) -> list[str]:
        """Texts in the template that look like special tokens."""
        return sorted(set(LITERAL.findall(self.source)))

    def _knows(self, name: str, value: Any) -> bool:
        return not isinstance(value, str) or re.search(rf"(['\"]){value}\1", self.source) is not None


def in_parts(message: Mapping[str, Any]) -> dict[str, Any]:
    return {**message, "content": [{"type": "text", "text": message["content"]}]}


def mixed(messages: Messages, system_in_parts: bool, others_in_parts: bool) -> list[dict[str, Any]]:
    chosen = [system_in_parts if message["role"] == "system" else others_in_parts for message in messages]
    return [in_parts(message) if parts else dict(message) for message, parts in zip(messages, chosen, strict=True)]


def count(rendered: str | None, text: str) -> int:
    """How often a rendering has this text, however it folds white space; 0 where a list was printed as it is."""
    if rendered is None or re.search(r"""['"]type['"]\s*:\s*['"]text['"]""", rendered):
        return 0
    return " ".join(rendered.split()).count(" ".join(text.split()))


def statement(reference: Reference, user: str, system: str) -> tuple[str | None, bool]:
    """The prompt of a system prompt and a user's text, and whether the first has to go before the second."""
    parts = bool(reference.in_parts(user))
    pair = [{"role": "system", "content": system}, {"role": "user", "content": user}]
    for system_in_parts in (False, True):
        text = reference.render(mixed(pair, system_in_parts, parts))
        if count(text, system) == 1 and count(text, user) == 1:
            return text, False
    return reference.asked(f"{system}\n\n{user}"), True


@dataclass(frozen=True)
class Mind:
    """Responses of the simulated model of a template: a thought between `opener` and `closer`, or the answer alone.

    It does not think after the prompts `silent`, in which the user's text is left out.
    """

    opener: str = ""
    closer: str = ""
    silent: frozenset[str] = frozenset()

    def opened(self, prompt: str) -> bool:
        """Whether a prompt ends in an open thought, with which no switch keeps the model from thinking."""
        return bool(self.opener.strip()) and prompt.rstrip().endswith(self.opener.strip())

    def continues(self, prompt: str, user: str, thought: str, answer: str) -> str:
        """Its response to this prompt."""
        mark, end = self.opener.strip(), self.closer.strip()
        if not end or prompt.replace(user, "") in self.silent:
            return answer
        tail = prompt.rpartition(user)[2]
        opened, closed = tail.rfind(mark), tail.rfind(end)
        if closed >= 0 and closed >= opened:
            return answer
        if opened >= 0:
            return thought + self.closer + answer
        # A prompt may end in a part of the opener.
        part = max((n for n in range(1, len(self.opener)) if tail.endswith(self.opener[:n])), default=0)
        return self.opener[part:] + thought + self.closer + answer


def mind_of(reference: Reference, user: str) -> Mind:
    """The model that fits the template: with thoughts as it prints them in earlier turns, where it does."""
    usual = reference.asked(user) or ""
    off = reference.switched(OFF, user)
    opener, closer = _printed_thought(reference, user, usual)
    silent = {text for text in off if text != usual}
    silent |= {text for text in reference.switched(LEAST, user) if text != usual and text.startswith(usual)}
    if usual in off and any(text != usual for text in reference.switched(ON, user)):
        # Thinking is off by default.
        silent.add(usual)
    mind = Mind(opener, closer)
    still = frozenset(text.replace(user, "") for text in silent if not mind.opened(text))
    return Mind(opener, closer, still) if closer else Mind()


def _printed_thought(reference: Reference, user: str, usual: str) -> tuple[str, str]:
    asked = mixed([{"role": "user", "content": user}], False, bool(reference.in_parts(user)))
    said = {"role": "assistant", "content": ANSWER}
    said |= dict.fromkeys(("reasoning_content", "reasoning", "thinking"), THOUGHT)
    for answer in (said, in_parts(said)):
        text = reference.render([*asked, answer], ask=False)
        if text is None or THOUGHT not in text or ANSWER not in text.partition(THOUGHT)[2]:
            continue
        before, _, behind = text.partition(THOUGHT)
        tail = before[-60:]
        opener = tail[_beginning_of_marker(tail) :] if not before.startswith(usual) else before[len(usual) :]
        if opener.strip() or before.startswith(usual):
            return opener or usual[_beginning_of_marker(usual) :], behind.partition(ANSWER)[0]
    return next((pair for mark, pair in THOUGHTS.items() if mark in reference.source), ("", ""))


def _beginning_of_marker(text: str) -> int:
    """Where the last run of markers of a text begins, with names between them; the last line where there is none."""
    matches = list(LITERAL.finditer(text))
    if not matches:
        return text.rfind("\n", 0, -1) + 1
    begin = matches.pop().start()
    while matches and re.fullmatch(r"\w{0,12}", text[matches[-1].end() : begin]):
        begin = matches.pop().start()
    return begin


def _environment(date: str) -> ImmutableSandboxedEnvironment:
    environment = ImmutableSandboxedEnvironment(
        trim_blocks=True, lstrip_blocks=True, extensions=[_Generation, loopcontrols]
    )

    def fail(message: str) -> str:
        raise TemplateError(message)

    def as_json(value: Any, indent: int | None = None, **_: Any) -> str:
        return json.dumps(value, ensure_ascii=False, indent=indent)

    environment.filters["tojson"] = as_json
    environment.globals["raise_exception"] = fail
    environment.globals["strftime_now"] = datetime.fromisoformat(date).strftime
    return environment


def differences(what: str, rendered: str, stated: str | None) -> Iterator[str]:
    """Where a rendering first differs from the expected one."""
    if stated is None:
        yield f"{what}: plain Jinja fails"
    elif rendered != stated:
        shorter = min(len(rendered), len(stated))
        at = next((n for n in range(shorter) if rendered[n] != stated[n]), shorter)
        yield f"{what}: {rendered[at : at + 40]!r} in place of {stated[at : at + 40]!r}"
