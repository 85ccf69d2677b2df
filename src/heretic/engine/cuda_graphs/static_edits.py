"""Edits in buffers at fixed addresses, so that one capture serves every candidate of a study."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from ...ablation.edit import ModelEdit, SiteEdit, edit_rows, stack_edits
from ...ablation.sites import Site
from ...model.kernels.gpu_kernels import FusedEdit
from ...model.layers import hooks


class StaticEdits:
    """Buffers for the edits of `n_candidates` at every one of `sites`, up to `rank`. No site may hold experts.

    `kernel` applies them in one pass, where there is one.
    """

    def __init__(
        self,
        model: nn.Module,
        sites: Sequence[Site],
        n_candidates: int,
        rank: int,
        d_model: int,
        kernel: FusedEdit | None = None,
    ) -> None:
        self._modules = {site.module: model.get_submodule(site.module) for site in sites}
        device = next(model.parameters()).device
        self._kernel = kernel
        # (site, candidate, rank, d_model): the factors of all candidates are one matrix without a copy.
        shape = (len(self._modules), n_candidates, rank, d_model)
        self._left, self._right = torch.zeros(shape, device=device), torch.zeros(shape, device=device)
        self._scale = torch.ones(len(self._modules), n_candidates, d_model, device=device)

    def load(self, edits: Sequence[ModelEdit]) -> bool:
        """Copies `edits[n]` as those of candidate n; sites without an edit and further candidates stay unedited.

        False, and nothing is copied, where a factor is not finite: it would reach the rows of other candidates.
        """
        left, right = torch.zeros_like(self._left, device="cpu"), torch.zeros_like(self._right, device="cpu")
        scale = torch.ones_like(self._scale, device="cpu")
        for number, name in enumerate(self._modules):
            if not any(name in edit for edit in edits):
                continue
            stacked = stack_edits([edit.get(name) for edit in edits])
            count, _, rank = stacked.left.shape
            left[number, :count, :rank] = stacked.left.mT
            right[number, :count, :rank] = stacked.right.mT
            if stacked.scale is not None:
                scale[number, :count] = stacked.scale
        if not all(bool(factor.isfinite().all()) for factor in (left, right, scale)):
            return False
        self._left.copy_(left)
        self._right.copy_(right)
        self._scale.copy_(scale)
        return True

    @contextmanager
    def hooked(self, candidates: Int[Tensor, " row"]) -> Iterator[None]:
        """Forward hooks on all sites, which edit the rows of a step, one new position each.

        They read the buffers and `candidates` at each replay.
        """
        with hooks(
            *(
                partial(module.register_forward_hook, partial(self._apply, number, candidates))
                for number, module in enumerate(self._modules.values())
            )
        ):
            yield

    def _apply(
        self, site: int, candidates: Int[Tensor, " row"], module: nn.Module, _: Any, output: Float[Tensor, "..."]
    ) -> Float[Tensor, "..."]:
        edit = SiteEdit(self._left[site].mT, self._right[site].mT, self._scale[site])
        bias = getattr(module, "bias", None)
        if self._kernel is not None:
            return self._kernel(edit, candidates, output.reshape(len(candidates), 1, -1), bias).view(output.shape)
        written = output.reshape(len(candidates), -1).float()
        if isinstance(bias, Tensor):
            return (edit_rows(edit, candidates, written - bias.float()) + bias.float()).to(output.dtype).view_as(output)
        return edit_rows(edit, candidates, written).to(output.dtype).view_as(output)
