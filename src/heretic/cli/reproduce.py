"""heretic reproduce: repeats a recorded study and compares the figures."""

import argparse
import sys

from ..config import ChatTemplateSettings, HeldoutSettings, ModelSettings, PromptSettings, given_flags
from .common import ENGINE, make_reporter
from .parser import Parser

SECTIONS = (ModelSettings, PromptSettings, ChatTemplateSettings, HeldoutSettings)
KEYS = [key for section in SECTIONS for key in section.model_fields] + list(ENGINE)


def build_parser() -> Parser:
    parser = Parser(
        "reproduce", "RECORD", "Repeats what a record says, and compares the figures: status 0 if they agree, else 1."
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
    return reproduce_record(namespace.record, namespace.search, given_flags(namespace), namespace.json)


def reproduce_record(record: str, search: bool, flags: dict[str, str | bool], as_json: bool) -> int:
    from ..commands.reproduce import reproduce

    return reproduce(record, search, flags, as_json, make_reporter(sys.stdout), make_reporter(sys.stderr))
