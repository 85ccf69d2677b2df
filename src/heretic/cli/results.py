"""heretic results: the Pareto front of a study, without loading a model."""

import argparse
import sys

from .common import add_json, add_study, given_study, make_reporter, print_json
from .parser import Parser


def build_parser() -> Parser:
    parser = Parser("results", "[STUDY]", "Prints the Pareto front of a study. No model is loaded.")
    add_study(parser)
    add_json(parser)
    return parser


def run(namespace: argparse.Namespace) -> int:
    from ..commands.results import results
    from ..report.tables import show_heldout

    found = results(given_study(namespace))
    if namespace.json:
        print_json(found.plain())
        return 0
    reporter = make_reporter(sys.stdout)
    states = ", ".join(f"{count} {state}" for state, count in found.states.items())
    reporter.say(f"{found.study.record.model}: {states or 'no'} trials ({found.study.path})")
    if found.front:
        reporter.front(found.front, found.best, found.study.baseline)
    if found.heldout is not None:
        show_heldout(found.heldout, found.study.baseline, reporter)
    return 0
