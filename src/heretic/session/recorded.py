"""A recorded study with its model loaded: any of its trials, at once."""

from collections.abc import Mapping

from ..ablation.edit import ModelEdit
from ..ablation.methods.compile import compile_candidate
from ..ablation.methods.tensors import StudyTensors
from ..ablation.weight_stats import WeightStats
from ..config import Settings
from ..engine.local import LocalEngine
from ..errors import StudyError
from ..events import Reporter
from ..export.readers.base import open_checkpoint
from ..model.loading.checkpoint import Checkpoint
from ..study.journal import tensors_path
from ..study.pareto import pareto_front, select
from ..study.reader import RecordedStudy
from ..study.schema import StudyRecord, TrialRecord
from .directions import read_tensors, stats_from_checkpoint
from .engine import RuntimeProfile, open_engine
from .full_precision import full_precision_of
from .remote_code import settle_trust
from .save import checkpoint_of


class LoadedStudy:
    """The model of a study, and the edits of its trials; edits are hooks, so that one model serves them all."""

    def __init__(
        self,
        record: StudyRecord,
        settings: Settings,
        engine: LocalEngine,
        tensors: StudyTensors,
        stats: Mapping[str, WeightStats],
    ) -> None:
        self.record = record
        self.settings = settings
        self.engine = engine
        self._tensors = tensors
        self._stats = stats

    def edit(self, trial: TrialRecord | None) -> ModelEdit:
        """The trial's edit of the model; an empty one for the baseline."""
        if trial is None:
            return {}
        return compile_candidate(
            trial.parameters,
            self._tensors,
            self.engine.sites,
            self._stats,
            self.record.settings["row_normalization"],
        )


def open_study(study: RecordedStudy, settings: Settings, reporter: Reporter) -> LoadedStudy:
    """Loads the study's model as the search had it.

    Raises:
        ModelError: it can't be loaded.
        ExportError: another model is there now.
        StudyError: the directions are missing.
    """
    record = study.record
    tensors = read_tensors(tensors_path(study.path))
    checkpoint = checkpoint_of(record)
    settings = settle_trust(recorded_settings(record, settings), checkpoint, reporter)
    engine = open_engine(checkpoint, settings, [], runtime_of(record), reporter)
    stats = model_stats(engine, tensors, checkpoint, settings, reporter)
    return LoadedStudy(record, settings, engine, tensors, stats)


def recorded_settings(record: StudyRecord, settings: Settings) -> Settings:
    """`settings` with those of the study, which decide a figure, in their place."""
    return settings.model_copy(update=record.settings)


def runtime_of(record: StudyRecord) -> RuntimeProfile:
    """What the study's own run measured of its model."""
    arguments, date = (record.settings.get(f"chat_template_{name}") for name in ("arguments", "date"))
    return RuntimeProfile(record.dtype, record.response_prefix, record.batch_size, arguments or {}, date)


def model_stats(
    engine: LocalEngine, tensors: StudyTensors, checkpoint: Checkpoint, settings: Settings, reporter: Reporter
) -> Mapping[str, WeightStats]:
    """Statistics of every site's weight, in full precision where there is a checkpoint of that."""
    with reporter.step("Weight statistics", len(engine.sites)) as progress:
        source = full_precision_of(settings, checkpoint)
        if source is None or (source == checkpoint and settings.quantization == "none"):
            return engine.weight_stats(tensors.directions, progress)
        reader = open_checkpoint(source.directory, source.gguf_file)
        return stats_from_checkpoint(reader, engine.sites, tensors, progress)


def find_trial(study: RecordedStudy, wanted: str | int | None) -> TrialRecord:
    """Any complete trial by its number, or the one of the front that a rule names (the knee by default).

    Raises:
        StudyError: there is no such trial.
    """
    rule = "knee" if wanted is None else wanted
    number = int(rule) if str(rule).isdecimal() else None
    for trial in study.trials:
        if trial.number == number:
            return trial
    if number is not None or rule in ("knee", "lowest-kl", "lowest-refusals"):
        return select(pareto_front(study.trials, study.baseline), study.baseline, rule if number is None else number)
    raise StudyError(f"Expected a trial's number, knee, lowest-kl or lowest-refusals, got {rule!r}.")
