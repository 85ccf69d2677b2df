"""Graph capture without a GPU: `OpReplay` records what torch dispatches, and a replay does the same on the same
memory."""

from collections.abc import Callable, Sequence
from typing import Any

from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from heretic.engine.cuda_graphs.capture import Graph, Step

HOST_READS = ("_local_scalar_dense", "item", "nonzero", "masked_select", "unique", "_unique2", "equal", "is_nonzero")
Call = tuple[Any, tuple[Any, ...], dict[str, Any], Any]


class OpReplay:
    """Captures as CUDA graphs do, no faster than eager steps: numbers and branches of Python stay as they were."""

    def capture(self, step: Step, rewind: Callable[[], None], shares_memory_with: Graph | None) -> Graph:
        rewind()
        with _Recorder() as recorder:
            step()
        return Recording(recorder.calls)


class _Recorder(TorchDispatchMode):
    def __init__(self) -> None:
        super().__init__()
        self.calls: list[Call] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None) -> Any:
        if func.overloadpacket.__name__ in HOST_READS:
            raise RuntimeError(f"a captured step can't wait for the value of a tensor ({func})")
        output = func(*args, **(kwargs or {}))
        self.calls.append((func, args, kwargs or {}, output))
        return output


class Recording:
    def __init__(self, calls: Sequence[Call]) -> None:
        self._calls = calls

    def replay(self) -> None:
        for func, args, kwargs, output in self._calls:
            for old, new in zip(tree_leaves(output), tree_leaves(func(*args, **kwargs)), strict=True):
                # A view, or an argument written in place, is where it was already.
                if isinstance(old, Tensor) and old.data_ptr() != new.data_ptr():
                    old.copy_(new)
