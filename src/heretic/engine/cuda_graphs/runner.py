"""Decode steps of a model as CUDA graphs: the steps of engine/decoding.py, on tensors of fixed shapes and addresses.

On a GPU, an eager step spends its time on the launches of a thousand small operations; a graph has one launch.
"""

from collections.abc import Callable, Sequence

import torch
from jaxtyping import Float, Int
from torch import Tensor

from ...ablation.edit import ModelEdit
from ...ablation.sites import ExpertSite, FusedExpertsSite
from ...model.hooks.edits import EditHooks
from ...model.kernels.decode_attention import NAME as DECODE_ATTENTION
from ...model.loading.load import LoadedModel
from ..forward import Forward, logit_tolerance
from ..kv_cache import is_preallocated
from ..prefill import Prefilled
from .capture import Graph, GraphCapturer, Step
from .static_batch import CHECK_STEPS, BatchCapacity, StaticBatch, StaticBatchView
from .static_edits import StaticEdits

N_CHECKS = 2
"""Sets of candidates whose logits are compared with plain forwards: one with the edits of the capture, and one with
others, which shows edits that the capture has made constant."""

ROWS_PER_COMPARISON = 64
"""Rows compared at once: fp32 copies of all rows' logits might not fit next to them."""


def supports_cuda_graphs(loaded: LoadedModel, forward: Forward) -> bool:
    """Whether steps of this model may be captured; the runner's comparison decides whether the graphs are right."""
    attention = getattr(loaded.model.config, "_attn_implementation", None)
    return (
        forward.takes_positions
        and not forward.is_stateful
        # Others (flash) accept no additive mask.
        and attention in ("eager", "sdpa", DECODE_ATTENTION)
        # A router's choices give tensors of other shapes at each step.
        and not any(isinstance(site, (ExpertSite, FusedExpertsSite)) for site in loaded.sites)
        and {parameter.device for parameter in loaded.model.parameters()} == {loaded.device}
    )


class CudaGraphRunner:
    """Graphs of decode steps for several batch sizes, which serve all candidates of a study.

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
    ) -> None:
        self._loaded = loaded
        self._forward = forward
        self._capturer = capturer
        self._warn = warn
        self.compact_batch = compact_batch
        self.enabled = supports_cuda_graphs(loaded, forward)
        self._too_large: int | None = None
        self.release()

    def release(self) -> None:
        """Frees graphs and buffers; the next batch captures new ones."""
        self._batch: StaticBatch | None = None
        self._edits: StaticEdits | None = None
        self._graphs: dict[int, Graph] = {}
        self.n_checked = 0
        self._loaded_edits: Sequence[ModelEdit] | None = None
        self._checked_edits: Sequence[ModelEdit] | None = None

    @property
    def has_graphs(self) -> bool:
        return bool(self._graphs)

    @property
    def batch(self) -> StaticBatch:
        assert self._batch is not None
        return self._batch

    def load(
        self,
        start: Prefilled,
        first: Int[Tensor, " row"],
        needed: BatchCapacity,
        edits: Sequence[ModelEdit],
        hooks: EditHooks,
    ) -> bool:
        """Loads the rows of `start`, whose `first` tokens have been chosen; False where plain forwards must decode
        them."""
        if not self.enabled or not is_preallocated(start.cache) or not self._fits(needed):
            return False
        try:
            return self._load(start, first, needed, edits, hooks)
        except torch.cuda.OutOfMemoryError:
            self._limit_size(needed)
            return False
        # Any error of a family's code or of a driver: plain forwards give the same responses.
        except Exception as error:  # noqa: BLE001
            self._disable(f"{type(error).__name__}: {str(error).strip().partition(chr(10))[0]}")
            return False

    def size_for(self, n_rows: int) -> int:
        """The smallest captured batch size that holds `n_rows`."""
        return min(size for size in self._graphs if size >= n_rows)

    def replay(self, size: int) -> None:
        self._graphs[size].replay()

    def _load(
        self, start: Prefilled, first: Tensor, needed: BatchCapacity, edits: Sequence[ModelEdit], hooks: EditHooks
    ) -> bool:
        if self._batch is None or not self._batch.capacity.covers(needed):
            capacity = needed if self._batch is None else self._batch.capacity.extended_to(needed)
            capacity = capacity if self._fits(capacity) else needed
            self.release()
            self._batch = StaticBatch(start, capacity)
            self._edits = StaticEdits(
                self._loaded.model, self._loaded.sites, capacity.candidates, capacity.rank, self._loaded.d_model
            )
        assert self._edits is not None
        if edits is not self._loaded_edits and not self._edits.load(edits):
            return False
        self._loaded_edits = edits
        self.batch.load(start, first)
        if not self._graphs:
            self._capture(hooks, self._edits)
        if self.n_checked < N_CHECKS and edits is not self._checked_edits:
            self._checked_edits = edits
            hooks.assign(start.candidates)
            return self._check(start, first)
        return True

    def _capture(self, hooks: EditHooks, edits: StaticEdits) -> None:
        with hooks.paused():
            for size in self.batch.capacity.graph_sizes:
                view = StaticBatchView(self.batch, size)
                with edits.hooked(view.candidates):
                    largest = next(iter(self._graphs.values()), None)
                    self._graphs[size] = self._capturer.capture(self._step(view), self.batch.rewind, largest)
                self.batch.rewind()

    def _step(self, view: StaticBatchView) -> Step:
        batch = self.batch

        def step() -> None:
            view.mask.index_fill_(3, batch.cache_position, 0.0)
            logits = self._forward.decode_step(view.ids, view.position_ids, view.mask, view.cache)
            chosen = logits.max(dim=-1).indices
            view.ids.copy_(chosen[:, None])
            view.chosen.index_copy_(0, batch.n_chosen, chosen[None])
            for each in (view.position_ids, batch.cache_position, batch.n_chosen):
                each.add_(1)
            # For the comparison with plain forwards.
            view.logits.copy_(logits)

        return step

    def _check(self, start: Prefilled, first: Int[Tensor, " row"]) -> bool:
        """Whether graphs give the logits of plain forwards, which run on the cache of `start` and are then dropped."""
        length = start.mask.shape[1]
        expected, tokens = self._plain_steps(start, first)
        for layer in start.cache.layers:
            layer.truncate(length)
        if not any(logits.isfinite().all(dim=-1).any() for logits in expected):
            # Without a finite row there is nothing to compare.
            self._checked_edits = None
            return False
        sizes = list(self._graphs) if self.n_checked == 0 else [self.size_for(len(first))]
        worst = max(self._difference(size, expected, tokens) for size in sizes)
        self.batch.rewind()
        self.n_checked += 1
        # Negated, so that NaN fails.
        if not worst <= logit_tolerance(expected[0].dtype):
            self._disable(f"its logits differ from those of a plain forward by {worst:.2g} of the largest logit")
            return False
        return True

    def _plain_steps(self, start: Prefilled, first: Int[Tensor, " row"]) -> tuple[list[Tensor], list[Tensor]]:
        """Logits of plain forwards, (rows, vocab) each, and the tokens that each was given."""
        mask, logits, tokens = start.mask, [], [first]
        for _ in range(CHECK_STEPS):
            mask = torch.cat([mask, mask.new_ones(len(mask), 1)], dim=1)
            logits.append(self._forward(tokens[-1][:, None], mask, start.cache))
            tokens.append(logits[-1].max(dim=-1).indices)
        return logits, tokens

    def _difference(self, size: int, expected: Sequence[Tensor], tokens: Sequence[Tensor]) -> float:
        """The largest difference of a logit, relative to the largest logit; inf where one is NaN."""
        self.batch.rewind()
        worst = 0.0
        for logits, given in zip(expected, tokens, strict=False):
            count = min(size, len(given))
            # Rounding may choose another token, and the next logits would be those of another text.
            self.batch.ids[:count, 0] = given[:count]
            self.replay(size)
            worst = max(worst, _largest_difference(self.batch.logits[:count], logits[:count]))
        return worst

    def _fits(self, capacity: BatchCapacity) -> bool:
        return self._too_large is None or capacity.rows * capacity.padded_positions < self._too_large

    def _limit_size(self, needed: BatchCapacity) -> None:
        """After an out-of-memory error, only smaller batches are tried."""
        if self._too_large is None:
            self._warn(
                f"Batches of {needed.rows} rows are decoded without CUDA graphs, with the same results but slower: "
                "there is no memory for a graph and the keys and values of such a batch. A smaller batch_size may be "
                "faster."
            )
        self._too_large = needed.rows * needed.padded_positions
        self.release()
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


def _largest_difference(found: Float[Tensor, "row vocab"], expected: Float[Tensor, "row vocab"]) -> float:
    """Relative to the largest logit of `expected`; rows that are not finite there are ignored."""
    gaps, sizes = [], []
    for ours, theirs in zip(found.split(ROWS_PER_COMPARISON), expected.split(ROWS_PER_COMPARISON), strict=True):
        finite = theirs.isfinite().all(dim=-1, keepdim=True)
        gaps.append((ours.float() - theirs.float()).where(finite, 0.0).abs().nan_to_num(nan=torch.inf).max())
        sizes.append(theirs.where(finite, 0.0).abs().max())
    return float(torch.stack(gaps).max() / torch.stack(sizes).max().clamp_min(1e-12))
