"""Makes untrusted text safe to print: models, prompts, journals, templates and file names may hold anything."""

import re

CONTROLS = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069\ufff9-\ufffb]")
"""What moves a terminal's cursor or begins an escape code (everything below the space but tab and newline, DEL, and the
C1 set), and what makes text read otherwise than it is stored (line separators, bidirectional embeddings, overrides and
isolates, annotations)."""


def printable(text: str) -> str:
    """The text without control characters."""
    return CONTROLS.sub("", text)


def one_line(text: str) -> str:
    """The printable text in one line: names and messages of others may hold newlines, and could fake lines of ours."""
    return " ".join(printable(text).splitlines())
