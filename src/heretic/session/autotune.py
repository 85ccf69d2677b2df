"""How a search uses this machine: measured once for a model, and kept for the next start."""

import json
import os
import platform
from collections.abc import Callable
from pathlib import Path

import psutil
import torch
from platformdirs import user_cache_path

from ..config import Settings
from ..engine.batch_size import find_batch_size, find_candidates, timing_prompts
from ..engine.local import LocalEngine
from ..engine.protocol import no_progress
from ..events import Reporter
from ..files import write_atomically
from ..model.layers import text_config
from ..prompts.prompt import Prompt
from ..search.process_pool import can_fork, simultaneous_seconds

BURST_ROWS, BURST_TOKENS = 32, 6
CLEARLY = 1.1
SHARE_OF_MEMORY = 0.7
MOST_MODELS = 100


def kept_measures() -> Path:
    return user_cache_path("heretic") / "measured.json"


class Tuning:
    """Batch size, candidates a forward and processes of a search; a setting that is not 0 is taken as it is."""

    def __init__(self, engine: LocalEngine, settings: Settings, reporter: Reporter) -> None:
        self._engine = engine
        self._settings = settings
        self._reporter = reporter
        self._key = _key(engine, settings)

    def batch_size(self, prompts: tuple[Prompt, ...]) -> int:
        def measure() -> int:
            with self._reporter.step("Finding the batch size") as progress:
                return find_batch_size(self._engine, prompts, self._settings.max_batch_size, lambda _: progress(1))

        return self._settings.batch_size or self._kept("batch_size", self._settings.max_batch_size, measure)

    def workers(self, bad: tuple[Prompt, ...], vocab: int) -> int:
        """Processes that measure candidates at the same time; 1 on an accelerator."""
        if not can_fork(self._engine.loaded.device) or self._settings.print_responses:
            return 1
        threads = torch.get_num_threads()
        fitting = self._fitting(bad, vocab)

        def measure() -> int:
            with self._reporter.step("Finding how many candidates to measure at once"):
                return self._measured_workers(min(threads, fitting), bad)

        wanted = self._settings.n_workers or (1 if threads == 1 else self._kept("workers", threads, measure))
        return max(1, min(wanted, fitting))

    def candidates(self, bad: tuple[Prompt, ...]) -> int:
        """Candidates a forward, and a batch size that has room for them."""
        engine = self._engine

        def measure() -> int:
            with self._reporter.step("Finding the number of candidates a forward") as progress:
                return find_candidates(engine, bad, lambda _: progress(1))

        count = self._settings.candidates_per_forward
        if not count:
            # Where a batch of all prompts is not the fastest, more rows are no faster.
            count = self._kept("candidates", len(bad), measure) if engine.batch_size >= len(bad) else 1
        if count > 1:
            engine.set_batch_size(max(engine.batch_size, count * len(bad)))
        return count

    def _measured_workers(self, count: int, bad: tuple[Prompt, ...]) -> int:
        """`count` or 1, whichever generates more tokens a second."""
        if count < 2:
            return 1
        rows = timing_prompts(self._engine, bad, BURST_ROWS)

        def burst() -> None:
            with self._engine.without_layer_cache():
                self._engine.generate(rows, [{}], BURST_TOKENS, None, no_progress)

        alone, together = simultaneous_seconds(1, burst), simultaneous_seconds(count, burst)
        return count if count / together > CLEARLY / alone else 1

    def _fitting(self, bad: tuple[Prompt, ...], vocab: int) -> int:
        """How many processes' keys, values and logits fit the memory that is free."""
        engine = self._engine
        config = text_config(engine.loaded.model)
        longest = max(len(engine.chat.tokens(prompt)) for prompt in bad) + self._settings.max_response_length
        head = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
        heads = getattr(config, "num_key_value_heads", None) or config.num_attention_heads
        rows = min(len(bad), engine.batch_size)
        cached = rows * longest * 2 * heads * head * len(engine.loaded.layers) * engine.loaded.dtype.itemsize
        # A cache is copied where rows leave it; log-probabilities of all prompts are compared in fp32.
        needed = 2 * cached + 3 * len(bad) * vocab * 4
        return max(1, int(SHARE_OF_MEMORY * psutil.virtual_memory().available / needed))

    def _kept(self, name: str, limit: int, measure: Callable[[], int]) -> int:
        """What was measured on this machine before, under the same limit, or is now."""
        path = kept_measures()
        entries = _read(path)
        entry = entries[self._key] = entries.pop(self._key, {})
        label = f"{name} of {limit}"
        if not isinstance(entry.get(label), int):
            entry[label] = measure()
            newest = dict(list(entries.items())[-MOST_MODELS:])
            write_atomically(path, json.dumps(newest, indent=1).encode())
        return int(entry[label])


def at_once(
    engine: LocalEngine, settings: Settings, bad: tuple[Prompt, ...], vocab: int, reporter: Reporter
) -> tuple[int, int]:
    """(processes that measure candidates, candidates a forward of each); says so where either is more than one."""
    tuning = Tuning(engine, settings, reporter)
    processes = tuning.workers(bad, vocab)
    if processes > 1:
        reporter.say(f"{processes} candidates are measured at once, each by a process of its own.")
        return processes, 1
    candidates = tuning.candidates(bad)
    if candidates > 1:
        reporter.say(f"{candidates} candidates are measured at once, in the same forwards.")
    return 1, candidates


def _read(path: Path) -> dict[str, dict[str, int]]:
    """The entries of all models; none where the file is not there or was damaged: they are measured again."""
    try:
        entries = json.loads(path.read_text())
    except (OSError, ValueError):
        return {}
    return entries if isinstance(entries, dict) and all(isinstance(e, dict) for e in entries.values()) else {}


def _key(engine: LocalEngine, settings: Settings) -> str:
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
