"""Benchmarks of trials and of the baseline, on one loaded model."""

import importlib.util
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from ..benchmark.schema import BenchmarkResults, TaskResult
from ..config import Benchmark, Settings
from ..config.defaults import PACKAGED_BENCHMARKS
from ..engine.local import LocalEngine
from ..errors import BenchmarkError
from ..events import Reporter
from ..installing import install_command
from ..search.cluster.engine import RemoteEngine
from ..search.cluster.open import recorded_engine
from ..session.context import LoadedStudy
from ..session.directions import read_tensors
from ..session.prompts import NO_PROMPTS
from ..session.recorded import model_stats, open_session
from ..session.sidecars import read_benchmarks, write_sidecar
from ..study.journal import benchmarks_path, tensors_path
from ..study.reader import RecordedStudy
from ..study.schema import TrialRecord

if TYPE_CHECKING:
    from ..benchmark.comparison import TaskRun
    from ..benchmark.harness import BenchmarkModel

MAX_ROWS = 16
"""Rows in a batch: the harness keeps the logits of all positions of a batch in memory."""


@dataclass(frozen=True, slots=True)
class BenchmarkOptions:
    """`limit`: maximum number of documents per task. `samples`: directory for the harness's record of each document."""

    limit: int | None = None
    samples: Path | None = None


def run_benchmarks(
    loaded: LoadedStudy,
    trials: Sequence[TrialRecord],
    benchmarks: Sequence[Benchmark],
    options: BenchmarkOptions = BenchmarkOptions(),
) -> list[TaskResult]:
    """Results of each benchmark on the baseline and on each trial, written before the next benchmark begins.

    Raises:
        BenchmarkError: the harness is not installed, a benchmark is unknown, or its data can't be fetched.
    """
    check_harness()
    from ..benchmark.comparison import compare_runs

    check_tasks(benchmarks)
    lm = _model(loaded)
    done = []
    for benchmark in benchmarks:
        baseline = _measure(lm, benchmark, None, loaded, options)
        for trial in trials:
            candidate = _measure(lm, benchmark, trial, loaded, options)
            names = (benchmark.task, benchmark.name, benchmark.description)
            results = compare_runs(*names, trial.number, options.limit, baseline, candidate)
            _keep(results, loaded)
            done.append(results)
    return done


@contextmanager
def opened_study(study: RecordedStudy, settings: Settings, reporter: Reporter) -> Iterator[LoadedStudy]:
    """The study with its model in this process, or on actors, which end with the `with` block.

    Raises:
        ClusterError: the cluster can't be joined, or has no room for the model.
        ModelError: the model can't be loaded, or needs code that the user has not allowed to run.
        ExportError: the model's files have changed since.
        StudyError: the directions are missing, or the record is damaged.
    """
    tensors = read_tensors(tensors_path(study.path))
    session = open_session(study, settings, reporter, NO_PROMPTS)
    with recorded_engine(session, study.record) as engine:
        yield LoadedStudy(session, study.record, engine, tensors, model_stats(session, engine, tensors))


def _model(loaded: LoadedStudy) -> "BenchmarkModel":
    """The harness's model: the one in this process, or that of the actors."""
    engine, step = loaded.engine, loaded.session.reporter.step
    batch_size = min(engine.batch_size, MAX_ROWS)
    if isinstance(engine, RemoteEngine):
        from ..search.cluster.benchmarks import RemoteModel

        return RemoteModel(engine, batch_size, step)
    from ..benchmark.harness import WatchedModel

    return WatchedModel(engine.loaded.model, engine.chat, batch_size, step, engine.sites)


def _measure(
    lm: "BenchmarkModel",
    benchmark: Benchmark,
    trial: TrialRecord | None,
    loaded: LoadedStudy,
    options: BenchmarkOptions,
) -> "TaskRun":
    from ..benchmark.harness import run_task, write_samples

    engine, name = loaded.engine, "baseline" if trial is None else f"trial-{trial.number}"
    lm.title = f"{benchmark.name}, {name.replace('-', ' ')}"
    with lm.edited(loaded.edit(trial)):
        run = run_task(lm, benchmark.task, options.limit, system_prompt_of(engine))
    if not run.documents:
        raise BenchmarkError(f"Expected documents in the benchmark {benchmark.task}, found none.")
    if options.samples is not None:
        written = write_samples(options.samples, benchmark.task, name, run)
        loaded.session.reporter.say(f"Samples: {written}")
    return run


def _keep(results: TaskResult, loaded: LoadedStudy) -> None:
    """Writes the results next to the journal, in place of earlier ones of the same benchmark and trial."""
    from ..benchmark.harness import harness_version

    path, record, engine = loaded.session.path, loaded.record, loaded.engine
    kept = read_benchmarks(path)
    earlier = kept.tasks if kept is not None and kept.model_digest == record.model_digest else []
    others = [each for each in earlier if (each.task, each.trial) != (results.task, results.trial)]
    whole = BenchmarkResults(
        model=record.model,
        model_digest=record.model_digest,
        harness=harness_version(),
        settings={
            "chat_template": True,
            "system_prompt": system_prompt_of(engine),
            "chat_template_arguments": dict(engine.chat.template.arguments),
            "response_prefix": engine.chat.response_prefix,
            "dtype": record.dtype,
            "quantization": loaded.settings.quantization,
        },
        tasks=[*others, results],
    )
    write_sidecar(benchmarks_path(path), whole)


def asked_for(tasks: Sequence[str], offered: Sequence[Benchmark]) -> list[Benchmark]:
    """The benchmarks of these tasks, named as in the settings; the packaged ones for no task, all of them for "all"."""
    known = {each.task: each for each in (*PACKAGED_BENCHMARKS, *offered)}
    if list(tasks) == ["all"]:
        return list(known.values())
    return [known.get(task, Benchmark(task=task, name=task)) for task in tasks] or list(PACKAGED_BENCHMARKS)


def check_tasks(benchmarks: Sequence[Benchmark]) -> None:
    """Raises:
    BenchmarkError: the harness has no such task.
    """
    from ..benchmark.harness import find_task

    for benchmark in benchmarks:
        find_task(benchmark.task)


def check_harness() -> None:
    """Raises:
    BenchmarkError: lm-evaluation-harness is not installed.
    """
    if importlib.util.find_spec("lm_eval") is None:
        raise BenchmarkError(
            "Expected EleutherAI's lm-evaluation-harness, which runs the benchmarks, but it is not installed. Install "
            f"it with: {install_command('benchmark')}"
        )


def system_prompt_of(engine: LocalEngine) -> str | None:
    """The system prompt as the harness takes it; None for the template's own."""
    return engine.chat.system_prompt or None
