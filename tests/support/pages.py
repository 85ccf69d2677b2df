"""The pages of documentation, and the command lines in them."""

import re
import shlex
from collections.abc import Iterator
from pathlib import Path

from heretic.cli.entry import VERBS

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / name for name in ("README.md", "CONTRIBUTING.md", "CHANGELOG.md")] + sorted(
    (ROOT / "docs").rglob("*.md")
)
TOLD_TO_USERS = [ROOT / "README.md", ROOT / "docs" / "guide.md"]

FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
INLINE = re.compile(r"`([^`\n]+)`")


def fenced(text: str, language: str) -> list[str]:
    return [body for found, body in FENCE.findall(text) if found == language]


def inline(text: str) -> list[str]:
    """The text in single back-ticks outside fenced blocks."""
    return INLINE.findall(FENCE.sub("", text))


def command_lines(text: str) -> Iterator[list[str]]:
    """The arguments of every `heretic ...` in shell blocks and in back-ticks, variables before it included."""
    lines = [line for body in fenced(text, "sh") for line in body.replace("\\\n", " ").splitlines()]
    for line in [*lines, *(code for code in inline(text) if _is_command(code))]:
        words = shlex.split(line, comments=True)
        variables = [word for word in words if re.match(r"HERETIC_\w+=", word)]
        if words[len(variables) :][:1] == ["heretic"]:
            # What the shell sends elsewhere is no argument.
            yield words[: words.index(">")] if ">" in words else words


def _is_command(code: str) -> bool:
    """Whether it is a command line, not the mere name of a verb."""
    words = code.split()
    return words[:1] == ["heretic"] and len(words) > 1 and "..." not in words and words[1:] not in [[v] for v in VERBS]
