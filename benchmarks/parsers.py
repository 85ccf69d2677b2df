"""Processor time that imports and short commands take, in milliseconds: what a parser of arguments costs.

`python benchmarks/parsers.py [--repeats 7]`; click, typer and cyclopts are measured where they are installed.
"""

import argparse
import os
import statistics
import subprocess
import sys

IMPORTS = ("argparse", "click", "typer", "cyclopts", "pydantic", "pydantic_settings")
COMMANDS = (["--version"], ["--help"], ["export", "--help"], ["completion", "bash"])


def processor_time(arguments: list[str]) -> float | None:
    """Milliseconds of a Python process and its start; None where it fails."""
    before = os.times()
    ended = subprocess.run([sys.executable, *arguments], capture_output=True)
    after = os.times()
    spent = after.children_user + after.children_system - before.children_user - before.children_system
    return None if ended.returncode else 1000 * spent


def median(arguments: list[str], repeats: int) -> float | None:
    times = [processor_time(arguments) for _ in range(repeats)]
    known = [each for each in times if each is not None]
    return statistics.median(known) if known else None


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=7)
    repeats = parser.parse_args().repeats
    bare = median(["-c", "pass"], repeats) or 0.0
    print(f"Python alone: {bare:.0f} ms")
    for name in IMPORTS:
        found = median(["-c", f"import {name}"], repeats)
        print(f"import {name}: {'not installed' if found is None else f'{found - bare:.0f} ms'}")
    for command in COMMANDS:
        found = median(["-m", "heretic", *command], repeats)
        print(f"heretic {' '.join(command)}: {'failed' if found is None else f'{found:.0f} ms'}")


if __name__ == "__main__":
    main()
