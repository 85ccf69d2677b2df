"""Measured choices of the batch size and of the number of candidates a forward."""

from collections.abc import Callable, Sequence

from ..errors import ModelError
from ..model.accelerator import empty_cache
from ..prompts.prompt import Prompt
from .local import LocalEngine
from .protocol import out_of_memory

TIMED_TOKENS = 10
"""Tokens a row of a timed run; `decoding_rate` leaves the first CHECK_INTERVAL of them out."""

SLOWER, FASTER = 0.9, 1.1
"""Ratios of two rates that count as a difference: runs of the same size differ by some percent."""

MAX_CANDIDATES = 32
"""The sampler proposes all candidates of a forward before it knows the results of any: more would make the search
random."""


def find_batch_size(engine: LocalEngine, prompts: Sequence[Prompt], limit: int, tried: Callable[[int], None]) -> int:
    """The batch size, doubled from 1 to `limit`, that generates most tokens a second.

    Each size has a step that is not timed, and a timed run. Doubling ends at the first out-of-memory error, or after
    two sizes in a row that are clearly slower than the best (one may be another program's doing).

    Raises:
        ModelError: not even one row fits the memory.
    """
    best_size, best_rate = 0, 0.0
    size, slower = 1, 0
    while size <= limit and slower < 2:
        with engine.with_batch_size(size):
            rate = _rate(engine, timing_prompts(engine, prompts, size), 1)
        if rate is None:
            break
        tried(size)
        slower = slower + 1 if rate < SLOWER * best_rate else 0
        if rate > best_rate:
            best_size, best_rate = size, rate
        size *= 2
    if best_size == 0:
        raise ModelError("The model leaves no memory for even one prompt. Use quantization, or a device map with more.")
    return best_size


def find_candidates(engine: LocalEngine, prompts: Sequence[Prompt], tried: Callable[[int], None]) -> int:
    """How many candidates to run in a forward: doubled from 1 while that clearly gives more tokens a second and the
    memory suffices."""
    best, best_rate, count = 1, 0.0, 1
    while count <= MAX_CANDIDATES:
        with engine.with_batch_size(count * len(prompts)):
            rate = _rate(engine, timing_prompts(engine, prompts, len(prompts)), count)
        if rate is None:
            break
        tried(count)
        if count > 1 and rate < FASTER * best_rate:
            break
        best, best_rate = count, rate
        count *= 2
    return best


def _rate(engine: LocalEngine, prompts: Sequence[Prompt], n_candidates: int) -> float | None:
    """Tokens a second; None where memory does not suffice."""
    try:
        return engine.decoding_rate(prompts, n_candidates, TIMED_TOKENS)
    except RuntimeError as error:
        if not out_of_memory(error):
            raise
        empty_cache()
        return None


def timing_prompts(engine: LocalEngine, prompts: Sequence[Prompt], size: int) -> list[Prompt]:
    """`size` prompts to time decoding with: on a CPU the longest one repeated, whose prefill then runs once.

    On an accelerator they differ, so that the measured memory is that of a search.
    """
    if engine.loaded.device.type == "cpu":
        return [max(prompts, key=lambda prompt: len(engine.chat.tokens(prompt)))] * size
    return [prompts[index % len(prompts)] for index in range(size)]
