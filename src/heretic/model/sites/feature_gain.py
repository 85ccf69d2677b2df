"""Per-feature gain of a module that acts elementwise (a post-norm), measured by probing it."""

import inspect
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from ..placement import device_of

MIN_COSINE = 0.999
"""A vector times the gain and the module's output differ by rounding alone, which in 16 bits leaves a cosine above
this."""


@torch.inference_mode()
def measured_gain(module: nn.Module, d_model: int) -> Float[Tensor, " {d_model}"]:
    """The factor of each feature, up to one positive number for all, fp32.

    It is the module's output for a vector of ones less its output for zeros: an RMS norm maps ones to its gain, whether
    it stores the gain or the gain less 1; the difference removes the bias of a scaling; a causal convolution gives its
    newest tap.
    """
    ones = torch.ones(1, 1, d_model)
    return _output_for(module, ones) - _output_for(module, torch.zeros_like(ones))


@torch.inference_mode()
def acts_on_features(module: nn.Module, d_model: int) -> bool:
    """Whether the module's output is gain ∘ input, up to one number for all features."""
    vector = torch.randn(1, 1, d_model, generator=torch.Generator().manual_seed(1))
    try:
        output = _output_for(module, vector) - _output_for(module, torch.zeros_like(vector))
        expected = measured_gain(module, d_model) * vector.flatten().to(output.device)
    except (TypeError, ValueError, RuntimeError, AttributeError, IndexError):
        # It takes more than a hidden state, so it is something else.
        return False
    return bool(torch.nn.functional.cosine_similarity(output, expected, dim=0) > MIN_COSINE)


def _output_for(module: nn.Module, vector: Float[Tensor, "1 1 d_model"]) -> Float[Tensor, " d_model"]:
    """The module's output for one vector, fp32; its other required arguments are zeros of the same shape.

    Raises:
        ValueError: it does not return one vector.
    """
    weight = next(module.parameters(), None)
    given = vector if weight is None else vector.to(device_of(module), weight.dtype)
    parameters = list(inspect.signature(module.forward).parameters.values())[1:]
    needed = [p for p in parameters if p.default is p.empty and p.kind is p.POSITIONAL_OR_KEYWORD]
    output: Any = module(given, *[torch.zeros_like(given) for _ in needed])
    if not isinstance(output, Tensor) or output.numel() != vector.numel():
        raise ValueError("the module does not return one vector for one vector")
    return output.flatten().float()
