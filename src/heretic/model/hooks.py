"""Edits as forward hooks: the running model behaves as if its weights were edited, and no weight is touched."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from ..ablation.edit import ModelEdit, SiteEdit, edit_output, stack_edits
from .layers import hooks


class EditHooks:
    """The edits of several candidates on one model; each row of a batch belongs to one candidate.

    Give rows their candidates with `assign` before each forward whose rows are others than the last one's.
    """

    def __init__(self, model: nn.Module, edits: Sequence[ModelEdit]) -> None:
        modules = dict(model.named_modules())
        names = list(dict.fromkeys(name for edit in edits for name in edit))
        self.modules = {name: modules[name] for name in names}
        self._stacked = {
            name: _on_device(stack_edits([edit.get(name) for edit in edits]), self.modules[name]) for name in names
        }
        self._rows: dict[str, SiteEdit] = self._stacked
        self._n_candidates = len(edits)
        self.fired: set[str] = set()

    def assign(self, candidates: Tensor) -> None:
        """Row r of the coming batches belongs to candidate `candidates[r]`; shape (rows,)."""
        if self._n_candidates == 1:
            return
        self._rows = {name: _select(edit, candidates) for name, edit in self._stacked.items()}

    def registrations(self) -> list[Any]:
        return [
            partial(module.register_forward_hook, partial(self._apply, name)) for name, module in self.modules.items()
        ]

    def _apply(self, name: str, module: nn.Module, _: Any, output: Tensor) -> Tensor:
        self.fired.add(name)
        edit = self._rows[name]
        # Some families (OPT) flatten rows and positions before the module.
        batched = output if output.dim() == 3 else output.view(edit.left.shape[0], -1, output.shape[-1])
        bias = getattr(module, "bias", None)
        written = batched if bias is None else batched.float() - bias.float()
        edited = edit_output(edit, written)
        if bias is not None:
            edited = edited + bias.float()
        # Back to the dtype that the next module expects.
        return edited.to(output.dtype).view(output.shape)


def _on_device(edit: SiteEdit, module: Any) -> SiteEdit:
    device = module.weight.device
    scale = None if edit.scale is None else edit.scale.to(device)
    return SiteEdit(edit.left.to(device), edit.right.to(device), scale)


def _select(edit: SiteEdit, candidates: Tensor) -> SiteEdit:
    index = candidates.to(edit.left.device)
    return SiteEdit(edit.left[index], edit.right[index], None if edit.scale is None else edit.scale[index])


@contextmanager
def edited_model(model: nn.Module, edits: Sequence[ModelEdit]) -> Iterator[EditHooks]:
    """The model with `edits` in force, one a candidate; an empty edit is the baseline.

    Raises:
        RuntimeError: forwards ran, but some site's module never did: its edit had no effect.
    """
    applied = EditHooks(model, edits)
    with hooks(*applied.registrations()):
        yield applied
    silent = set(applied.modules) - applied.fired
    if silent and applied.fired:
        raise RuntimeError(f"edited modules that never ran: {sorted(silent)}")


@torch.inference_mode()
def measured_gain(norm: nn.Module, d_model: int) -> Tensor:
    """The gain of an RMS norm, (d_model,) fp32: what it makes of a vector of ones, whose root mean square is 1."""
    weight = next(norm.parameters(), None)
    ones = torch.ones(1, 1, d_model)
    if weight is not None:
        ones = ones.to(weight.device, weight.dtype)
    return norm(ones).flatten().float()
