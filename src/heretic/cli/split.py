"""heretic split: a prompt set in disjoint parts."""

import argparse
import sys
from pathlib import Path

from .common import make_reporter, user_path
from .parser import Parser


def build_parser() -> Parser:
    parser = Parser(
        "split",
        "DATA",
        "Splits a prompt set into parts for directions, search and held-out evaluation. Near-duplicates stay together.",
    )
    parser.add_argument("data", metavar="DATA", help="a file, a directory or a hub id")
    parser.add_argument("--column", default="text", metavar="NAME", help="column of the prompts (default: text)")
    parser.add_argument("--split", metavar="SPLIT", help="split of a data set, as in train[:1000]")
    parser.add_argument(
        "--sizes", metavar="N,N,N", help="prompts for directions, search, report (default: all, as 2:1:1)"
    )
    parser.add_argument("--kind", metavar="NAME", help="column whose values are spread evenly, with --sizes")
    parser.add_argument("--seed", type=int, default=0, metavar="N", help="seed of the split (default: 0)")
    parser.add_argument(
        "-o",
        "--output",
        type=user_path,
        default=Path(),
        metavar="DIR",
        help="directory to write to (default: the working directory)",
    )
    return parser


def run(namespace: argparse.Namespace) -> int:
    from ..commands.split import parse_sizes, split_prompts
    from ..config import PromptSource

    source = PromptSource(dataset=namespace.data, column=namespace.column, split=namespace.split)
    sizes = parse_sizes(namespace.sizes) if namespace.sizes else None
    reporter = make_reporter(sys.stderr)
    done = split_prompts(source, sizes, namespace.kind, namespace.output, namespace.seed, reporter)
    counts = ", ".join(f"{count} in {path}" for path, count in done.files.items())
    reporter.say(
        f"{done.prompts} prompts, {done.groups} groups of near-duplicates (largest {done.largest_group}): {counts}"
    )
    return 0
