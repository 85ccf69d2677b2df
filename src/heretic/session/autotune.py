"""Batch size of a model on this machine, and the cache of such measurements."""

import json
import os
import platform
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import torch
from platformdirs import user_cache_path

from .. import __version__
from ..engine.batch_size import find_batch_size, planned_batch_size
from ..engine.local import LocalEngine
from ..files import parse_json, write_atomically
from ..model.accelerator import accelerator, device_name, peak_memory
from ..model.sharding import agreed
from ..prompts.prompt import Prompt
from .context import ModelSession

MAX_MODELS = 100
"""Models in the cache. Beyond them, those measured longest ago are removed."""


PEAK = "peak of"
"""Prefix of the label of a cached memory peak; the rows follow."""


def measurements_path() -> Path:
    return user_cache_path("heretic") / "measured.json"


def tune_batch_size(engine: LocalEngine, session: ModelSession, prompts: tuple[Prompt, ...]) -> int:
    """The batch size of the settings, or the fastest one if they leave it open."""
    settings = session.settings

    def measure() -> int:
        with session.reporter.step("Finding the batch size") as progress:
            if engine.loaded.device.type == accelerator():
                return planned_batch_size(engine, prompts, settings.max_batch_size, settings.max_response_length)
            return find_batch_size(engine, prompts, settings.max_batch_size, lambda _: progress(1))

    key = tuning_key(engine, session)
    return settings.batch_size or measured_once(key, f"batch_size of {settings.max_batch_size}", measure)


def measured_once(key: str, label: str, measure: Callable[[], int]) -> int:
    """The cached measurement with this key and label; a new one, which is cached, if there is none."""
    # Each rank of a sharded model reads it: one that finds another value would run other forwards.
    found = agreed(_read(measurements_path()).get(key, {}).get(label))
    if isinstance(found, int):
        return found
    measured = measure()
    _keep(key, label, measured)
    return measured


def _keep(key: str, label: str, value: int) -> None:
    path = measurements_path()
    entries = _read(path)
    entry = entries[key] = entries.pop(key, {})
    entry[label] = value
    newest = dict(list(entries.items())[-MAX_MODELS:])
    # If the cache can't be written, the value is measured again the next time.
    with suppress(OSError):
        write_atomically(path, json.dumps(newest, indent=1).encode())


def note_peak(engine: LocalEngine, session: ModelSession) -> None:
    """Caches the peak memory of tensors on the accelerator in this process, with the rows of a forward."""
    peak = peak_memory(engine.loaded.device) if engine.loaded.device.type == accelerator() else None
    if peak:
        _keep(tuning_key(engine, session), f"{PEAK} {engine.batch_size}", peak)


def noted_peaks(digest: str) -> dict[int, int]:
    """Cached memory peaks of a model, by the rows of a forward."""
    return {
        int(label.removeprefix(PEAK)): value
        for key, entry in _read(measurements_path()).items()
        for label, value in entry.items()
        if key.startswith(f"{digest} ") and label.startswith(PEAK)
    }


def tuning_key(engine: LocalEngine, session: ModelSession) -> str:
    """All that a measurement of speed depends on: model, number format, device, threads, response length,
    torch and this program."""
    settings = session.settings
    device = engine.loaded.device
    machine = f"{platform.machine()} {os.cpu_count()}" if device.type == "cpu" else device_name(device)
    return " ".join(
        [
            engine.loaded.checkpoint.digest(),
            str(engine.loaded.dtype),
            settings.quantization,
            f"{device.type} {machine}",
            f"{torch.get_num_threads()} threads",
            f"length {settings.max_response_length}",
            f"torch {torch.__version__}",
            f"heretic {__version__}",
            *(["recorded steps"] if engine.uses_cuda_graphs else []),
        ]
    )


def _read(path: Path) -> dict[str, dict[str, int]]:
    """The entries of all models; none if the file is missing or damaged."""
    try:
        entries = parse_json(path.read_text())
    except (OSError, ValueError):
        return {}
    return entries if isinstance(entries, dict) and all(isinstance(e, dict) for e in entries.values()) else {}
