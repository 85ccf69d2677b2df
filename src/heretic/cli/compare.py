"""heretic compare: answers of the baseline and of trials, side by side."""

import argparse
import sys

from .common import LOADING, add_study, given_study, positive, prepare, quick_imports, words_of
from .parser import Parser


def build_parser() -> Parser:
    parser = Parser("compare", "[STUDY]", "Shows answers of the baseline and of trials of a study side by side.")
    add_study(parser)
    parser.add_argument(
        "--trial", "--trials", dest="trials", metavar="A,B,...", default="", help="trials (default: knee)"
    )
    parser.add_argument("--prompt", metavar="TEXT", action="append", default=[], help="ask this; may be repeated")
    parser.add_argument(
        *("--max-response-length", "--tokens"),
        dest="tokens",
        metavar="N",
        type=positive,
        default=200,
        help="end a response after N tokens (default: 200)",
    )
    parser.add_settings(LOADING)
    return parser


def run(namespace: argparse.Namespace) -> int:
    settings, reporter = prepare(namespace)
    with quick_imports():
        from ..commands.compare import compare
        from ..session.recorded import find_trials, load_study
        from ..ui.compare import comparison_screen

    study = given_study(namespace)
    trials = find_trials(study, words_of(namespace.trials))
    screen = comparison_screen(sys.stdout, namespace.prompt)
    compare(load_study(study, settings, reporter), trials, namespace.tokens, screen)
    return 0
