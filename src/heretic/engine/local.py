"""The engine that runs a transformers model in this process."""

import time
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from ..ablation.directions import Directions
from ..ablation.edit import ModelEdit
from ..ablation.sites import Site
from ..ablation.weight_stats import WeightStats, weight_stats
from ..model.chat.format import ChatFormat
from ..model.hooks.edits import EditHooks, edited_model
from ..model.kernels.decode_attention import use_decode_attention
from ..model.kernels.packed_linear import pack_weights
from ..model.layers import hidden, hooks, residual
from ..model.loading.load import LoadedModel
from ..model.sites.feature_gain import measured_gain
from ..model.sites.find import site_weight
from ..prompts.prompt import Prompt
from .cuda_graphs.capture import recorder_for
from .cuda_graphs.decoder import StaticDecoder
from .cuda_graphs.runner import CudaGraphRunner
from .cuda_graphs.static_batch import BatchCapacity
from .decoding import GreedyDecoder, end_tokens
from .early_stop import CHECK_EVERY, EarlyStopper, Row
from .forward import Forward
from .layer_cache import LowerLayerCache
from .padding import padding_is_neutral
from .prefill import AssignCandidates, ForwardPlan, Prefill, Prefilled
from .protocol import Progress, Response
from .teacher_forcing import ForcedAnswers


class LocalEngine:
    """Prompts through one model, `batch_size` rows a forward.

    `share_prefix` runs what all prompts begin with once, `reuse_layers` the layers below the first edited one;
    `compact` lets finished rows leave; `fast_attention` and `packed_weights` are the two of model/kernels, where they
    help; `static_decode` decodes by recorded steps: on (by CUDA graphs, or elsewhere by tapes that are no faster),
    off, or auto, which is on where there are CUDA graphs. Without them the results are the
    same, and later. `warn` is told if one of them can't be used.
    """

    def __init__(
        self,
        loaded: LoadedModel,
        chat: ChatFormat,
        batch_size: int = 1,
        compact: bool = True,
        share_prefix: bool = True,
        reuse_layers: bool = True,
        fast_attention: bool = True,
        packed_weights: bool = True,
        static_decode: str = "auto",
        warn: Callable[[str], None] = warnings.warn,
    ) -> None:
        self.loaded = loaded
        self.chat = chat
        self.batch_size = batch_size
        self._compact = compact
        if fast_attention:
            use_decode_attention(loaded.model)
        if packed_weights:
            pack_weights(loaded.model)
        self.forward = Forward(loaded.model)
        pad = chat.tokenizer.pad_token_id
        untouched = LowerLayerCache(loaded.layers) if reuse_layers else None
        config, vocabulary = loaded.model.config, len(loaded.model.get_input_embeddings().weight)  # type: ignore[operator]
        pads = padding_is_neutral(self.forward, config, loaded.device, pad, vocabulary)
        self._prefill = Prefill(self.forward, config, loaded.device, pad, share_prefix, untouched, pads)
        recorded = static_decode == "on" or (static_decode == "auto" and loaded.device.type == "cuda")
        recorder = recorder_for(loaded.device)
        self._steps = CudaGraphRunner(loaded, self.forward, recorder, warn, compact) if recorded else None

    @property
    def sites(self) -> tuple[Site, ...]:
        return self.loaded.sites

    @property
    def records_steps(self) -> bool:
        """Whether decoding goes by recorded steps, as far as is known."""
        return self._steps is not None and self._steps.works

    @property
    def has_recorded(self) -> bool:
        """Whether steps are recorded now."""
        return self._steps is not None and self._steps.recorded

    @contextmanager
    def keeping_nothing(self) -> Iterator[None]:
        """Every forward in full, and nothing kept of it: for measuring how long forwards take."""
        untouched, self._prefill.untouched = self._prefill.untouched, None
        try:
            yield
        finally:
            self._prefill.untouched = untouched
            self._forget_steps()

    @torch.inference_mode()
    def decoding_rate(self, prompts: Sequence[Prompt], n_candidates: int, n_tokens: int) -> float:
        """Generated tokens a second of the baseline, prefill and the first `CHECK_EVERY` tokens left out."""
        times: list[float] = []
        tokens = [self.chat.tokens(prompt) for prompt in prompts]
        edits: list[ModelEdit] = [{}] * n_candidates
        with self.keeping_nothing(), edited_model(self.loaded.model, edits, self.sites) as applied:
            work = self._work(edits, applied.assign, n_tokens)
            decoder = self._decoder([], tokens, n_tokens, edits, applied)
            for start in self._prefill.batches(tokens, self.batch_size, work):
                decoder.run(start, n_tokens, lambda *_: times.append(time.perf_counter()), applied.assign)
        # The first steps may warm things up, and recorded ones are told of several at a time.
        counted = len(times) - CHECK_EVERY
        return n_candidates * len(prompts) * counted / (times[-1] - times[CHECK_EVERY - 1])

    def halve(self) -> bool:
        """Takes half as many rows a forward from now on; False if it is one already."""
        if self.batch_size == 1:
            return False
        self.batch_size //= 2
        self._forget_steps()
        if self.loaded.device.type == "cuda":
            torch.cuda.empty_cache()
        return True

    @torch.inference_mode()
    def residuals(self, prompts: Sequence[Prompt], progress: Progress) -> Iterator[tuple[list[int], Tensor]]:
        layers, d_model = self.loaded.layers, self.loaded.d_model
        seen: dict[int, Tensor] = {}
        with hooks(*_residual_hooks(layers, seen)):
            for prefilled in self._slices(prompts, ForwardPlan(1, _unedited)):
                rows, positions = len(prefilled.prompts), prefilled.mask.shape[1] - prefilled.shared
                whole = [residual(seen[index], rows, positions, d_model) for index in range(len(layers) + 1)]
                states = [state[:, -1] for state in whole]
                yield prefilled.prompts, torch.stack([state.float().cpu() for state in states], dim=1)
                progress(len(prefilled.prompts))

    @torch.inference_mode()
    def weight_stats(self, directions: Directions, progress: Progress) -> Mapping[str, WeightStats]:
        stats = {}
        for site in self.sites:
            weight = site_weight(self.loaded.model, site)
            gain = self.gain(site)
            vectors = directions.vectors.to(weight.device)
            stats[site.module] = _on_cpu(
                weight_stats(weight, vectors, None if gain is None else gain.to(weight.device))
            )
            progress(1)
        return stats

    def gain(self, site: Site) -> Tensor | None:
        """What is between a site and the stream (a post-norm, mostly) multiplies each feature by this, (d_model,) fp32;
        None: nothing is."""
        if site.post_norm is None or site.gain is not None:
            return site.gain
        return measured_gain(self.loaded.model.get_submodule(site.post_norm), self.loaded.d_model)

    @torch.inference_mode()
    def first_token_log_probabilities(
        self, prompts: Sequence[Prompt], edits: Sequence[ModelEdit], progress: Progress
    ) -> Tensor:
        found: Tensor | None = None
        with edited_model(self.loaded.model, edits, self.sites) as applied:
            for prefilled in self._slices(prompts, self._work(edits, applied.assign)):
                log_probabilities = prefilled.logits.float().log_softmax(dim=-1).unflatten(0, (len(edits), -1))
                if found is None:
                    found = log_probabilities.new_empty(len(edits), len(prompts), log_probabilities.shape[-1])
                found[:, prefilled.prompts] = log_probabilities
                progress(len(prefilled.prompts))
        assert found is not None, "no prompts"
        return found

    @torch.inference_mode()
    def answer_log_probabilities(
        self,
        prompts: Sequence[Prompt],
        answers: Sequence[Sequence[int]],
        edits: Sequence[ModelEdit],
        progress: Progress,
    ) -> Iterator[tuple[int, Tensor]]:
        rows = [self.chat.tokens(prompt) for prompt in prompts]
        pad = self.chat.tokenizer.pad_token_id
        with edited_model(self.loaded.model, edits, self.sites) as applied:
            forced = ForcedAnswers(self.forward, self.loaded.device, pad, self.batch_size, applied.assign)
            for index, log_probabilities in forced.run(rows, answers, len(edits)):
                yield index, log_probabilities
                progress(1)

    @torch.inference_mode()
    def generate(
        self,
        prompts: Sequence[Prompt],
        edits: Sequence[ModelEdit],
        max_new_tokens: int,
        decided: Callable[[str], bool] | None,
        progress: Progress,
        enough: Sequence[int | None] | None = None,
    ) -> list[list[Response]]:
        responses: list[list[Response]] = [[Response("", 0, False, True)] * len(prompts) for _ in edits]
        watch = EarlyStopper(self.chat.decode, decided, enough or [None] * len(edits))
        ends = end_tokens(self.loaded.model, self.chat.tokenizer)
        tokens = [self.chat.tokens(prompt) for prompt in prompts]
        with edited_model(self.loaded.model, edits, self.sites) as applied:
            decoder = self._decoder(ends, tokens, max_new_tokens, edits, applied)
            work = self._work(edits, applied.assign, max_new_tokens)
            for start in self._prefill.batches(tokens, self.batch_size, work):
                rows = decoder.run(start, max_new_tokens, watch, applied.assign)
                texts = self.chat.decode([row.tokens for row in rows])
                for number, (row, text) in enumerate(zip(rows, texts, strict=True)):
                    candidate, place = divmod(number, len(start.prompts))
                    responses[candidate][start.prompts[place]] = _response(row, text)
                progress(len(start.prompts))
                if watch.all_given_up:
                    break
        return responses

    def _decoder(
        self,
        ends: Sequence[int],
        tokens: Sequence[Sequence[int]],
        max_new_tokens: int,
        edits: Sequence[ModelEdit],
        applied: EditHooks,
    ) -> GreedyDecoder | StaticDecoder:
        plain = GreedyDecoder(self.forward, ends, self._compact)
        if self._steps is None or not tokens:
            return plain
        need = BatchCapacity(
            rows=min(len(tokens) * len(edits), max(len(edits), self.batch_size)),
            positions=max(map(len, tokens)) + max_new_tokens,
            tokens=max_new_tokens,
            candidates=len(edits),
            rank=max((each.rank for edit in edits for each in edit.values()), default=1),
        )
        return StaticDecoder(plain, self._steps, ends, need, edits, applied)

    def _forget_steps(self) -> None:
        if self._steps is not None:
            self._steps.forget()

    def _work(self, edits: Sequence[ModelEdit], assign: AssignCandidates, room: int = 0) -> ForwardPlan:
        edited = {module for edit in edits for module in edit}
        layers = [site.layer for site in self.sites if site.module in edited]
        return ForwardPlan(len(edits), assign, min(layers, default=len(self.loaded.layers)), room)

    def _slices(self, prompts: Sequence[Prompt], work: ForwardPlan) -> Iterator[Prefilled]:
        """All prompts, a slice at a time; nothing is kept for going on."""
        tokens = [self.chat.tokens(prompt) for prompt in prompts]
        for batch in self._prefill.cut(tokens, max(1, self.batch_size // work.n_candidates)):
            yield from self._prefill.slices(tokens, batch, work)


def _response(row: Row, text: str) -> Response:
    return Response(text, len(row.tokens), row.ended, row.cut, tuple(row.tokens))


def _unedited(_: Tensor) -> None:
    """Rows of the baseline belong to no candidate."""


def _residual_hooks(layers: nn.ModuleList, seen: dict[int, Tensor]) -> list[Any]:
    """Hooks that keep the last token's residual: before the first layer, and after each.

    transformers' own `hidden_states` end with the final norm's output, which is another space.
    """

    def before(_: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        seen[0] = _end(args[0] if args else kwargs["hidden_states"])

    def after(index: int, _: nn.Module, __: Any, output: Any) -> None:
        seen[index] = _end(hidden(output))

    first = partial(layers[0].register_forward_pre_hook, before, with_kwargs=True)
    return [first] + [partial(layer.register_forward_hook, partial(after, i)) for i, layer in enumerate(layers, 1)]


def _end(state: Tensor) -> Tensor:
    """The last position of a layer's state, for a model of one stream; of several, all there is."""
    return state[:, -1:].clone() if state.dim() == 3 else state.clone()


def _on_cpu(stats: WeightStats) -> WeightStats:
    gain = None if stats.gain is None else stats.gain.cpu()
    return WeightStats(stats.row_norms.cpu(), stats.gram_directions.cpu(), gain)
