"""What all verbs share: parsers of one style, settings from all their sources, and who tells of the work."""

import argparse
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO

from ..config import Settings, given_flags, load_settings

if TYPE_CHECKING:
    from ..events import Reporter

STATUSES = "Exit status: 0 done, 2 something you gave needs a change, 130 stopped by Ctrl+C."
"""`heretic reproduce` has one more: 1, the figures do not agree."""


class Parser(argparse.ArgumentParser):
    """A parser that can be had from its verb before it parses, with all its arguments."""

    class Met(Exception):
        """Carries a parser to who asked for it."""

    asked_for = False

    @classmethod
    def of(cls, verb: Callable[[], Any]) -> "Parser":
        """The parser that `verb` parses with; nothing else of the verb runs."""
        cls.asked_for = True
        try:
            verb()
        except Parser.Met as met:
            parser: Parser = met.args[0]
            return parser
        finally:
            cls.asked_for = False
        raise AssertionError("the verb has no parser")

    def parse_args(self, *arguments: Any, **keywords: Any) -> Any:
        if Parser.asked_for:
            raise Parser.Met(self)
        return super().parse_args(*arguments, **keywords)


def make_parser(verb: str, argument: str, description: str, epilog: str = "") -> Parser:
    return Parser(
        prog=f"heretic {verb}".strip(),
        usage=" ".join(["heretic", *([verb] if verb else []), *([argument] if argument else []), "[options]"]),
        description=description,
        epilog=f"{epilog}\n\n{STATUSES}".strip(),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )


def add_study(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("study", nargs="?", metavar="STUDY", help="a study's .jsonl file, or the model it was run on")
    parser.add_argument("--study-checkpoint-dir", default="checkpoints", metavar="DIR", help="directory of the studies")


def prepare(
    parser: argparse.ArgumentParser,
    namespace: argparse.Namespace,
    model: str | None,
    first: dict[str, str] | None = None,
) -> "tuple[Settings, Reporter]":
    """Settings from all their sources, and a reporter that has told their warnings; `first` are flags that others win
    over, `model` names the positional argument that stands for --model."""
    flags: dict[str, str | bool] = {**(first or {}), **given_flags(namespace)}
    if model is not None and getattr(namespace, model) is not None:
        if "model" in flags:
            parser.error("name the model once: as MODEL or with --model")
        flags["model"] = getattr(namespace, model)
    config = getattr(namespace, "config", None)
    settings, warnings = load_settings(flags, Path(config) if config else None)
    reporter = make_reporter(sys.stderr, may_ask(settings))
    for warning in warnings:
        reporter.warn(warning)
    return settings, reporter


def may_ask(settings: Settings) -> bool:
    """Whether a person is there to be asked, and no flag has said that nobody is."""
    answered = any(
        value is not None
        for value in (settings.trial, settings.export, settings.output, settings.resume, settings.upload)
    )
    return sys.stdin.isatty() and sys.stderr.isatty() and not answered


def make_reporter(stream: TextIO, asks: bool = False) -> "Reporter":
    """Bars on a terminal; plain lines elsewhere, with NO_COLOR, or on a terminal that can't move its cursor."""
    moves = stream.isatty() and "NO_COLOR" not in os.environ and os.environ.get("TERM") != "dumb"
    if moves:
        from rich.console import Console

        from ..ui.live import LiveReporter

        return LiveReporter(Console(file=stream), asks)
    from ..ui.plain import PlainReporter

    return PlainReporter(stream, asks=asks)
