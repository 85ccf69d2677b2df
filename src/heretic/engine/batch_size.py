"""How many rows a forward takes: found by measuring."""

import time
from collections.abc import Callable, Sequence

import torch

from ..errors import ModelError
from ..prompts.prompt import Prompt
from .base import no_progress
from .local import LocalEngine

NEW_TOKENS = 8
WORSE = 0.9


def find_batch_size(engine: LocalEngine, prompts: Sequence[Prompt], most: int, tried: Callable[[int], None]) -> int:
    """The batch size, doubled from 1 to `most`, with the most generated tokens a second.

    Each size has a warm-up and a timed run; the first out-of-memory ends it, and so does a size that is clearly slower
    than the best. `engine.batch_size` is left as it was.

    Raises:
        ModelError: not even one row fits the memory.
    """
    before = engine.batch_size
    best_size, best_rate = 0, 0.0
    size = 1
    try:
        while size <= most:
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
            if rate > best_rate:
                best_size, best_rate = size, rate
            elif rate < WORSE * best_rate:
                break
            size *= 2
    finally:
        engine.batch_size = before
    if best_size == 0:
        raise ModelError("The model leaves no memory for even one prompt. Use quantization, or a device map with more.")
    return best_size


def _rate(engine: LocalEngine, rows: Sequence[Prompt]) -> float:
    """Generated tokens a second."""
    engine.respond(rows, [{}], 1, None, no_progress)
    start = time.perf_counter()
    engine.respond(rows, [{}], NEW_TOKENS, None, no_progress)
    return len(rows) * NEW_TOKENS / (time.perf_counter() - start)


def out_of_memory(error: RuntimeError) -> bool:
    """CUDA's own error, or the CPU allocator's, which is a plain RuntimeError."""
    return isinstance(error, torch.cuda.OutOfMemoryError) or "can't allocate memory" in str(error)
