"""The heretic.json of an export: what was done to the model, for those who find it later."""

from pathlib import Path
from typing import Any, Literal

from ..config.renamed import CurrentKeys
from ..files import parse_json
from ..study.schema import BaselineRecord, PromptRecord, Record, StudyRecord, TrialRecord
from .public_names import PublicModel, prompt_source, public_model

MANIFEST = "heretic.json"
TEMPLATE_KEYS = ("chat_template_arguments", "chat_template_date")
"""Settings of what the chat template is given."""


class Manifest(Record):
    """One trial and all that decided its metrics; no folder of the machine that wrote it is named.

    `files` are the paths of all files of the export, relative to its directory. `base_model_files_digest` is the
    SHA-256 of all bytes of the base model's weights, config.json and code; `base_model_digest` covers config.json, and
    of each weight file its size and its first and last MiB. Version 1 has the baseline's and the trial's metrics in
    fields of their own, which are read as metrics; the first of these lack `dtype`, `response_prefix` and `batch_size`.
    """

    version: Literal[1, 2] = 2
    base_model: str
    base_model_revision: str | None
    base_model_digest: str
    base_model_files_digest: str | None = None
    trial: TrialRecord
    baseline: BaselineRecord
    prompts: dict[str, PromptRecord]
    settings: CurrentKeys[Any]
    dtype: str | None = None
    response_prefix: str | None = None
    batch_size: int = 0
    versions: dict[str, str]
    files: tuple[str, ...] | None = None


def manifest_of(trial: TrialRecord, record: StudyRecord, model: PublicModel | None = None) -> Manifest:
    """The manifest of an export of `trial`; `model` names the base model, by default as the record does."""
    model = model or public_model(record)
    prompts = {name: each.model_copy(update={"source": prompt_source(each)}) for name, each in record.prompts.items()}
    return Manifest(
        base_model=model.name,
        base_model_revision=model.revision,
        base_model_digest=record.model_digest,
        base_model_files_digest=record.files_digest,
        trial=trial,
        baseline=record.baseline,
        prompts=prompts,
        settings=record.settings,
        dtype=record.dtype,
        response_prefix=record.response_prefix,
        batch_size=record.batch_size,
        versions=record.versions,
    )


def write_manifest(directory: Path, manifest: Manifest) -> None:
    """Writes heretic.json into the export's directory."""
    (directory / MANIFEST).write_text(manifest.model_dump_json(indent=2) + "\n", encoding="utf-8")


def written_files(directory: Path) -> tuple[str, ...]:
    """The paths of all files of a new export, relative to its directory, which nobody else has written to."""
    return tuple(path.relative_to(directory).as_posix() for path in sorted(directory.rglob("*")) if path.is_file())


def listed_files(directory: Path) -> frozenset[str] | None:
    """The files that the export in `directory` says it consists of; None if it has no manifest, or one of an earlier
    version, which lists none."""
    try:
        files = parse_json((directory / MANIFEST).read_text(encoding="utf-8"))["files"]
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return frozenset(each for each in files if isinstance(each, str)) if isinstance(files, list) else None


def recorded_template(directory: Path) -> dict[str, Any]:
    """What the chat template of the export in `directory` was given, as settings; {} where nothing is recorded."""
    try:
        settings = parse_json((directory / MANIFEST).read_text(encoding="utf-8"))["settings"]
    except (OSError, ValueError, KeyError, TypeError):
        # No export of this program, or a damaged record: it is measured as any other model.
        return {}
    return {key: settings[key] for key in TEMPLATE_KEYS if isinstance(settings, dict) and settings.get(key)}
