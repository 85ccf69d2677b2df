"""heretic export: writes a trial of a recorded study."""

import argparse
from typing import get_args

from ..config import ExportName, ExportSettings, given_flags
from .common import LOADING, add_study, given_study, prepare, quick_imports
from .export_flags import check_export_flags
from .parser import Parser

SHOWN = (
    *("trial", "export", "output", "gguf_type", "imatrix", "base_model", "upload", "upload_public"),
    "full_precision_model",
)
TEXTS = {
    "trial": "trial to write: its number, or knee, lowest-kl or lowest-refusals (default: knee)",
    "export": "the whole model, a LoRA adapter or a .gguf file (default: merge)",
    "output": "directory to write to (default: MODEL-heretic)",
}
"""Short texts of settings whose defaults are the search's questions elsewhere."""


def build_parser() -> Parser:
    parser = Parser("export", "[STUDY]", "Writes a trial of a study, and measures what was written.")
    add_study(parser)
    actions = parser.add_settings((*ExportSettings.model_fields, *LOADING), SHOWN, texts=TEXTS)
    actions["trial"].metavar, actions["export"].metavar = "RULE|N", "|".join(get_args(ExportName))
    return parser


def run(namespace: argparse.Namespace) -> int:
    settings, reporter = prepare(namespace)
    check_export_flags(given_flags(namespace), settings, settings.export or "merge")
    with quick_imports():
        from ..commands.export import export_trial

    return export_trial(given_study(namespace), settings, reporter)
