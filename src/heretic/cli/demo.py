"""heretic demo: the search on a small model, from its download to an edited model on disk."""

import argparse

from ..config import Settings, given_flags
from .common import prepare
from .export_flags import check_export_flags
from .parser import Parser


def build_parser() -> Parser:
    parser = Parser("demo", "", "Runs the search on SmolLM2-135M-Instruct, from its download to an edited model.")
    parser.add_settings(Settings.model_fields, shown=("n_trials", "time_budget", "seed", "output"))
    return parser


def run(namespace: argparse.Namespace) -> int:
    from ..commands.demo import demo_flags, run_demo

    settings, reporter = prepare(namespace, demo_flags())
    check_export_flags(given_flags(namespace), settings, settings.wanted)
    return run_demo(settings, reporter)
