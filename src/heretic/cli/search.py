"""heretic MODEL: searches for the ablation of a model, and exports the chosen trial."""

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from .. import __version__
from ..config import Benchmark, ExportSettings, Settings, given_flags
from ..config.errors import nearest
from ..errors import ConfigError
from .common import MODEL_HELP, may_ask, prepare, quick_imports
from .export_flags import check_export_flags
from .parser import STATUSES, Parser
from .registry import VERBS

if TYPE_CHECKING:
    from ..events import Chooser

MAIN_OPTIONS = {
    "-n, --n-trials N": "trials of the search (8 learned edits, or 200)",
    "--time-budget TIME": "end the run after about 90s, 30m, 1h30m",
    "--method NAME": "auto, learned, kernel or oblique (auto)",
    "--preset NAME": "refusal, disclaimer, over-refusal or hub (refusal)",
    "--bad-prompts FILE": "your prompts that trigger the behaviour",
    "--good-prompts FILE": "your prompts that do not",
    "--system-prompt TEXT": "system prompt, or none for the template's own",
    "--quantization NAME": "bnb_4bit or bnb_8bit: search in less memory",
    "--device-map NAME": "auto, cpu, cuda:0 (auto)",
    "--batch-size N": "prompts per forward pass (measured)",
    "--max-response-length N": "tokens to generate per response (100)",
    "--trial RULE|N": "trial to export: knee, lowest-kl, lowest-refusals",
    "--export FORMAT": "merge (a whole model), adapter, gguf or none",
    "-o, --output DIR": "directory to write to (MODEL-heretic)",
    "--upload OWNER/NAME": "upload the export to Hugging Face",
    "--resume CHOICE": "continue or restart a recorded study",
}
"""The options of --help, with their short texts."""

EXAMPLES = (
    "heretic Qwen/Qwen3-4B-Instruct-2507",
    "heretic path/to/model --time-budget 1h --trial knee -o path/to/edited",
    "heretic chat path/to/model --trial knee",
)


def build_parser() -> Parser:
    parser = Parser(
        "",
        "MODEL",
        "Finds the directions along which a model refuses, and the edit of its weights that removes them with the "
        "least change to other answers.",
        brief=_brief_help(),
    )
    parser.add_argument("name", nargs="?", metavar="MODEL", help=MODEL_HELP)
    parser.add_argument("--version", action="version", version=f"heretic {__version__}", help="show the version")
    parser.add_settings(Settings.model_fields)
    return parser


def _brief_help() -> str:
    commands = "\n".join(f"  {verb:<12}{text}" for verb, text in VERBS.items())
    options = "\n".join(f"  {name:<26}{text}" for name, text in MAIN_OPTIONS.items())
    examples = "\n".join(f"  {line}" for line in EXAMPLES)
    return f"""\
usage: heretic MODEL [options]          search, choose a trial, export it
       heretic COMMAND [options]

Removes refusals from a chat model: finds the directions in its activations
along which it refuses, and the edit of its weights that leaves the fewest
refusals with the least change to other answers. The original is kept.

commands (heretic COMMAND --help):
{commands}

options, with defaults in parentheses (all of them: heretic --help-all):
{options}

examples:
{examples}

{STATUSES}
"""


def run(namespace: argparse.Namespace) -> int:
    check_name(namespace.name)
    settings, reporter = prepare(namespace, model=namespace.name)
    if settings.reproduce is not None:
        with quick_imports():
            from ..commands.reproduce import ReproduceOptions, reproduce
            from .reproduce import print_reproduction

        flags = given_flags(namespace)
        if settings.model is not None:
            flags["model"] = settings.model
        options = ReproduceOptions(False, flags)
        return print_reproduction(reproduce(settings.reproduce, options, settings, reporter), as_json=False)
    if settings.evaluate_model is not None:
        with quick_imports():
            from ..commands.evaluate import evaluate_model
            from .evaluate import print_evaluation

        return print_evaluation(evaluate_model(settings, settings.evaluate_model, settings.model, reporter), False)
    asks = may_ask(settings, settings.resume)
    check_export_flags(given_flags(namespace), settings, settings.wanted, asks)
    with quick_imports():
        from ..commands.run import run as search

    chooser = _chooser(str(settings.model), settings, settings.resume, settings.benchmarks)
    return search(settings, chooser, reporter)


def check_name(name: str | None) -> None:
    """A misspelled command is not taken for a model of the hub.

    Raises:
        ConfigError: `name` is nearly a command and no file.
    """
    if name is None or "/" in name or Path(name).exists():
        return
    meant = nearest(name, VERBS, 0.75)
    if meant is not None:
        raise ConfigError(
            f"{name} is neither a command nor a path here: did you mean heretic {meant}? A model of the hub without "
            f"an owner is named by --model {name}."
        )


def _chooser(model: str, export: ExportSettings, resume: str | None, benchmarks: Sequence[Benchmark]) -> "Chooser":
    """Asks on a terminal, unless a flag has answered."""
    if may_ask(export, resume):
        from ..ui.menus import MenuChooser

        return MenuChooser(model, benchmarks)
    from ..ui.flags import FlagChooser

    return FlagChooser(export, resume, model)
