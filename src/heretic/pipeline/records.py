"""What a run writes into its study's record."""

import importlib.metadata
import platform
from dataclasses import asdict
from typing import Any

import torch

from .. import __version__
from ..config import Settings
from ..engine.local import LocalEngine
from ..evaluation.evaluator import Baseline
from ..study.records import BaselineRecord, PromptRecord, StudyRecord
from ..study.space import SearchSpace
from .prompts import RunPrompts
from .session import measured

COMPARED_SETTINGS = (
    "system_prompt",
    "only_telling_prompts",
    "orthogonalize_direction",
    "winsorization_quantile",
    "row_normalization",
    "max_response_length",
    "refusal_markers",
    "kl_divergence_scale",
    "kl_divergence_target",
    "quantization",
)
"""Settings that decide a trial's figures: a study can't go on under others."""


def identity(engine: LocalEngine, prompts: RunPrompts, settings: Settings, space: SearchSpace) -> dict[str, Any]:
    """What makes trials comparable: fields of StudyRecord."""
    checkpoint = engine.loaded.checkpoint
    dumped = settings.model_dump(mode="json")
    return {
        "model_digest": checkpoint.digest(),
        "dtype": measured(engine).dtype,
        "prompts": {name: each.model_dump(mode="json") for name, each in prompt_records(prompts).items()},
        "settings": {key: dumped[key] for key in COMPARED_SETTINGS},
        "space": space.describe(),
    }


def prompt_records(prompts: RunPrompts) -> dict[str, PromptRecord]:
    return {
        name: PromptRecord(source=prompts.sources[name].model_dump(mode="json"), count=len(each), digest=each.digest)
        for name, each in prompts.sets().items()
    }


def study_record(
    engine: LocalEngine, prompts: RunPrompts, settings: Settings, space: SearchSpace, baseline: Baseline
) -> StudyRecord:
    checkpoint = engine.loaded.checkpoint
    path = checkpoint.directory / checkpoint.gguf_file if checkpoint.gguf_file else checkpoint.directory
    return StudyRecord(
        model=checkpoint.name,
        model_path=str(path.resolve()),
        gguf_file=checkpoint.gguf_file,
        model_revision=checkpoint.revision,
        sites=[asdict(site) for site in engine.sites],
        response_prefix=engine.chat.response_prefix,
        batch_size=engine.batch_size,
        baseline=BaselineRecord(refusals=baseline.refusals, prompts=baseline.prompts),
        versions=versions(),
        **identity(engine, prompts, settings, space),
    )


def versions() -> dict[str, str]:
    found = {name: importlib.metadata.version(name) for name in ("torch", "transformers", "optuna")}
    device = torch.cuda.get_device_name() if torch.cuda.is_available() else platform.processor() or platform.machine()
    return {"heretic": __version__, "python": platform.python_version(), **found, "device": device}
