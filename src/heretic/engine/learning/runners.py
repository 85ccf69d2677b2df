"""The runner of learning steps for an engine's model."""

from collections.abc import Sequence
from functools import singledispatch

from ...ablation.methods.learned.layout import layout_of
from ..local import LocalEngine
from .forward import AnswerForward
from .gradient_fault import gradient_fault
from .rows import Row
from .step import MOST_POSITIONS, StepRunner

LARGE = 1_000_000_000
"""Parameters above which activations are recomputed in the backward pass on a CPU, where otherwise a group of rows
stores those of `MOST_POSITIONS` positions; on an accelerator recomputing is always faster."""


# An engine whose model is in other processes has its own implementation.
@singledispatch
def step_runner(engine: LocalEngine, first_layer: int) -> StepRunner:
    """Steps in this process; `first_layer` is the first that any edit changes."""
    on_cpu = engine.loaded.device.type == "cpu"
    # On an accelerator, kernel launches cost more than padding: all rows that fit form one group.
    return StepRunner(answer_forward(engine, first_layer), MOST_POSITIONS if on_cpu else None)


def answer_forward(engine: LocalEngine, first_layer: int) -> AnswerForward:
    loaded = engine.loaded
    large = sum(each.numel() for each in loaded.model.parameters()) > LARGE
    on_cpu = loaded.device.type == "cpu"
    pad = engine.chat.tokenizer.pad_token_id
    return AnswerForward(loaded, engine.forward, pad, first_layer, checkpoints=large or not on_cpu)


@singledispatch
def fault_of_gradients(engine: LocalEngine, first_layer: int, rows: Sequence[Row]) -> str | None:
    """Why no edits from `first_layer` on can be learned of the engine's model, or None."""
    forward = answer_forward(engine, first_layer)
    return gradient_fault(forward, layout_of(engine.sites, {}, first_layer), engine.loaded.d_model, rows)
