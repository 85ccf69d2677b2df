"""Traces matrix products with parameters that belong to no linear module, and changes their results.

Mixtures of experts keep all experts' matrices in one parameter, (experts, d_model, d_in) or transposed, and multiply by
slices of it, by all of it at once or by groups of rows; a forward hook sees only the sum over experts. The tracer
examines each torch function of a running forward: if an operand shares the storage of a traced parameter and the result
is d_model features wide, it is a product, and its result is passed to `on_product` with the numbers of the matrices
used. A bias is added afterwards, since a merge edits matrices alone.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode


@dataclass(frozen=True, slots=True)
class Product:
    """One product with the parameter `name`, which holds `count` matrices, stored (d_in, d_model) if `transposed`.

    `matrices` is the number of the matrix used, or the numbers for the entries of the result's first dimension.
    """

    name: str
    count: int
    matrices: int | Tensor
    transposed: bool


OnProduct = Callable[[Product, Tensor], Tensor]
"""Called with a product and its result, (rows, d_model) or (matrix, rows, d_model); returns the result to use."""


class MatmulTracer(TorchFunctionMode):
    """Passes products with `parameters` to `on_product`; `silenced` parameters are read as zeros."""

    def __init__(
        self,
        parameters: Mapping[str, Tensor],
        d_model: int,
        on_product: OnProduct,
        silenced: Mapping[str, Tensor] | None = None,
    ) -> None:
        super().__init__()
        self._traced = {_storage(parameter): (name, parameter) for name, parameter in parameters.items()}
        self._silenced = {_storage(parameter) for parameter in (silenced or {}).values()}
        self._d_model = d_model
        self._on_product = on_product
        # Gathered copies of some matrices, with their numbers. The copy is kept, so that its storage is not reused.
        self._gathered: dict[int, tuple[Tensor, Tensor]] = {}

    def __torch_function__(self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if self._silenced:
            args = tuple(torch.zeros_like(arg) if self._is_silenced(arg) else arg for arg in args)
        place = next((i for i, arg in enumerate(args) if isinstance(arg, Tensor) and self._holds(arg)), None)
        if place is None:
            return func(*args, **kwargs)
        if func is torch.nn.functional.linear and place == 1:
            bias = args[2] if len(args) > 2 else kwargs.get("bias")
            written = self._changed(args[1], func(args[0], args[1]), False, True, None)
            return written if bias is None else written + bias
        result = func(*args, **kwargs)
        if not isinstance(result, Tensor) or _storage(result) == _storage(args[place]):
            return result
        if getattr(func, "__name__", "") in ("__getitem__", "index_select"):
            index = args[-1]
            if isinstance(index, Tensor) and index.dim() == 1 and args[place].dim() == 3:
                self._gathered[_storage(result)] = (result, index)
                self._traced.setdefault(_storage(result), self._traced[_storage(args[place])])
            return result
        offsets = kwargs.get("offs", args[2] if len(args) > 2 and "grouped" in getattr(func, "__name__", "") else None)
        return self._changed(args[place], result, place == 0, place == 0, offsets)

    def _holds(self, tensor: Tensor) -> bool:
        return _storage(tensor) in self._traced

    def _is_silenced(self, arg: Any) -> bool:
        return isinstance(arg, Tensor) and _storage(arg) in self._silenced

    def _changed(
        self, operand: Tensor, result: Tensor, columns: bool, d_model_first: bool, offsets: Tensor | None
    ) -> Tensor:
        """The result to use. With `columns` it is W x, whose features are in the last but one dimension."""
        if operand.dim() not in (2, 3) or result.dim() < 2 or result.dtype.is_complex:
            return result
        features = result.mT if columns else result
        if features.shape[-1] != self._d_model or operand.shape[-2 if d_model_first else -1] != self._d_model:
            return result
        used = self._on_product(self._product(operand, features, d_model_first, offsets), features)
        return used.mT if features is not result else used

    def _product(self, operand: Tensor, result: Tensor, d_model_first: bool, offsets: Tensor | None) -> Product:
        name, parameter = self._traced[_storage(operand)]
        size = operand.shape[-1] * operand.shape[-2]
        stored_by_rows = operand.stride(-1) <= operand.stride(-2)
        matrices: int | Tensor
        if offsets is not None:
            rows = torch.arange(len(result), device=result.device, dtype=offsets.dtype)
            matrices = torch.searchsorted(offsets, rows, right=True).clamp_max(len(offsets) - 1)
        elif _storage(operand) in self._gathered:
            matrices = self._gathered[_storage(operand)][1]
        elif operand.dim() == 3:
            first = (operand.storage_offset() - parameter.storage_offset()) // size
            matrices = torch.arange(first, first + len(operand), device=result.device)
        else:
            matrices = (operand.storage_offset() - parameter.storage_offset()) // size
        return Product(name, parameter.numel() // size, matrices, d_model_first != stored_by_rows)


def _storage(tensor: Tensor) -> int:
    """The address of its storage; for packed weights, which have none, an id of the tensor."""
    return id(tensor) if tensor.is_mkldnn else tensor.untyped_storage().data_ptr()
