"""The memory of a loaded model's rows, measured by one forward of one row."""

from collections.abc import Sequence

import torch

from ..model.accelerator import allocated_memory, empty_cache, free_memory, peak_of, total_memory
from ..model.hooks.edits import fused_kernel
from ..model.sharding import agreed
from ..prompts.prompt import Prompt
from .kv_cache import HEADROOM as FREE_POSITIONS
from .kv_cache import cache_bytes, make_cache
from .local import LocalEngine
from .memory_plan import FULL, MemoryPlan


@torch.inference_mode()
def bytes_a_row(engine: LocalEngine, positions: int) -> int:
    """Memory of the cache of one row with that many positions: measured, since models differ in what they keep."""
    tokens = torch.zeros(1, positions, dtype=torch.long, device=engine.loaded.device)
    cache = make_cache(engine.loaded.model.config, positions)
    engine.forward(tokens, torch.ones_like(tokens), cache)
    return cache_bytes(cache)


def measured_plan(engine: LocalEngine, prompts: Sequence[Prompt], response_length: int) -> MemoryPlan:
    """The plan of a search with these prompts on an accelerator."""
    loaded = engine.loaded
    longest = max(len(engine.chat.tokens(prompt)) for prompt in prompts)
    # A warm-up before the measurement: the first forward allocates workspaces.
    cached: list[int] = []
    with engine.without_layer_cache():
        bytes_a_row(engine, longest)
        activations = peak_of(loaded.device, lambda: cached.append(bytes_a_row(engine, longest)))
    positions = (longest + response_length) / (longest + FREE_POSITIONS)
    return MemoryPlan(
        weights=allocated_memory(loaded.device),
        keys_and_values=int(cached[0] * positions),
        # With the edits' factors, where they are copied for each row.
        prefill=max(0, activations - cached[0]) + _bytes_of_edits(engine),
        logits=loaded.vocabulary * (loaded.dtype.itemsize + FULL),
    )


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
