"""heretic benchmark: lm-evaluation-harness on the baseline and on trials."""

import argparse
import json
import sys

from .common import (
    ACTORS,
    LOADING,
    add_json,
    add_study,
    given_study,
    make_reporter,
    positive,
    prepare,
    quick_imports,
    user_path,
    words_of,
)
from .parser import Parser


def build_parser() -> Parser:
    parser = Parser("benchmark", "[STUDY]", "Runs lm-evaluation-harness on the baseline and on trials of a study.")
    add_study(parser)
    parser.add_argument(
        *("--trial", "--trials"),
        dest="trials",
        metavar="A,B,...",
        default="",
        help="numbers or rules of trials (default: knee)",
    )
    parser.add_argument(
        "--tasks",
        metavar="A,B,...",
        default="",
        help="tasks of the harness, .yaml files, or all (default: two small ones that need no network)",
    )
    parser.add_argument("--limit", metavar="N", type=positive, help="at most N documents of each task")
    parser.add_argument("--samples", metavar="DIR", type=user_path, help="write documents, prompts and responses there")
    add_json(parser)
    parser.add_settings((*LOADING, *ACTORS), ("batch_size", "ray"))
    return parser


def run(namespace: argparse.Namespace) -> int:
    settings, reporter = prepare(namespace)
    with quick_imports():
        from ..commands.benchmark import (
            BenchmarkOptions,
            asked_for,
            check_harness,
            check_tasks,
            opened_study,
            run_benchmarks,
        )
        from ..report.tables import show_benchmarks
        from ..session.recorded import find_trials

    check_harness()
    study = given_study(namespace)
    trials = find_trials(study, words_of(namespace.trials))
    tasks = asked_for(words_of(namespace.tasks), settings.benchmarks)
    check_tasks(tasks)
    options = BenchmarkOptions(namespace.limit, namespace.samples)
    with opened_study(study, settings, reporter) as loaded:
        results = run_benchmarks(loaded, trials, tasks, options)
    if namespace.json:
        print(json.dumps([each.model_dump(mode="json") for each in results], indent=1))
    else:
        show_benchmarks(results, make_reporter(sys.stdout))
    return 0
