"""[Engine] How the model runs: parallelism, caches and kernels. They change speed and memory, not metrics."""

from pydantic import ConfigDict, Field

from ..types import StaticDecode
from .base import Section


class EngineSettings(Section):
    """How prompts and candidates are batched, and which optimisations are on."""

    model_config = ConfigDict(title="Engine")

    batch_size: int = Field(
        default=0,
        ge=0,
        description="Prompts per forward pass; 0 measures the fastest. Lower it when memory runs out.",
    )
    max_batch_size: int = Field(
        default=128, ge=1, description="Largest number of prompts per forward pass to try when it is measured."
    )
    candidates_per_forward: int = Field(
        default=0,
        ge=0,
        description="Candidates that share a forward pass; 0 measures the fastest. Set 1 for models that can't mix "
        "candidates in a batch.",
    )
    n_workers: int = Field(
        default=0,
        ge=0,
        description="Processes that evaluate candidates in parallel on a CPU; 0 measures the fastest. A GPU always "
        "uses one.",
    )
    share_prefix: bool = Field(
        default=True,
        description="Compute what all prompts begin with (template and system prompt) once per candidate.",
    )
    cache_lower_layers: bool = Field(
        default=True,
        description="Compute the layers below the first edited one once for all candidates, and cache their outputs. "
        "Turn it off to save memory.",
    )
    fast_attention: bool = Field(
        default=True, description="Use plain matrix products for attention when decoding in bfloat16 on a CPU."
    )
    packed_weights: bool = Field(
        default=True,
        description="Keep copies of the weights in the layout of a CPU's matrix kernels. They are made only where "
        "memory is plentiful.",
    )
    gpu_kernels: bool = Field(
        default=True,
        description="Apply edits, and attend while decoding, by kernels in Triton on a GPU. They are used where Triton "
        "is installed and can compile them.",
    )
    compact_batch: bool = Field(
        default=True, description="Remove responses from the batch as soon as they have ended or are decided."
    )
    static_decode: StaticDecode = Field(
        default="auto",
        description="Decode with CUDA graphs. auto uses them on a GPU; on also warns where they can't be used; set off "
        "if capturing them fails.",
    )
    offload_outputs_to_cpu: bool = Field(
        default=True,
        description="No effect, for configurations of heretic-llm: residuals are always kept in RAM, and "
        "log-probabilities on the model's device.",
    )
