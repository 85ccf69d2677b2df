"""Edits of routed experts.

A router sends each expert rows of its choice, so that inside a mixture a row's candidate is unknown: the block around
the experts runs once for each candidate, with that candidate's rows.
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from ...ablation.edit import SiteEdit, edit_of_matrices, edit_output
from ...ablation.sites import ExpertSite, FusedExpertsSite
from ...errors import ModelError
from ..sites.matmul_tracer import MatmulTracer, Product


class RoutedBlock:
    """A block of a model, and the edits of its experts, stacked over candidates, by the site's module name.

    `rows` (rows,) are the candidates of the batch's rows; None: there is one candidate.
    """

    def __init__(
        self,
        model: nn.Module,
        block: str,
        sites: Sequence[ExpertSite | FusedExpertsSite],
        stacked: Mapping[str, SiteEdit],
    ) -> None:
        self._module = model.get_submodule(block)
        self._name = block
        self._stacked = stacked
        self._fused = {
            site.module: model.get_parameter(site.key) for site in sites if isinstance(site, FusedExpertsSite)
        }
        self._d_model = next(iter(stacked.values())).left.shape[-2]
        self.rows: Tensor | None = None
        self.candidate = 0
        self.ran = False

    @contextmanager
    def attached(self) -> Iterator[None]:
        """Replaces the block's forward, and restores it whatever happens."""
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
        """The current candidate's edit of a module in the block."""
        return edit_of_matrices(self._stacked[module], self.candidate)

    def _forward(self, original: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        self.ran = True
        if self.rows is None:
            return self._run(original, 0, args, kwargs)
        if any(hasattr(each, "get_seq_length") for each in (*args, *kwargs.values())):
            raise ModelError(
                f"Expected a mixture of experts without a cache, so that several candidates can share a forward; "
                f"{self._name} keeps keys and values. Give --candidates-per-forward 1."
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
    """One candidate's rows of an argument whose first dimension is the batch; any other argument unchanged."""
    if isinstance(value, Tensor) and value.dim() and value.shape[0] == count:
        return value[index.to(value.device)]
    return value


def _joined(results: Sequence[Any], order: Tensor) -> Any:
    """Results of groups of rows as one result, in the order of the rows. The first dimension of each tensor is rows, or
    rows and positions flattened."""
    first = results[0]
    if isinstance(first, Tensor):
        per_row = sum(len(each) for each in results) // len(order)
        whole = torch.cat([each.unflatten(0, (-1, per_row)) for each in results])[order.to(first.device)]
        return whole.flatten(0, 1)
    if isinstance(first, (tuple, list)):
        return type(first)(_joined(each, order) for each in zip(*results, strict=True))
    return first
