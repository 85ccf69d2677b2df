"""A step of tensor operations, recorded once and run again: the same operations on the same memory.

A recording holds no Python: whatever number or branch the step had is as it was when it was recorded, and only what
stands in the tensors can differ from one replay to the next.
"""

from collections.abc import Callable, Sequence
from typing import Any, Protocol

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

Step = Callable[[], None]
"""Reads and writes tensors that stay where they are."""

HOST_READS = ("_local_scalar_dense", "item", "nonzero", "masked_select", "unique", "_unique2", "equal", "is_nonzero")


class Recording(Protocol):
    def replay(self) -> None: ...


class Recorder(Protocol):
    def record(self, step: Step, rewind: Callable[[], None], beside: Recording | None) -> Recording:
        """`step` may run some times, each from where `rewind` leads back to.

        Memory for what is between is shared with the recording `beside`, of the same recorder: while the one runs, the
        other may not.
        """


def recorder_for(device: torch.device) -> Recorder:
    """CUDA graphs on a CUDA device, a tape elsewhere."""
    return CudaGraphs(device) if device.type == "cuda" else OpReplay()


class CudaGraphs:
    """Records by CUDA's own graphs: one launch a step, instead of one for each operation."""

    WARM_UPS = 2

    def __init__(self, device: torch.device) -> None:
        self._device = device

    def record(self, step: Step, rewind: Callable[[], None], beside: Recording | None) -> Recording:
        pool = beside.graph.pool() if isinstance(beside, CudaGraph) else None
        with torch.cuda.device(self._device):
            before = torch.cuda.current_stream()
            side = torch.cuda.Stream()
            side.wait_stream(before)
            try:
                with torch.cuda.stream(side):
                    self._warm_up(step, rewind)
                before.wait_stream(side)
                graph = torch.cuda.CUDAGraph()
                # Other threads (that of the view) may use the device in the meantime.
                with torch.cuda.graph(graph, pool=pool, capture_error_mode="thread_local"):
                    step()
            finally:
                # A capture that fails leaves its own stream behind as the current one.
                torch.cuda.set_stream(before)
        return CudaGraph(graph)

    def _warm_up(self, step: Step, rewind: Callable[[], None]) -> None:
        """Kernels are chosen and workspaces made before the capture. The last run fails where the step waits for the
        host, which a capture could not be left from cleanly."""
        for _ in range(self.WARM_UPS):
            rewind()
            step()
        rewind()
        mode = torch.cuda.get_sync_debug_mode()
        torch.cuda.set_sync_debug_mode("error")
        try:
            step()
        finally:
            torch.cuda.set_sync_debug_mode(mode)
        rewind()


class CudaGraph:
    def __init__(self, graph: Any) -> None:
        self.graph = graph

    def replay(self) -> None:
        self.graph.replay()


class OpReplay:
    """Records what torch dispatches, and does the same on the same memory: what a CUDA graph does, where there is none.

    No faster than the step itself; it is there to see on any machine that nothing is recorded that should change.
    """

    def record(self, step: Step, rewind: Callable[[], None], beside: Recording | None) -> Recording:
        rewind()
        with _Listening() as heard:
            step()
        return Tape(heard.calls)


class _Listening(TorchDispatchMode):
    def __init__(self) -> None:
        super().__init__()
        self.calls: list[tuple[Any, tuple[Any, ...], dict[str, Any], Any]] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None) -> Any:
        if func.overloadpacket.__name__ in HOST_READS:
            raise RuntimeError(f"a recorded step can't wait for the value of a tensor ({func})")
        output = func(*args, **(kwargs or {}))
        self.calls.append((func, args, kwargs or {}, output))
        return output


class Tape:
    def __init__(self, calls: Sequence[tuple[Any, tuple[Any, ...], dict[str, Any], Any]]) -> None:
        self._calls = calls

    def replay(self) -> None:
        for func, args, kwargs, output in self._calls:
            for old, new in zip(tree_leaves(output), tree_leaves(func(*args, **kwargs)), strict=True):
                # A view, or an argument written in place, lies where it lay already.
                if isinstance(old, Tensor) and old.data_ptr() != new.data_ptr():
                    old.copy_(new)
