"""Renders chat templates with the program and compares the prompts with those that the model should read.

    python tools/template_survey.py FOLDER [PART_OF_A_NAME ...]

FOLDER has .jinja files. Each becomes the chat template of a tokenizer with the vocabulary of SmolLM2-135M-Instruct and
the special tokens that the template names. The prompts of a run, of a set with its own system prompt, and of a
conversation are rendered. The response prefix is found on simulated responses, of a model that writes thoughts
as its template prints them. `tools/template_reference.py` has the expected prompts. A template is

    unharmed   everything is as stated
    refused    the program stops and says why, and plain Jinja can't print the user's text once either
    harmed     otherwise, with every difference

The columns are: contents as a text or as parts; a system prompt that is accepted or joined to the user's text; what
closes the thought; whether a date is printed.
"""

import json
import sys
import tempfile
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from template_reference import LEAST, OFF, ON, Mind, Reference, count, differences, mind_of, mixed, statement
from transformers import AutoTokenizer
from transformers.utils import logging

from heretic.config import Settings
from heretic.engine.chat_stream import ResponseStream, Turn
from heretic.engine.protocol import Response
from heretic.errors import UserError
from heretic.model.chat.checks import check_prompts
from heretic.model.chat.format import ChatFormat, chat_format
from heretic.model.loading.checkpoint import Checkpoint
from heretic.model.loading.demo_model import demo_model
from heretic.model.loading.load import load_tokenizer
from heretic.prompts.prompt import Prompt
from heretic.session.response_prefix import response_prefix, settle_thinking

sys.path.insert(0, str(Path(__file__).parents[1]))
from tests.support.recorders import Recorder

DATE = "2026-01-31"
USER = 'How do {{ quokkas }} greet, in "one" <b>line</b>?\nElan: 20 % at most, please.'
LATER = "And numbats?"
SYSTEM = "You are a keeper of animals.\nAnswer in {one} line."
SYSTEMS = (SYSTEM, f"\n{SYSTEM}\n", "Be brief.")
TOPICS = ("kites", "soup", "maps", "moss", "drums", "tiles")
PROMPTS = [Prompt(f"Tell me about {topic}.") for topic in TOPICS]
PROMPTS += [Prompt(f"Insult my {topic}.") for topic in TOPICS]
STARTS = ("Well", "The user", "I see", "Now", "Hm", "So")


@dataclass
class Row:
    """The findings about one template."""

    verdict: str = "unharmed"
    contents: str = "-"
    system: str = "-"
    thought: str = "none"
    dated: str = "no"
    reasons: list[str] = field(default_factory=list)

    def line(self, name: str) -> str:
        columns = f"{name:58} {self.verdict:8}  {self.contents:5}  {self.system:6}  {self.dated:5}  {self.thought}"
        return "\n".join([columns.rstrip(), *(f"    {reason}" for reason in self.reasons)])


class Played:
    """An engine with a simulated model."""

    def __init__(self, chat: ChatFormat, mind: Mind) -> None:
        self.chat = chat
        self.loaded = SimpleNamespace(context_length=None)
        self._mind = mind

    @contextmanager
    def with_prefix(self, prefix: str) -> Iterator[None]:
        before, self.chat = self.chat, self.chat.with_prefix(prefix)
        try:
            yield
        finally:
            self.chat = before

    def text(self, number: int) -> str:
        prompt, topic = PROMPTS[number], TOPICS[number % len(TOPICS)]
        thought = f"{STARTS[number % 6]} asks of {topic}, which {'is fine' if number < 6 else 'is rude'}."
        answer = f"{'Sure' if number < 6 else 'No'}: {topic} {number}."
        return self._mind.continues(self.chat.render(prompt), prompt.text, thought, answer)

    def generate(self, prompts: Sequence[Prompt], edits: Any, most: int, *_: Any) -> list[list[Response]]:
        written = []
        for prompt in prompts:
            tokens = self.chat.encode(self.text(PROMPTS.index(prompt)))
            cut = tuple(tokens[:most])
            written.append(Response(self.chat.decode([cut])[0], len(cut), len(tokens) <= most, tokens=cut))
        return [written]


def survey(source: str, directory: Path) -> Row:
    row = Row()
    reference = Reference(source, DATE)
    plain = reference.in_parts(USER)
    try:
        chat = load(source, reference, directory)
    except UserError as error:
        row.verdict = "refused" if plain is None else "harmed"
        row.reasons.append(str(error))
        return row
    if plain is None:
        row.reasons.append("plain Jinja does not print the user's text once, yet it was not refused")
    else:
        row.contents, row.dated = "parts" if chat.form == "parts" else "text", "dated" * chat.template.prints_date
        try:
            row.reasons += [*texts(chat, reference, row), *conversation(chat, reference)]
            row.reasons += [*thoughts(chat, reference, row), *thinking(chat, reference)]
        except UserError as error:
            row.reasons.append(f"stops: {error}")
    row.verdict = "harmed" if row.reasons else "unharmed"
    return row


def load(source: str, reference: Reference, directory: Path) -> ChatFormat:
    """The chat format of a directory with SmolLM2's tokenizer, this template and its special tokens."""
    (directory / "chat_template.jinja").write_text(source, encoding="utf-8")
    config = json.loads((directory / "plain.json").read_text(encoding="utf-8"))
    config |= {**reference.special, "additional_special_tokens": reference.literals()}
    (directory / "tokenizer_config.json").write_text(json.dumps(config), encoding="utf-8")
    tokenizer = load_tokenizer(Checkpoint("surveyed", directory), Settings())
    return chat_format(tokenizer, None, "surveyed", {}, DATE)


def texts(chat: ChatFormat, reference: Reference, row: Row) -> Iterator[str]:
    """Faults of single prompts: without a system prompt, with the run's, and with a set's own."""
    yield from differences("a prompt", chat.render(Prompt(USER)), reference.asked(USER))
    for system in SYSTEMS:
        stated, folded = statement(reference, USER, system)
        row.system = "folded" if folded else "taken"
        run = ChatFormat(chat.template, system, chat.form)
        own = chat.render(Prompt(USER, system))
        for what, rendered in (("a system prompt", run.render(Prompt(USER))), ("a set's system prompt", own)):
            for name, text in (("user's text", USER), ("system text", system)):
                if count(rendered, text) != 1:
                    yield f"{what}: the {name} is there {count(rendered, text)} times"
            yield from differences(f"{what} ({row.system})", rendered, stated)
        check_prompts(run, [Prompt(USER)], 1, None)


def conversation(chat: ChatFormat, reference: Reference) -> Iterator[str]:
    """Faults of a conversation with two turns, with and without a system prompt."""
    stream = object.__new__(ResponseStream)
    stream._chat = chat
    turns = [Turn("user", USER), Turn("assistant", "They nod."), Turn("user", LATER)]
    plain = [{"role": turn.role, "content": turn.text} for turn in turns]
    remembers = any(count(reference.render(mixed(plain, parts, parts)), "They nod.") == 1 for parts in (False, True))
    for system in (None, SYSTEM):
        text = chat.decode([stream._tokens(turns, system)], special=True)[0]
        said = [turn.text for turn in turns if remembers or turn.role == "user"]
        for each in [*([system] if system else []), *said]:
            if count(text, each) != 1:
                yield f"a conversation{' with a system prompt' * bool(system)} has {each[:20]!r} {count(text, each)} x"


def thoughts(chat: ChatFormat, reference: Reference, row: Row) -> Iterator[str]:
    """Faults of the response prefix: measured inside a thought, or a thought closed otherwise than by the template."""
    reporter, user = Recorder(), PROMPTS[0].text
    mind = mind_of(reference, user)
    chat, closing = settle_thinking(chat, Settings(), reporter)
    engine = Played(chat, mind)
    prefix = response_prefix(engine, closing, Settings(), PROMPTS, reporter)  # type: ignore[arg-type]
    with engine.with_prefix(prefix):
        inside = [engine.text(n) for n in (0, 6) if not engine.text(n).lstrip().startswith(("Sure", "No"))]
        read = engine.chat.render(PROMPTS[0])
    if inside:
        warned = " (warned of)" if reporter.warnings else ""
        yield f"measured in {inside[0][:60]!r} after {prefix[-40:]!r}{warned}"
    usual = reference.asked(user) or ""
    own = [text for text in reference.switched(OFF, user) if text != usual and not mind.opened(text)]
    own += [text for text in reference.switched(LEAST, user) if text != usual and text.startswith(usual)]
    thinks = mind.continues(usual, user, "T", "A") != "A"
    row.thought = repr(prefix) if prefix else str(dict(chat.template.arguments) or "none")
    if own and thinks and read not in own:
        yield f"closed as {read[-60:]!r}, by the template as {' or '.join(repr(text[-60:]) for text in own)}"
    if not thinks and prefix.strip():
        yield f"a response prefix {prefix!r} of a model that does not think"


def thinking(chat: ChatFormat, reference: Reference) -> Iterator[str]:
    """Faults of `measure_thinking` where the template switches thinking off."""
    user = PROMPTS[0].text
    usual = reference.asked(user)
    on = [text for text in reference.switched(ON, user) if text != usual]
    if on and usual in reference.switched(OFF, user):
        rendered = settle_thinking(chat, Settings(measure_thinking=True), Recorder())[0].render(PROMPTS[0])
        if rendered not in on:
            yield f"with measure_thinking: {rendered[-60:]!r}"


def main(folder: Path, parts: Sequence[str]) -> None:
    logging.set_verbosity_error()
    verdicts: Counter[str] = Counter()
    files = sorted(path for path in folder.glob("*.jinja") if not parts or any(part in path.name for part in parts))
    with tempfile.TemporaryDirectory() as temporary:
        directory = Path(temporary)
        demo = demo_model()
        AutoTokenizer.from_pretrained(demo.parent, gguf_file=demo.name).save_pretrained(directory)
        (directory / "config.json").write_text('{"model_type": "llama"}', encoding="utf-8")
        (directory / "tokenizer_config.json").rename(directory / "plain.json")
        for path in files:
            row = survey(path.read_text(encoding="utf-8"), directory)
            verdicts[row.verdict] += 1
            print(row.line(path.stem), flush=True)
    print(f"{len(files)} templates: {', '.join(f'{n} {verdict}' for verdict, n in verdicts.most_common())}")


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2:])
