"""How many candidates a search measures at once: in processes on a CPU, or in the same forward passes."""

import inspect
from dataclasses import dataclass, replace

import psutil
import torch

from ..ablation.sites import ExpertSite, FusedExpertsSite
from ..engine.batch_size import find_candidates, planned_candidates, timing_prompts
from ..engine.local import LocalEngine
from ..engine.measured_plan import bytes_a_row, fitting_rows, measured_plan
from ..engine.protocol import no_progress
from ..evaluation.heldout.evaluate import HeldoutPrompts
from ..model.accelerator import accelerator
from ..prompts.prompt import Prompt
from ..session.autotune import measured_once, tuning_key
from ..session.context import LoadedStudy, Session
from ..session.heldout import response_length
from .process_pool import can_fork, simultaneous_seconds

CACHE_ARGUMENTS = {"past_key_values", "past_key_value", "cache"}
"""Names by which modules of transformers take a cache."""
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
    count = choose_candidates(loaded.session, loaded.engine)
    engine, bad = loaded.engine, _bad(loaded)
    wanted = batch_size_for(count, engine.batch_size, len(bad))
    if count > 1:
        wanted = max(engine.batch_size, _fitting_rows(engine, wanted, bad, loaded.settings.max_response_length))
    engine.set_batch_size(wanted)
    return count


def batch_size_for(candidates: int, batch_size: int, prompts: int) -> int:
    """Rows that hold `candidates` with all their prompts; of one candidate, the batch size itself."""
    return max(batch_size, candidates * prompts) if candidates > 1 else batch_size


def choose_candidates(session: Session, engine: LocalEngine) -> int:
    """Candidates per forward pass, as the settings say or as it is fastest."""
    settings, bad = session.settings, session.prompts.bad_evaluation.prompts

    def measure() -> int:
        with session.reporter.step("Finding the number of candidates per forward pass") as progress:
            if engine.loaded.device.type == accelerator():
                return planned_candidates(engine, bad, settings.max_response_length, lambda _: progress(1))
            return find_candidates(engine, bad, lambda _: progress(1))

    if settings.candidates_per_forward:
        return settings.candidates_per_forward
    # If a batch of all prompts is not the fastest, more rows are no faster.
    fastest = engine.batch_size >= len(bad) and not _experts_keep_cache(engine)
    return measured_once(tuning_key(engine, session), f"candidates of {len(bad)}", measure) if fastest else 1


def _fitting_rows(engine: LocalEngine, wanted: int, bad: tuple[Prompt, ...], max_response_length: int) -> int:
    """The rows of a forward: all that are wanted, or as many as fit an accelerator's memory, where others wait."""
    if engine.loaded.device.type != accelerator():
        return wanted
    return min(wanted, fitting_rows(engine, measured_plan(engine, bad, max_response_length)))


def _experts_keep_cache(engine: LocalEngine) -> bool:
    """Whether a block of experts keeps keys and values (JetMoE's attention is one): its rows can't be assigned to
    candidates, so each candidate needs its own forward pass."""
    blocks = {site.block for site in engine.sites if isinstance(site, ExpertSite | FusedExpertsSite)}
    taken = (inspect.signature(engine.loaded.model.get_submodule(block).forward).parameters for block in blocks)
    return any(not CACHE_ARGUMENTS.isdisjoint(parameters) for parameters in taken)


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
