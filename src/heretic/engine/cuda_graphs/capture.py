"""Capture of a decode step as a CUDA graph.

A graph holds no Python: numbers and branches stay as they were at capture, and replays differ only by the contents of
tensors.
"""

import warnings
from collections.abc import Callable
from typing import Any, Protocol, runtime_checkable

import torch

from ...model.sharding import ranks

Step = Callable[[], None]
"""Reads and writes tensors at fixed addresses."""


@runtime_checkable
class Graph(Protocol):
    def replay(self) -> None: ...


@runtime_checkable
class GraphCapturer(Protocol):
    def capture(self, step: Step, rewind: Callable[[], None], shares_memory_with: Graph | None) -> Graph:
        """A graph of `step`, which may run several times first, each time after `rewind` has restored its inputs. The
        graph keeps `step`, and with it the tensors that it refers to.

        Intermediate results share memory with those of the other graph, of the same capturer: the two may not run at
        the same time.
        """
        ...


class CudaGraph:
    """A graph, and the step that it was captured from: a graph knows addresses only, and a tensor that nothing else
    refers to would be freed."""

    def __init__(self, graph: Any, step: Step) -> None:
        self.graph = graph
        self.step = step

    def replay(self) -> None:
        self.graph.replay()


class CudaGraphCapturer:
    """Captures CUDA graphs: a replay is one launch instead of one for each operation."""

    N_WARMUPS = 2
    """The first run loads kernels and allocates workspaces; the second runs as later ones do."""

    def __init__(self, device: torch.device) -> None:
        self._device = device

    def capture(self, step: Step, rewind: Callable[[], None], shares_memory_with: Graph | None) -> Graph:
        pool = shares_memory_with.graph.pool() if isinstance(shares_memory_with, CudaGraph) else None
        with torch.cuda.device(self._device):
            main_stream = torch.cuda.current_stream()
            side_stream = torch.cuda.Stream()
            side_stream.wait_stream(main_stream)
            try:
                with torch.cuda.stream(side_stream):
                    self._warm_up(step, rewind)
                main_stream.wait_stream(side_stream)
                graph = torch.cuda.CUDAGraph()
                # Other threads (that of the progress display) may use the device during the capture.
                with torch.cuda.graph(graph, pool=pool, capture_error_mode="thread_local"):
                    step()
            finally:
                # A capture that fails leaves its own stream as the current one.
                torch.cuda.set_stream(main_stream)
        return CudaGraph(graph, step)

    def _warm_up(self, step: Step, rewind: Callable[[], None]) -> None:
        """Runs the step eagerly. The last run raises where the step synchronises with the host: a capture that fails
        there could not be left cleanly."""
        for _ in range(self.N_WARMUPS):
            rewind()
            step()
        rewind()
        mode = torch.cuda.get_sync_debug_mode()
        _set_sync_debug_mode("error")
        try:
            step()
        finally:
            _set_sync_debug_mode(mode)
        rewind()


def _set_sync_debug_mode(mode: int | str) -> None:
    """Sets it without torch's warning that the mode is a prototype: it may miss a synchronisation, which the capture
    itself then reports."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Synchronization debug mode is a prototype feature")
        torch.cuda.set_sync_debug_mode(mode)


def capturer_for(device: torch.device) -> GraphCapturer | None:
    """CUDA graphs on a CUDA device; None elsewhere, and for a model over several processes, which exchange sums."""
    return CudaGraphCapturer(device) if device.type == "cuda" and ranks() == 1 else None
