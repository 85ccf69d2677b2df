"""Verbs about what comes after a search: talking to its candidates, and the hub."""

import sys
from pathlib import Path

from ..config import EngineSettings, HeldoutSettings, ModelSettings, PromptSettings, add_flags, given_flags
from .common import add_study, make_parser, make_reporter, prepare


def chat_verb(given: list[str]) -> int:
    from ..ui.chat import ChatOptions

    parser = make_parser(
        "chat", "[STUDY]", "Talks to a trial of a recorded study. /help shows what can be set meanwhile."
    )
    add_study(parser)
    parser.add_argument(
        "--trial",
        dest="which",
        metavar="N",
        help="trial number, knee (the default), another rule of export --trial, or baseline",
    )
    parser.add_argument("--system-prompt", dest="system", metavar="TEXT", help="system prompt (none: without one)")
    parser.add_argument("--temperature", metavar="X", help="0 (the default) always takes the likeliest token")
    parser.add_argument("--top-p", metavar="X", help="draw from the likeliest tokens whose probabilities sum to X")
    parser.add_argument("--top-k", metavar="N", help="draw from the N likeliest tokens")
    parser.add_argument("--tokens", metavar="N", help="end a response after N tokens (default: 4096)")
    parser.add_argument("--seed", metavar="N", help="draw the same again")
    add_flags(parser, [ModelSettings, EngineSettings])
    namespace = parser.parse_args(given)
    names = ("system", "temperature", "top_p", "top_k", "tokens", "seed")
    options = ChatOptions(**{name: value for name in names if (value := vars(namespace).pop(name)) is not None})
    settings, reporter = prepare(parser, namespace, None)
    from ..commands.chat import chat
    from ..study.find import find_study

    study = find_study(namespace.study, Path(namespace.study_checkpoint_dir))
    chat(study, namespace.which, options, settings, reporter)
    return 0


def compare_verb(given: list[str]) -> int:
    parser = make_parser("compare", "[STUDY]", "Asks the model itself and trials of a recorded study the same.")
    add_study(parser)
    parser.add_argument("--trials", metavar="A,B,...", default="", help="trial numbers (default: the knee)")
    parser.add_argument("--prompt", metavar="TEXT", action="append", default=[], help="ask this; may be repeated")
    parser.add_argument("--tokens", metavar="N", type=int, default=200, help="end a response after N tokens (200)")
    add_flags(parser, [ModelSettings, EngineSettings])
    namespace = parser.parse_args(given)
    settings, reporter = prepare(parser, namespace, None)
    from ..commands.compare import compare
    from ..study.find import find_study
    from ..ui.compare import Sides

    study = find_study(namespace.study, Path(namespace.study_checkpoint_dir))
    compare(
        study,
        _split(namespace.trials),
        namespace.prompt,
        max(1, namespace.tokens),
        settings,
        reporter,
        Sides(sys.stdout),
    )
    return 0


def benchmark_verb(given: list[str]) -> int:
    parser = make_parser(
        "benchmark", "[STUDY]", "Runs lm-evaluation-harness on trials of a recorded study and on the model itself."
    )
    add_study(parser)
    parser.add_argument("--trials", metavar="A,B,...", default="", help="trial numbers (default: the knee)")
    parser.add_argument("--tasks", metavar="A,B,...", default="", help="tasks of the harness, .yaml files, or all")
    parser.add_argument("--limit", metavar="N", type=int, help="at most N documents of each task")
    parser.add_argument("--samples", metavar="DIR", type=Path, help="write each document, prompt and response there")
    parser.add_argument("--json", action="store_true", help="print JSON")
    add_flags(parser, [ModelSettings, EngineSettings])
    namespace = parser.parse_args(given)
    settings, reporter = prepare(parser, namespace, None)
    from ..commands.benchmark import asked_for, benchmark_study, print_benchmarks
    from ..study.find import find_study

    study = find_study(namespace.study, Path(namespace.study_checkpoint_dir))
    benchmarks = asked_for(_split(namespace.tasks), settings.benchmarks)
    done = benchmark_study(
        study, _split(namespace.trials), benchmarks, settings, reporter, namespace.limit, namespace.samples
    )
    print_benchmarks(done, namespace.json, make_reporter(sys.stdout))
    return 0


def doctor_verb(given: list[str]) -> int:
    parser = make_parser("doctor", "[MODEL]", "Shows devices, memory, versions and the hub, and what will fit.")
    parser.add_argument("name", nargs="?", metavar="MODEL", help="say whether this model fits; nothing is downloaded")
    parser.add_argument("--json", action="store_true", help="print JSON")
    namespace = parser.parse_args(given)
    from ..commands.doctor import examine, show

    show(examine(namespace.name), namespace.json, make_reporter(sys.stdout))
    return 0


def ui_verb(given: list[str]) -> int:
    parser = make_parser(
        "ui", "[STUDY]", "Serves a page of a recorded study to this machine: the front, chats side by side, export."
    )
    add_study(parser)
    parser.add_argument("--port", metavar="N", type=int, default=7860, help="port (default: 7860; 0: any that is free)")
    parser.add_argument("--no-browser", action="store_true", help="open no browser")
    add_flags(parser, [ModelSettings, EngineSettings])
    namespace = parser.parse_args(given)
    settings, reporter = prepare(parser, namespace, None)
    from ..study.find import find_study
    from ..web.serve import serve

    study = find_study(namespace.study, Path(namespace.study_checkpoint_dir))
    serve(study.path, settings, namespace.port, not namespace.no_browser, reporter)
    return 0


def report_verb(given: list[str]) -> int:
    parser = make_parser("report", "[STUDY]", "Writes a page about a recorded study, and the same as JSON beside it.")
    add_study(parser)
    parser.add_argument("--page", metavar="FILE", type=Path, help="page to write (default: beside the study)")
    parser.add_argument("--no-model", action="store_true", help="load no model: leave residuals out if none are kept")
    add_flags(parser, [ModelSettings, EngineSettings])
    namespace = parser.parse_args(given)
    settings, reporter = prepare(parser, namespace, None)
    from ..commands.report import load_and_measure, write_report
    from ..study.find import find_study

    study = find_study(namespace.study, Path(namespace.study_checkpoint_dir))
    measure = None if namespace.no_model else lambda: load_and_measure(study, settings, reporter)
    write_report(study, namespace.page, measure, reporter)
    return 0


def reproduce_verb(given: list[str]) -> int:
    parser = make_parser(
        "reproduce", "RECORD", "Runs again what a report records, and says whether the figures agree (0) or not (1)."
    )
    parser.add_argument("record", metavar="RECORD", help="a report's .json, a study's .jsonl, an export, or its hub id")
    parser.add_argument(
        "--search", action="store_true", help="run the search too, not the recorded trials of the front alone"
    )
    parser.add_argument("--json", action="store_true", help="print JSON")
    parser.add_argument(
        "--study-checkpoint-dir", metavar="DIR", help="directory for the new study (default: reproduced)"
    )
    add_flags(parser, [ModelSettings, EngineSettings, PromptSettings, HeldoutSettings])
    namespace = parser.parse_args(given)
    return reproduce_record(namespace.record, namespace.search, given_flags(namespace), namespace.json)


def reproduce_record(record: str, search: bool, flags: dict[str, str | bool], as_json: bool) -> int:
    from ..commands.reproduce import reproduce

    return reproduce(record, search, flags, as_json, make_reporter(sys.stdout), make_reporter(sys.stderr))


def upload_verb(given: list[str]) -> int:
    parser = make_parser("upload", "DIRECTORY REPOSITORY", "Uploads what an export wrote to the Hugging Face hub.")
    parser.add_argument("directory", metavar="DIRECTORY", help="a model or an adapter that heretic wrote")
    parser.add_argument("repository", metavar="REPOSITORY", help="OWNER/NAME, new or existing")
    parser.add_argument("--public", action="store_true", help="make a new repository public (default: private)")
    namespace = parser.parse_args(given)
    from ..commands.upload import upload_directory

    upload_directory(Path(namespace.directory), namespace.repository, namespace.public, make_reporter(sys.stderr))
    return 0


def _split(text: str) -> list[str]:
    return [each.strip() for each in text.split(",") if each.strip()]
