"""Capture of steps: by CUDA graphs, with torch.cuda replaced, and by the stand-in that other tests use."""

import gc
import inspect
import warnings
import weakref
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import pytest
import torch
from torch import Tensor

from heretic.engine.cuda_graphs.capture import CudaGraph, CudaGraphCapturer, GraphCapturer, capturer_for
from tests.support.op_replay import OpReplay

PROTOTYPE = "Synchronization debug mode is a prototype feature and does not yet detect all synchronizing operations"
"""torch's own warning: an error in these tests where it is not silenced."""


def nothing() -> None:
    pass


def test_op_replay_repeats_operations_on_the_same_memory() -> None:
    total, column, line = torch.zeros(1), torch.zeros(1, dtype=torch.long), torch.zeros(6)
    numbers = iter([3.0, 100.0])

    def step() -> None:
        line.index_fill_(0, column, next(numbers))
        total.add_(line.view(2, 3).sum())
        column.add_(1)

    graph = OpReplay().capture(step, nothing, None)
    assert (float(total), int(column)) == (3.0, 1)
    line[5] = 10.0
    graph.replay()
    # Numbers of Python (3, not 100) are those of the capture; the contents of tensors are those of now.
    assert line.tolist() == [3.0, 3.0, 0.0, 0.0, 0.0, 10.0]
    assert (float(total), int(column)) == (19.0, 2)


@pytest.mark.parametrize("read", [lambda t: t.item(), lambda t: t.nonzero(), bool, int])
def test_op_replay_rejects_waits_for_a_value(read: Any) -> None:
    """Except `tolist` on a CPU, which torch does not dispatch; on a GPU the last warm-up detects it."""
    with pytest.raises(RuntimeError, match="can't wait for the value of a tensor"):
        OpReplay().capture(lambda: read(torch.zeros(1)), nothing, None)


def test_only_cuda_has_graphs() -> None:
    assert isinstance(capturer_for(torch.device("cuda:1")), CudaGraphCapturer)
    assert capturer_for(torch.device("cpu")) is None


class Streams:
    """Replaces the parts of torch.cuda that a capture uses, and logs the calls."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, fails: bool) -> None:
        self.current, self.mode, self.fails = "main", 0, fails
        self.log: list[str] = []
        # The real ones take these names.
        assert {"pool", "capture_error_mode"} <= set(inspect.signature(torch.cuda.graph).parameters)
        for name in ("device", "stream", "graph"):
            monkeypatch.setattr(torch.cuda, name, getattr(self, name))
        monkeypatch.setattr(torch.cuda, "Stream", lambda: self)
        monkeypatch.setattr(torch.cuda, "current_stream", lambda: Stream("main", self.log))
        monkeypatch.setattr(torch.cuda, "Stream", lambda: Stream("side", self.log))
        monkeypatch.setattr(torch.cuda, "set_stream", lambda stream: setattr(self, "current", stream.name))
        monkeypatch.setattr(torch.cuda, "CUDAGraph", Graph)
        monkeypatch.setattr(torch.cuda, "get_sync_debug_mode", lambda: self.mode)
        monkeypatch.setattr(torch.cuda, "set_sync_debug_mode", self.set_sync_debug_mode)

    def set_sync_debug_mode(self, mode: Any) -> None:
        self.mode = mode
        warnings.warn(PROTOTYPE, UserWarning, stacklevel=1)

    @contextmanager
    def device(self, device: torch.device) -> Iterator[None]:
        yield

    @contextmanager
    def stream(self, stream: "Stream") -> Iterator[None]:
        before, self.current = self.current, stream.name
        yield
        self.current = before

    @contextmanager
    def graph(self, graph: "Graph", pool: Any, capture_error_mode: str) -> Iterator[None]:
        graph.shared = pool
        self.current = "capture"
        yield
        if self.fails:
            raise RuntimeError("capture failed")
        self.current = "main"


class Stream:
    def __init__(self, name: str, log: list[str]) -> None:
        self.name, self.log = name, log

    def wait_stream(self, other: "Stream") -> None:
        self.log.append(f"{self.name} waits for {other.name}")


class Graph:
    shared: Any = None

    def pool(self) -> int:
        return id(self)

    def replay(self) -> None: ...


def test_each_warm_up_starts_from_the_same_inputs(monkeypatch: pytest.MonkeyPatch) -> None:
    cuda = Streams(monkeypatch, fails=False)
    at, seen = [0], []

    def step() -> None:
        seen.append((at[0], cuda.current, cuda.mode))
        at[0] += 1

    capturer = CudaGraphCapturer(torch.device("cuda"))
    first = capturer.capture(step, lambda: at.__setitem__(0, 0), None)
    # The last warm-up raises where it would wait for the host; the capture starts from the same inputs.
    assert seen == [(0, "side", 0), (0, "side", 0), (0, "side", "error"), (0, "capture", 0)]
    assert cuda.log == ["side waits for main", "main waits for side"]
    assert (cuda.current, cuda.mode) == ("main", 0)
    second = capturer.capture(step, nothing, first)
    assert isinstance(first, CudaGraph) and isinstance(second, CudaGraph)
    assert second.graph.shared == first.graph.pool() and first.graph.shared is None


@pytest.mark.parametrize("where", ["side", "capture"])
def test_a_failure_restores_the_stream_and_the_mode(where: str, monkeypatch: pytest.MonkeyPatch) -> None:
    cuda = Streams(monkeypatch, fails=where == "capture")

    def step() -> None:
        if cuda.mode == "error" and where == "side":
            raise RuntimeError("called a synchronizing CUDA operation")

    with pytest.raises(RuntimeError):
        CudaGraphCapturer(torch.device("cuda")).capture(step, nothing, None)
    assert (cuda.current, cuda.mode) == ("main", 0)


def test_op_replay_repeats_views_and_empty_tensors() -> None:
    source = torch.arange(4.0)
    seen: list[Tensor] = []
    graph = OpReplay().capture(lambda: seen.append(torch.cat([source[2:], source[:0]]).mul(2)), nothing, None)
    source.mul_(10)
    graph.replay()
    assert seen[0].tolist() == [40.0, 60.0]


def test_op_replay_does_not_keep_tensors_from_before_the_capture() -> None:
    """As on a GPU: a graph that reads such a tensor's memory later reads what others have written there."""
    lent, total = [torch.ones(6)], torch.zeros(6)
    graph = OpReplay().capture(lambda: total.add_(lent[0][:3].repeat(2)), nothing, None)
    graph.replay()
    lent.clear()
    with pytest.raises(RuntimeError, match="memory of a tensor that is free"):
        graph.replay()
    assert total.tolist() == [2.0] * 6


@pytest.mark.parametrize("capturer", [CudaGraphCapturer(torch.device("cuda")), OpReplay()])
def test_a_graph_keeps_the_tensors_of_its_step(capturer: GraphCapturer, monkeypatch: pytest.MonkeyPatch) -> None:
    Streams(monkeypatch, fails=False)
    line, total = torch.ones(6), torch.zeros(6)
    kept = weakref.ref(line)
    graph = capturer.capture(partial(torch.add, total, line, out=total), nothing, None)
    del line
    gc.collect()
    assert kept() is not None
    del graph
    gc.collect()
    assert kept() is None


@pytest.mark.gpu
def test_a_graph_replays_on_the_contents_of_now() -> None:
    """On a GPU itself; torch's warning about its debug mode stays silent."""
    total, line = torch.zeros(1, device="cuda"), torch.ones(6, device="cuda")

    def step() -> None:
        total.add_(line.sum())

    def rewind() -> None:
        total.zero_()

    with warnings.catch_warnings(record=True) as shown:
        warnings.simplefilter("always")
        graph = CudaGraphCapturer(torch.device("cuda:0")).capture(step, rewind, None)
    assert not shown
    total.zero_()
    line[0] = 5.0
    graph.replay()
    assert float(total) == 10.0
