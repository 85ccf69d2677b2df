"""The candidates that share a forward pass in a search, and the rows and recorded steps that they need."""

import inspect

from ..ablation.sites import ExpertSite, FusedExpertsSite
from ..engine.batch_size import find_candidates, planned_candidates
from ..engine.cuda_graphs.static_batch import BatchCapacity
from ..engine.local import LocalEngine
from ..engine.measured_plan import fitting_rows, measured_plan
from ..model.accelerator import accelerator
from ..model.loading.digest import digest_ahead
from ..prompts.prompt import Prompt
from .autotune import measured_once, tuning_key
from .context import ModelSession

CACHE_ARGUMENTS = {"past_key_values", "past_key_value", "cache"}
"""Names by which modules of transformers take a cache."""


def prepare_search(engine: LocalEngine, session: ModelSession) -> None:
    """Plans a search on an accelerator before anything is generated there; does nothing on a CPU.

    Steps recorded from now on fit all candidates of a forward pass, so those of the baseline serve the search. The
    files' digest is computed meanwhile: an accelerator leaves the processor idle.
    """
    if engine.loaded.device.type != accelerator():
        return
    digest_ahead(session.checkpoint)
    if engine.graphs is None:
        return
    count = choose_candidates(session, engine)
    longest = max(len(engine.chat.tokens(prompt)) for prompt in session.prompts.all())
    length = session.settings.max_response_length
    rows = forward_rows(engine, _bad(session), count, length)
    engine.graphs.reserve(BatchCapacity(rows, longest + length, count, rank=1))


def choose_candidates(session: ModelSession, engine: LocalEngine) -> int:
    """Candidates per forward pass, as the settings say or as it is fastest."""
    settings, bad = session.settings, _bad(session)

    def measure() -> int:
        with session.reporter.step("Finding the number of candidates per forward pass") as progress:
            if engine.loaded.device.type == accelerator():
                return planned_candidates(engine, bad, settings.max_response_length, lambda _: progress(1))
            return find_candidates(engine, bad, lambda _: progress(1))

    if settings.candidates_per_forward:
        return settings.candidates_per_forward
    # If a batch of all prompts is not the fastest, more rows are no faster.
    fastest = engine.batch_size >= len(bad) and not experts_keep_cache(engine)
    return measured_once(tuning_key(engine, session), f"candidates of {len(bad)}", measure) if fastest else 1


def batch_size_for(candidates: int, batch_size: int, prompts: int) -> int:
    """Rows that hold `candidates` with all their prompts; of one candidate, the batch size itself."""
    return max(batch_size, candidates * prompts) if candidates > 1 else batch_size


def forward_rows(engine: LocalEngine, bad: tuple[Prompt, ...], candidates: int, response_length: int) -> int:
    """The rows of a forward pass: those of all candidates, or as many as fit an accelerator's memory, where the others
    wait."""
    wanted = batch_size_for(candidates, engine.batch_size, len(bad))
    if candidates == 1 or engine.loaded.device.type != accelerator():
        return wanted
    if engine.graphs is not None and engine.graphs.reserved is not None:
        # Their buffers are allocated, so that less memory is free than when they were planned.
        return min(wanted, engine.graphs.reserved.rows)
    return max(engine.batch_size, min(wanted, fitting_rows(engine, measured_plan(engine, bad, response_length))))


def experts_keep_cache(engine: LocalEngine) -> bool:
    """Whether a block of experts keeps keys and values (JetMoE's attention is one): its rows can't be assigned to
    candidates, so each candidate needs its own forward pass."""
    blocks = {site.block for site in engine.sites if isinstance(site, ExpertSite | FusedExpertsSite)}
    taken = (inspect.signature(engine.loaded.model.get_submodule(block).forward).parameters for block in blocks)
    return any(not CACHE_ARGUMENTS.isdisjoint(parameters) for parameters in taken)


def _bad(session: ModelSession) -> tuple[Prompt, ...]:
    return session.prompts.bad_evaluation.prompts
