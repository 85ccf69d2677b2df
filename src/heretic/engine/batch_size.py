"""How many rows a forward takes: found by measuring."""

import time
from collections.abc import Callable, Sequence

import torch

from ..errors import ModelError
from ..prompts.prompt import Prompt
from .base import no_progress
from .local import LocalEngine

NEW_TOKENS = 10
WORSE = 0.9


def find_batch_size(engine: LocalEngine, prompts: Sequence[Prompt], most: int, tried: Callable[[int], None]) -> int:
    """The batch size, doubled from 1 to `most`, with the most generated tokens a second.

    Each size has a warm-up and a timed run; the first out-of-memory ends it, and so do two sizes in a row that are
    clearly slower than the best (one may be another program's doing). `engine.batch_size` is left as it was.

    Raises:
        ModelError: not even one row fits the memory.
    """
    before = engine.batch_size
    best_size, best_rate = 0, 0.0
    size, slower = 1, 0
    try:
        while size <= most and slower < 2:
            engine.batch_size = size
            rows = [prompts[i % len(prompts)] for i in range(size)]
            try:
                rate = _rate(engine, rows)
            except RuntimeError as error:
                if not out_of_memory(error):
                    raise
                torch.cuda.empty_cache()
                break
            tried(size)
            slower = slower + 1 if rate < WORSE * best_rate else 0
            if rate > best_rate:
                best_size, best_rate = size, rate
            size *= 2
    finally:
        engine.batch_size = before
    if best_size == 0:
        raise ModelError("The model leaves no memory for even one prompt. Use quantization, or a device map with more.")
    return best_size


def _rate(engine: LocalEngine, rows: Sequence[Prompt]) -> float:
    """Generated tokens a second, prefill left out: a response has many more tokens than this run."""
    engine.respond(rows, [{}], 1, None, no_progress)
    start = time.perf_counter()
    engine.respond(rows, [{}], 1, None, no_progress)
    middle = time.perf_counter()
    engine.respond(rows, [{}], NEW_TOKENS, None, no_progress)
    decoding = (time.perf_counter() - middle) - (middle - start)
    # A disturbed run can seem to decode in no time.
    return len(rows) * (NEW_TOKENS - 1) / max(decoding, 0.1 * (middle - start))


def out_of_memory(error: RuntimeError) -> bool:
    """CUDA's own error, or the CPU allocator's, which is a plain RuntimeError."""
    return isinstance(error, torch.cuda.OutOfMemoryError) or "can't allocate memory" in str(error)
