"""What the stages of a command share, as frozen values."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from ..ablation.edit import ModelEdit
from ..ablation.methods.compile import compile_candidate
from ..ablation.methods.tensors import StudyTensors
from ..ablation.parameters import AblationParameters
from ..ablation.weight_stats import WeightStats
from ..config import Settings
from ..engine.local import LocalEngine
from ..evaluation.evaluator import Baseline, Evaluator
from ..events import Reporter
from ..model.loading.checkpoint import Checkpoint
from ..study.schema import StudyRecord, TrialRecord
from ..study.study import Study
from .prompts import RunPrompts


@dataclass(frozen=True, slots=True)
class ModelSession:
    """One command on one model: its settings, the prompts, the model's files, the reporter."""

    settings: Settings
    prompts: RunPrompts
    checkpoint: Checkpoint
    reporter: Reporter


@dataclass(frozen=True, slots=True)
class Session(ModelSession):
    """One command on one study, whose journal is `path`. `no_gradient`: see StudyRecord."""

    path: Path
    no_gradient: str | None = None


@dataclass(frozen=True, slots=True)
class LoadedStudy:
    """A study with its model loaded. Edits are hooks, so one model serves all trials."""

    session: Session
    record: StudyRecord
    engine: LocalEngine
    tensors: StudyTensors
    stats: Mapping[str, WeightStats]

    @property
    def settings(self) -> Settings:
        return self.session.settings

    def edit(self, trial: TrialRecord | None) -> ModelEdit:
        """The trial's edit of the model; an empty one for the baseline."""
        return {} if trial is None else self.compile(trial.parameters)

    def compile(self, parameters: AblationParameters) -> ModelEdit:
        row_normalization = self.settings.row_normalization
        return compile_candidate(parameters, self.tensors, self.engine.sites, self.stats, row_normalization)


@dataclass(frozen=True, slots=True)
class RunningStudy:
    """A study that this process runs: its model is loaded, its baseline measured, its journal open for writing."""

    loaded: LoadedStudy
    study: Study
    evaluator: Evaluator
    baseline: Baseline

    @property
    def reporter(self) -> Reporter:
        return self.loaded.session.reporter
