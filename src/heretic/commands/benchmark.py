"""Benchmarks of trials and of the baseline, from one loaded model."""

import importlib.util
import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from ..ablation.edit import ModelEdit
from ..benchmark.figures import BenchmarkFigures, TaskFigures
from ..config import Benchmark, Settings
from ..config.defaults import PACKAGED_BENCHMARKS
from ..engine.local import LocalEngine
from ..errors import BenchmarkError
from ..events import Reporter
from ..model.hooks.edits import edited_model
from ..report.tables import show_benchmarks
from ..session.recorded import find_trial, open_study
from ..session.sidecars import read_sidecar, write_sidecar
from ..study.journal import benchmarks_path
from ..study.reader import RecordedStudy
from ..study.schema import StudyRecord, TrialRecord

if TYPE_CHECKING:
    from ..benchmark.comparison import TaskRun
    from ..benchmark.harness import WatchedModel

MOST_ROWS = 16
"""The harness keeps the logits of all positions of a batch."""


class Benchmarking:
    """Runs benchmarks on one engine's model, unedited and edited, and keeps their figures beside the study.

    `limit`: at most so many documents of each task; `samples`: directory for the harness's own record of each document.
    """

    def __init__(
        self,
        engine: LocalEngine,
        record: StudyRecord,
        path: Path,
        reporter: Reporter,
        limit: int | None = None,
        samples: Path | None = None,
    ) -> None:
        check_harness()
        self._engine = engine
        self._record = record
        self._path = path
        self._reporter = reporter
        self._limit = limit
        self._samples = samples

    def run(
        self, benchmarks: Sequence[Benchmark], candidates: Sequence[tuple[TrialRecord, ModelEdit]]
    ) -> list[TaskFigures]:
        """Each benchmark on the baseline, then on each candidate; its metrics are on disk before the next benchmark.

        Raises:
            BenchmarkError: one of them is unknown, or its data can't be had.
        """
        from ..benchmark.comparison import compare_runs
        from ..benchmark.harness import find_task

        for benchmark in benchmarks:
            find_task(benchmark.task)
        lm = self._model()
        done = []
        for benchmark in benchmarks:
            baseline = self._measure(lm, benchmark, {}, "baseline")
            for trial, edit in candidates:
                candidate = self._measure(lm, benchmark, edit, f"trial-{trial.number}")
                figures = compare_runs(
                    benchmark.task,
                    benchmark.name,
                    benchmark.description,
                    trial.number,
                    self._limit,
                    baseline,
                    candidate,
                )
                self._keep(figures)
                done.append(figures)
        return done

    def _model(self) -> "WatchedModel":
        from ..benchmark.harness import WatchedModel

        engine = self._engine
        batch_size = min(engine.batch_size, MOST_ROWS)
        return WatchedModel(engine.loaded.model, engine.chat, batch_size, self._reporter.step)

    def _measure(self, lm: "WatchedModel", benchmark: Benchmark, edit: ModelEdit, name: str) -> "TaskRun":
        from ..benchmark.harness import run_task, write_samples

        lm.title = f"{benchmark.name}, {name.replace('-', ' ')}"
        with edited_model(self._engine.loaded.model, [edit], self._engine.sites):
            run = run_task(lm, benchmark.task, self._limit, system_prompt_of(self._engine))
        if not run.documents:
            raise BenchmarkError(f"Expected documents in the benchmark {benchmark.task}, found none.")
        if self._samples is not None:
            written = write_samples(self._samples, benchmark.task, name, run)
            self._reporter.say(f"Samples: {written}")
        return run

    def _keep(self, figures: TaskFigures) -> None:
        """In place of earlier figures of the same benchmark and trial."""
        from ..benchmark.harness import harness_version

        kept = read_benchmarks(self._path)
        earlier = kept.tasks if kept is not None and kept.model_digest == self._record.model_digest else []
        others = [each for each in earlier if (each.task, each.trial) != (figures.task, figures.trial)]
        chat = self._engine.chat
        whole = BenchmarkFigures(
            model=self._record.model,
            model_digest=self._record.model_digest,
            harness=harness_version(),
            settings={
                "chat_template": True,
                "system_prompt": system_prompt_of(self._engine),
                "chat_template_arguments": dict(chat.template.arguments),
                "response_prefix": chat.response_prefix,
                "dtype": self._record.dtype,
                "quantization": self._record.settings["quantization"],
            },
            tasks=[*others, figures],
        )
        write_sidecar(benchmarks_path(self._path), whole)


def benchmark_study(
    study: RecordedStudy,
    trials: Sequence[str],
    benchmarks: Sequence[Benchmark],
    settings: Settings,
    reporter: Reporter,
    limit: int | None = None,
    samples: Path | None = None,
) -> list[TaskFigures]:
    """The benchmarks on `trials` (by default the knee) of a recorded study, and on its model.

    Raises:
        BenchmarkError: the harness is not installed, or a benchmark can't be run.
        StudyError: there is no such trial.
    """
    check_harness()
    chosen = [find_trial(study, wanted) for wanted in trials or ["knee"]]
    opened = open_study(study, settings, reporter)
    benchmarking = Benchmarking(opened.engine, study.record, study.path, reporter, limit, samples)
    return benchmarking.run(benchmarks, [(trial, opened.edit(trial)) for trial in chosen])


def asked_for(tasks: Sequence[str], offered: Sequence[Benchmark]) -> list[Benchmark]:
    """The benchmarks of these tasks, named as in the settings; the packaged ones of no task, all that are for "all"."""
    known = {each.task: each for each in (*PACKAGED_BENCHMARKS, *offered)}
    if list(tasks) == ["all"]:
        return list(known.values())
    return [known.get(task, Benchmark(task=task, name=task)) for task in tasks] or list(PACKAGED_BENCHMARKS)


def print_benchmarks(tasks: Sequence[TaskFigures], as_json: bool, reporter: Reporter) -> None:
    if as_json:
        reporter.say(json.dumps([task.model_dump(mode="json") for task in tasks], indent=1))
    else:
        show_benchmarks(tasks, reporter)


def read_benchmarks(path: Path) -> BenchmarkFigures | None:
    """What benchmarks gave of the study whose journal is `path`; None where none ran.

    Raises:
        StudyError: the file is damaged.
    """
    return read_sidecar(benchmarks_path(path), BenchmarkFigures, "the figures of benchmarks", ", and run them again")


def check_harness() -> None:
    """Raises:
    BenchmarkError: lm-evaluation-harness is not installed.
    """
    if importlib.util.find_spec("lm_eval") is None:
        raise BenchmarkError(
            "Expected EleutherAI's lm-evaluation-harness, which runs the benchmarks, but it is not installed. Install "
            'it with: pip install "heretic[benchmark]"'
        )


def system_prompt_of(engine: LocalEngine) -> str | None:
    """The system prompt as the harness takes it; None for the template's own."""
    return engine.chat.system_prompt or None
