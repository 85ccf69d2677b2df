"""The speed of this machine: that of a matrix product now, and how near to it the last search came."""

import json
import os
import platform
import time
from pathlib import Path

import torch
from platformdirs import user_cache_path

from ..files import write_atomically
from ..model.accelerator import accelerator, device_name

SHARES = (0.02, 50.0)
"""Least and largest believable share of a product's rate; files of earlier versions hold rates in operations a second.
It is 0.6 on an H100 if nothing ends early; on two CPU cores early ends of responses make it 1.3, and pruning 3
(docs/speed.md)."""
PROMPT_LENGTH = 50
"""Tokens of a prompt in its chat template, about."""
SIDE = {"cpu": 1024}
OTHER_SIDE = 4096
SECONDS = 0.2
MAX_ENTRIES = 20
LEARNED = ", learned edits"


def device_key() -> str:
    """The device that models are loaded on, by name."""
    kind = accelerator()
    if kind is None:
        return f"cpu {platform.machine()}, {os.cpu_count()} cores"
    return device_name(torch.device(kind, 0))


def work_of(parameters: int, prompts: tuple[int, int], response_length: int) -> float:
    """Floating-point operations of a fully evaluated trial: two a parameter and token.

    `prompts` counts those of which only the first token is needed, and those that get responses.
    """
    first, responses = prompts
    tokens = first * PROMPT_LENGTH + responses * (PROMPT_LENGTH + response_length)
    return 2.0 * parameters * tokens


def record_search(work: float, seconds: float, rate: float, learned: bool = False) -> None:
    """Records the share of `rate`, that of a product, that a search reached, given the work of its trials if they were
    fully evaluated. Both rates fall where another program takes its part of the machine. The share of a search that
    learned its edits is kept by itself."""
    path, key = _path(), device_key() + LEARNED * learned
    entries = _read(path)
    entries.pop(key, None)
    share = work / seconds / rate
    newest = dict(list({**entries, key: share}.items())[-MAX_ENTRIES:])
    write_atomically(path, json.dumps(newest, indent=1).encode())


def recorded_share(learned: bool = False) -> float | None:
    """The share of a product's rate that the last search on this device reached; pruned trials count as full ones."""
    return _read(_path()).get(device_key() + LEARNED * learned)


def product_rate(dtype: torch.dtype) -> float:
    """Floating-point operations a second of a matrix product, measured in a fraction of a second."""
    kind = accelerator() or "cpu"
    side = SIDE.get(kind, OTHER_SIDE)
    x = torch.ones(side, side, dtype=dtype, device=kind)
    done, started = -1, time.perf_counter()
    while done < 1 or time.perf_counter() - started < SECONDS:
        torch.mm(x, x)
        if kind != "cpu":
            torch.accelerator.synchronize()
        done += 1
        if done == 0:
            # The first product warms up.
            started = time.perf_counter()
    return done * 2.0 * side**3 / (time.perf_counter() - started)


def _path() -> Path:
    return user_cache_path("heretic") / "speed.json"


def _read(path: Path) -> dict[str, float]:
    try:
        entries = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    if not isinstance(entries, dict):
        return {}
    least, most = SHARES
    shares = {str(key): value for key, value in entries.items() if isinstance(value, int | float)}
    return {key: float(value) for key, value in shares.items() if least <= value <= most}
