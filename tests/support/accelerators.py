"""A stand-in for torch.accelerator and for the device modules of torch: devices that this machine does not have."""

from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

import pytest
import torch

GB = 10**9


@dataclass
class FakeAccelerator:
    """`count` devices of one kind; `emptied` counts calls of empty_cache; `limits` are the
    fractions of memory that processes were limited to; `peak` is the most memory that was taken."""

    kind: str
    count: int = 1
    bfloat16: bool = True
    peak: int = 7 * GB
    emptied: list[str] = field(default_factory=list)
    limits: list[float] = field(default_factory=list)

    def module(self, device: torch.device | str | None = None) -> Any:
        kind = torch.device(device or "cpu").type
        if kind == "cpu":
            return torch.cpu
        assert kind == self.kind
        own: dict[str, Any] = {"empty_cache": lambda: self.emptied.append(kind)}
        own |= {"set_per_process_memory_fraction": self.limits.append}
        if kind == "mps":
            own |= {"current_allocated_memory": lambda: 3 * GB}
            own |= {"recommended_max_memory": lambda: 12 * GB, "driver_allocated_memory": lambda: 11 * GB}
            return SimpleNamespace(**own)
        own |= {
            "mem_get_info": lambda device: (5 * GB, 8 * GB),
            "memory_allocated": lambda device: 2 * GB,
            "max_memory_allocated": lambda device: self.peak,
            "reset_peak_memory_stats": lambda device: setattr(self, "peak", 2 * GB),
            "get_device_name": lambda device: f"Example {kind} {torch.device(device).index or 0}",
            "is_bf16_supported": lambda including_emulation=True: self.bfloat16,
        }
        return SimpleNamespace(**own)


def use_accelerator(monkeypatch: pytest.MonkeyPatch, fake: FakeAccelerator | None) -> None:
    """The machine has these devices; none for None."""
    monkeypatch.setattr(torch.accelerator, "is_available", lambda: fake is not None)
    monkeypatch.setattr(torch.accelerator, "current_accelerator", lambda: fake and torch.device(fake.kind))
    monkeypatch.setattr(torch.accelerator, "device_count", lambda: fake.count if fake else 0)
    if fake is not None:
        monkeypatch.setattr(torch, "get_device_module", fake.module)
