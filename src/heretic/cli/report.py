"""heretic report: a study as a web page and as JSON."""

import argparse

from .common import LOADING, add_study, given_study, prepare, user_path
from .parser import Parser


def build_parser() -> Parser:
    parser = Parser("report", "[STUDY]", "Writes a web page about a study, and the same as JSON.")
    add_study(parser)
    parser.add_argument(
        *("-o", "--output", "--page"),
        dest="page",
        metavar="FILE",
        type=user_path,
        help="page to write (default: next to the study)",
    )
    parser.add_argument("--no-model", action="store_true", help="load no model; leave out residuals that are not kept")
    parser.add_settings(LOADING)
    return parser


def run(namespace: argparse.Namespace) -> int:
    settings, reporter = prepare(namespace)
    from ..commands.report import load_and_measure, write_report

    study = given_study(namespace)
    measure = None if namespace.no_model else lambda: load_and_measure(study, settings, reporter)
    write_report(study, namespace.page, measure, reporter)
    return 0
