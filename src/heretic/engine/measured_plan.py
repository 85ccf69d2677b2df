"""The memory of a loaded model's rows, measured by two forwards of a few rows."""

from collections.abc import Sequence
from functools import partial

import torch

from ..model.accelerator import allocated_memory, empty_cache, free_memory, peak_of, total_memory
from ..model.hooks.edits import fused_kernel
from ..model.sharding import agreed
from ..prompts.prompt import Prompt
from .cuda_graphs.static_batch import BatchCapacity
from .kv_cache import HEADROOM as FREE_POSITIONS
from .kv_cache import cache_bytes, make_cache
from .layer_cache import MAX_DEPTHS
from .local import LocalEngine
from .memory_plan import FULL, MemoryPlan

MEASURED_ROWS = 1, 5
"""Rows of the two forwards: their difference is what a row takes, without what does not depend on the rows."""


def bytes_a_row(engine: LocalEngine, positions: int) -> int:
    """Memory of the cache of one row with that many positions: measured, since models differ in what they keep."""
    return _bytes_of_cache(engine, 1, positions)


@torch.inference_mode()
def _bytes_of_cache(engine: LocalEngine, rows: int, positions: int) -> int:
    tokens = torch.zeros(rows, positions, dtype=torch.long, device=engine.loaded.device)
    cache = make_cache(engine.loaded.model.config, positions)
    engine.forward(tokens, torch.ones_like(tokens), cache)
    return cache_bytes(cache)


def measured_plan(engine: LocalEngine, prompts: Sequence[Prompt], response_length: int) -> MemoryPlan:
    """The plan of a search with these prompts on an accelerator."""
    loaded = engine.loaded
    lengths = [len(engine.chat.tokens(prompt)) for prompt in prompts]
    longest = max(lengths)
    cached: list[int] = []
    activations: list[int] = []
    with engine.without_layer_cache():
        for rows in MEASURED_ROWS:
            # A warm-up before the measurement: the first forward allocates workspaces.
            cached.append(_bytes_of_cache(engine, rows, longest))
            peak = peak_of(loaded.device, partial(_bytes_of_cache, engine, rows, longest))
            activations.append(max(0, peak - cached[-1]))
    few, more = MEASURED_ROWS
    prefill = max(0, activations[1] - activations[0]) // (more - few)
    a_position = cached[0] // (longest + FREE_POSITIONS)
    return MemoryPlan(
        weights=allocated_memory(loaded.device),
        keys_and_values=a_position * _decoded_positions(engine, longest + response_length),
        # With the edits' factors, where they are copied for each row.
        prefill=prefill + _bytes_of_edits(engine),
        logits=loaded.vocabulary * (loaded.dtype.itemsize + FULL),
        fixed=max(0, activations[0] - few * prefill) + _bytes_of_layers(engine, sum(lengths), a_position),
    )


def _decoded_positions(engine: LocalEngine, positions: int) -> int:
    """Positions of the buffers in which rows are decoded."""
    return positions if engine.graphs is None else BatchCapacity(1, positions, 1, 1).padded_positions


def _bytes_of_layers(engine: LocalEngine, tokens: int, a_position: int) -> int:
    """What is kept of the prompts for the layers below the first edited one: hidden states, keys and values."""
    if engine.layer_cache is None:
        return 0
    states = min(MAX_DEPTHS, len(engine.loaded.layers)) * engine.loaded.d_model * engine.loaded.dtype.itemsize
    return min(engine.layer_cache.bytes_left, tokens * (states + a_position))


def fitting_rows(engine: LocalEngine, plan: MemoryPlan) -> int:
    """Rows of a forward that fit the memory which the model's device has free."""
    device = engine.loaded.device
    # Memory that torch has reserved for later tensors is free too.
    empty_cache()
    return agreed(plan.fitting_rows(free_memory(device), total_memory(device)))


def _bytes_of_edits(engine: LocalEngine) -> int:
    """Left, right and scale of each site, in fp32; none where a kernel reads those of the row's candidate."""
    loaded = engine.loaded
    if engine.fused and fused_kernel(loaded.model) is not None:
        return 0
    return 3 * FULL * loaded.d_model * len(loaded.sites)
