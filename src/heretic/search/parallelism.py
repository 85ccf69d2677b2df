"""How many candidates a search measures at once: in processes on a CPU, or in the same forward passes."""

from dataclasses import dataclass, replace

import psutil
import torch

from ..engine.batch_size import timing_prompts
from ..engine.local import LocalEngine
from ..engine.measured_plan import bytes_a_row
from ..engine.protocol import no_progress
from ..evaluation.heldout.evaluate import HeldoutPrompts
from ..prompts.prompt import Prompt
from ..session.autotune import measured_once, tuning_key
from ..session.context import LoadedStudy
from ..session.heldout import response_length
from ..session.shared_forwards import choose_candidates, forward_rows
from .process_pool import can_fork, simultaneous_seconds

BURST_ROWS, BURST_TOKENS = 32, 6
"""Size of the generation that is timed: long enough for a steady rate, and much shorter than a trial."""
MIN_SPEEDUP = 1.1
"""Minimum speed-up by several processes: less is within the noise of the measurement."""
SHARE_OF_MEMORY = 0.7
"""Share of the free memory that processes may take; other programs need the rest."""


@dataclass(frozen=True, slots=True)
class Parallelism:
    """`processes` measure candidates at the same time, each with `candidates` per forward pass."""

    processes: int
    candidates: int


def choose_parallelism(loaded: LoadedStudy, vocab: int) -> Parallelism:
    """The parallelism of the settings. Where they leave it open, it is measured once per model and machine.

    May enlarge the engine's batch size to hold all candidates of a forward pass.
    """
    processes = _processes(loaded, vocab)
    if processes > 1:
        loaded.session.reporter.say(f"{processes} candidates are measured at once, each by its own process.")
        return Parallelism(processes, 1)
    candidates = _candidates(loaded)
    if candidates > 1:
        loaded.session.reporter.say(f"{candidates} candidates are measured at once, in the same forward passes.")
    return Parallelism(1, candidates)


def heldout_parallelism(loaded: LoadedStudy, part: HeldoutPrompts, search: Parallelism, vocab: int) -> Parallelism:
    """The search's parallelism, with no more processes than fit memory at the length of held-out responses."""
    largest = max((each.prompts for each in part.sets().values()), key=len)
    fitting = _fitting(loaded.engine, largest, vocab, response_length(loaded.session))
    return replace(search, processes=min(search.processes, fitting))


def _processes(loaded: LoadedStudy, vocab: int) -> int:
    """Processes that measure candidates at the same time; 1 on an accelerator."""
    engine, settings, bad = loaded.engine, loaded.settings, _bad(loaded)
    if not can_fork(engine.loaded.device) or settings.print_responses:
        return 1
    threads = torch.get_num_threads()
    fitting = _fitting(engine, bad, vocab, settings.max_response_length)

    def measure() -> int:
        with loaded.session.reporter.step("Finding how many candidates to measure at once"):
            return _measured_processes(engine, min(threads, fitting), bad)

    wanted = settings.n_workers
    if not wanted:
        key = tuning_key(engine, loaded.session)
        wanted = 1 if threads == 1 else measured_once(key, f"workers of {threads}", measure)
    return max(1, min(wanted, fitting))


def _candidates(loaded: LoadedStudy) -> int:
    """Candidates per forward pass; the engine's batch size is enlarged to hold them."""
    engine = loaded.engine
    count = choose_candidates(loaded.session, engine)
    engine.set_batch_size(forward_rows(engine, _bad(loaded), count, loaded.settings.max_response_length))
    return count


def _measured_processes(engine: LocalEngine, count: int, bad: tuple[Prompt, ...]) -> int:
    """`count` or 1, whichever generates more tokens per second."""
    if count < 2:
        return 1
    rows = timing_prompts(engine, bad, BURST_ROWS)

    def burst() -> None:
        with engine.without_layer_cache():
            engine.generate(rows, [{}], BURST_TOKENS, None, no_progress)

    alone, together = simultaneous_seconds(1, burst), simultaneous_seconds(count, burst)
    return count if count / together > MIN_SPEEDUP / alone else 1


def _fitting(engine: LocalEngine, bad: tuple[Prompt, ...], vocab: int, max_response_length: int) -> int:
    """Number of processes whose caches and logits fit the free memory."""
    longest = max(len(engine.chat.tokens(prompt)) for prompt in bad) + max_response_length
    cached = min(len(bad), engine.batch_size) * bytes_a_row(engine, longest)
    # Removing rows copies the cache; log-probabilities of all prompts are compared in fp32.
    needed = 2 * cached + 3 * len(bad) * vocab * 4
    return max(1, int(SHARE_OF_MEMORY * psutil.virtual_memory().available / needed))


def _bad(loaded: LoadedStudy) -> tuple[Prompt, ...]:
    return loaded.session.prompts.bad_evaluation.prompts
