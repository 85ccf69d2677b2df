"""Edits of experts. A router gives each expert rows of its own choice, so that inside of a mixture nobody can tell
which row belongs to which candidate: the block around it runs once for each candidate, with that candidate's rows."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from ...ablation.edit import SiteEdit, edit_of_matrices, edit_output
from ...ablation.sites import Site
from ...errors import ModelError
from ..sites.matmul_tracer import MatmulTracer, Product


class RoutedBlock:
    """A block of a model with the edits of its experts in force, (candidate, …) each, by the site's module name."""

    def __init__(self, model: nn.Module, block: str, sites: Sequence[Site], stacked: Mapping[str, SiteEdit]) -> None:
        self._module = model.get_submodule(block)
        self._name = block
        self._stacked = stacked
        self._fused = {site.module: model.get_parameter(site.key) for site in sites if site.expert is None}
        self._d_model = next(iter(stacked.values())).left.shape[-2]
        self.rows: Tensor | None = None
        self.candidate = 0
        self.fired = False

    @contextmanager
    def in_force(self) -> Iterator[None]:
        """The block's forward replaced, and put back whatever happens."""
        before = self._module.__dict__.get("forward")
        original = self._module.forward
        self._module.forward = lambda *args, **kwargs: self._forward(original, args, kwargs)
        try:
            yield
        finally:
            if before is None:
                del self._module.forward
            else:
                self._module.forward = before

    def edit(self, module: str) -> SiteEdit:
        """The running candidate's edit of a module in the block."""
        return edit_of_matrices(self._stacked[module], self.candidate)

    def _forward(self, original: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        self.fired = True
        if self.rows is None:
            return self._run(original, 0, args, kwargs)
        if any(hasattr(each, "get_seq_length") for each in (*args, *kwargs.values())):
            raise ModelError(
                f"Expected a mixture of experts that keeps nothing between tokens, so that several candidates run in "
                f"one forward; {self._name} keeps keys and values. Give --candidates-per-forward 1."
            )
        count = len(self.rows)
        results, order = [], []
        for candidate in self.rows.unique().tolist():
            index = (self.rows == candidate).nonzero().flatten()
            own = [_rows(each, index, count) for each in args]
            named = {key: _rows(each, index, count) for key, each in kwargs.items()}
            results.append(self._run(original, candidate, tuple(own), named))
            order.append(index)
        return _joined(results, torch.cat(order).argsort())

    def _run(self, original: Any, candidate: int, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        self.candidate = candidate
        if not self._fused:
            return original(*args, **kwargs)
        with MatmulTracer(self._fused, self._d_model, self._edited):
            return original(*args, **kwargs)

    def _edited(self, product: Product, written: Tensor) -> Tensor:
        edit = edit_of_matrices(self._stacked[product.name], self.candidate)
        if edit.left.dim() == 3:
            edit = edit_of_matrices(edit, product.matrices)
        if isinstance(product.matrices, Tensor) and written.dim() == 2:
            return edit_output(edit, written[:, None])[:, 0].to(written.dtype)
        return edit_output(edit, written).to(written.dtype)


def _rows(value: Any, index: Tensor, count: int) -> Any:
    """The rows of one candidate in an argument that has the batch as its first dimension."""
    if isinstance(value, Tensor) and value.dim() and value.shape[0] == count:
        return value[index.to(value.device)]
    return value


def _joined(results: Sequence[Any], order: Tensor) -> Any:
    """Results of groups of rows as one result, in the order of the rows; each tensor has rows, or rows and positions
    as one, first."""
    first = results[0]
    if isinstance(first, Tensor):
        per_row = sum(len(each) for each in results) // len(order)
        whole = torch.cat([each.unflatten(0, (-1, per_row)) for each in results])[order.to(first.device)]
        return whole.flatten(0, 1)
    if isinstance(first, (tuple, list)):
        return type(first)(_joined(each, order) for each in zip(*results, strict=True))
    return first
