"""The engine that runs a transformers model in this process."""

import time
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext

import torch
from jaxtyping import Float
from torch import Tensor

from ..ablation.directions import Directions
from ..ablation.edit import ModelEdit
from ..ablation.sites import MeasuredGain, Site
from ..ablation.weight_stats import WeightStats, weight_stats
from ..model.accelerator import empty_cache
from ..model.chat.format import ChatFormat
from ..model.hooks.edits import EditHooks, edited_model
from ..model.layers import residual
from ..model.loading.load import LoadedModel
from ..model.sites.feature_gain import measured_gain
from ..model.sites.find import site_weight
from ..prompts.prompt import Prompt
from .cuda_graphs.capture import GraphCapturer, capturer_for
from .cuda_graphs.decoder import Generation, StaticDecoder
from .cuda_graphs.runner import CudaGraphRunner
from .decoding import GreedyDecoder, OnToken, RuledPrompts, end_tokens
from .early_stop import CHECK_INTERVAL, EarlyStopper, RowState
from .forward import Forward
from .kernels import use_kernels
from .layer_cache import LowerLayerCache
from .options import DEFAULT, EngineOptions
from .padding import padding_is_neutral
from .prefill import AssignCandidates, ForwardPlan, Prefill, Prefilled
from .protocol import IsSettled, Progress, Response, RuntimeProfile, no_progress
from .residual_stream import captured_residuals
from .teacher_forcing import AnswerScorer


class LocalEngine:
    """Prompts through one model, at most `batch_size` rows a forward.

    `warn` is called where an option can't be used. `capturer` replaces CUDA graphs, for tests on a CPU.
    """

    def __init__(
        self,
        loaded: LoadedModel,
        chat: ChatFormat,
        batch_size: int = 1,
        options: EngineOptions = DEFAULT,
        warn: Callable[[str], None] = warnings.warn,
        capturer: GraphCapturer | None = None,
    ) -> None:
        self.loaded = loaded
        self._chat = chat
        self._batch_size = batch_size
        self.rules, self._compact_batch = options.rules, options.compact_batch
        self.fused = options.gpu_kernels
        use_kernels(loaded.model, options)
        self.forward = Forward(loaded.model)
        self.layer_cache = LowerLayerCache(loaded.layers) if options.cache_lower_layers else None
        self.prefill = self._make_prefill(options.share_prefix)
        self.graphs: CudaGraphRunner | None = None
        capturer = capturer or capturer_for(loaded.device)
        if capturer is not None and options.static_decode != "off" and options.rules is None:
            self.graphs = CudaGraphRunner(loaded, self.forward, capturer, warn, options.compact_batch, self.fused)
        if options.static_decode == "on" and not self.uses_cuda_graphs:
            why = f"the model is on {loaded.device.type}" if capturer is None else "they can't hold this model"
            warn(f"static_decode = on has no effect: decoding uses no CUDA graphs, since {why}. Results are the same.")

    def _make_prefill(self, share_prefix: bool) -> Prefill:
        loaded, config, pad = self.loaded, self.loaded.model.config, self._chat.tokenizer.pad_token_id
        return Prefill(
            self.forward,
            config,
            loaded.device,
            pad,
            share_prefix=share_prefix,
            layer_cache=self.layer_cache,
            pads=padding_is_neutral(self.forward, config, loaded.device, pad, loaded.vocabulary),
        )

    @property
    def sites(self) -> tuple[Site, ...]:
        return self.loaded.sites

    @property
    def chat(self) -> ChatFormat:
        return self._chat

    @property
    def batch_size(self) -> int:
        return self._batch_size

    @property
    def profile(self) -> RuntimeProfile:
        dtype = str(self.loaded.dtype).removeprefix("torch.")
        template = self._chat.template
        date = template.date if template.prints_date else None
        return RuntimeProfile(dtype, self._chat.response_prefix, self._batch_size, template.arguments, date)

    @property
    def uses_cuda_graphs(self) -> bool:
        """Whether decoding uses CUDA graphs, as far as is known: a failed check disables them."""
        return self.graphs is not None and self.graphs.enabled

    def set_batch_size(self, batch_size: int) -> None:
        self._batch_size = batch_size

    def set_prefix(self, response_prefix: str) -> None:
        """Sets the prefix with which all further responses begin."""
        self._chat = self._chat.with_prefix(response_prefix)

    @contextmanager
    def with_batch_size(self, batch_size: int) -> Iterator[None]:
        before, self._batch_size = self._batch_size, batch_size
        try:
            yield
        finally:
            self._batch_size = before

    @contextmanager
    def with_prefix(self, response_prefix: str) -> Iterator[None]:
        before, self._chat = self._chat, self._chat.with_prefix(response_prefix)
        try:
            yield
        finally:
            self._chat = before

    @contextmanager
    def without_layer_cache(self) -> Iterator[None]:
        """Every forward runs in full and stores nothing, and graphs are released afterwards: for timing forwards."""
        self.prefill.layer_cache = None
        try:
            yield
        finally:
            self.prefill.layer_cache = self.layer_cache
            self._release_graphs()

    def halve_batch_size(self) -> bool:
        if self._batch_size == 1:
            return False
        self._batch_size //= 2
        self.free_buffers()
        return True

    def free_buffers(self) -> None:
        if self.graphs is not None:
            self.graphs.reserved = None
        self._release_graphs()
        empty_cache()

    @torch.inference_mode()
    def decoding_rate(self, prompts: Sequence[Prompt], n_candidates: int, n_tokens: int) -> float:
        """Generated tokens a second of the baseline, without prefill and the first `CHECK_INTERVAL` tokens."""
        times, tokens = list[float](), [self._chat.tokens(prompt) for prompt in prompts]
        edits: list[ModelEdit] = [{}] * n_candidates
        unchecked = nullcontext() if self.graphs is None else self.graphs.unchecked()
        edited = edited_model(self.loaded.model, edits, self.sites, self.fused)
        with self.without_layer_cache(), unchecked, edited as hooks:
            wanted = self._generation(tokens, edits, hooks, n_tokens)
            self._decode(wanted, [], lambda *_: times.append(time.perf_counter()), set(), no_progress)
        # The first steps may warm up caches, and tokens of graphs arrive several at a time.
        counted = len(times) - CHECK_INTERVAL
        return n_candidates * len(prompts) * counted / (times[-1] - times[CHECK_INTERVAL - 1])

    @torch.inference_mode()
    def residuals(
        self, prompts: Sequence[Prompt], progress: Progress
    ) -> Iterator[tuple[list[int], Float[Tensor, "prompt residual d_model"]]]:
        layers, d_model = self.loaded.layers, self.loaded.d_model
        with captured_residuals(layers) as captured:
            for start in self._prefilled(prompts, ForwardPlan((0,), _unedited)):
                rows, positions = len(start.prompts), start.mask.shape[1] - start.n_shared
                states = [residual(captured[n], rows, positions, d_model)[:, -1] for n in range(len(layers) + 1)]
                yield start.prompts, torch.stack([state.float().cpu() for state in states], dim=1)
                progress(len(start.prompts))

    @torch.inference_mode()
    def weight_stats(self, directions: Directions, progress: Progress) -> Mapping[str, WeightStats]:
        stats = {}
        for site in self.sites:
            weight, gain = site_weight(self.loaded.model, site), self.gain(site)
            vectors = directions.vectors.to(weight.device)
            found = weight_stats(weight, vectors, None if gain is None else gain.to(weight.device))
            stats[site.module] = WeightStats(
                found.row_norms.cpu(), found.gram_directions.cpu(), None if found.gain is None else found.gain.cpu()
            )
            progress(1)
        return stats

    def gain(self, site: Site) -> Float[Tensor, " d_model"] | None:
        if site.downstream is None or isinstance(site.downstream, MeasuredGain):
            return None if site.downstream is None else site.downstream.gain
        return measured_gain(self.loaded.model.get_submodule(site.downstream.name), self.loaded.d_model)

    @torch.inference_mode()
    def first_token_log_probabilities(
        self, prompts: Sequence[Prompt], edits: Sequence[ModelEdit], progress: Progress
    ) -> Float[Tensor, "candidate prompt vocab"]:
        found: Tensor | None = None
        with edited_model(self.loaded.model, edits, self.sites, self.fused) as edit_hooks:
            for start in self._prefilled(prompts, self.plan(edits, edit_hooks.assign)):
                log_probabilities = start.logits.float().log_softmax(dim=-1).unflatten(0, (len(edits), -1))
                if found is None:
                    found = log_probabilities.new_empty(len(edits), len(prompts), log_probabilities.shape[-1])
                found[:, start.prompts] = log_probabilities
                progress(len(start.prompts))
        assert found is not None, "no prompts"
        return found

    @torch.inference_mode()
    def answer_log_probabilities(
        self,
        prompts: Sequence[Prompt],
        answers: Sequence[Sequence[int]],
        edits: Sequence[ModelEdit],
        progress: Progress,
    ) -> Iterator[tuple[int, Float[Tensor, "candidate position vocab"]]]:
        tokens = [self._chat.tokens(prompt) for prompt in prompts]
        pad = self._chat.tokenizer.pad_token_id
        with edited_model(self.loaded.model, edits, self.sites, self.fused) as edit_hooks:
            scorer = AnswerScorer(self.forward, self.loaded.device, pad, self._batch_size, edit_hooks.assign)
            for index, log_probabilities in scorer.run(tokens, answers, len(edits)):
                yield index, log_probabilities
                progress(1)

    @torch.inference_mode()
    def generate(
        self,
        prompts: Sequence[Prompt],
        edits: Sequence[ModelEdit],
        max_new_tokens: int,
        is_settled: IsSettled | None,
        progress: Progress,
        prune_at: Sequence[int | None] | None = None,
    ) -> list[list[Response]]:
        responses: list[list[Response]] = [[Response("", 0, False, True)] * len(prompts) for _ in edits]
        stopper = EarlyStopper(self._chat.decode, is_settled, prune_at or [None] * len(edits))
        ends = end_tokens(self.loaded.model, self._chat.tokenizer)
        tokens = [self._chat.tokens(prompt) for prompt in prompts]
        with edited_model(self.loaded.model, edits, self.sites, self.fused) as edit_hooks:
            wanted = self._generation(tokens, edits, edit_hooks, max_new_tokens)
            rows = self._decode(wanted, ends, stopper, stopper.pruned, progress)
        texts = self._chat.decode([row.tokens for row in rows.values()])
        for ((candidate, prompt), row), text in zip(rows.items(), texts, strict=True):
            responses[candidate][prompt] = _response(row, text)
        return responses

    def _generation(
        self, tokens: Sequence[Sequence[int]], edits: Sequence[ModelEdit], edit_hooks: EditHooks, max_new_tokens: int
    ) -> Generation:
        plan = self.plan(edits, edit_hooks.assign, max_new_tokens)
        return Generation(tokens, edits, edit_hooks, plan, max_new_tokens)

    def _decode(
        self, wanted: Generation, ends: Sequence[int], on_token: OnToken, pruned: set[int], progress: Progress
    ) -> Mapping[tuple[int, int], RowState]:
        """Rows by candidate and prompt; those of a candidate in `pruned`, which `on_token` may fill, end."""
        if self.graphs is not None and wanted.prompts:
            static = StaticDecoder(self.prefill, self.graphs, ends, self._batch_size)
            decoded = static.run(wanted, on_token, pruned, progress)
            if decoded is not None:
                return decoded
        rows: dict[tuple[int, int], RowState] = {}
        ruled = None if self.rules is None else RuledPrompts(self.rules, wanted.prompts, self._chat.n_prefix)
        decoder = GreedyDecoder(self.forward, ends, self._compact_batch, ruled)
        for start in self.prefill.batches(wanted.prompts, self._batch_size, wanted.plan):
            batch = decoder.run(start, wanted.max_new_tokens, on_token, wanted.plan.assign)
            for number, row in enumerate(batch):
                rows[row.candidate, start.prompts[number % len(start.prompts)]] = row
            progress(len(start.prompts))
            if len(pruned) == len(wanted.edits):
                break
        return rows

    def plan(self, edits: Sequence[ModelEdit], assign: AssignCandidates, n_reserved: int = 0) -> ForwardPlan:
        """The plan of a prefill under `edits`, followed by `n_reserved` positions."""
        edited = {module for edit in edits for module in edit}
        layers = [site.layer for site in self.sites if site.module in edited]
        return ForwardPlan(range(len(edits)), assign, min(layers, default=len(self.loaded.layers)), n_reserved)

    def _release_graphs(self) -> None:
        if self.graphs is not None:
            self.graphs.release()

    def _prefilled(self, prompts: Sequence[Prompt], plan: ForwardPlan) -> Iterator[Prefilled]:
        """Prefills all prompts, a slice at a time, without decoding."""
        tokens = [self._chat.tokens(prompt) for prompt in prompts]
        for batch in self.prefill.split(tokens, max(1, self._batch_size // plan.n_candidates)):
            yield from self.prefill.slices(tokens, batch, plan)


def _response(row: RowState, text: str) -> Response:
    return Response(text, len(row.tokens), row.ended, row.pruned, tuple(row.tokens))


def _unedited(_: Tensor) -> None:
    """Assigns no candidates: the rows are the baseline's."""
