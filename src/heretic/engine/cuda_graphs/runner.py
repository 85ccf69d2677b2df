"""Decode steps of a model as CUDA graphs: the steps of engine/decoding.py, on tensors of fixed shapes and addresses.

On a GPU, an eager step spends its time on the launches of a thousand small operations; a graph has one launch.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

import torch
from jaxtyping import Int
from torch import Tensor

from ...ablation.edit import ModelEdit
from ...model.hooks.edits import EditHooks, fused_kernel
from ...model.kernels.fused_step import PLAIN_STEP, find_fused_step
from ...model.loading.load import LoadedModel
from ..forward import Forward, logit_tolerance
from ..prefill import Prefilled
from .capture import Graph, GraphCapturer, Step
from .comparison import largest_difference, plain_steps, rows_to_compare
from .static_batch import BatchCapacity, StaticBatch, StaticBatchView
from .static_edits import StaticEdits
from .support import supports_cuda_graphs

N_CHECKS = 2
"""Sets of candidates whose logits are compared with plain forwards, for each batch size: one with the edits of the
capture, and one with others, which shows edits that the capture has made constant."""

UNEDITED: Sequence[ModelEdit] = ()
"""Stands for any number of candidates without edits: comparing them twice would show no more than once."""

DIFFERENT = "its logits differ from those of a plain forward by {:.2g} of the largest logit"


class GraphsUnusable(Exception):
    """Captured steps can't decode these rows: plain forwards must."""


class CudaGraphRunner:
    """Graphs of decode steps for a few batch sizes, which serve all candidates of a study.

    The first steps are compared with plain forwards of the same rows. Where they differ, or the capture fails,
    `enabled` becomes False and `warn` is called with the reason.
    """

    def __init__(
        self,
        loaded: LoadedModel,
        forward: Forward,
        capturer: GraphCapturer,
        warn: Callable[[str], None],
        compact_batch: bool,
        fused: bool = False,
    ) -> None:
        self._loaded = loaded
        self._forward = forward
        self._capturer = capturer
        self._warn = warn
        self.compact_batch = compact_batch
        self._kernel = fused_kernel(loaded.model) if fused else None
        self.device = loaded.device
        self.enabled = supports_cuda_graphs(loaded, forward)
        # Measuring runs feed-forward networks: of a model that is not all on the device, it would load them.
        self._fused_step = find_fused_step(loaded.model) if fused and self.enabled else PLAIN_STEP
        self._too_large: int | None = None
        self._checks = True
        self.reserved: BatchCapacity | None = None
        self.release()

    def reserve(self, capacity: BatchCapacity) -> None:
        """The least capacity from now on, as far as memory suffices: one batch and its graphs then serve a study."""
        self.reserved = capacity

    def release(self) -> None:
        """Frees graphs and buffers; the next batch captures new ones."""
        self._capacity: BatchCapacity | None = None
        self._batch: StaticBatch | None = None
        self._edits: StaticEdits | None = None
        self._graphs: dict[int, Graph] = {}
        self._failed: set[int] = set()
        self._checked: dict[int, list[Sequence[ModelEdit] | None]] = {}
        self._loaded_edits: Sequence[ModelEdit] | None = None

    @property
    def has_graphs(self) -> bool:
        return bool(self._graphs)

    @property
    def has_batch(self) -> bool:
        return self._batch is not None

    @property
    def batch(self) -> StaticBatch:
        assert self._batch is not None
        return self._batch

    @property
    def capacity(self) -> BatchCapacity:
        assert self._capacity is not None
        return self._capacity

    def begin(self, needed: BatchCapacity, edits: Sequence[ModelEdit]) -> bool:
        """Prepares for rows under `edits`; False where plain forwards must decode them."""
        edits = edits if any(edits) else UNEDITED
        if not self.enabled or not self._fits(needed):
            return False
        if self._capacity is None or not self._capacity.covers(needed):
            extended = needed
            for other in (self._capacity, self.reserved):
                extended = extended if other is None else extended.extended_to(other)
            capacity = extended if self._fits(extended) else needed
            self.release()
            self._capacity = capacity
        with self._failures():
            if self._edits is None:
                self._edits = StaticEdits(
                    self._loaded.model,
                    self._loaded.sites,
                    self.capacity.candidates,
                    self.capacity.rank,
                    self._loaded.d_model,
                    self._kernel,
                )
            if edits is not self._loaded_edits and not self._edits.load(edits):
                return False
            self._loaded_edits = edits
            return True
        return False

    def size_for(self, n_rows: int) -> int:
        """The smallest batch size that holds `n_rows`."""
        return min(size for size in self.capacity.graph_sizes if size >= n_rows and size not in self._failed)

    def load(self, start: Prefilled, first: Int[Tensor, " row"], rows: Sequence[int], in_place: bool) -> None:
        """Puts prompts whose `first` tokens have been chosen into `rows` of the batch.

        Raises:
            GraphsUnusable: there is no memory for the batch.
        """
        with self._failures(GraphsUnusable):
            if self._batch is None:
                self._batch = StaticBatch(start, self.capacity)
            self._batch.load(start, first, rows, in_place)

    def verify(self, size: int, hooks: EditHooks, rows: Sequence[int]) -> None:
        """Captures the step of a batch size, if that is missing, and compares the first steps with plain forwards.

        Raises:
            GraphsUnusable: they differ, or a capture failed.
        """
        with self._failures(GraphsUnusable):
            worst = self._checked_difference(size, hooks, rows)
            if worst is None:
                # Without a finite row there is nothing to compare.
                raise GraphsUnusable
            # Negated, so that NaN fails.
            if not worst <= logit_tolerance(self.batch.logits.dtype):
                self._disable(DIFFERENT.format(worst))
                raise GraphsUnusable

    def add_size(self, size: int, hooks: EditHooks, rows: Sequence[int]) -> bool:
        """Captures the batch size if needed; whether it can be used for `rows` from here on."""
        try:
            worst = self._checked_difference(size, hooks, rows)
        # After any error of a driver, or for lack of memory, the larger size is used.
        except RuntimeError:
            self.batch.rewind()
            worst = None
        usable = worst is not None and worst <= logit_tolerance(self.batch.logits.dtype)
        if not usable:
            self._graphs.pop(size, None)
            self._failed.add(size)
        return usable

    def _checked_difference(self, size: int, hooks: EditHooks, rows: Sequence[int]) -> float | None:
        """The largest difference of a logit from plain forwards; 0 for a size that was compared with these candidates,
        or with enough others; None where there is nothing to compare."""
        if size not in self._graphs:
            self._capture(size, hooks)
        seen = self._checked.setdefault(size, [])
        if not self._checks or len(seen) == N_CHECKS or any(edits is self._loaded_edits for edits in seen):
            return 0.0
        worst = self._worst_difference(size, hooks, rows)
        if worst is not None:
            seen.append(self._loaded_edits)
        return worst

    @contextmanager
    def unchecked(self) -> Iterator[None]:
        """Inside the `with` block, graphs are not compared with plain forwards: for timing, where tokens don't matter.
        They are released afterwards."""
        self._checks = False
        try:
            yield
        finally:
            self._checks = True
            self.release()

    def replay(self, size: int) -> None:
        self._graphs[size].replay()

    def _capture(self, size: int, hooks: EditHooks) -> None:
        assert self._edits is not None
        self.batch.save()
        view = StaticBatchView(self.batch, size)
        with hooks.paused(), self._edits.hooked(view.candidates), self._fused_step.applied():
            other = next(iter(self._graphs.values()), None)
            self._graphs[size] = self._capturer.capture(self._step(view), self.batch.rewind, other)
        self.batch.rewind()

    def _step(self, view: StaticBatchView) -> Step:
        batch, last = self.batch, self.capacity.padded_positions - 1

        def step() -> None:
            view.mask.scatter_(3, view.positions[:, None, None, None], 0.0)
            logits = self._forward.decode_step(view.ids, view.position_ids, view.mask, view.cache)
            chosen = logits.max(dim=-1).indices
            view.ids.copy_(chosen[:, None])
            view.chosen.index_copy_(0, batch.n_chosen, chosen[None])
            # Finished rows run on until others take their slots, and must stay within the buffers.
            view.positions.add_(1).clamp_(max=last)
            view.position_ids.add_(1).clamp_(max=self.capacity.positions - 1)
            batch.n_chosen.add_(1)
            # For the comparison with plain forwards.
            batch.logits.copy_(logits.index_select(0, view.checked.remainder(view.rows)))

        return step

    def _worst_difference(self, size: int, hooks: EditHooks, rows: Sequence[int]) -> float | None:
        """The largest difference of a logit between captured steps and plain forwards, relative to the largest logit;
        None where no logit is finite. The batch stays as it was."""
        batch = self.batch
        index = torch.tensor(rows_to_compare(batch, rows, size), device=batch.ids.device)
        batch.checked.zero_()
        batch.checked[: len(index)] = index
        batch.save()
        hooks.assign(batch.candidates[index])
        expected, tokens = plain_steps(batch, self._forward, index)
        if not any(logits.isfinite().all(dim=-1).any() for logits in expected):
            return None
        worst = 0.0
        for logits, given in zip(expected, tokens, strict=False):
            # Rounding may choose another token, and the next logits would be those of another text.
            batch.ids[index, 0] = given
            self.replay(size)
            worst = max(worst, largest_difference(batch.logits[: len(index)], logits))
        batch.rewind()
        return worst

    @contextmanager
    def _failures(self, raised: type[Exception] | None = None) -> Iterator[None]:
        """Notes that there was no memory, or that captured steps can't be used; then raises `raised`."""
        try:
            yield
            return
        except GraphsUnusable:
            raise
        except torch.OutOfMemoryError:
            self.limit_rows()
        # Any error of a family's code or of a driver: plain forwards give the same responses.
        except Exception as error:  # noqa: BLE001
            self._disable(f"{type(error).__name__}: {str(error).strip().partition(chr(10))[0]}")
        if raised is not None:
            raise raised

    def _fits(self, capacity: BatchCapacity) -> bool:
        return self._too_large is None or capacity.rows * capacity.padded_positions < self._too_large

    @property
    def limited(self) -> bool:
        """Whether a batch found no memory, so that only smaller ones are tried."""
        return self._too_large is not None

    def limit_rows(self) -> None:
        """After an out-of-memory error: only smaller batches than this one from now on."""
        if self._too_large is None:
            self._warn(
                f"There is no memory for recorded steps of {self.capacity.rows} rows: fewer are decoded at a time, "
                "with the same results. A smaller batch_size or fewer candidates_per_forward may be faster."
            )
        self._too_large = self.capacity.rows * self.capacity.padded_positions
        self.release()
        if self._loaded.device.type == "cuda":
            torch.cuda.empty_cache()

    def _disable(self, reason: str) -> None:
        self.enabled = False
        self.release()
        if self._loaded.device.type == "cuda":
            torch.cuda.empty_cache()
        self._warn(
            f"Decoding continues without CUDA graphs, with the same results but more slowly: a captured step can't be "
            f"used ({reason}). Set static_decode = off to skip the attempt."
        )
