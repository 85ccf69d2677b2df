"""Graph capture without a GPU: `OpReplay` records what torch dispatches, and a replay does the same on the same
memory."""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.multiprocessing.reductions import StorageWeakRef
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves, tree_map_only

from heretic.engine.cuda_graphs.capture import Graph, Step

HOST_READS = ("_local_scalar_dense", "item", "nonzero", "masked_select", "unique", "_unique2", "equal", "is_nonzero")
Call = tuple[Any, tuple[Any, ...], dict[str, Any], Any]


class OpReplay:
    """Captures as CUDA graphs do, no faster than eager steps: numbers and branches of Python stay as they were, and
    tensors from before the capture are not kept alive."""

    def capture(self, step: Step, rewind: Callable[[], None], shares_memory_with: Graph | None) -> Graph:
        rewind()
        with _Recorder() as recorder:
            step()
        return Recording(recorder.calls, step)


class _Recorder(TorchDispatchMode):
    def __init__(self) -> None:
        super().__init__()
        self.calls: list[Call] = []
        self._own: set[int] = set()

    def __torch_dispatch__(self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None) -> Any:
        if func.overloadpacket.__name__ in HOST_READS:
            raise RuntimeError(f"a captured step can't wait for the value of a tensor ({func})")
        given = (args, kwargs or {})
        foreign = _storages(given) - self._own
        output = func(*args, **(kwargs or {}))
        self._own |= _storages(output) - foreign

        def kept(each: Tensor) -> "Tensor | Address":
            return Address(each) if _storages(each) - self._own else each

        self.calls.append((func, *tree_map_only(Tensor, kept, given), tree_map_only(Tensor, kept, output)))
        return output


class Address:
    """A tensor whose memory the graph does not own."""

    def __init__(self, tensor: Tensor) -> None:
        self._storage = StorageWeakRef(tensor.untyped_storage())
        self._empty = tensor.new_empty(0).detach()
        self._place = tensor.storage_offset(), tensor.size(), tensor.stride()

    def tensor(self) -> Tensor:
        storage = torch.UntypedStorage._new_with_weak_ptr(self._storage.cdata)  # type: ignore[attr-defined]
        if storage is None:
            raise RuntimeError("a graph uses the memory of a tensor that is free")
        return self._empty.new_empty(0).set_(storage, *self._place)


class Recording:
    def __init__(self, calls: Sequence[Call], step: Step) -> None:
        self._calls = calls
        self.step = step

    def replay(self) -> None:
        for call in self._calls:
            func, args, kwargs, output = tree_map_only(Address, Address.tensor, call)
            for old, new in zip(tree_leaves(output), tree_leaves(func(*args, **kwargs)), strict=True):
                # A view, or an argument written in place, is where it was already.
                if isinstance(old, Tensor) and old.data_ptr() != new.data_ptr():
                    old.copy_(new)


def _storages(tree: Any) -> set[int]:
    """The memory of its tensors. Weights in a packed layout show none; they live as long as the model."""
    leaves = [each for each in tree_leaves(tree) if isinstance(each, Tensor) and each.layout == torch.strided]
    return {int(each.untyped_storage()._cdata) for each in leaves}
