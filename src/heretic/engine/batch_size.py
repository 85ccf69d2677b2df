"""How many rows a forward takes: found by measuring."""

from collections.abc import Callable, Sequence

import torch

from ..errors import ModelError
from ..prompts.prompt import Prompt
from .local import LocalEngine

NEW_TOKENS = 10
WORSE, BETTER = 0.9, 1.1
MOST_CANDIDATES = 32


def find_batch_size(engine: LocalEngine, prompts: Sequence[Prompt], most: int, tried: Callable[[int], None]) -> int:
    """The batch size, doubled from 1 to `most`, with the most generated tokens a second.

    Each size has a step that is not timed, and a timed run; the first out-of-memory ends it, and so do two sizes in a
    row that are clearly slower than the best (one may be another program's doing). `engine.batch_size` is left as it
    was.

    Raises:
        ModelError: not even one row fits the memory.
    """
    before = engine.batch_size
    best_size, best_rate = 0, 0.0
    size, slower = 1, 0
    try:
        while size <= most and slower < 2:
            engine.batch_size = size
            rows = measuring_rows(engine, prompts, size)
            try:
                rate = engine.decoding_rate(rows, 1, NEW_TOKENS)
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


def measuring_rows(engine: LocalEngine, prompts: Sequence[Prompt], size: int) -> list[Prompt]:
    """`size` prompts to measure decoding with: the longest one again and again on a CPU, which then runs it once.

    An accelerator's memory must hold as many different ones, or the measure would be wrong where it matters.
    """
    if engine.loaded.device.type == "cpu":
        return [max(prompts, key=lambda prompt: len(engine.chat.tokens(prompt)))] * size
    return [prompts[index % len(prompts)] for index in range(size)]


def find_candidates(engine: LocalEngine, prompts: Sequence[Prompt], tried: Callable[[int], None]) -> int:
    """How many candidates a forward, doubled from 1 while that clearly gives more tokens a second and memory lasts.

    `engine.batch_size` is left as it was.
    """
    before = engine.batch_size
    best, best_rate, count = 1, 0.0, 1
    try:
        while count <= MOST_CANDIDATES:
            engine.batch_size = count * len(prompts)
            try:
                rate = engine.decoding_rate(measuring_rows(engine, prompts, len(prompts)), count, NEW_TOKENS)
            except RuntimeError as error:
                if not out_of_memory(error):
                    raise
                torch.cuda.empty_cache()
                break
            tried(count)
            if count > 1 and rate < BETTER * best_rate:
                break
            best, best_rate = count, rate
            count *= 2
    finally:
        engine.batch_size = before
    return best


def out_of_memory(error: RuntimeError) -> bool:
    """CUDA's own error, or the CPU allocator's, which is a plain RuntimeError."""
    return isinstance(error, torch.cuda.OutOfMemoryError) or "can't allocate memory" in str(error)
