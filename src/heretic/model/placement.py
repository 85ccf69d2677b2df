"""Where a model's parts are: on a device, or left on disk until they run (accelerate's device maps)."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

META = torch.device("meta")


def device_of(module: nn.Module) -> torch.device:
    """Where a module computes. What is offloaded has its tensors on no device until then."""
    hook = getattr(module, "_hf_hook", None)
    told = getattr(hook, "execution_device", None)
    if told is not None:
        return torch.device(told)
    tensors = (*module.parameters(), *module.buffers())
    return tensors[0].device if tensors else torch.device("cpu")


def input_device(model: Any) -> torch.device:
    """Where a model's tokens go."""
    return device_of(model.get_input_embeddings())


@contextmanager
def present(module: nn.Module) -> Iterator[None]:
    """While it is open, the module's own tensors are where it computes, offloaded or not."""
    if not is_offloaded(module):
        yield
        return
    from accelerate.utils import align_module_device

    with align_module_device(module, device_of(module)):
        yield


def is_offloaded(module: nn.Module) -> bool:
    """Whether any of the module's own tensors waits on disk or in RAM."""
    return any(each.device == META for each in (*module.parameters(recurse=False), *module.buffers(recurse=False)))


def bias_of(module: nn.Module) -> Tensor | None:
    """A module's bias, where it computes."""
    offloaded = is_offloaded(module)
    with present(module):
        bias = getattr(module, "bias", None)
        if not isinstance(bias, Tensor):
            return None
        return bias.clone() if offloaded else bias
