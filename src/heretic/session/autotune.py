"""Batch size of a model on this machine, and the cache of what was measured for it."""

import json
import os
import platform
from collections.abc import Callable
from pathlib import Path

import torch
from platformdirs import user_cache_path

from ..config import Settings
from ..engine.batch_size import find_batch_size
from ..engine.local import LocalEngine
from ..events import Reporter
from ..files import write_atomically
from ..prompts.prompt import Prompt

MAX_MODELS = 100
"""Models in the cache; the ones measured longest ago leave first."""


def kept_measures() -> Path:
    return user_cache_path("heretic") / "measured.json"


def tune_batch_size(engine: LocalEngine, settings: Settings, prompts: tuple[Prompt, ...], reporter: Reporter) -> int:
    """The batch size of the settings, or the fastest one if they leave it open."""

    def measure() -> int:
        with reporter.step("Finding the batch size") as progress:
            return find_batch_size(engine, prompts, settings.max_batch_size, lambda _: progress(1))

    key = tuning_key(engine, settings)
    return settings.batch_size or measured_once(key, f"batch_size of {settings.max_batch_size}", measure)


def measured_once(key: str, label: str, measure: Callable[[], int]) -> int:
    """What was measured before under this key and label, on this machine, or is measured now."""
    path = kept_measures()
    entries = _read(path)
    entry = entries[key] = entries.pop(key, {})
    if not isinstance(entry.get(label), int):
        entry[label] = measure()
        newest = dict(list(entries.items())[-MAX_MODELS:])
        write_atomically(path, json.dumps(newest, indent=1).encode())
    return int(entry[label])


def tuning_key(engine: LocalEngine, settings: Settings) -> str:
    """All that a measurement of speed depends on: model, number format, device, threads, response length, torch."""
    device = engine.loaded.device
    machine = torch.cuda.get_device_name(device) if device.type == "cuda" else f"{platform.machine()} {os.cpu_count()}"
    return " ".join(
        [
            engine.loaded.checkpoint.digest(),
            str(engine.loaded.dtype),
            settings.quantization,
            f"{device.type} {machine}",
            f"{torch.get_num_threads()} threads",
            f"length {settings.max_response_length}",
            f"torch {torch.__version__}",
            *(["recorded steps"] if engine.uses_cuda_graphs else []),
        ]
    )


def _read(path: Path) -> dict[str, dict[str, int]]:
    """The entries of all models; none where the file is missing or damaged: they are measured again."""
    try:
        entries = json.loads(path.read_text())
    except (OSError, ValueError):
        return {}
    return entries if isinstance(entries, dict) and all(isinstance(e, dict) for e in entries.values()) else {}
