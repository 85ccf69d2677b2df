"""heretic demo: the search on a small model, from its download to an edited model on disk."""

import argparse

from ..config import Settings, given_flags
from .common import prepare, quick_imports
from .export_flags import check_export_flags
from .parser import Parser

TEXTS = {
    "n_trials": "trials of the search (default: 8 learned edits, or 200)",
    "time_budget": "stop the search in time for the rest to end after 90s, 30m, 1h30m (default: 7m)",
    "output": "directory to write to (default: demo/SmolLM2-135M-Instruct-heretic)",
}
"""Short texts of settings with defaults of the demo's own, which `commands.demo` holds: it takes seconds to import."""


def build_parser() -> Parser:
    parser = Parser("demo", "", "Runs the search on SmolLM2-135M-Instruct, from its download to an edited model.")
    parser.add_settings(Settings.model_fields, ("n_trials", "time_budget", "seed", "output"), texts=TEXTS)
    return parser


def run(namespace: argparse.Namespace) -> int:
    with quick_imports():
        from ..commands.demo import demo_flags, run_demo

    settings, reporter = prepare(namespace, demo_flags())
    check_export_flags(given_flags(namespace), settings, settings.wanted)
    return run_demo(settings, reporter)
