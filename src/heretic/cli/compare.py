"""heretic compare: answers of the baseline and of trials, side by side."""

import argparse
import sys

from .common import LOADING, add_study, given_study, prepare, words_of
from .parser import Parser


def build_parser() -> Parser:
    parser = Parser("compare", "[STUDY]", "Shows answers of the baseline and of trials of a study side by side.")
    add_study(parser)
    parser.add_argument("--trial", "--trials", dest="trials", metavar="A,B,...", default="", help="trials (knee)")
    parser.add_argument("--prompt", metavar="TEXT", action="append", default=[], help="ask this; may be repeated")
    parser.add_argument(
        *("--max-response-length", "--tokens"),
        dest="tokens",
        metavar="N",
        type=int,
        default=200,
        help="end a response after N tokens (200)",
    )
    parser.add_settings(LOADING)
    return parser


def run(namespace: argparse.Namespace) -> int:
    settings, reporter = prepare(namespace)
    from ..commands.compare import compare
    from ..ui.compare import Sides

    trials, length = words_of(namespace.trials), max(1, namespace.tokens)
    compare(given_study(namespace), trials, namespace.prompt, length, settings, reporter, Sides(sys.stdout))
    return 0
