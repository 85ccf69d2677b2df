"""Versions, devices and memory of this machine, and the models that fit on it."""

import importlib.metadata
import importlib.util
import os
import platform
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import psutil
import torch

from .. import __version__
from ..config import Settings
from ..engine.learning.path import LearningSettings
from ..engine.memory_plan import LINEAR_BYTES, ModelShape, plan_memory, shape_of
from ..export.ggml.blocks import EXTRA
from ..export.ggml.library import find_ggml
from ..files import expand_home
from ..installing import install_command
from ..model.accelerator import accelerator, devices
from ..model.layers import text_config
from ..model.loading.checkpoint import find_checkpoint
from ..model.loading.load import auto_class, fastest_cpu_dtype
from ..model.loading.size import model_size
from ..session.autotune import noted_peaks
from ..session.forecast import BITS, BYTES, ROOM, expected_time, forecast, parameters_text
from ..session.forecast import gigabytes as _gb

PACKAGES = ("torch", "transformers", "optuna", "huggingface_hub", "peft", "safetensors", "datasets")
EXTRAS = {
    "benchmark": ("lm_eval",),
    "notebook": ("plotly",),
    "quantization": ("bitsandbytes", "compressed_tensors"),
    "report": ("plotly",),
    "research": ("matplotlib", "pacmap", "PIL"),
    "ui": ("gradio",),
}
BYTES_A_PARAMETER = {"4 bits": BYTES["bnb_4bit"], "16 bits": 2.0, "32 bits": 4.0}
PROMPTS, PROMPT_LENGTH, RESPONSE_LENGTH = 100, 50, 100
"""The search for which the number of candidates is reported: about that of the defaults."""
HUB_SECONDS = 5.0


@dataclass(frozen=True, slots=True)
class Finding:
    """One property of the machine; `problem` says what it prevents, if anything."""

    topic: str
    name: str
    value: str
    problem: str | None = None


def examine(model: str | None = None) -> list[Finding]:
    """All findings, those about `model` included; downloads nothing."""
    findings = [*_versions(), *_devices(), *_disk(), *_hub()]
    memory = _memory_for_models()
    findings.extend(_fits(memory))
    if model is not None:
        findings.extend(_model_fits(model))
        findings.extend(_candidates_fit(model))
    return findings


def _versions() -> Iterator[Finding]:
    yield Finding("Versions", "heretic", f"{__version__}, Python {platform.python_version()}, {platform.platform()}")
    for name in PACKAGES:
        yield Finding("Versions", name, importlib.metadata.version(name))
    for extra, modules in EXTRAS.items():
        missing = [module for module in modules if importlib.util.find_spec(module) is None]
        state = f"without {', '.join(missing)}: {install_command(extra)}" if missing else "installed"
        yield Finding("Versions", f"extra {extra}", state)
    yield _quantiser()


def _quantiser() -> Finding:
    """The extra of which several packages can take the place."""
    found = find_ggml() is not None
    return Finding("Versions", f"extra {EXTRA}", "installed" if found else f"without ggml: {install_command(EXTRA)}")


def _devices() -> Iterator[Finding]:
    memory = psutil.virtual_memory()
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    dtype = str(fastest_cpu_dtype()).removeprefix("torch.")
    yield Finding("Devices", "CPU", f"{cores} cores, {torch.get_num_threads()} threads, faster in {dtype}")
    yield Finding("Devices", "memory", f"{_gb(memory.available)} free of {_gb(memory.total)}")
    found = devices()
    if not found:
        built = torch.version.cuda or torch.version.hip
        problem = f"torch is built for CUDA {built} but finds no device: check the driver" if built else None
        yield Finding("Devices", "GPU", "none" if built else "none (this torch is built for the CPU)", problem)
    for each in found:
        memory_of = f"{_gb(each.free)} free of {_gb(each.total)}"
        yield Finding("Devices", f"GPU {each.index}", f"{each.name} ({accelerator()}), {memory_of}")


def _disk() -> Iterator[Finding]:
    from huggingface_hub import constants

    for name, path in (("here", Path.cwd()), ("the hub's cache", Path(constants.HF_HUB_CACHE))):
        existing = next(each for each in (path, *path.parents) if each.exists())
        usage = shutil.disk_usage(existing)
        problem = None if usage.free > 2e9 else "less than 2 GB free: an export or a download will not fit"
        yield Finding("Disk", name, f"{_gb(usage.free)} free of {_gb(usage.total)} ({path})", problem)


def _hub() -> Iterator[Finding]:
    """Whether the hub answers and who is logged in; a machine without it works with local models."""
    from huggingface_hub import HfApi, constants, get_session, get_token
    from huggingface_hub.errors import HfHubHTTPError, HTTPError

    if constants.HF_HUB_OFFLINE:
        yield Finding("Hub", "reachable", "not asked: HF_HUB_OFFLINE is set")
        return
    try:
        get_session().head(constants.ENDPOINT, timeout=HUB_SECONDS)
    except (HTTPError, OSError) as error:
        yield Finding("Hub", "reachable", f"no ({type(error).__name__}): local models work")
        return
    yield Finding("Hub", "reachable", f"yes ({constants.ENDPOINT})")
    if get_token() is None:
        yield Finding("Hub", "login", "none: uploads and gated models need `hf auth login` or HF_TOKEN")
        return
    try:
        yield Finding("Hub", "login", str(HfApi().whoami()["name"]))
    except (HfHubHTTPError, HTTPError, OSError):
        yield Finding("Hub", "login", "refused", "the hub does not know the token: log in again with `hf auth login`")


def _memory_for_models() -> float:
    """Free bytes of the GPUs together, or of RAM where there is none."""
    return float(sum(each.free for each in devices()) or psutil.virtual_memory().available)


def _fits(memory: float) -> Iterator[Finding]:
    for name, each in BYTES_A_PARAMETER.items():
        yield Finding("What fits", name, f"models up to about {memory / ROOM / each / 1e9:.1f} billion parameters")


def _model_fits(model: str) -> Iterator[Finding]:
    """Whether the model fits, from its local files or from the hub's sizes of those that a run would download."""
    size = model_size(model)
    if size is None:
        yield Finding(model, "size", "unknown: no weights here, and the hub does not know it or was not reached")
        return
    found = forecast(size)
    fetched = f", {_gb(size.missing)} to fetch" if size.missing else ""
    yield Finding(model, "size", f"{parameters_text(size)}, {_gb(size.stored)} on disk{fetched}")
    for name, need in found.needed.items():
        fits = f"{'fits' if found.fits(name) else 'does not fit'} {_gb(found.free)} of free {found.place}"
        yield Finding(model, f"memory {BITS[name]}", f"about {_gb(need)}: {fits}")
    if (advice := found.advice("none")) is not None:
        yield Finding(model, "advice", advice, advice)
    prompts = (PROMPTS, PROMPTS)
    edits, trials = LearningSettings().candidates, Settings().n_trials
    learned = expected_time(size, edits, prompts, RESPONSE_LENGTH, learned=True)
    yield Finding(model, "time", f"{edits} learned edits: {learned}")
    sampled = expected_time(size, trials, prompts, RESPONSE_LENGTH)
    yield Finding(model, "time of a sampler", f"{trials} trials: {sampled}")


def _candidates_fit(model: str) -> Iterator[Finding]:
    """From the model's configuration, the number of candidates that share a forward on the largest device."""
    largest = max(devices(), key=lambda device: device.total, default=None)
    shape = _shape(expand_home(model))
    if largest is None or shape is None:
        return
    asked = f"({PROMPTS} prompts of {PROMPT_LENGTH} tokens, {RESPONSE_LENGTH} tokens a response)"
    for quantization in LINEAR_BYTES:
        plan = plan_memory(shape, quantization, PROMPT_LENGTH, RESPONSE_LENGTH)
        count = plan.fitting(largest.total, PROMPTS)
        value = f"{count} candidates a forward" if count else "no candidate with all prompts in one forward"
        name = f"quantization = {quantization}"
        yield Finding("What fits", name, f"{_gb(plan.weights)} of weights, {value} on GPU {largest.index} {asked}")
    plan = plan_memory(shape, "none", PROMPT_LENGTH, RESPONSE_LENGTH)
    for rows, peak in sorted(noted_peaks(find_checkpoint(model).digest()).items()):
        planned = f"{_gb(plan.peak(rows, rows))} planned at most without quantization {asked}"
        yield Finding(model, f"peak of {rows} rows", f"{_gb(peak)} in the last search of that size; {planned}")


def _shape(directory: Path) -> ModelShape | None:
    """The shape of a model in a directory; None where it can't be built from its configuration alone."""
    if not (directory / "config.json").is_file():
        return None
    from transformers import AutoConfig

    try:
        config = AutoConfig.from_pretrained(directory)
        with torch.device("meta"):
            model = auto_class(config).from_config(config)
        return shape_of(model, text_config(model))
    # Loading it reports the error.
    except Exception:  # noqa: BLE001
        return None
