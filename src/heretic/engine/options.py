"""The engine's shortcuts: each saves time and leaves the results as they are."""

from dataclasses import dataclass

from ..config.types import StaticDecode
from .generation_rules import GenerationRules


@dataclass(frozen=True, slots=True)
class EngineOptions:
    """Which shortcuts an engine takes.

    compact_batch: finished rows leave the batch.
    share_prefix: tokens that all prompts of a batch begin with are prefilled once.
    cache_lower_layers: outputs of the layers below the first edited one are cached.
    fast_attention: a decode kernel for bfloat16 on a CPU (model/kernels/decode_attention.py).
    packed_weights: weights in the layout of the CPU's matrix products (model/kernels/packed_linear.py).
    gpu_kernels: edits and attention by Triton kernels on a GPU (model/kernels/gpu_kernels.py).
    static_decode: decoding by CUDA graphs. "auto" uses them on a CUDA device; "on" also warns where they can't be used.

    `rules` are no shortcut: what the model's generation configuration forbids and penalises. CUDA graphs can't
    apply them.
    """

    compact_batch: bool = True
    share_prefix: bool = True
    cache_lower_layers: bool = True
    fast_attention: bool = True
    packed_weights: bool = True
    gpu_kernels: bool = True
    static_decode: StaticDecode = "auto"
    rules: GenerationRules | None = None


DEFAULT = EngineOptions()

PLAIN = EngineOptions(
    compact_batch=False,
    share_prefix=False,
    cache_lower_layers=False,
    fast_attention=False,
    packed_weights=False,
    gpu_kernels=False,
    static_decode="off",
)
"""No shortcut: the path that every shortcut is compared with."""
