"""The start of the answer: the common prefix of all responses, thoughts closed."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from .thoughts import closing_marker, ends_in_thought, find_separator, last_marker

TOKENS = 24
LONG_LOOKS = (200, 800)
"""Tokens in which a thought may end."""
ROUNDS = 3
"""Generations at most: a thought, the text after it, and one more."""

# An apostrophe is part of a word: "can" ends in "can't" as little as in "cannot".
WORD = re.compile(r"[\w'’]")
LAST_WORD = re.compile(r"[\w'’]+\Z")


def common_prefix(texts: Sequence[str]) -> str:
    """The longest common beginning, without a truncated word and without trailing white space."""
    first, last = min(texts), max(texts)
    # These are the first and last texts in lexicographic order, so their common prefix is that of all.
    length = next((i for i, (a, b) in enumerate(zip(first, last, strict=False)) if a != b), min(len(first), len(last)))
    prefix = first[:length]
    # "I'm sorry" and "I am sorry" share a letter, which is not where an answer begins.
    if any(WORD.match(text, length) for text in texts):
        prefix = LAST_WORD.sub("", prefix)
    return prefix.rstrip()


def close_thought(prefix: str, skips: Sequence[tuple[str, str]]) -> str:
    """The prefix with an opened chain of thought closed, so that the next token is the first of the answer."""
    stripped = prefix.lstrip()
    for opener, closed in skips:
        if stripped.startswith(opener):
            # Some models write a line break before their thought, and another before their answer.
            return prefix[: len(prefix) - len(stripped)] + closed
    return prefix


def close_opened(prompt: str, skips: Sequence[tuple[str, str]]) -> str:
    """The marker that closes a chain of thought opened at the prompt's end by the template; "" where it opens none."""
    for opener, closed in skips:
        if prompt.rstrip().endswith(opener) and closed.startswith(opener):
            return closed.removeprefix(opener)
    return ""


def spoken(prefix: str, skips: Sequence[tuple[str, str]]) -> str:
    """The part of a response prefix that a reader sees: the text after a closed chain of thought."""
    for opener, closed in skips:
        for thought in (closed, closed.removeprefix(opener)):
            if prefix.startswith(thought):
                return prefix.removeprefix(thought).lstrip()
    return prefix[last_marker(prefix) :].lstrip() if last_marker(prefix) else prefix


class Sampled(Protocol):
    """A model that can be asked how its responses begin."""

    def prompt(self) -> str:
        """The part of a rendered prompt between the user's text and the response."""

    def responses(self, prefix: str) -> list["Sample"]:
        """Beginnings of responses after `prefix`, to prompts of both kinds: refusals alone all begin alike."""

    def whole_responses(self, prefix: str, n_tokens: int) -> list["Sample"]:
        """Responses of `n_tokens` tokens to fewer prompts."""

    def reads(self, prefix: str, more: str, tokens: Sequence[int]) -> bool:
        """Whether `more`, after the prompt and `prefix`, becomes exactly these `tokens`."""


@dataclass(frozen=True, slots=True)
class Sample:
    """The beginning of one response, special tokens and all; `complete` if it ends there."""

    text: str
    tokens: Sequence[int]
    complete: bool


def find_response_prefix(
    model: Sampled, skips: Sequence[tuple[str, str]], measure_thinking: bool = False, closing: str = ""
) -> str:
    """What all responses begin with, a chain of thought closed; "" where they differ at once.

    A thought is closed whether responses open it or the template does: by `closing`, where the template says so itself,
    by the pairs of `skips`, or as the model closes it. The common beginning after it is found by generating
    again. With `measure_thinking` thoughts stay open, and the response is measured from there on.
    """
    if measure_thinking:
        return _common_beginning(model, "")
    asking = model.prompt()
    prefix = closing or close_opened(asking, skips) or _closing_of_prompt(model, asking)
    if prefix and ends_in_thought(asking + prefix):
        # Some templates open a thought to switch thinking off.
        prefix += own_closing(model, prefix)
    for _ in range(ROUNDS):
        found = _common_beginning(model, prefix)
        closed = close_thought(found, skips)
        if closed == found and found.strip():
            closed = found + own_closing(model, prefix + found)
        prefix += closed
        if closed == found:
            break
    return prefix


def _closing_of_prompt(model: Sampled, asking: str) -> str:
    """The text with which the model closes the thought that the prompt opens: by a word for thinking, or, whatever its
    word, by a marker that responses close before they go on; "" where it opens none."""
    if ends_in_thought(asking):
        return own_closing(model, "")
    marker = closing_marker(asking)
    found = own_closing(model, "") if marker else ""
    return found if marker and marker in found else ""


def own_closing(model: Sampled, prefix: str) -> str:
    """The text with which this model closes its thoughts, from whole responses after `prefix`; "" if there is none."""
    marked = last_marker(prefix) or ends_in_thought(model.prompt() + prefix)
    # A word that all responses begin with is rarely a thought: one generation is enough for it.
    for n_tokens in LONG_LOOKS if marked else LONG_LOOKS[:1]:
        samples = model.whole_responses(prefix, n_tokens)
        separator = find_separator([sample.text for sample in samples])
        if separator or all(sample.complete for sample in samples):
            return separator
    return ""


def _common_beginning(model: Sampled, prefix: str) -> str:
    samples = model.responses(prefix)
    found = common_prefix([sample.text for sample in samples])
    if any(sample.complete and sample.text.strip() == found.strip() for sample in samples):
        # A text that is the whole of some responses is an answer, not the end of a thought.
        return ""
    space = _common_space([sample.text[len(found) :] for sample in samples])
    # White space is kept where it is a token of its own: else the next word would have lost its own, usual, space.
    if space and any(model.reads(prefix, found + space, samples[0].tokens[:n]) for n in range(1, TOKENS)):
        return found + space
    return found


def _common_space(rests: Sequence[str]) -> str:
    spaces = {rest[: len(rest) - len(rest.lstrip())] for rest in rests}
    return spaces.pop() if len(spaces) == 1 and all(rest.strip() for rest in rests) else ""
