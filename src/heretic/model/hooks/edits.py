"""Edits as forward hooks: the running model behaves as if its weights were edited, and no weight changes."""

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from functools import partial
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from ...ablation.edit import ModelEdit, SiteEdit, edit_of_matrices, edit_output, stack_edits
from ...ablation.sites import ExpertSite, FusedExpertsSite, Site
from ..kernels.gpu_kernels import FusedEdit, gpu_kernels, kernel_shape
from ..layers import hooks
from ..placement import bias_of, device_of
from .routed_experts import RoutedBlock


class EditHooks:
    """The edits of several candidates on one model; each row of a batch belongs to one candidate.

    Call `assign` before each forward whose rows differ from those of the last one. `sites` include the edited ones, and
    tell which of them are experts of a mixture. `fused`: by the kernel of a GPU where there is one; it has no gradient.
    """

    def __init__(
        self, model: nn.Module, edits: Sequence[ModelEdit], sites: Sequence[Site], fused: bool = False
    ) -> None:
        names = list(dict.fromkeys(name for edit in edits for name in edit))
        self.modules = {name: model.get_submodule(name) for name in names}
        self._stacked = {
            name: _on_device(stack_edits([edit.get(name) for edit in edits]), self.modules[name]) for name in names
        }
        # Edits of fused experts are applied inside their block, where the products are.
        self._fused = {site.module for site in sites if isinstance(site, FusedExpertsSite)}
        self._blocks = _blocks(model, [site for site in sites if site.module in self._stacked], self._stacked)
        self._routed = {name: block for block, inside in self._blocks for name in inside}
        self._biases = {name: bias_of(module) for name, module in self.modules.items()}
        self._rows: dict[str, SiteEdit] = self._stacked
        self._n_candidates = len(edits)
        devices = {edit.left.device for edit in self._stacked.values()}
        self._candidates = {device: torch.arange(len(edits), device=device) for device in devices}
        self._kernel = fused_kernel(model) if fused else None
        self.ran: set[str] = set()
        self._paused = False

    def assign(self, candidates: Int[Tensor, " row"]) -> None:
        """Row r of the following forwards belongs to candidate `candidates[r]`."""
        if self._n_candidates == 1:
            return
        plain = {name: edit for name, edit in self._stacked.items() if name not in self._routed}
        # One copy for each device, not for each site: the host waits for each.
        moved = {device: candidates.to(device) for device in self._candidates}
        if self._kernel is None:
            self._rows = {name: edit_of_matrices(edit, moved[edit.left.device]) for name, edit in plain.items()}
        self._candidates = moved
        for block, _ in self._blocks:
            block.rows = candidates

    @contextmanager
    def attached(self) -> Iterator[None]:
        """Registers the hooks, and removes them whatever happens."""
        hooked = {name: module for name, module in self.modules.items() if name not in self._fused}
        with ExitStack() as stack:
            stack.enter_context(
                hooks(*(partial(m.register_forward_hook, partial(self._apply, n)) for n, m in hooked.items()))
            )
            for block, _ in self._blocks:
                stack.enter_context(block.attached())
            yield

    @contextmanager
    def paused(self) -> Iterator[None]:
        """Turns these hooks off where others apply the edits (those of CUDA graphs)."""
        self._paused = True
        try:
            yield
        finally:
            self._paused = False

    def never_ran(self) -> list[str]:
        """Edited modules that no forward has run. Experts count with their block: a router may choose none of them."""
        routed = {name for block, inside in self._blocks if block.ran for name in inside}
        return sorted(set(self.modules) - self.ran - routed)

    def _apply(self, name: str, module: nn.Module, _: Any, output: Float[Tensor, "..."]) -> Float[Tensor, "..."] | None:
        if self._paused:
            return None
        self.ran.add(name)
        if self._kernel is not None and name not in self._routed:
            stacked = self._stacked[name]
            candidates = self._candidates[stacked.left.device]
            rows = output.reshape(len(candidates), -1, output.shape[-1])
            return self._kernel(stacked, candidates, rows, self._biases[name]).view(output.shape)
        edit = self._routed[name].edit(name) if name in self._routed else self._rows[name]
        # Some families (OPT) flatten rows and positions before the module.
        batched = output if output.dim() == 3 else _by_row(output, edit)
        bias = self._biases[name]
        written = batched if bias is None else batched.float() - bias.float()
        edited = edit_output(edit, written)
        if bias is not None:
            edited = edited + bias.float()
        # Back to the dtype that the next module expects.
        return edited.to(output.dtype).view(output.shape)


def fused_kernel(model: nn.Module) -> FusedEdit | None:
    """The edit in one pass, where all weights are on one device that has such a kernel."""
    computing = [parameter for parameter in model.parameters() if parameter.is_floating_point()]
    devices = {parameter.device for parameter in computing}
    if len(devices) > 1:
        return None
    return gpu_kernels(devices.pop(), computing[0].dtype, kernel_shape(model)).edit


def _by_row(output: Float[Tensor, "position d_model"], edit: SiteEdit) -> Float[Tensor, "row _ d_model"]:
    """(rows, positions, d_model), where the edit differs by row; an expert may have got no position at all."""
    n_rows = edit.left.shape[0] if edit.left.dim() == 3 else 1
    return output[None] if n_rows == 1 else output.view(n_rows, -1, output.shape[-1])


def _blocks(
    model: nn.Module, sites: Sequence[Site], stacked: dict[str, SiteEdit]
) -> list[tuple[RoutedBlock, tuple[str, ...]]]:
    """The blocks around edited experts, each with the names of all edited modules inside, shared experts included."""
    by_block: dict[str, list[ExpertSite | FusedExpertsSite]] = {}
    for site in sites:
        if isinstance(site, (ExpertSite, FusedExpertsSite)):
            by_block.setdefault(site.block, []).append(site)
    found = []
    for block, experts in by_block.items():
        inside = tuple(name for name in stacked if name == block or name.startswith(f"{block}."))
        found.append((RoutedBlock(model, block, experts, {name: stacked[name] for name in inside}), inside))
    return found


def _on_device(edit: SiteEdit, module: nn.Module) -> SiteEdit:
    device = device_of(module)
    scale = None if edit.scale is None else edit.scale.to(device)
    return SiteEdit(edit.left.to(device), edit.right.to(device), scale)


@contextmanager
def edited_model(
    model: nn.Module, edits: Sequence[ModelEdit], sites: Sequence[Site], fused: bool = False
) -> Iterator[EditHooks]:
    """Applies `edits`, one a candidate, inside the `with` block; an empty edit is the baseline. `fused`: see EditHooks.

    Raises:
        RuntimeError: forwards ran, but the module of some site never did, so that its edit had no effect.
    """
    edit_hooks = EditHooks(model, edits, sites, fused)
    with edit_hooks.attached():
        yield edit_hooks
    if edit_hooks.ran and edit_hooks.never_ran():
        raise RuntimeError(f"edited modules that never ran: {edit_hooks.never_ran()}")
