"""The machine's accelerator and its backend: CUDA, ROCm (which torch calls cuda), XPU or MPS."""

import platform
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import psutil
import torch

from ..errors import ModelError

PLACED_BY_ACCELERATE = frozenset({"auto", "balanced", "balanced_low_0", "sequential"})
"""Device maps that spread a model over the devices that there are."""


@dataclass(frozen=True, slots=True)
class Device:
    """One device of the accelerator; `free` and `total` are bytes of its memory."""

    index: int
    name: str
    free: int
    total: int


def accelerator() -> str | None:
    """The type of the machine's devices, such as cuda, xpu or mps; None where it has none."""
    if not torch.accelerator.is_available():
        return None
    found = torch.accelerator.current_accelerator()
    return None if found is None else found.type


def device_count() -> int:
    return 0 if accelerator() is None else torch.accelerator.device_count()


def devices() -> list[Device]:
    """All devices of the accelerator."""
    kind = accelerator()
    found = []
    for index in range(device_count()):
        device = torch.device(kind or "cpu", index)
        free, total = _memory(device)
        found.append(Device(index, device_name(device), free, total))
    return found


def device_name(device: torch.device) -> str:
    """The device's product name; the processor's name for a CPU and for the GPU of an Apple processor."""
    name = getattr(_module(device), "get_device_name", None)
    return str(name(device)) if name is not None else platform.processor() or platform.machine()


def free_memory(device: torch.device) -> int:
    """Bytes that the device has free; of the machine's memory for a CPU, and for weights that are on no device."""
    return _memory(device)[0] if device.type == accelerator() else psutil.virtual_memory().available


def total_memory(device: torch.device) -> int:
    """Bytes of all memory of the device; of the machine for a CPU."""
    return _memory(device)[1] if device.type == accelerator() else psutil.virtual_memory().total


def allocated_memory(device: torch.device) -> int:
    """Bytes that tensors take on the device; 0 where that is not counted."""
    module = _module(device)
    if hasattr(module, "memory_allocated"):
        return int(module.memory_allocated(device))
    # So MPS calls it.
    return int(module.current_allocated_memory()) if hasattr(module, "current_allocated_memory") else 0


def peak_memory(device: torch.device) -> int | None:
    """The most bytes that tensors took on the device since the start, or since `peak_of`; None where that is not
    counted."""
    count = getattr(_module(device), "max_memory_allocated", None)
    return None if count is None else int(count(device))


def peak_of(device: torch.device, task: Callable[[], object]) -> int:
    """Bytes that `task` takes at its peak in addition to those taken before; 0 where that is not counted."""
    module, before = _module(device), allocated_memory(device)
    if not hasattr(module, "reset_peak_memory_stats"):
        task()
        return 0
    module.reset_peak_memory_stats(device)
    task()
    return max(0, int(module.max_memory_allocated(device)) - before)


def empty_cache() -> None:
    """Returns memory that torch keeps for later tensors to the device."""
    kind = accelerator()
    if kind is not None:
        _module(torch.device(kind)).empty_cache()


def limit_memory(fraction: float) -> None:
    """Lets this process take at most `fraction` of a device's memory, where torch can limit it."""
    kind = accelerator()
    limit = None if kind is None else getattr(_module(torch.device(kind)), "set_per_process_memory_fraction", None)
    if limit is not None:
        limit(fraction)


def computes_bfloat16(kind: str) -> bool:
    """Whether the devices have bfloat16 arithmetic of their own; older ones convert each operand."""
    supported = getattr(_module(torch.device(kind)), "is_bf16_supported", None)
    if supported is None:
        return True
    return bool(supported(including_emulation=False)) if kind == "cuda" else bool(supported())


def check_device_map(device_map: str | Mapping[str, int | str]) -> None:
    """Raises:
    ModelError: it names a device that this machine does not have.
    """
    places = [device_map] if isinstance(device_map, str) else list(device_map.values())
    allowed = PLACED_BY_ACCELERATE if isinstance(device_map, str) else {"disk"}
    for place in places:
        if place not in allowed and not _exists(place):
            kind = accelerator()
            there = ["cpu"] if kind is None else ["cpu", *(f"{kind}:{index}" for index in range(device_count()))]
            raise ModelError(
                f"Expected a device of this machine in device_map, got {place!r}: there is {', '.join(there)}. Use one "
                "of these, or auto."
            )


def _exists(place: int | str) -> bool:
    kind = accelerator()
    if isinstance(place, int) or place.isdecimal():
        return int(place) < device_count()
    try:
        device = torch.device(place)
    except RuntimeError:
        return False
    return device.type == "cpu" or (device.type == kind and (device.index or 0) < device_count())


def _memory(device: torch.device) -> tuple[int, int]:
    """(free, total) bytes."""
    module = _module(device)
    if hasattr(module, "mem_get_info"):
        free, total = module.mem_get_info(device)
        return int(free), int(total)
    # MPS shares the machine's memory, of which it recommends to use a part.
    total = int(module.recommended_max_memory())
    return min(total - int(module.driver_allocated_memory()), psutil.virtual_memory().available), total


def _module(device: torch.device) -> Any:
    """torch.cuda, torch.xpu, torch.mps or torch.cpu."""
    return torch.get_device_module(device)
