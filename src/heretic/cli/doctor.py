"""heretic doctor: what this machine has, and what fits on it."""

import argparse
import sys
from dataclasses import asdict

from .common import add_json, make_reporter, print_json
from .parser import Parser


def build_parser() -> Parser:
    parser = Parser("doctor", "[MODEL]", "Shows devices, memory, versions and the hub, and what fits.")
    parser.add_argument("name", nargs="?", metavar="MODEL", help="say whether this model fits; nothing is downloaded")
    add_json(parser)
    return parser


def run(namespace: argparse.Namespace) -> int:
    from ..commands.doctor import examine

    findings = examine(namespace.name)
    if namespace.json:
        print_json({"version": 1, "findings": [asdict(each) for each in findings]})
        return 0
    reporter = make_reporter(sys.stdout)
    for topic in dict.fromkeys(each.topic for each in findings):
        reporter.table(topic, ("", ""), [(each.name, each.value) for each in findings if each.topic == topic])
    for each in findings:
        if each.problem:
            reporter.warn(f"{each.name}: {each.problem}")
    return 0
