"""Measured choices of the batch size and of the number of candidates a forward.

On a CPU both are found by doubling. On an accelerator, memory follows from one forward, and the time of a step from two
short runs.
"""

import math
from collections.abc import Callable, Sequence

from ..ablation.edit import ModelEdit
from ..errors import ModelError, NoMemoryError
from ..model.accelerator import empty_cache
from ..model.sharding import agreed
from ..prompts.prompt import Prompt
from .local import LocalEngine
from .measured_plan import fitting_rows, measured_plan
from .protocol import MEMORY_ERRORS, Progress, Response, out_of_memory

TIMED_TOKENS = 10
"""Tokens a row of a timed run; `decoding_rate` leaves the first CHECK_INTERVAL of them out."""

SLOWER, FASTER = 0.9, 1.1
"""Ratios of two rates that count as a difference: runs of the same size differ by some percent."""

FIXED_SHARE = 0.25
"""Maximum share of a step's time that is independent of its rows, at the chosen number of candidates: more rows would
save at most this share, and the sampler would propose more candidates before it knows results."""

SHORT_RUN = 4
"""Candidates of the second of two short runs."""

MAX_CANDIDATES = 32
"""The sampler proposes all candidates of a forward before it knows the results of any: more would make the search
random."""


NO_ROOM = "The model leaves no memory for even one prompt. Use quantization, or a device map with more."


def whole_responses(
    engine: LocalEngine, prompts: Sequence[Prompt], edits: Sequence[ModelEdit], length: int, progress: Progress
) -> list[list[Response]]:
    """Responses by edit and prompt; the batch size is halved as long as memory runs out.

    Raises:
        NoMemoryError: not even one row fits the memory.
    """
    while True:
        try:
            return engine.generate(prompts, edits, length, None, progress)
        except MEMORY_ERRORS as error:
            if not out_of_memory(error):
                raise
        if not engine.halve_batch_size():
            raise NoMemoryError(NO_ROOM)


def find_batch_size(engine: LocalEngine, prompts: Sequence[Prompt], limit: int, tried: Callable[[int], None]) -> int:
    """The batch size, doubled from 1 to `limit`, that generates most tokens a second.

    Each size has a warm-up step and a timed run. Doubling ends at the first out-of-memory error, or after two sizes in
    a row that are clearly slower than the best (a single one may be due to another program).

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
        raise ModelError(NO_ROOM)
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


def planned_batch_size(engine: LocalEngine, prompts: Sequence[Prompt], limit: int, response_length: int) -> int:
    """The rows, at most `limit`, that fit an accelerator's memory: there, a larger batch is not slower.

    Raises:
        ModelError: not even one row fits.
    """
    fitting = fitting_rows(engine, measured_plan(engine, prompts, response_length))
    if not fitting:
        raise ModelError(NO_ROOM)
    return min(limit, fitting)


def planned_candidates(
    engine: LocalEngine, prompts: Sequence[Prompt], response_length: int, tried: Callable[[int], None]
) -> int:
    """How many candidates to run in a forward on an accelerator: as many as fit its memory, but no more than make a
    step's fixed cost small.

    A step of n rows takes a + b n; two short runs give a and b.
    """
    fitting = fitting_rows(engine, measured_plan(engine, prompts, response_length)) // len(prompts)
    most = max(1, min(MAX_CANDIDATES, fitting))
    short = min(most, SHORT_RUN)
    if short == 1:
        return 1
    times: list[float] = []
    for count in (1, short):
        with engine.with_batch_size(count * len(prompts)):
            rate = _rate(engine, prompts, count)
        if rate is None:
            return 1
        tried(count)
        times.append(count * len(prompts) / rate)
    return min(most, enough_candidates(times[0], times[1], short))


def enough_candidates(one: float, several: float, count: int) -> int:
    """The number of candidates with which the fixed part of a step is `FIXED_SHARE` of it, from the seconds of a step
    with one candidate and with `count`."""
    each = (several - one) / (count - 1)
    fixed = one - each
    if each <= 0:
        return MAX_CANDIDATES
    # fixed / (fixed + n each) <= share
    return max(1, math.ceil(fixed / each * (1 / FIXED_SHARE - 1)))


def _rate(engine: LocalEngine, prompts: Sequence[Prompt], n_candidates: int) -> float | None:
    """Tokens a second; None where memory does not suffice."""
    try:
        return agreed(engine.decoding_rate(prompts, n_candidates, TIMED_TOKENS))
    except MEMORY_ERRORS as error:
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
