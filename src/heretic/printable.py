"""Text of others made fit to be shown: models, prompts, journals, templates and file names may hold anything."""

import re

CONTROLS = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]")
"""What moves a terminal's cursor or begins an escape code (everything below the space but tab and newline, DEL, and the
C1 set), and what makes text read otherwise than it is stored (bidirectional embeddings, overrides and isolates)."""


def printable(text: str) -> str:
    """The text without control characters."""
    return CONTROLS.sub("", text)
