"""A recorded run, read from a report, a study's journal, or the heretic.json of an export."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

from .. import __version__
from ..errors import StudyError
from ..evaluation.heldout.schema import HeldoutReport
from ..export.manifest import MANIFEST, Manifest
from ..files import expand_home, parse_json
from ..model.loading.checkpoint import hub_name
from ..report.data import Report, report_of
from ..report.residuals import ResidualMetrics
from ..study.reader import RecordedStudy
from ..study.schema import BaselineRecord, PromptRecord, TrialRecord
from .sidecars import read_benchmarks, read_heldout_report
from .tensor_store import TensorStore

Kind = TypeVar("Kind", bound=BaseModel)


@dataclass(frozen=True, slots=True)
class RecordedRun:
    """The ingredients and the metrics of a recorded run.

    `settings` has keys of the configuration, `trials` all complete ones by number, `repeated` the numbers of those to
    measure again, `tensors` what parameters name by digest. `n_trials` is None if the record does not describe the
    search; `why_not` gives the reason. `others` are parts of the record that can't be repeated.
    """

    source: str
    model: str
    model_path: str | None
    model_revision: str | None
    model_digest: str
    files_digest: str | None
    dtype: str | None
    prompts: Mapping[str, PromptRecord]
    settings: Mapping[str, Any]
    baseline: BaselineRecord
    trials: Mapping[int, TrialRecord]
    repeated: tuple[int, ...]
    measured: HeldoutReport | None
    versions: Mapping[str, str]
    hardware: Mapping[str, str]
    n_trials: int | None
    why_not: str
    others: tuple[str, ...]
    tensors: TensorStore


def read_recorded_run(source: str) -> RecordedRun:
    """The run that `source` records: a report's JSON, a journal, a heretic.json or its directory, or a hub id of one.

    Raises:
        StudyError: there is no such record, it has an unknown version, or it is damaged.
        ModelError: it can't be downloaded from the hub.
    """
    path = expand_home(source)
    if path.is_dir() and (path / MANIFEST).exists():
        path = path / MANIFEST
    elif "/" in source and path.suffix not in (".json", ".jsonl") and (on_hub := hub_name(source)) is not None:
        from ..model.loading.hub import download_file

        path = download_file(on_hub.repository, MANIFEST, None)[0]
    if not path.is_file():
        raise StudyError(
            f"Expected a record of a run in {source}, found none: give the .json file of a report, the .jsonl file of "
            f"a study, a {MANIFEST}, the directory of an export, or its id on the hub."
        )
    if path.suffix == ".jsonl":
        return _of_report(source, recorded_report(RecordedStudy(path)), TensorStore(path))
    content = _read(path)
    if "base_model" in content:
        return _of_manifest(source, _validated(Manifest, content, path), TensorStore(path))
    # A report has its study's name, and is next to it.
    journal = path.with_name(path.name.removesuffix(".report.json") + ".jsonl")
    return _of_report(source, _validated(Report, content, path), TensorStore(journal))


def recorded_report(study: RecordedStudy, residuals: ResidualMetrics | None = None) -> Report:
    """The report of a study, from its journal and the files next to it, with `residuals` if they are given."""
    created = datetime.now(UTC).isoformat(timespec="seconds")
    heldout, benchmarks = read_heldout_report(study.path), read_benchmarks(study.path)
    return report_of(study, created, __version__, heldout, residuals, benchmarks)


def _read(path: Path) -> dict[str, Any]:
    """The JSON object in the file.

    Raises:
        StudyError: there is none, or its version is unknown.
    """
    try:
        content = parse_json(path.read_text(encoding="utf-8"))
    except (ValueError, OSError) as error:
        raise StudyError(
            f"Expected the JSON file of a report in {path}, could not read it ({error}). It lies next to the "
            "page (.html); write both again with heretic report if it is missing."
        ) from error
    if not isinstance(content, dict) or not ({"study", "base_model"} & set(content)):
        raise StudyError(
            f"Expected the JSON file of a report, or a {MANIFEST}, in {path}, found other JSON. heretic report "
            "writes one."
        )
    if content.get("version") not in (1, 2):
        raise StudyError(
            f"Expected a record of version 1 or 2 in {path}, found version {content.get('version')!r}, which another "
            "version of this program wrote. Use that version, or write the report again with this one."
        )
    return content


def _validated(kind: type[Kind], content: dict[str, Any], path: Path) -> Kind:
    try:
        return kind.model_validate(content)
    # A file that was edited by hand may make a reader of an older version raise any error.
    except (ValidationError, TypeError, KeyError, AttributeError, OverflowError) as error:
        raise StudyError(
            f"Expected a record of version 1 or 2 in {path}, but fields of it are invalid ({_first_fault(error)}). "
            "Restore the file, or write the report again."
        ) from error


def _first_fault(error: Exception) -> str:
    if not isinstance(error, ValidationError):
        return repr(error)[:100]
    first = error.errors()[0]
    return f"{error.error_count()}, the first at {'.'.join(map(str, first['loc']))}: {first['msg']}"


def _of_report(source: str, report: Report, tensors: TensorStore) -> RecordedRun:
    study, measured = report.study, report.measured
    trials = {
        each.number: TrialRecord.model_validate(each.model_dump(exclude={"seconds", "hypervolume"}))
        for each in report.trials
    }
    shown = [each.number for each in report.front]
    shown += [each.trial for each in measured.candidates if each.trial is not None] if measured else []
    settings: dict[str, Any] = dict(report.runs[-1].settings) if report.runs else _sources(study.prompts)
    settings |= study.settings | {"response_prefix": study.response_prefix, "batch_size": study.batch_size}
    settings["heldout_trials"] = 0
    if measured is not None:
        settings |= measured.settings | {"heldout_response_length": measured.max_response_length}
        settings["heldout_trials"] = max(1, len(measured.candidates))
    why_not = "" if report.runs else "it comes from a version that did not record the settings of searches"
    return RecordedRun(
        source=source,
        model=study.model,
        model_path=study.model_path,
        model_revision=study.model_revision,
        model_digest=study.model_digest,
        files_digest=study.files_digest,
        dtype=study.dtype,
        prompts=study.prompts,
        settings=settings,
        baseline=study.baseline,
        trials=trials,
        repeated=tuple(number for number in dict.fromkeys(shown) if number in trials),
        measured=measured,
        versions=study.versions,
        hardware=report.runs[-1].hardware if report.runs else {},
        n_trials=len(report.trials) + len(report.failed) if report.runs else None,
        why_not=why_not,
        others=tuple(
            name
            for name, each in (("residuals", report.residuals), ("benchmarks", report.benchmarks))
            if each is not None
        ),
        tensors=tensors,
    )


def _of_manifest(source: str, manifest: Manifest, tensors: TensorStore) -> RecordedRun:
    settings = _sources(manifest.prompts) | manifest.settings
    settings |= {"batch_size": manifest.batch_size, "heldout_trials": 0}
    if manifest.response_prefix is not None:
        settings["response_prefix"] = manifest.response_prefix
    return RecordedRun(
        source=source,
        model=manifest.base_model,
        model_path=None,
        model_revision=manifest.base_model_revision,
        model_digest=manifest.base_model_digest,
        files_digest=manifest.base_model_files_digest,
        dtype=manifest.dtype,
        prompts=manifest.prompts,
        settings=settings,
        baseline=manifest.baseline,
        trials={manifest.trial.number: manifest.trial},
        repeated=(manifest.trial.number,),
        measured=None,
        versions=manifest.versions,
        hardware={},
        n_trials=None,
        why_not="it records one trial, not the search that found it",
        others=(),
        tensors=tensors,
    )


def _sources(prompts: Mapping[str, PromptRecord]) -> dict[str, Any]:
    """The prompt sets as settings, packaged ones included: the preset may have changed since."""
    return {name: each.source for name, each in prompts.items()}
