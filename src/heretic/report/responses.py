"""Responses as lines to read."""

from ..printable import printable

INDENT = "    "


def response_lines(prompt: str, response: str, mark: str, complete: bool) -> str:
    """A marked prompt and its response, the response indented; "..." where generation ended before it did."""
    text = printable(response).strip() or "(nothing)"
    indented = "\n".join(INDENT + line for line in [*text.splitlines(), *([] if complete else ["..."])])
    return f"  [{mark}] {printable(prompt)}\n{indented}"
