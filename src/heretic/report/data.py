"""The contents of a report, and their form on disk: the JSON file next to the page."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal, TypeVar

from pydantic import BaseModel, model_validator

from ..ablation.methods.registry import AnyParameters
from ..benchmark.schema import BenchmarkResults
from ..evaluation.heldout.schema import HeldoutReport, StoredValue
from ..study.history import Failure, failures, hypervolumes, importance, seconds_by_trial
from ..study.metrics import Metric
from ..study.pareto import knee, pareto_front
from ..study.reader import RecordedStudy
from ..study.schema import BaselineRecord, RunRecord, StudyRecord, TrialRecord
from ..study.version1 import upgraded
from . import version1
from .residuals import ResidualMetrics

Value = TypeVar("Value", bound=BaseModel)


class ReportedTrial(StoredValue):
    """One trial; `hypervolume` is that of the front up to it."""

    number: int
    metrics: dict[str, Metric]
    seconds: float | None
    hypervolume: float
    parameters: AnyParameters

    @property
    def pruned(self) -> bool:
        return any(metric.censored for metric in self.metrics.values())

    def value(self, name: str) -> float:
        return self.metrics[name].value


class FailedTrial(StoredValue):
    number: int
    reason: str


class FrontTrial(StoredValue):
    """One trial of the front. `strengths`: by component, the ablation weight at each layer."""

    number: int
    strengths: dict[str, list[float]]


class Report(StoredValue):
    """All data of one study.

    `measured` (held-out metrics), `residuals` and `benchmarks` are None if they were not measured; `knee` and
    `importance` if there are too few trials.
    """

    version: Literal[2] = 2
    created: str
    heretic: str
    study: StudyRecord
    runs: list[RunRecord]
    states: dict[str, int]
    trials: list[ReportedTrial]
    failed: list[FailedTrial]
    front: list[FrontTrial]
    knee: int | None
    importance: dict[str, dict[str, float]] | None
    measured: HeldoutReport | None
    residuals: ResidualMetrics | None
    benchmarks: BenchmarkResults | None

    @model_validator(mode="before")
    @classmethod
    def _of_version_1(cls, content: Any) -> Any:
        return upgraded(version1.report_fields, content) if version1.is_version_1(content) else content

    @property
    def baseline(self) -> BaselineRecord:
        return self.study.baseline

    def trial(self, number: int) -> ReportedTrial:
        return next(each for each in self.trials if each.number == number)


def report_of(
    study: RecordedStudy,
    created: str,
    heretic: str,
    measured: HeldoutReport | None,
    residuals: ResidualMetrics | None,
    benchmarks: BenchmarkResults | None,
) -> Report:
    """The report of a study; the home directory of this machine is `~` in it."""
    record, trials = study.record, study.trials
    front = pareto_front(trials, record.baseline)
    return Report(
        created=created,
        heretic=heretic,
        study=without_home(record),
        runs=[without_home(run) for run in study.runs],
        states=study.count_by_state(),
        trials=_trials(study, trials, record.baseline),
        failed=[_failed(each) for each in failures(study)],
        front=[_front_trial(trial, record) for trial in front],
        knee=knee(front, record.baseline).number if front else None,
        importance=importance(study),
        measured=None if measured is None else without_home(measured),
        residuals=residuals,
        benchmarks=None if benchmarks is None else without_home(benchmarks),
    )


def _trials(study: RecordedStudy, trials: Sequence[TrialRecord], baseline: BaselineRecord) -> list[ReportedTrial]:
    seconds = seconds_by_trial(study)
    return [
        ReportedTrial(
            number=trial.number,
            metrics=trial.metrics,
            seconds=seconds.get(trial.number),
            hypervolume=volume,
            parameters=trial.parameters,
        )
        for trial, volume in zip(trials, hypervolumes(trials, baseline), strict=True)
    ]


def _failed(failure: Failure) -> FailedTrial:
    return FailedTrial(number=failure.number, reason=failure.reason)


def _front_trial(trial: TrialRecord, record: StudyRecord) -> FrontTrial:
    layers = range(1 + int(record.space["last_layer"]))
    return FrontTrial(number=trial.number, strengths=trial.parameters.by_layer(layers))


def without_home(value: Value) -> Value:
    """The same value with `~` for the home directory, which would tell others who made it."""
    home = str(Path.home())
    return type(value).model_validate(_replaced(value.model_dump(mode="json"), home)) if len(home) > 1 else value


def _replaced(value: Any, home: str) -> Any:
    if isinstance(value, str):
        return "~" + value[len(home) :] if value == home or value.startswith(home + "/") else value
    if isinstance(value, dict):
        return {_replaced(key, home): _replaced(each, home) for key, each in value.items()}
    return [_replaced(each, home) for each in value] if isinstance(value, list) else value
