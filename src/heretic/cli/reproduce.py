"""heretic reproduce: repeats a recorded study and compares the metrics."""

import argparse
import sys
from typing import TYPE_CHECKING

from ..config import ChatTemplateSettings, HeldoutSettings, ModelSettings, PromptSettings, given_flags
from .common import ENGINE, make_reporter, prepare, print_json, quick_imports
from .parser import Parser

if TYPE_CHECKING:
    from ..events import Reporter
    from ..report.reproduction import Reproduction

AGREE, DISAGREE, INTERRUPTED = 0, 1, 130
COLUMNS = ("", "Metric", "Recorded", "Agrees within", "Now", "Agrees")

SECTIONS = (ModelSettings, PromptSettings, ChatTemplateSettings, HeldoutSettings)
KEYS = [key for section in SECTIONS for key in section.model_fields] + list(ENGINE)


def build_parser() -> Parser:
    parser = Parser(
        "reproduce", "RECORD", "Repeats what a record says, and compares the metrics: status 0 if they agree, else 1."
    )
    parser.add_argument("record", metavar="RECORD", help="a report's .json, a study's .jsonl, an export, or its hub id")
    parser.add_argument(
        "--search", action="store_true", help="repeat the whole search, not only the trials of the front"
    )
    parser.add_argument(
        "--study-checkpoint-dir", metavar="DIR", help="directory for the new study (default: reproduced)"
    )
    parser.add_argument("--json", action="store_true", help="print JSON")
    parser.add_settings(KEYS, ("model", "trust_remote_code"), config=False)
    return parser


def run(namespace: argparse.Namespace) -> int:
    settings, reporter = prepare(namespace)
    with quick_imports():
        from ..commands.reproduce import ReproduceOptions, reproduce

    options = ReproduceOptions(namespace.search, given_flags(namespace))
    return print_reproduction(reproduce(namespace.record, options, settings, reporter), namespace.json)


def print_reproduction(reproduction: "Reproduction | None", as_json: bool) -> int:
    """Prints the comparison, which is None after Ctrl+C; returns the exit status."""
    if reproduction is None:
        return INTERRUPTED
    show_reproduction(reproduction, as_json, make_reporter(sys.stdout))
    return AGREE if reproduction.agrees else DISAGREE


def show_reproduction(reproduction: "Reproduction", as_json: bool, out: "Reporter") -> None:
    """The table of metrics and the differences in versions and hardware, or JSON."""
    from ..commands.reproduce import first_difference
    from ..report.reproduction import rows_of, summary

    if as_json:
        verdicts = [{**each.model_dump(), "verdict": each.verdict} for each in reproduction.metrics]
        print_json({**reproduction.model_dump(), "metrics": verdicts, "agrees": reproduction.agrees})
        return
    out.table("Recorded and now", COLUMNS, rows_of(reproduction.metrics))
    if reproduction.differences:
        rows = [(each.name, each.recorded, each.now) for each in reproduction.differences]
        out.table("What differs", ("", "Recorded", "Now"), rows)
    else:
        out.say("Versions and hardware are those of the record.")
    first = first_difference(reproduction) if reproduction.whole else None
    if first is not None:
        out.say(
            f"The search goes another way from {first} on: a metric that rounding has moved makes the sampler draw "
            "others from there. Without --search, the recorded trials themselves are measured again."
        )
    for line in summary(reproduction):
        out.say(line)
