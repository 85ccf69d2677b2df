"""A trial made into a model on disk, and measured there before it gets its name."""

from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from ..ablation.sites import Site
from ..config import Settings
from ..engine.local import LocalEngine
from ..errors import CandidateError, ExportError
from ..evaluation.evaluator import Baseline, Evaluation
from ..evaluation.heldout.schema import HeldoutReport
from ..evaluation.rounding import kl_rounding
from ..events import Reporter
from ..export.card import public_name, public_source, write_card
from ..export.formats.adapter import write_adapter
from ..export.formats.gguf import Retyped, write_gguf
from ..export.formats.merge import EditOf, edit_from, merge
from ..export.readers.base import CheckpointReader
from ..model.loading.checkpoint import Checkpoint, find_checkpoint
from ..model.loading.load import LoadedModel, load_model
from ..model.loading.quantization import stored_bits, stored_quantization
from ..report.text import kl
from ..study.schema import RunRecord, StudyRecord, TrialRecord
from .directions import StudyTensors
from .engine import RuntimeProfile, make_evaluator, release, wrap_engine
from .full_precision import check_full_precision, export_reader, full_precision_of
from .prompts import RunPrompts

MANIFEST = "heretic.json"


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
    export: str,
    output: Path,
    settings: Settings,
    verification: Verification,
    reporter: Reporter,
    figures: HeldoutReport | None = None,
    run: RunRecord | None = None,
) -> Evaluation:
    """Writes the trial as a model (merge), adapter or GGUF file, scores what was written, then gives it its name.

    `figures`, where the report part was measured, and `run`, the last start of the search, stand in its model card.

    Raises:
        ExportError: it can't be written, or does not measure as it did in the search; nothing is left then.
    """
    checkpoint = checkpoint_of(record)
    reader = export_reader(settings, checkpoint, reporter)
    sites = [Site.from_plain(site) for site in record.sites]
    edit_of = edit_from(trial.parameters, tensors.directions, tensors.gains, record.settings["row_normalization"])
    written: list[Evaluation] = []

    def check(directory: Path) -> None:
        write_manifest(directory, trial, record)
        written.append(_verify(directory, export, checkpoint, settings, verification, reporter))
        compare(trial, written[0], _tolerance(export, checkpoint, settings, verification.known.dtype), reporter)
        write_card(directory, trial, record, export, checkpoint.directory, figures, written[0], run)

    if export == "adapter":
        write_adapter(reader, output, sites, edit_of, record.model, record.model_revision, check=check)
    else:
        _write_whole(reader, output, sites, edit_of, export, settings, reporter, check)
    reporter.say(f"Saved {output}")
    return written[0]


def _write_whole(
    reader: CheckpointReader,
    output: Path,
    sites: list[Site],
    edit_of: EditOf,
    export: str,
    settings: Settings,
    reporter: Reporter,
    check: Callable[[Path], None],
) -> None:
    """Writes all tensors under one progress bar, which is gone when `check` begins.

    Raises:
        ExportError: as `merge`, `write_gguf` and `check` do.
    """
    with ExitStack() as writing:
        progress = writing.enter_context(reporter.step(f"Writing {output}", len(reader.tensors())))

        def finish(directory: Path, retyped: Retyped | None = None) -> None:
            writing.close()
            for (before, after), count in (retyped or {}).items():
                why = "" if after == settings.gguf_type else f": the gguf package can't write {before}"
                reporter.warn(f"{count} edited tensors of type {before} are written as {after}{why}.")
            check(directory)

        if export == "gguf":
            write_gguf(reader, output, sites, edit_of, settings.gguf_type, progress, finish)
        else:
            merge(reader, output, sites, edit_of, settings.max_shard_size, lambda _: progress(1), check=finish)


def check_export(settings: Settings, checkpoint: Checkpoint) -> None:
    """Makes sure that the model can be written in the wanted form, before hours are spent on it.

    Raises:
        ExportError: it can't.
    """
    if settings.export == "gguf" and checkpoint.gguf_file is None:
        raise ExportError(
            f"Expected a GGUF file for --export gguf, but {checkpoint.name} is none. Write the merged model (--export "
            "merge), and convert it with llama.cpp's convert_hf_to_gguf.py."
        )
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


def write_manifest(directory: Path, trial: TrialRecord, record: StudyRecord) -> None:
    """What was done to the model, for those who find it later: no folder of this machine is named."""
    import json

    prompts = {name: each.model_dump(mode="json") for name, each in record.prompts.items()}
    manifest = {
        "version": 1,
        "base_model": public_name(record),
        "base_model_revision": record.model_revision,
        "base_model_digest": record.model_digest,
        "trial": trial.model_dump(mode="json"),
        "baseline": record.baseline.model_dump(mode="json"),
        "prompts": {name: each | {"source": public_source(each["source"])} for name, each in prompts.items()},
        "settings": record.settings,
        "dtype": record.dtype,
        "response_prefix": record.response_prefix,
        "batch_size": record.batch_size,
        "versions": record.versions,
    }
    (directory / MANIFEST).write_text(json.dumps(manifest, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


def _verify(
    directory: Path,
    export: str,
    base: Checkpoint,
    settings: Settings,
    verification: Verification,
    reporter: Reporter,
) -> Evaluation:
    """Loads what was written as the search loaded the original, quantised if that was, and scores it."""
    pinned = settings.model_copy(update={"dtypes": [verification.known.dtype]})
    if export != "adapter" and stored_quantization(base) == "bitsandbytes" and full_precision_of(settings, base):
        pinned = pinned.model_copy(update={"quantization": stored_bits(base)})
    with reporter.step("Loading what was written"):
        loader: Callable[[], LoadedModel] = (
            (lambda: _load_adapter(directory, base, pinned, reporter))
            if export == "adapter"
            else (lambda: load_model(find_checkpoint(str(directory)), pinned, reporter.say))
        )
        loaded = loader()
    prompts = verification.prompts
    engine = wrap_engine(loaded, pinned, prompts.sample(1), verification.known, reporter)
    return score(engine, pinned, verification, reporter)


def _load_adapter(directory: Path, base: Checkpoint, settings: Settings, reporter: Reporter) -> LoadedModel:
    from peft import PeftModel

    loaded = load_model(base, settings, reporter.say)
    model: Any = PeftModel.from_pretrained(loaded.model, str(directory))
    # PEFT puts its layers into the model itself; without its wrapper it is called like any other.
    return LoadedModel(base, model.get_base_model().eval(), loaded.tokenizer, loaded.sites)


@torch.inference_mode()
def score(engine: LocalEngine, settings: Settings, verification: Verification, reporter: Reporter) -> Evaluation:
    """The engine's model, as it is, measured as a candidate is."""
    prompts = verification.prompts
    good, bad = prompts.good_evaluation.prompts, prompts.bad_evaluation.prompts
    evaluator = make_evaluator(engine, settings, good, bad, over=prompts.over)
    with reporter.step("Scoring what was written", evaluator.rows_a_candidate) as progress:
        [evaluation] = evaluator.evaluate([{}], verification.baseline, progress)
    release(engine)
    if isinstance(evaluation, CandidateError):
        raise ExportError(f"What was written can't be measured: {evaluation}. It was removed.")
    return evaluation


@dataclass(frozen=True, slots=True)
class Tolerance:
    """How far what was written may be from what was searched: refusals as a share of the prompts, KL as a number and a
    share; `reason` says why. Without `strict`, more is told and no error."""

    refusals: float
    kl: float
    kl_share: float
    reason: str
    strict: bool = True


def _tolerance(export: str, base: Checkpoint, settings: Settings, dtype: str) -> Tolerance:
    """A merge rounds weights once where the search rounds outputs. In float32 neither shows; in 16 bits the greedy
    responses of a few prompts may take another turn, and KL moves by some thousandths."""
    if export == "gguf":
        return Tolerance(0.1, 0.05, 0.25, "in GGUF blocks")
    method = stored_quantization(base)
    if method not in (None, "bitsandbytes") and full_precision_of(settings, base) is not None:
        # The baseline is the quantised model, and what was written is not.
        return Tolerance(0.1, 0.05, 0.25, f"without the {method} quantisation of the model that was searched", False)
    quantized = method is not None or settings.quantization != "none"
    exact = dtype == "float32" and not quantized
    return Tolerance(0.01 if exact else 0.05, *kl_rounding(dtype, quantized), f"in {dtype}")


def compare(trial: TrialRecord, written: Evaluation, tolerance: Tolerance, reporter: Reporter) -> None:
    """Searched and written figures side by side.

    Raises:
        ExportError: they differ by more than the tolerance.
    """
    rows = [
        ["searched", f"{trial.refusals}/{written.prompts}", kl(trial.kl_divergence)],
        ["written", f"{written.refusals}/{written.prompts}", kl(written.kl_divergence)],
    ]
    columns = ["", "Refusals", "KL"]
    if trial.over_refusals is not None:
        columns.append("Over-refusals")
        rows[0].append(str(trial.over_refusals))
        rows[1].append(str(written.over_refusals))
    reporter.table("Searched and written", columns, rows)
    refusals_off = max(1, round(tolerance.refusals * written.prompts))
    kl_off = tolerance.kl + tolerance.kl_share * trial.kl_divergence
    if (
        abs(trial.refusals - written.refusals) <= refusals_off
        and abs(trial.kl_divergence - written.kl_divergence) <= kl_off
    ):
        return
    text = (
        f"Expected the written model to measure as in the search (refusals within {refusals_off}, KL within "
        f"{kl_off:.4f} {tolerance.reason}), got {rows[1][1]} and {rows[1][2]} against {rows[0][1]} and {rows[0][2]}. "
    )
    if tolerance.strict:
        raise ExportError(text + "It was removed; please report this with the study's journal.")
    reporter.warn(text + "Measure it by itself: heretic evaluate.")
