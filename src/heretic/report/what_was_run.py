"""The last section of the page: the run in enough detail to repeat it."""

import json
from collections.abc import Iterator, Mapping
from typing import Any

from ..config import Settings
from ..export.public_names import dataset_name, model_name
from ..study.schema import PromptRecord, StudyRecord
from .data import Report
from .parts import Part, Table, Words


def what_was_run(report: Report) -> Iterator[Part]:
    study = report.study
    rows = [
        ("Model", model_name(study)),
        ("Revision", study.model_revision or "none: local files"),
        _digest(study),
        ("Loaded as", f"{study.dtype}, quantization {study.settings['quantization']}"),
        ("Edited weights", f"{len(study.sites)}, of {len({site['layer'] for site in study.sites})} layers"),
        ("Response prefix", repr(study.response_prefix) if study.response_prefix else "none"),
        *([("Method", f"kernel in place of learned, since {study.no_gradient}")] if study.no_gradient else []),
        *_template(study.settings),
        ("Batch size", str(study.batch_size)),
        ("Versions", ", ".join(f"{name} {version}" for name, version in study.versions.items())),
    ]
    yield Table(("", ""), rows, long=True)
    yield Words("Prompts", "heading")
    telling = study.telling or {}
    counts = {
        name: f"{len(telling[name])} of {each.count}" if name in telling else str(each.count)
        for name, each in study.prompts.items()
    }
    prompts = [(name, _source(each), counts[name], each.digest) for name, each in study.prompts.items()]
    if report.measured is not None:
        prompts += [(name, each.source, str(each.count), each.digest) for name, each in report.measured.prompts.items()]
    yield Table(("Set", "Source", "Prompts", "Digest"), prompts)
    if telling:
        yield Words(
            f"The directions come from the {counts['bad_prompts']} bad prompts that the baseline declines, and the "
            f"{counts['good_prompts']} good ones that it answers (filter_direction_prompts)."
        )
    for number, run in enumerate(report.runs, 1):
        yield Words(f"Start {number}, {run.started}", "heading")
        yield Table(("", ""), [("Seed", f"{run.settings['seed']} ({run.settings['sampler']})"), *run.hardware.items()])
        defaults = Settings().model_dump(mode="json")
        changed = [(k, _shown(v)) for k, v in run.settings.items() if v != defaults.get(k)]
        yield Table(
            ("Setting", "Value"), changed, folded=f"Settings other than the defaults ({len(changed)})", long=True
        )
        yield Table(
            ("Setting", "Value"), [(k, _shown(v)) for k, v in run.settings.items()], folded="All settings", long=True
        )


def _digest(study: StudyRecord) -> tuple[str, str]:
    """The digest of the model's files, with what it covers."""
    if study.files_digest is not None:
        return "SHA-256 of its weights, config.json and code, every byte", study.files_digest
    return "Digest of config.json and of each weight file's size, first and last MiB", study.model_digest


def _template(settings: Mapping[str, Any]) -> list[tuple[str, str]]:
    """The chat template's arguments besides the conversation, if any."""
    shown = {"chat_template_arguments": "Chat template arguments", "chat_template_date": "Date that it prints"}
    return [(title, _shown(settings[key])) for key, title in shown.items() if settings.get(key)]


def _source(prompts: PromptRecord) -> str:
    parts = (dataset_name(prompts), prompts.source.get("split"), prompts.source.get("column"))
    return " ".join(str(each) for each in parts if each)


def _shown(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
