"""The parts of a study's record that a run writes."""

import hashlib
import importlib.metadata
import json
import os
import platform
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

import psutil
import torch

from .. import __version__
from ..ablation.methods.base import SearchSpace
from ..config import ChatTemplateSettings
from ..config.changes import values_as_json
from ..engine.decoding import end_tokens
from ..engine.local import LocalEngine
from ..model.accelerator import accelerator, device_name, devices
from ..study.schema import BaselineRecord, PromptRecord, RunRecord, StudyRecord
from .context import Session
from .files_digest import files_digest
from .prompt_filter import KeptPrompts
from .prompts import RunPrompts
from .recorded_settings import COMPARED_SETTINGS


def identity(session: Session, engine: LocalEngine, space: SearchSpace) -> dict[str, Any]:
    """The fields of StudyRecord in which trials must agree to be comparable."""
    checkpoint = engine.loaded.checkpoint
    # Models without rules are the same with and without them.
    rules = {"generation_rules": engine.rules is not None}
    compared = values_as_json(session.settings, COMPARED_SETTINGS) | rules
    return {
        "model_digest": checkpoint.digest(),
        "files_digest": files_digest(checkpoint, session.reporter),
        "dtype": engine.profile.dtype,
        "prompts": {name: each.model_dump(mode="json") for name, each in prompt_records(session.prompts).items()},
        "settings": compared | template_settings(engine, session.settings),
        "space": space.describe(),
        "inputs": inputs_digest(engine, session.prompts),
    }


def inputs_digest(engine: LocalEngine, prompts: RunPrompts) -> str:
    """Digest of what the model reads: the tokens of all prompts before the response prefix, and the tokens that end a
    response, and its generation rules. It changes with the chat template, the tokenizer, a date and the generation
    configuration."""
    chat = engine.chat.with_prefix("")
    digest = hashlib.sha256(json.dumps(sorted(end_tokens(engine.loaded.model, chat.tokenizer))).encode())
    if engine.rules is not None:
        digest.update(json.dumps(dict(engine.rules.values), sort_keys=True, default=str).encode())
    for each in prompts.sets().values():
        for prompt in each.prompts:
            digest.update(json.dumps(chat.tokens(prompt)).encode())
    return digest.hexdigest()[:16]


def template_settings(engine: LocalEngine, settings: ChatTemplateSettings) -> dict[str, Any]:
    """The settings of the chat template that it uses."""
    known = engine.profile
    found = {
        "chat_template_arguments": {**known.template_arguments, **settings.chat_template_arguments},
        "chat_template_date": known.template_date and (settings.chat_template_date or known.template_date),
    }
    return {key: value for key, value in found.items() if value}


def prompt_records(prompts: RunPrompts) -> dict[str, PromptRecord]:
    records = {}
    for name, each in prompts.sets().items():
        source = prompts.sources[name].model_dump(mode="json")
        records[name] = PromptRecord(source=source, count=len(each), digest=each.digest, public=each.public)
    return records


def study_record(
    session: Session,
    engine: LocalEngine,
    space: SearchSpace,
    baseline: BaselineRecord,
    kept: KeptPrompts | None = None,
) -> StudyRecord:
    checkpoint = engine.loaded.checkpoint
    path = checkpoint.directory / checkpoint.gguf_file if checkpoint.gguf_file else checkpoint.directory
    return StudyRecord(
        model=checkpoint.name,
        model_path=str(path.resolve()),
        gguf_file=checkpoint.gguf_file,
        model_revision=checkpoint.revision,
        sites=[site.plain() for site in engine.sites],
        response_prefix=engine.chat.response_prefix,
        batch_size=engine.batch_size,
        baseline=baseline,
        versions=versions(),
        telling=kept,
        no_gradient=session.no_gradient,
        **identity(session, engine, space),
    )


def versions() -> dict[str, str]:
    found = {name: importlib.metadata.version(name) for name in ("torch", "transformers", "optuna")}
    device = device_name(torch.device(accelerator() or "cpu"))
    return {"heretic": __version__, "python": platform.python_version(), **found, "device": device}


def run_record(settings: Mapping[str, Any]) -> RunRecord:
    """The record of this start of the program; `settings` are those that metrics depend on."""
    return RunRecord(
        started=datetime.now(UTC).isoformat(timespec="seconds"),
        settings=dict(settings),
        versions=versions(),
        hardware=hardware(),
    )


def hardware() -> dict[str, str]:
    """Processor, memory and GPUs."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    found = {
        "platform": platform.platform(),
        "processor": f"{platform.processor() or platform.machine()}, {cores} cores, {torch.get_num_threads()} threads",
        "memory": f"{psutil.virtual_memory().total / 1e9:.0f} GB",
    }
    gpus = {f"GPU {device.index}": f"{device.name}, {device.total / 1e9:.0f} GB" for device in devices()}
    return found | gpus
