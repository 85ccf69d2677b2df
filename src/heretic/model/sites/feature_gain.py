"""What a module that acts on each feature alone multiplies it by: the gain of a post-norm, measured."""

import inspect
from typing import Any

import torch
from torch import Tensor, nn

from ..placement import device_of


@torch.inference_mode()
def measured_gain(module: nn.Module, d_model: int) -> Tensor:
    """What each feature is multiplied by, up to one positive number for all, (d_model,) fp32.

    It is what the module makes of a vector of ones less what it makes of zeros: an RMS norm makes of ones its gain,
    whether it stores the gain or the gain less 1; a scaling with a bias loses the bias; a causal convolution gives its
    newest tap.
    """
    ones = torch.ones(1, 1, d_model)
    return _called(module, ones) - _called(module, torch.zeros_like(ones))


@torch.inference_mode()
def acts_on_features(module: nn.Module, d_model: int) -> bool:
    """Whether the module makes of a vector its gain times the vector, up to one number for all features."""
    vector = torch.randn(1, 1, d_model, generator=torch.Generator().manual_seed(1))
    try:
        made = _called(module, vector) - _called(module, torch.zeros_like(vector))
        expected = measured_gain(module, d_model) * vector.flatten().to(made.device)
    except (TypeError, ValueError, RuntimeError, AttributeError, IndexError):
        # It takes more than a hidden state, so it is something else.
        return False
    return bool(torch.nn.functional.cosine_similarity(made, expected, dim=0) > 0.999)


def _called(module: nn.Module, vector: Tensor) -> Tensor:
    """The module's answer to one vector; what else it must be given is zeros of the same shape."""
    weight = next(module.parameters(), None)
    given = vector if weight is None else vector.to(device_of(module), weight.dtype)
    parameters = list(inspect.signature(module.forward).parameters.values())[1:]
    needed = [p for p in parameters if p.default is p.empty and p.kind is p.POSITIONAL_OR_KEYWORD]
    answer: Any = module(given, *[torch.zeros_like(given) for _ in needed])
    if not isinstance(answer, Tensor) or answer.numel() != vector.numel():
        raise ValueError("it does not give one vector for one vector")
    return answer.flatten().float()
