"""A trial made into a model on disk, and measured there before it gets its name."""

from dataclasses import dataclass
from pathlib import Path

import torch

from ..ablation.methods.tensors import StudyTensors
from ..ablation.sites import Site
from ..config import Settings
from ..engine.local import LocalEngine
from ..errors import CandidateError, ExportError
from ..evaluation.evaluator import Baseline, Evaluation
from ..evaluation.heldout.schema import HeldoutReport
from ..evaluation.rounding import kl_rounding
from ..events import Reporter
from ..export.card import write_card
from ..export.edits import edit_from
from ..export.formats.base import Export, ExportFormat, Tolerance, Written
from ..export.formats.registry import find_format
from ..export.manifest import manifest_of, write_manifest
from ..export.public_names import model_name
from ..model.loading.checkpoint import Checkpoint, find_checkpoint
from ..model.loading.quantization import stored_bits, stored_quantization
from ..report.text import number_text, value_text
from ..study.metrics import BaselineMetric
from ..study.schema import BaselineRecord, RunRecord, StudyRecord, TrialRecord
from .engine import RuntimeProfile, make_evaluator, release, wrap_engine
from .full_precision import check_full_precision, export_reader, full_precision_of
from .prompts import RunPrompts


@dataclass(frozen=True, slots=True)
class Verification:
    """What the written model is held against, and the prompts to do it on."""

    prompts: RunPrompts
    baseline: Baseline
    known: RuntimeProfile


def save_trial(
    trial: TrialRecord,
    record: StudyRecord,
    tensors: StudyTensors,
    form: ExportFormat,
    output: Path,
    settings: Settings,
    verification: Verification,
    reporter: Reporter,
    figures: HeldoutReport | None = None,
    run: RunRecord | None = None,
) -> Evaluation:
    """Writes the trial in the format `form`, scores what was written, then gives it its name.

    `figures`, where the report part was measured, and `run`, the last start of the search, stand in its model card.

    Raises:
        ExportError: it can't be written, or does not measure as it did in the search; nothing is left then.
    """
    checkpoint = checkpoint_of(record)
    export = Export(
        reader=export_reader(settings, checkpoint, reporter),
        sites=[Site.from_plain(site) for site in record.sites],
        edit_of=edit_from(trial.parameters, tensors, record.settings["row_normalization"]),
        base_model=model_name(record),
        revision=record.model_revision,
        settings=settings,
        reporter=reporter,
    )
    scored: list[Evaluation] = []

    def check(directory: Path) -> None:
        write_manifest(directory, manifest_of(trial, record))
        scored.append(_verify(directory, form, checkpoint, settings, verification, reporter))
        tolerance = form.tolerance(rounding_tolerance(settings, checkpoint, verification.known.dtype))
        compare(trial, scored[0], record.baseline, tolerance, reporter)
        write_card(directory, trial, record, form, checkpoint.directory, figures, scored[0], run)

    form.write(export, output, check)
    reporter.say(f"Saved {output}")
    return scored[0]


def check_export(settings: Settings, checkpoint: Checkpoint) -> None:
    """Makes sure that the model can be written in the wanted form, before hours are spent on it.

    Raises:
        ExportError: it can't.
    """
    if settings.export not in (None, "none"):
        find_format(settings.export).check(checkpoint)
    check_full_precision(settings, checkpoint)


def checkpoint_of(record: StudyRecord) -> Checkpoint:
    """The recorded study's model, found again.

    Raises:
        ExportError: another model is there now.
    """
    local = Path(record.model_path)
    name = record.model if not local.exists() else str(local)
    checkpoint = find_checkpoint(name, record.model_revision)
    if checkpoint.digest() != record.model_digest:
        raise ExportError(
            f"Expected the model that the study was run on in {name}, but its files have changed since (digest "
            f"{record.model_digest} then, {checkpoint.digest()} now). Restore them, or run the study again."
        )
    return checkpoint


def _verify(
    directory: Path,
    form: ExportFormat,
    base: Checkpoint,
    settings: Settings,
    verification: Verification,
    reporter: Reporter,
) -> Evaluation:
    """Loads what was written as the search loaded the original, quantised if that was, and scores it."""
    pinned = settings.model_copy(update={"dtypes": [verification.known.dtype]})
    packed = stored_quantization(base) == "bitsandbytes" and full_precision_of(settings, base) is not None
    written = Written(directory, base, pinned, stored_bits(base) if packed else settings.quantization)
    with reporter.step("Loading what was written"):
        loaded = form.load(written, reporter.say)
    engine = wrap_engine(loaded, pinned, verification.prompts.sample(1), verification.known, reporter)
    return score(engine, pinned, verification, reporter)


@torch.inference_mode()
def score(engine: LocalEngine, settings: Settings, verification: Verification, reporter: Reporter) -> Evaluation:
    """The engine's model, as it is, measured as a candidate is."""
    prompts = verification.prompts
    evaluator = make_evaluator(engine, settings, prompts)
    with reporter.step("Scoring what was written", evaluator.rows) as progress:
        [evaluation] = evaluator.evaluate([{}], verification.baseline, progress)
    release(engine)
    if isinstance(evaluation, CandidateError):
        raise ExportError(f"What was written can't be measured: {evaluation}. It was removed.")
    return evaluation


def rounding_tolerance(settings: Settings, base: Checkpoint, dtype: str) -> Tolerance:
    """What rounding explains between searched and written figures.

    A merge rounds weights once where the search rounds outputs. In float32 neither shows; in 16 bits the greedy
    responses of a few prompts may take another turn, and KL moves by some thousandths.
    """
    method = stored_quantization(base)
    if method not in (None, "bitsandbytes") and full_precision_of(settings, base) is not None:
        # The baseline is the quantised model, and what was written is not.
        return Tolerance(0.1, 0.05, 0.25, f"without the {method} quantisation of the model that was searched", False)
    quantized = method is not None or settings.quantization != "none"
    exact = dtype == "float32" and not quantized
    return Tolerance(0.01 if exact else 0.05, *kl_rounding(dtype, quantized), f"in {dtype}")


def compare(
    trial: TrialRecord, written: Evaluation, baseline: BaselineRecord, tolerance: Tolerance, reporter: Reporter
) -> None:
    """Shows the metrics of the trial and of the written model side by side.

    Raises:
        ExportError: they differ by more than the tolerance.
    """
    metrics = {name: metric for name, metric in baseline.metrics.items() if name in written.metrics}
    searched = [value_text(metric, trial.value(name)) for name, metric in metrics.items()]
    found = [value_text(metric, written.metrics[name].value) for name, metric in metrics.items()]
    columns = ["", *(metric.heading for metric in metrics.values())]
    reporter.table("Searched and written", columns, [["searched", *searched], ["written", *found]])
    allowed = {name: _allowed(metric, trial.value(name), tolerance) for name, metric in metrics.items()}
    if all(abs(trial.value(name) - written.metrics[name].value) <= off for name, off in allowed.items()):
        return
    bounds = ", ".join(
        f"{metric.label} within {number_text(allowed[name]) if metric.of is None else allowed[name]}"
        for name, metric in metrics.items()
    )
    text = (
        f"Expected the written model to measure as in the search ({bounds} {tolerance.reason}), got "
        f"{' and '.join(found)} against {' and '.join(searched)}. "
    )
    if tolerance.strict:
        raise ExportError(text + "It was removed; please report this with the study's journal.")
    reporter.warn(text + "Measure it by itself: heretic evaluate.")


def _allowed(metric: BaselineMetric, searched: float, tolerance: Tolerance) -> float:
    """The difference that the tolerance leaves a metric: of a count by its prompts, of a real number by its size."""
    if metric.of is not None:
        return max(1, round(tolerance.counts * metric.of))
    return tolerance.value + tolerance.value_share * abs(searched)
