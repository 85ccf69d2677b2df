"""The command line: one module a command; each builds its parser, runs its command and renders the result."""

from collections.abc import Sequence


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs one command; returns its exit status."""
    from .entry import main as run

    return run(arguments)
