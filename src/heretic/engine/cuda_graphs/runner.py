"""Recorded steps of a model: what engine/decoding.py does for one token, on tensors of fixed shapes and places.

On a GPU the time of an eager step goes into the launches of a thousand small operations; a recorded step has one.
"""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from ...ablation.edit import ModelEdit
from ...model.hooks.edits import EditHooks
from ...model.kernels.decode_attention import NAME as DECODE_ATTENTION
from ...model.loading.load import LoadedModel
from ..forward import Forward
from ..kv_cache import RoomyLayer
from ..layer_cache import PROOF
from ..prefill import Prefilled
from .capture import Recorder, Recording, Step
from .static_batch import PROOF_STEPS, BatchCapacity, FixedBatch, StaticBatchView
from .static_edits import FixedEdits

PROOFS = 2
"""Sets of candidates by which recorded steps are compared with plain forwards: one with the edits that were there when
they were recorded, and one with others."""

PROOF_ROWS = 64
"""Rows whose logits are compared at once."""


def supports_cuda_graphs(loaded: LoadedModel, forward: Forward) -> bool:
    """Whether steps of this model could be recorded; only the comparison of RecordedSteps shows that they can."""
    attends = getattr(loaded.model.config, "_attn_implementation", None)
    return (
        forward.takes_positions
        and not forward.is_stateful
        # Others (flash) take no mask of scores.
        and attends in ("eager", "sdpa", DECODE_ATTENTION)
        # A router's choices give tensors of other shapes at each step.
        and all(site.block is None for site in loaded.sites)
        and {parameter.device for parameter in loaded.model.parameters()} == {loaded.device}
    )


class CudaGraphRunner:
    """Steps of a model recorded for some numbers of rows, kept for all candidates of a study.

    Nothing is taken for granted: the first steps are compared with plain forwards of the same rows. Where they differ,
    or can't be recorded, `works` is False from then on, and `warn` is told why.
    """

    def __init__(
        self, loaded: LoadedModel, forward: Forward, recorder: Recorder, warn: Callable[[str], None], compact: bool
    ) -> None:
        self._loaded = loaded
        self._forward = forward
        self._recorder = recorder
        self._warn = warn
        self.compact = compact
        self.works = supports_cuda_graphs(loaded, forward)
        self._too_large: int | None = None
        self.forget()

    def forget(self) -> None:
        """Gives the memory back; steps are recorded anew when they are next needed."""
        self._batch: FixedBatch | None = None
        self._edits: FixedEdits | None = None
        self._steps: dict[int, Recording] = {}
        self._proofs = 0
        self._filled: Sequence[ModelEdit] | None = None
        self._proved: Sequence[ModelEdit] | None = None

    @property
    def recorded(self) -> bool:
        return bool(self._steps)

    @property
    def batch(self) -> FixedBatch:
        assert self._batch is not None
        return self._batch

    def begin(
        self, start: Prefilled, first: Tensor, need: BatchCapacity, edits: Sequence[ModelEdit], applied: EditHooks
    ) -> bool:
        """Rows of `start` ready to go on, their `first` tokens chosen; False where plain forwards must do it."""
        plain = not start.cache.layers or not all(type(layer) is RoomyLayer for layer in start.cache.layers)
        if plain or not self.works or not self._fits(need):
            return False
        try:
            return self._begin(start, first, need, edits, applied)
        except torch.cuda.OutOfMemoryError:
            self._shun(need)
            return False
        # Whatever a family's own code or a driver objects: plain forwards give the same responses.
        except Exception as error:  # noqa: BLE001
            self._give_up(f"{type(error).__name__}: {str(error).strip().partition(chr(10))[0]}")
            return False

    def size_for(self, rows: int) -> int:
        """The smallest recorded number of rows that holds so many."""
        return min(size for size in self._steps if size >= rows)

    def run(self, size: int) -> None:
        self._steps[size].replay()

    def _begin(
        self, start: Prefilled, first: Tensor, need: BatchCapacity, edits: Sequence[ModelEdit], applied: EditHooks
    ) -> bool:
        if self._batch is None or not self._batch.need.covers(need):
            room = need if self._batch is None else self._batch.need.with_room_for(need)
            room = room if self._fits(room) else need
            self.forget()
            self._batch = FixedBatch(start, room)
            self._edits = FixedEdits(
                self._loaded.model, self._loaded.sites, room.candidates, room.rank, self._loaded.d_model
            )
        assert self._edits is not None
        if edits is not self._filled and not self._edits.fill(edits):
            return False
        self._filled = edits
        self.batch.load(start, first)
        if not self._steps:
            self._record(applied, self._edits)
        if self._proofs < PROOFS and edits is not self._proved:
            self._proved = edits
            applied.assign(start.candidates)
            return self._prove(start, first)
        return True

    def _record(self, applied: EditHooks, edits: FixedEdits) -> None:
        with applied.paused():
            for size in self.batch.need.sizes:
                rows = StaticBatchView(self.batch, size)
                with edits.in_force(rows.candidates):
                    beside = next(iter(self._steps.values()), None)
                    self._steps[size] = self._recorder.record(self._step(rows), self.batch.rewind, beside)
                self.batch.rewind()

    def _step(self, rows: StaticBatchView) -> Step:
        batch = self.batch

        def step() -> None:
            rows.mask.index_fill_(3, batch.column, 0.0)
            logits = self._forward.step(rows.ids, rows.places, rows.mask, rows.cache)
            chosen = logits.max(dim=-1).indices
            rows.ids.copy_(chosen[:, None])
            rows.chosen.index_copy_(0, batch.count, chosen[None])
            for each in (rows.places, batch.column, batch.count):
                each.add_(1)
            # They are looked at when steps are proved.
            rows.logits.copy_(logits)

        return step

    def _prove(self, start: Prefilled, first: Tensor) -> bool:
        """Whether steps give the logits of plain forwards, which run on the cache of `start` and are forgotten."""
        length = start.mask.shape[1]
        wanted, tokens = self._plain(start, first)
        for layer in start.cache.layers:
            layer.shorten(length)
        if not any(logits.isfinite().all(dim=-1).any() for logits in wanted):
            # Nothing can be told by these candidates.
            self._proved = None
            return False
        sizes = list(self._steps) if self._proofs == 0 else [self.size_for(len(first))]
        worst = max(self._difference(size, wanted, tokens) for size in sizes)
        self.batch.rewind()
        self._proofs += 1
        if not worst <= PROOF[wanted[0].dtype == torch.float32]:
            self._give_up(f"its logits differ from those of a plain forward by {worst:.2g} of the largest")
            return False
        return True

    def _plain(self, start: Prefilled, first: Tensor) -> tuple[list[Tensor], list[Tensor]]:
        """Logits of plain forwards, and the tokens that each of them was given."""
        mask, logits, tokens = start.mask, [], [first]
        for _ in range(PROOF_STEPS):
            mask = torch.cat([mask, mask.new_ones(len(mask), 1)], dim=1)
            logits.append(self._forward(tokens[-1][:, None], mask, start.cache))
            tokens.append(logits[-1].max(dim=-1).indices)
        return logits, tokens

    def _difference(self, size: int, wanted: Sequence[Tensor], tokens: Sequence[Tensor]) -> float:
        """The largest difference of a logit, relative to the largest of all: infinite where one is NaN."""
        self.batch.rewind()
        worst = 0.0
        for logits, given in zip(wanted, tokens, strict=False):
            count = min(size, len(given))
            # Rounding may have chosen otherwise, and what follows would be another text.
            self.batch.ids[:count, 0] = given[:count]
            self.run(size)
            worst = max(worst, _largest_difference(self.batch.logits[:count], logits[:count]))
        return worst

    def _fits(self, need: BatchCapacity) -> bool:
        return self._too_large is None or need.rows * need.capacity < self._too_large

    def _shun(self, need: BatchCapacity) -> None:
        """Memory did not last: only smaller batches are tried again."""
        if self._too_large is None:
            self._warn(
                f"Batches of {need.rows} rows are decoded step by step, with the same results and more slowly: there "
                "is no memory for a recorded step beside their prompts. A smaller batch_size may be faster."
            )
        self._too_large = need.rows * need.capacity
        self.forget()
        torch.cuda.empty_cache()

    def _give_up(self, reason: str) -> None:
        self.works = False
        self.forget()
        if self._loaded.device.type == "cuda":
            torch.cuda.empty_cache()
        self._warn(
            f"Decoding goes on step by step, with the same results and more slowly: a recorded step can't be used "
            f"({reason}). Set static_decode to off, and it is not tried."
        )


def _largest_difference(found: Tensor, wanted: Tensor) -> float:
    """Relative to the largest logit of `wanted`, whose rows with logits that are not finite tell nothing."""
    gaps, sizes = [], []
    # Some rows at a time: two copies of all in float32 might not fit beside them.
    for ours, theirs in zip(found.split(PROOF_ROWS), wanted.split(PROOF_ROWS), strict=True):
        usual = theirs.isfinite().all(dim=-1, keepdim=True)
        gaps.append((ours.float() - theirs.float()).where(usual, 0.0).abs().nan_to_num(nan=torch.inf).max())
        sizes.append(theirs.where(usual, 0.0).abs().max())
    return float(torch.stack(gaps).max() / torch.stack(sizes).max().clamp_min(1e-12))
