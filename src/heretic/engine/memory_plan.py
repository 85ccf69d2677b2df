"""A search's memory, computed from a model's configuration, and the number of candidates that fit."""

from dataclasses import dataclass
from typing import Any

MAX_CANDIDATES = 32
POSITION_MULTIPLE = 32
"""The buffers of a recorded step have a multiple of this many positions (engine/cuda_graphs/static_batch.py)."""

HEADROOM = 0.15
"""Share of a device's memory that is left to fragmentation and to the libraries."""

LINEAR_BYTES = {"none": 2.0, "bnb_8bit": 1.0, "bnb_4bit": 0.5 + 4 / 64}
"""Bytes a number of a linear module by `quantization`; in 4 bits each block of 64 numbers has a scale in fp32."""

HALF, FULL = 2, 4
"""Bytes a number in 16 bits, and in fp32."""


@dataclass(frozen=True, slots=True)
class ModelShape:
    """The sizes on which memory depends; `parameters` counts all, `embeddings` those that stay in 16 bits."""

    parameters: int
    embeddings: int
    layers: int
    d_model: int
    intermediate: int
    cached: int
    """Numbers that one position adds to the keys and values of one layer."""
    vocabulary: int


@dataclass(frozen=True, slots=True)
class MemoryPlan:
    """Bytes of a search in 16 bits: `weights` and `fixed` once, the others for each row of a forward.

    `keys_and_values` are those at full length, to which a prefill writes as well; `prefill` the activations of a prompt
    in the widest place, `logits` the last position's with their log-probabilities in fp32. `fixed` is what does not
    depend on the rows: a matrix of the weights in 16 bits where they are packed, and what is kept of the prompts.
    """

    weights: int
    keys_and_values: int
    prefill: int
    logits: int
    fixed: int = 0

    def working(self, rows: int, prefilled: int) -> int:
        """Bytes that grow with a batch: of so many rows, of which `prefilled` are prefilled at once."""
        return rows * (self.keys_and_values + self.logits) + prefilled * self.prefill

    def peak(self, rows: int, prefilled: int) -> int:
        return self.weights + self.fixed + self.working(rows, prefilled)

    def fitting(self, total: int, prompts: int) -> int:
        """Candidates a forward, with a row for each prompt, that fit a device of `total` bytes; 0: not even one.

        Prompts may all have one length, and are then prefilled at once.
        """
        return min(MAX_CANDIDATES, self.fitting_rows(total - self.weights, total) // prompts)

    def fitting_rows(self, free: int, total: int) -> int:
        """Rows that fit `free` bytes of a device of `total`."""
        return max(0, int((free - self.fixed - HEADROOM * total) / self.working(1, 1)))


def shape_of(model: Any, config: Any) -> ModelShape:
    """The shape of a model, which may be on the meta device; `config` is that of its text decoder."""
    head = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
    heads = getattr(config, "num_key_value_heads", None) or config.num_attention_heads
    ends = {id(each.weight): each.weight for each in (model.get_input_embeddings(), model.get_output_embeddings())}
    return ModelShape(
        parameters=sum(each.numel() for each in model.parameters()),
        embeddings=sum(each.numel() for each in ends.values()),
        layers=config.num_hidden_layers,
        d_model=config.hidden_size,
        intermediate=getattr(config, "intermediate_size", None) or 4 * config.hidden_size,
        cached=2 * heads * head,
        vocabulary=len(model.get_input_embeddings().weight),
    )


def plan_memory(shape: ModelShape, quantization: str, prompt_length: int, response_length: int) -> MemoryPlan:
    """The plan for prompts and responses of so many tokens."""
    linear = shape.parameters - shape.embeddings
    # Gate, up and their product, in addition to the stream and its edit, of which fp32 copies are made.
    position = 3 * HALF * shape.intermediate + (2 * HALF + 2 * FULL) * shape.d_model
    positions = -(-(prompt_length + response_length) // POSITION_MULTIPLE) * POSITION_MULTIPLE
    return MemoryPlan(
        weights=int(linear * LINEAR_BYTES[quantization] + shape.embeddings * HALF),
        keys_and_values=positions * shape.cached * shape.layers * HALF,
        prefill=prompt_length * position,
        logits=shape.vocabulary * (HALF + FULL),
        fixed=0 if quantization == "none" else HALF * shape.d_model * shape.intermediate,
    )
