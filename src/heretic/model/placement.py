"""Device placement: modules on several devices, and modules offloaded to RAM or disk (accelerate's device maps)."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from .sharding import whole

META = torch.device("meta")


def device_of(module: nn.Module) -> torch.device:
    """The device that a module computes on; tensors of an offloaded module are on no device between forwards."""
    hook = getattr(module, "_hf_hook", None)
    execution_device = getattr(hook, "execution_device", None)
    if execution_device is not None:
        return torch.device(execution_device)
    tensors = (*module.parameters(), *module.buffers())
    return tensors[0].device if tensors else torch.device("cpu")


def input_device(model: Any) -> torch.device:
    """The device that a model takes its tokens on."""
    return device_of(model.get_input_embeddings())


def placement_notes(model: Any) -> list[str]:
    """Sentences on what it costs that a model is not on one device alone; none for one that is."""
    places = {each.device for each in model.parameters()}
    devices = sorted(map(str, places - {META}))
    notes = []
    if META in places:
        notes.append(
            "Weights that are offloaded are copied to the device in every forward pass, so that a search takes many "
            "times as long. Fewer bits (quantization) may fit without."
        )
    if len(devices) > 1:
        notes.append(
            f"The model is spread over {', '.join(devices)}. They work one after the other: a search is no faster than "
            "on one device that holds the whole model, and no CUDA graphs are used."
        )
    return notes


@contextmanager
def present(module: nn.Module) -> Iterator[None]:
    """Brings the module's own tensors to its device inside the `with` block, if they are offloaded."""
    if not is_offloaded(module):
        yield
        return
    from accelerate.utils import align_module_device

    with align_module_device(module, device_of(module)):
        yield


def is_offloaded(module: nn.Module) -> bool:
    """Whether any of the module's own tensors is offloaded to RAM or disk."""
    return any(each.device == META for each in (*module.parameters(recurse=False), *module.buffers(recurse=False)))


def bias_of(module: nn.Module) -> Float[Tensor, " d_out"] | None:
    """A module's bias, on the device that it computes on."""
    offloaded = is_offloaded(module)
    with present(module):
        bias = getattr(module, "bias", None)
        if not isinstance(bias, Tensor):
            return None
        return bias.clone() if offloaded else whole(bias)
