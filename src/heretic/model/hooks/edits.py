"""Edits as forward hooks: the running model behaves as if its weights were edited, and no weight is touched."""

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from functools import partial
from typing import Any

from torch import Tensor, nn

from ...ablation.edit import ModelEdit, SiteEdit, edit_of_matrices, edit_output, stack_edits
from ...ablation.sites import Site
from ..layers import hooks
from ..placement import bias_of, device_of
from .routed_experts import RoutedBlock


class EditHooks:
    """The edits of several candidates on one model; each row of a batch belongs to one candidate.

    Give rows their candidates with `assign` before each forward whose rows are others than the last one's. `sites`
    tell which of the edited weights are experts of a mixture.
    """

    def __init__(self, model: nn.Module, edits: Sequence[ModelEdit], sites: Sequence[Site]) -> None:
        names = list(dict.fromkeys(name for edit in edits for name in edit))
        self.modules = {name: model.get_submodule(name) for name in names}
        self._stacked = {
            name: _on_device(stack_edits([edit.get(name) for edit in edits]), self.modules[name]) for name in names
        }
        # An edit of a parameter that is no linear module's is applied by its block alone.
        self._fused = {site.module for site in sites if site.block is not None and site.expert is None}
        self._blocks = _blocks(model, [site for site in sites if site.module in self._stacked], self._stacked)
        self._routed = {name: block for block, inside in self._blocks for name in inside}
        self._biases = {name: bias_of(module) for name, module in self.modules.items()}
        self._rows: dict[str, SiteEdit] = self._stacked
        self._n_candidates = len(edits)
        self.fired: set[str] = set()
        self._paused = False

    def assign(self, candidates: Tensor) -> None:
        """Row r of the coming batches belongs to candidate `candidates[r]`; shape (rows,)."""
        if self._n_candidates == 1:
            return
        plain = {name: edit for name, edit in self._stacked.items() if name not in self._routed}
        # Moved once a device, not once a site: each time the host waits.
        moved = {device: candidates.to(device) for device in {edit.left.device for edit in plain.values()}}
        self._rows = {name: edit_of_matrices(edit, moved[edit.left.device]) for name, edit in plain.items()}
        for block, _ in self._blocks:
            block.rows = candidates

    @contextmanager
    def in_force(self) -> Iterator[None]:
        """The hooks registered, and removed whatever happens."""
        hooked = {name: module for name, module in self.modules.items() if name not in self._fused}
        with ExitStack() as stack:
            stack.enter_context(
                hooks(*(partial(m.register_forward_hook, partial(self._apply, n)) for n, m in hooked.items()))
            )
            for block, _ in self._blocks:
                stack.enter_context(block.in_force())
            yield

    @contextmanager
    def paused(self) -> Iterator[None]:
        """Nothing is edited by these hooks: somebody else does it."""
        self._paused = True
        try:
            yield
        finally:
            self._paused = False

    def silent(self) -> list[str]:
        """Edited modules that no forward has run; of a mixture's experts, some get no row."""
        routed = {name for block, inside in self._blocks if block.fired for name in inside}
        return sorted(set(self.modules) - self.fired - routed)

    def _apply(self, name: str, module: nn.Module, _: Any, output: Tensor) -> Tensor | None:
        if self._paused:
            return None
        self.fired.add(name)
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


def _by_row(output: Tensor, edit: SiteEdit) -> Tensor:
    """Rows and positions apart, where the edit differs by row; an expert may have been given no position at all."""
    n_rows = edit.left.shape[0] if edit.left.dim() == 3 else 1
    return output[None] if n_rows == 1 else output.view(n_rows, -1, output.shape[-1])


def _blocks(
    model: nn.Module, sites: Sequence[Site], stacked: dict[str, SiteEdit]
) -> list[tuple[RoutedBlock, tuple[str, ...]]]:
    """The blocks around edited experts, with the names of all edited modules inside, shared experts too."""
    by_block: dict[str, list[Site]] = {}
    for site in sites:
        if site.block is not None:
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
def edited_model(model: nn.Module, edits: Sequence[ModelEdit], sites: Sequence[Site]) -> Iterator[EditHooks]:
    """The model with `edits` in force, one a candidate; an empty edit is the baseline.

    Raises:
        RuntimeError: forwards ran, but some site's module never did: its edit had no effect.
    """
    applied = EditHooks(model, edits, sites)
    with applied.in_force():
        yield applied
    if applied.fired and applied.silent():
        raise RuntimeError(f"edited modules that never ran: {applied.silent()}")
