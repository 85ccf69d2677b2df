"""heretic report: a study as a web page and as JSON."""

import argparse
from typing import TYPE_CHECKING

from .common import LOADING, add_study, given_study, prepare, quick_imports, user_path
from .parser import Parser

if TYPE_CHECKING:
    from ..report.residuals import ResidualMetrics


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
    parser.add_argument(
        "--no-model", action="store_true", help="load no model; leave residuals out, unless an earlier report kept them"
    )
    parser.add_settings(LOADING)
    return parser


def run(namespace: argparse.Namespace) -> int:
    settings, reporter = prepare(namespace)
    with quick_imports():
        from ..commands.report import load_and_measure, write_report
        from ..session.recorded import open_session, recorded_prompts

    study = given_study(namespace)

    def measure() -> "ResidualMetrics":
        session = open_session(study, settings, reporter, recorded_prompts(study.record))
        return load_and_measure(session, study.record)

    write_report(study, namespace.page, None if namespace.no_model else measure, reporter)
    return 0
