"""Where the answer begins: what all responses have in common at their beginning."""

import re
from collections.abc import Sequence

from ..engine.base import Engine, Progress
from ..prompts.prompt import Prompt

TOKENS = 24

# An apostrophe is part of a word: "can" ends in "can't" as little as in "cannot".
WORD = re.compile(r"[\w'’]")
LAST_WORD = re.compile(r"[\w'’]+\Z")


def common_prefix(texts: Sequence[str]) -> str:
    """The longest common beginning, without a word that is cut off, and without white space behind it."""
    first, last = min(texts), max(texts)
    # All texts lie between these two in order, so what these share, all share.
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
            return closed
    return prefix


def find_response_prefix(
    engine: Engine, prompts: Sequence[Prompt], skips: Sequence[tuple[str, str]], progress: Progress
) -> str:
    """What all responses to `prompts` begin with, a chain of thought closed; "" where they differ at once.

    Prompts of both kinds are needed: refusals alone begin alike.
    """
    responses = engine.respond(prompts, [{}], TOKENS, None, progress)[0]
    prefix = common_prefix([response.text for response in responses])
    if any(response.complete and response.text.strip() == prefix.strip() for response in responses):
        # What some responses consist of is an answer, not the way to one.
        return ""
    return close_thought(prefix, skips)
