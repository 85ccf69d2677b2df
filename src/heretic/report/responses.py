"""Responses as lines to read."""

import re

INDENT = "    "
# Everything below the space but tab and newline, DEL, and the C1 set: a response must not move the terminal's cursor.
CONTROLS = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]")


def printable(text: str) -> str:
    """The text without control characters."""
    return CONTROLS.sub("", text)


def response_lines(prompt: str, response: str, mark: str, complete: bool) -> str:
    """A marked prompt and its response, the response indented; "..." where generation ended before it did."""
    text = printable(response).strip() or "(nothing)"
    indented = "\n".join(INDENT + line for line in [*text.splitlines(), *([] if complete else ["..."])])
    return f"  [{mark}] {printable(prompt)}\n{indented}"
