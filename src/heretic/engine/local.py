"""The engine that runs a transformers model in this process."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from ..ablation.directions import Directions
from ..ablation.edit import ModelEdit
from ..ablation.sites import Site
from ..ablation.weight_stats import WeightStats, weight_stats
from ..model.chat import ChatFormat, TokenBatch
from ..model.hooks import EditHooks, edited_model, measured_gain
from ..model.layers import hidden, hooks
from ..model.loading import LoadedModel
from ..prompts.prompt import Prompt
from .base import Progress, Response
from .decoding import Forward, GreedyDecoder, Row


class LocalEngine:
    """Prompts through one model, `batch_size` rows a forward."""

    def __init__(self, loaded: LoadedModel, chat: ChatFormat, batch_size: int = 1, compact: bool = True) -> None:
        self.loaded = loaded
        self.chat = chat
        self.batch_size = batch_size
        self._compact = compact
        self._forward = Forward(loaded.model)

    @property
    def sites(self) -> tuple[Site, ...]:
        return self.loaded.sites

    @torch.inference_mode()
    def residuals(self, prompts: Sequence[Prompt], progress: Progress) -> Iterator[tuple[list[int], Tensor]]:
        layers = self.loaded.layers
        for group in self._groups(prompts, 1)[1]:
            batch = self._batch([self.chat.tokens(prompts[i]) for i in group])
            seen: dict[int, Tensor] = {}
            with hooks(*_residual_hooks(layers, seen)):
                self._forward(batch.input_ids, batch.attention_mask)
            progress(len(batch.input_ids))
            yield group, torch.stack([seen[index] for index in range(len(layers) + 1)], dim=1)

    @torch.inference_mode()
    def weight_stats(self, directions: Directions, progress: Progress) -> Mapping[str, WeightStats]:
        modules = dict(self.loaded.model.named_modules())
        stats = {}
        for site in self.sites:
            weight = site_weight(site, modules[site.module])
            gain = self.gain(site)
            vectors = directions.vectors.to(weight.device)
            stats[site.module] = _on_cpu(
                weight_stats(weight, vectors, None if gain is None else gain.to(weight.device))
            )
            progress(1)
        return stats

    def gain(self, site: Site) -> Tensor | None:
        """What a post-norm multiplies each feature by on its way to the stream, (d_model,) fp32; None without one."""
        if site.post_norm is None:
            return None
        return measured_gain(self.loaded.model.get_submodule(site.post_norm), self.loaded.d_model)

    @torch.inference_mode()
    def first_token_log_probabilities(
        self, prompts: Sequence[Prompt], edits: Sequence[ModelEdit], progress: Progress
    ) -> Tensor:
        results: list[list[Tensor]] = [[] for _ in edits]
        order, groups = self._groups(prompts, len(edits))
        with edited_model(self.loaded.model, edits) as applied:
            for group in groups:
                batch = self._candidate_batch([self.chat.tokens(prompts[i]) for i in group], len(edits), applied)
                logits = self._forward(batch.input_ids, batch.attention_mask).logits[:, -1]
                log_probabilities = logits.float().log_softmax(dim=-1).cpu()
                for candidate, rows in enumerate(log_probabilities.split(len(group))):
                    results[candidate].append(rows)
                progress(len(batch.input_ids))
        back = torch.tensor(order).argsort()
        return torch.stack([torch.cat(rows)[back] for rows in results])

    def respond(
        self,
        prompts: Sequence[Prompt],
        edits: Sequence[ModelEdit],
        max_new_tokens: int,
        decided: Callable[[str], bool] | None,
        progress: Progress,
    ) -> list[list[Response]]:
        responses: list[list[Response | None]] = [[None] * len(prompts) for _ in edits]
        _, groups = self._groups(prompts, len(edits))
        decoder = GreedyDecoder(self._forward, self.loaded.model.config, self._end_tokens(), self._compact)
        with edited_model(self.loaded.model, edits) as applied:
            for group in groups:
                batch = self._candidate_batch([self.chat.tokens(prompts[i]) for i in group], len(edits), applied)
                kept = partial(self._assign, applied, len(group))
                rows = decoder.run(batch, max_new_tokens, partial(self._check, decided), kept)
                texts = self.chat.decode([row.tokens for row in rows])
                for number, (row, text) in enumerate(zip(rows, texts, strict=True)):
                    candidate, place = divmod(number, len(group))
                    responses[candidate][group[place]] = Response(text, len(row.tokens), row.ended)
                progress(len(rows))
        return responses  # type: ignore[return-value]

    def _check(self, decided: Callable[[str], bool] | None, rows: Sequence[Row]) -> None:
        if decided is None or not rows:
            return
        for row, text in zip(rows, self.chat.decode([row.tokens for row in rows]), strict=True):
            row.decided = decided(text)

    def _end_tokens(self) -> list[int]:
        configured = self.loaded.model.generation_config.eos_token_id  # type: ignore[union-attr]
        ends = configured if isinstance(configured, list) else [configured]
        return [token for token in [*ends, self.chat.tokenizer.eos_token_id] if token is not None]

    def _groups(self, prompts: Sequence[Prompt], n_candidates: int) -> tuple[list[int], list[list[int]]]:
        """Prompts by length, so that little is padded, in groups whose rows for all candidates fit a forward."""
        order = sorted(range(len(prompts)), key=lambda i: len(self.chat.tokens(prompts[i])))
        size = max(1, self.batch_size // n_candidates)
        return order, [order[start : start + size] for start in range(0, len(order), size)]

    def _candidate_batch(self, rows: Sequence[Sequence[int]], n_candidates: int, applied: EditHooks) -> TokenBatch:
        batch = self._batch(list(rows) * n_candidates)
        self._assign(applied, len(rows), torch.arange(len(batch.input_ids)))
        return batch

    def _batch(self, rows: Sequence[Sequence[int]]) -> TokenBatch:
        return self.chat.pad(rows).to(self.loaded.device)

    @staticmethod
    def _assign(applied: EditHooks, n_prompts: int, rows: Tensor) -> None:
        # Rows are candidate-major.
        applied.assign(rows // n_prompts)


def site_weight(site: Site, module: nn.Module) -> Tensor:
    """The site's weight, (d_model, d_in), as it stands in memory."""
    weight: Any = module.weight
    return weight.mT if site.transposed else weight


def _residual_hooks(layers: nn.ModuleList, seen: dict[int, Tensor]) -> list[Any]:
    """Hooks that keep the last token's residual: before the first layer, and after each.

    transformers' own `hidden_states` end with the final norm's output, which is another space.
    """

    def before(_: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        seen[0] = (args[0] if args else kwargs["hidden_states"])[:, -1].float().cpu()

    def after(index: int, _: nn.Module, __: Any, output: Any) -> None:
        seen[index] = hidden(output)[:, -1].float().cpu()

    first = partial(layers[0].register_forward_pre_hook, before, with_kwargs=True)
    return [first] + [partial(layer.register_forward_hook, partial(after, i)) for i, layer in enumerate(layers, 1)]


def _on_cpu(stats: WeightStats) -> WeightStats:
    gain = None if stats.gain is None else stats.gain.cpu()
    return WeightStats(stats.row_norms.cpu(), stats.gram_directions.cpu(), gain)
