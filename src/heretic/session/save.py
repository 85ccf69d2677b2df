"""Exports a trial: writes the model, measures it, and only then gives it its name."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from ..ablation.methods.registry import find_method
from ..ablation.parameters import RowNormalization
from ..ablation.sites import Site
from ..config import DirectionSettings, ExportSettings, ModelSettings
from ..config.changes import changed
from ..engine.local import LocalEngine
from ..engine.protocol import RuntimeProfile
from ..errors import CandidateError, ExportError
from ..evaluation.evaluator import Baseline, Evaluation
from ..evaluation.rounding import kl_rounding
from ..events import Reporter
from ..export.card import write_card
from ..export.edits import edit_from
from ..export.formats.base import Export, ExportFormat, Tolerance, Written
from ..export.formats.registry import FORMATS, find_format
from ..export.manifest import MANIFEST, manifest_of, write_manifest, written_files
from ..export.public_names import public_model
from ..export.readers.base import open_checkpoint
from ..model.loading.checkpoint import Checkpoint
from ..model.loading.quantization import stored_bits, stored_quantization
from ..report.text import metric_text, number_text, value_text
from ..study.journal import tensors_path
from ..study.metrics import BaselineMetric
from ..study.reader import RecordedStudy
from ..study.schema import BaselineRecord, TrialRecord
from .context import Session
from .directions import read_tensors
from .engine import make_evaluator, release, wrap_engine
from .files_digest import check_files, files_digest
from .full_precision import check_full_precision, export_reader, full_precision_of
from .recorded import recorded_sites, runtime_of
from .sidecars import read_heldout_report
from .tensor_store import copy_tensors


@dataclass(frozen=True, slots=True)
class ExportTarget:
    """The format to write in, and the directory to write to."""

    form: ExportFormat
    output: Path


def save_trial(session: Session, trial: TrialRecord, target: ExportTarget, baseline: Baseline) -> Evaluation:
    """Exports the trial, and measures the written model against the `baseline` before it gets its name.

    The model card shows the held-out metrics, if they were measured, and the last run of the search.

    Raises:
        ExportError: it can't be written, or its metrics differ from those of the search; no file is left then.
    """
    study, checkpoint, settings = RecordedStudy(session.path), session.checkpoint, session.settings
    record, heldout = study.record, read_heldout_report(session.path)
    model = public_model(record, settings.base_model)
    check_files(checkpoint, record.files_digest, str(session.path), session.reporter)
    # Records of earlier versions have no digest: the export's source files are hashed instead.
    record = record.model_copy(update={"files_digest": files_digest(checkpoint, session.reporter)})
    tensors = read_tensors(tensors_path(session.path))
    export = Export(
        reader=export_reader(session),
        sites=recorded_sites(record),
        edit_of=edit_from(trial.parameters, tensors, settings.row_normalization),
        base_model=model.name,
        revision=model.revision,
        settings=settings,
        reporter=session.reporter,
        repository=model.repository,
        directory=checkpoint.directory,
    )
    scored: list[Evaluation] = []

    def check(directory: Path) -> None:
        manifest = manifest_of(trial, record, model)
        write_manifest(directory, manifest)
        copy_tensors(trial.parameters, tensors.store, directory / MANIFEST)
        scored.append(_score(_load_written(directory, target.form, session, runtime_of(record)), session, baseline))
        tolerance = target.form.tolerance(rounding_tolerance(settings, checkpoint, record.dtype), export)
        compare(trial, scored[0], record.baseline, tolerance, session.reporter)
        base, last = checkpoint.directory, study.last_run
        write_card(directory, trial, record, target.form, base, heldout, scored[0], last, model)
        # An upload sends these files and no others.
        write_manifest(directory, manifest.model_copy(update={"files": written_files(directory)}))

    target.form.write(export, target.output, check)
    session.reporter.say(f"Saved {target.output}")
    return scored[0]


def wanted_format(settings: ExportSettings) -> ExportFormat | None:
    """The format that a run without questions writes, if any."""
    return None if settings.wanted is None else find_format(settings.wanted)


def formats_for(
    checkpoint: Checkpoint, sites: Sequence[Site], row_normalization: RowNormalization
) -> list[ExportFormat]:
    """The formats that edits of these sites of a model can be written in, with default options."""
    found = []
    packed = stored_quantization(checkpoint) is not None
    for form in FORMATS:
        try:
            form.check(checkpoint, ExportSettings())
            if packed:
                # Its files hold codes; the names of its original's weights are not known.
                form.check_layout(sites, row_normalization)
            else:
                form.check_sites(open_checkpoint(checkpoint.directory, checkpoint.gguf_file), sites, row_normalization)
        except ExportError:
            continue
        found.append(form)
    return found


def check_export(session: Session, form: ExportFormat) -> None:
    """Makes sure that the model can be exported in a format, before hours are spent on it.

    Raises:
        ExportError: it can't.
    """
    form.check(session.checkpoint, session.settings)
    check_full_precision(session)


def check_sites(session: Session, form: ExportFormat, sites: Sequence[Site]) -> None:
    """Makes sure that edits of these sites can be written in a format, before hours are spent on them.

    Raises:
        ExportError: they can't, or the checkpoint lacks a site's weight.
    """
    settings = session.settings
    source = full_precision_of(settings, session.checkpoint)
    if source is None:
        # Its own weights will be dequantised; they are stored as codes.
        form.check_layout(sites, normalization_of(settings))
    else:
        reader = open_checkpoint(source.directory, source.gguf_file)
        form.check_sites(reader, sites, normalization_of(settings))


def warn_of_unwritable(session: Session, sites: Sequence[Site]) -> None:
    """Warns before a search whose trials no format can write."""
    if formats_for(session.checkpoint, sites, normalization_of(session.settings)):
        return
    try:
        check_sites(session, FORMATS[0], sites)
    except ExportError as error:
        session.reporter.warn(f"No trial of this model can be saved, only measured, compared and talked to: {error}.")


def normalization_of(settings: DirectionSettings) -> RowNormalization:
    """The row normalisation of the method's edits: none for a method that reads no row norms."""
    return settings.row_normalization if find_method(settings.method).needs_weights else "none"


def _load_written(directory: Path, form: ExportFormat, session: Session, profile: RuntimeProfile) -> LocalEngine:
    """The written model, loaded as the search loaded the original, quantised if that was."""
    base, reporter = session.checkpoint, session.reporter
    settings = changed(session.settings, {"dtypes": [profile.dtype]})
    packed = stored_quantization(base) == "bitsandbytes" and full_precision_of(settings, base) is not None
    written = Written(directory, base, settings, stored_bits(base) if packed else settings.quantization)
    with reporter.step("Loading the written model"):
        loaded = form.load(written, reporter.say)
    return wrap_engine(loaded, session, session.prompts.sample(1), profile)


@torch.inference_mode()
def _score(engine: LocalEngine, session: Session, baseline: Baseline) -> Evaluation:
    """Measures the engine's model, without an edit, as the search measures a candidate; then frees its memory."""
    evaluator = make_evaluator(engine, session.settings, session.prompts)
    with session.reporter.step("Measuring the written model", evaluator.rows) as progress:
        [evaluation] = evaluator.evaluate([{}], baseline, progress)
    release(engine)
    if isinstance(evaluation, CandidateError):
        raise ExportError(f"The written model can't be measured: {evaluation}. It was removed.")
    return evaluation


def rounding_tolerance(settings: ModelSettings, base: Checkpoint, dtype: str) -> Tolerance:
    """The difference between the metrics of the search and of the written model that rounding explains.

    A merge rounds weights once where the search rounds outputs. In float32 neither shows; in 16 bits the greedy
    responses of a few prompts may differ, and KL changes by some thousandths.
    """
    method = stored_quantization(base)
    if method not in (None, "bitsandbytes") and full_precision_of(settings, base) is not None:
        # The baseline is quantised, and the written model is not.
        return Tolerance(0.1, 0.05, 0.25, f"without the {method} quantisation of the model that was searched", False)
    quantized = method is not None or settings.quantization != "none"
    exact = dtype == "float32" and not quantized
    return Tolerance(0.01 if exact else 0.05, *kl_rounding(dtype, quantized), f"in {dtype}")


def compare(
    trial: TrialRecord, written: Evaluation, baseline: BaselineRecord, tolerance: Tolerance, reporter: Reporter
) -> None:
    """Shows the metrics of the trial and of the written model side by side.

    A metric of a pruned trial is a lower bound: the written model's may be any higher.

    Raises:
        ExportError: they differ by more than the tolerance.
    """
    metrics = {name: metric for name, metric in baseline.metrics.items() if name in written.metrics}
    searched = [metric_text(trial, name, baseline) for name in metrics]
    found = [value_text(metric, written.metrics[name].value) for name, metric in metrics.items()]
    columns = ["", *(metric.heading for metric in metrics.values())]
    reporter.table("Searched and written", columns, [["searched", *searched], ["written", *found]])
    allowed = {name: _allowed(metric, trial.value(name), tolerance) for name, metric in metrics.items()}
    if all(_difference(trial, written, name) <= off for name, off in allowed.items()):
        return
    bounds = ", ".join(
        f"{metric.label} within {number_text(allowed[name]) if metric.of is None else allowed[name]}"
        for name, metric in metrics.items()
    )
    text = (
        f"Expected the metrics of the written model to be those of the search ({bounds} {tolerance.reason}), got "
        f"{' and '.join(found)} against {' and '.join(searched)}. "
    )
    if tolerance.strict:
        raise ExportError(text + "It was removed; please report this with the study's journal.")
    reporter.warn(text + "Measure it on its own with heretic evaluate.")


def _difference(trial: TrialRecord, written: Evaluation, name: str) -> float:
    """How far the written model's metric is from the search's value, or below its lower bound."""
    missing = trial.value(name) - written.metrics[name].value
    return max(0.0, missing) if trial.metrics[name].censored else abs(missing)


def _allowed(metric: BaselineMetric, searched: float, tolerance: Tolerance) -> float:
    """The allowed difference of a metric: for a count by its number of prompts, for a real number by its size."""
    if metric.of is not None:
        return max(1, round(tolerance.counts * metric.of))
    return tolerance.value + tolerance.value_share * abs(searched)
