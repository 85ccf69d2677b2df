"""The command line: parses, calls the pipeline, renders. Nothing heavy is imported before a verb runs."""

import argparse
import logging
import os
import signal
import sys
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, TextIO

from . import __version__
from .config import ModelSettings, PromptSettings, Settings, add_flags, given_flags, load_settings
from .config.sections import EvaluationSettings, ExportSettings
from .errors import UserError

if TYPE_CHECKING:
    from .ui.events import Chooser, Reporter

VERBS = {
    "demo": "run the main job on SmolLM2-135M-Instruct, which is fetched from the package index",
    "results": "print the Pareto front of a recorded study, without loading a model",
    "export": "write a trial of a recorded study as a model or an adapter",
    "evaluate": "measure any model as a candidate is measured",
    "split": "split a prompt set in three parts, near-duplicates kept together",
    "upload": "upload what an export wrote to the Hugging Face hub",
}
STATUSES = "Exit status: 0 done, 2 something you gave needs a change, 130 stopped by Ctrl+C."
INTERRUPTED = 130


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs one command; returns its exit status."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    _prepare_environment()
    _heed_interrupts()
    verb = given[0] if given and given[0] in VERBS else ""
    try:
        return {
            "": _run,
            "demo": _demo,
            "results": _results,
            "export": _export,
            "evaluate": _evaluate,
            "split": _split,
            "upload": _upload,
        }[verb](given[1:] if verb else given)
    except UserError as error:
        print(f"heretic: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("heretic: stopped.", file=sys.stderr)
        return INTERRUPTED


def _run(given: list[str]) -> int:
    verbs = "\n".join(f"  heretic {verb:<9} {text}" for verb, text in VERBS.items())
    parser = _parser(
        "",
        "MODEL",
        "Finds the direction along which a model refuses, and searches for its ablation.",
        f"Other commands:\n{verbs}",
    )
    parser.add_argument("name", nargs="?", metavar="MODEL", help="a directory, a hub id or a .gguf file")
    parser.add_argument("--config", metavar="FILE", help="configuration file (default: config.toml here, if any)")
    parser.add_argument("--version", action="version", version=f"heretic {__version__}")
    add_flags(parser)
    settings, reporter = _prepare(parser, parser.parse_args(given), "name")
    if settings.evaluate_model is not None:
        return _measure(settings, settings.evaluate_model, settings.model, False, reporter)
    from .pipeline.run import run

    return run(settings, _chooser(settings), reporter)


def _demo(given: list[str]) -> int:
    parser = _parser(
        "demo", "", "Runs the main job on SmolLM2-135M-Instruct, from its download to an edited model on disk."
    )
    parser.add_argument("--config", metavar="FILE", help=argparse.SUPPRESS)
    add_flags(parser)
    namespace = parser.parse_args(given)
    from .pipeline.demo import demo_flags, run_demo

    settings, reporter = _prepare(parser, namespace, None, demo_flags())
    return run_demo(settings, reporter)


def _results(given: list[str]) -> int:
    parser = _parser("results", "[STUDY]", "Prints the Pareto front of a recorded study.")
    _add_study(parser)
    parser.add_argument("--json", action="store_true", help="print JSON")
    namespace = parser.parse_args(given)
    from .pipeline.results import find_study, print_results

    print_results(
        find_study(namespace.study, Path(namespace.study_checkpoint_dir)), namespace.json, _reporter(sys.stdout)
    )
    return 0


def _export(given: list[str]) -> int:
    parser = _parser("export", "[STUDY]", "Writes a trial of a recorded study, and measures what was written.")
    _add_study(parser)
    parser.add_argument("--trial", dest="select", metavar="N", help="trial number, as --select")
    add_flags(parser, [ExportSettings, ModelSettings])
    namespace = parser.parse_args(given)
    settings, reporter = _prepare(parser, namespace, None)
    from .pipeline.later import export_trial
    from .pipeline.results import find_study

    return export_trial(find_study(namespace.study, Path(namespace.study_checkpoint_dir)), settings, reporter)


def _evaluate(given: list[str]) -> int:
    parser = _parser("evaluate", "MODEL", "Measures a model: refusals, and KL divergence from a base.")
    parser.add_argument("name", metavar="MODEL", help="a directory, a hub id or a .gguf file")
    parser.add_argument("--against", metavar="BASE", help="the model to measure the KL divergence from")
    parser.add_argument("--json", action="store_true", help="print JSON")
    add_flags(parser, [ModelSettings, PromptSettings, EvaluationSettings])
    namespace = parser.parse_args(given)
    settings, reporter = _prepare(parser, namespace, "name")
    return _measure(settings, namespace.name, namespace.against, namespace.json, reporter)


def _upload(given: list[str]) -> int:
    parser = _parser("upload", "DIRECTORY REPOSITORY", "Uploads what an export wrote to the Hugging Face hub.")
    parser.add_argument("directory", metavar="DIRECTORY", help="a model or an adapter that heretic wrote")
    parser.add_argument("repository", metavar="REPOSITORY", help="OWNER/NAME, new or existing")
    parser.add_argument("--public", action="store_true", help="make a new repository public (default: private)")
    namespace = parser.parse_args(given)
    from .pipeline.uploading import upload_directory

    upload_directory(Path(namespace.directory), namespace.repository, namespace.public, _reporter(sys.stderr))
    return 0


def _split(given: list[str]) -> int:
    parser = _parser("split", "DATA", "Splits a prompt set for directions, search and report; none sees another's.")
    parser.add_argument("data", metavar="DATA", help="a file, a directory or a hub id")
    parser.add_argument("--column", default="text", metavar="NAME", help="column that holds the prompts (text)")
    parser.add_argument("--split", metavar="SPLIT", help="split of a data set, as in train[:1000]")
    parser.add_argument("--sizes", metavar="N,N,N", help="prompts for directions, search, report (default: all, 2:1:1)")
    parser.add_argument("--kind", metavar="NAME", help="column whose values are dealt evenly, with --sizes")
    parser.add_argument("--seed", type=int, default=0, metavar="N", help="seed of the dealing (0)")
    parser.add_argument("--output", type=Path, default=Path(), metavar="DIR", help="directory to write to (this one)")
    asked = parser.parse_args(given)
    from .config import PromptSource
    from .pipeline.splitting import parse_sizes, split_prompts

    source = PromptSource(dataset=asked.data, column=asked.column, split=asked.split)
    sizes = parse_sizes(asked.sizes) if asked.sizes else None
    split_prompts(source, sizes, asked.kind, asked.output, asked.seed, _reporter(sys.stderr))
    return 0


def _measure(settings: Settings, model: str, base: str | None, as_json: bool, reporter: "Reporter") -> int:
    from .pipeline.evaluate import evaluate_model

    print(evaluate_model(settings, model, base, as_json, reporter))
    return 0


def _parser(verb: str, argument: str, description: str, epilog: str = "") -> argparse.ArgumentParser:
    return argparse.ArgumentParser(
        prog=f"heretic {verb}".strip(),
        usage=" ".join(["heretic", *([verb] if verb else []), *([argument] if argument else []), "[options]"]),
        description=description,
        epilog=f"{epilog}\n\n{STATUSES}".strip(),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )


def _add_study(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("study", nargs="?", metavar="STUDY", help="a study's .jsonl file, or the model it was run on")
    parser.add_argument("--study-checkpoint-dir", default="checkpoints", metavar="DIR", help="directory of the studies")


def _prepare(
    parser: argparse.ArgumentParser,
    namespace: argparse.Namespace,
    model: str | None,
    first: dict[str, str] | None = None,
) -> "tuple[Settings, Reporter]":
    """Settings from all their sources, and a reporter that has told their warnings; `first` are flags that others win
    over, `model` names the positional argument that stands for --model."""
    flags: dict[str, str | bool] = {**(first or {}), **given_flags(namespace)}
    if model is not None and getattr(namespace, model) is not None:
        if "model" in flags:
            parser.error("name the model once: as MODEL or with --model")
        flags["model"] = getattr(namespace, model)
    config = getattr(namespace, "config", None)
    settings, warnings = load_settings(flags, Path(config) if config else None)
    reporter = _reporter(sys.stderr)
    for warning in warnings:
        reporter.warn(warning)
    return settings, reporter


def _reporter(stream: TextIO) -> "Reporter":
    """Bars on a terminal; plain lines elsewhere, with NO_COLOR, or on a terminal that can't move its cursor."""
    moves = stream.isatty() and "NO_COLOR" not in os.environ and os.environ.get("TERM") != "dumb"
    if moves:
        from rich.console import Console

        from .ui.live import LiveReporter

        return LiveReporter(Console(file=stream))
    from .ui.plain import PlainReporter

    return PlainReporter(stream)


def _chooser(settings: Settings) -> "Chooser":
    """A person is asked on a terminal, unless a flag has answered."""
    answered = any(
        value is not None
        for value in (settings.select, settings.export, settings.output, settings.resume, settings.upload)
    )
    if sys.stdin.isatty() and sys.stderr.isatty() and not answered:
        from .ui.menus import MenuChooser

        return MenuChooser(str(settings.model))
    from .ui.flags import FlagChooser

    return FlagChooser(settings, settings.resume, str(settings.model))


def _heed_interrupts() -> None:
    """A shell that is not interactive has its background jobs ignore SIGINT; who sends it to this one means it."""
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN and threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGINT, signal.default_int_handler)


def _prepare_environment() -> None:
    """What libraries read when they are imported; whatever the user has set stays."""
    # Threads that spin while they wait lose a time slice to every other busy process: on a machine that does anything
    # else, a search on a CPU then takes twice as long (docs/decisions.md).
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    # Our own steps tell of progress; two kinds of bars in one place help nobody.
    os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")
    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    os.environ.setdefault("TQDM_DISABLE", "1")
    # It complains at import of kernels that only a search in 4 bits on a CPU would be faster with.
    logging.getLogger("bitsandbytes").setLevel(logging.ERROR)
