"""The driver's engine: a model without weights, whose forwards run on actors."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from jaxtyping import Float
from torch import Tensor

from ...ablation.directions import Directions
from ...ablation.edit import ModelEdit
from ...ablation.methods.measurements import N_ANSWER
from ...ablation.sites import Site
from ...ablation.weight_stats import WeightStats
from ...engine.learning.rows import Row
from ...engine.learning.runners import fault_of_gradients, step_runner
from ...engine.learning.step import StepRunner
from ...engine.local import LocalEngine
from ...engine.prefill import split_prompts
from ...engine.protocol import IsSettled, Progress, Response
from ...engine.site_outputs import site_outputs
from ...evaluation.heldout.divergences import null_divergences
from ...model.loading.load import LoadedModel
from ...prompts.prompt import Prompt
from . import calls
from .pool import ActorPool, Task
from .worker import ModelFacts


class RemoteEngine(LocalEngine):
    """Splits prompts over actors into the batches that one engine would use, so that results are the same.

    It has the interface of `LocalEngine`. Work that needs weights in this process (chat) has to load the model here.
    """

    def __init__(self, pool: ActorPool, facts: ModelFacts, skeleton: LoadedModel) -> None:
        self.pool = pool
        self.facts = facts
        self.loaded = skeleton
        self.rules = facts.rules
        self.graphs = None
        self.layer_cache = None
        self._chat = facts.chat
        self._batch_size = facts.profile.batch_size

    def residuals(
        self, prompts: Sequence[Prompt], progress: Progress
    ) -> Iterator[tuple[list[int], Float[Tensor, "prompt residual d_model"]]]:
        batches = self._batches(prompts)
        found = self._map("residuals", calls.residuals, [(_chosen(prompts, each),) for each in batches], progress)
        for batch, parts in zip(batches, found, strict=True):
            for indices, residuals in parts:
                yield _chosen(batch, indices), residuals

    def weight_stats(self, directions: Directions, progress: Progress) -> Mapping[str, WeightStats]:
        [stats] = self._map("weight statistics", calls.weight_statistics, [(directions,)], progress)
        return dict(stats)

    def gain(self, site: Site) -> Float[Tensor, " d_model"] | None:
        return self.facts.gains.get(site.module)

    def first_token_log_probabilities(
        self, prompts: Sequence[Prompt], edits: Sequence[ModelEdit], progress: Progress
    ) -> Float[Tensor, "candidate prompt vocab"]:
        batches, shared = self._batches(prompts, len(edits)), self.pool.share(list(edits))
        arguments = [(_chosen(prompts, each), shared) for each in batches]
        parts = self._map("first tokens", calls.first_tokens, arguments, progress)
        found = parts[0].new_empty(len(edits), len(prompts), parts[0].shape[-1])
        for batch, part in zip(batches, parts, strict=True):
            found[:, batch] = part
        return found

    def answer_log_probabilities(
        self,
        prompts: Sequence[Prompt],
        answers: Sequence[Sequence[int]],
        edits: Sequence[ModelEdit],
        progress: Progress,
    ) -> Iterator[tuple[int, Float[Tensor, "candidate position vocab"]]]:
        batches, shared = self._batches(prompts, len(edits)), self.pool.share(list(edits))
        arguments = [(_chosen(prompts, each), _chosen(answers, each), shared) for each in batches]
        parts = self._map("answers", calls.answers, arguments, progress)
        for batch, part in zip(batches, parts, strict=True):
            for index, log_probabilities in part:
                yield batch[index], log_probabilities

    def generate(
        self,
        prompts: Sequence[Prompt],
        edits: Sequence[ModelEdit],
        max_new_tokens: int,
        is_settled: IsSettled | None,
        progress: Progress,
        prune_at: Sequence[int | None] | None = None,
    ) -> list[list[Response]]:
        assert prune_at is None or all(each is None for each in prune_at), "candidates are pruned by their actor"
        batches, shared = self._batches(prompts, len(edits)), self.pool.share(list(edits))
        arguments = [(_chosen(prompts, each), shared, max_new_tokens, is_settled) for each in batches]
        parts = self._map("responses", calls.generate, arguments, progress)
        found: list[dict[int, Response]] = [{} for _ in edits]
        for batch, part in zip(batches, parts, strict=True):
            for candidate, responses in zip(found, part, strict=True):
                candidate |= zip(batch, responses, strict=True)
        return [[each[index] for index in range(len(prompts))] for each in found]

    def outputs_of_sites(
        self, prompts: Sequence[Prompt], answers: Sequence[Sequence[int]]
    ) -> Iterator[tuple[list[int], Mapping[str, Tensor]]]:
        """`engine.site_outputs`, split over actors."""
        texts = [[*self.chat.tokens(each), *answer[:N_ANSWER]] for each, answer in zip(prompts, answers, strict=True)]
        batches = list(split_prompts(texts, self.batch_size, self.facts.pads))
        arguments = [(_chosen(prompts, each), _chosen(answers, each)) for each in batches]
        parts = self._map("outputs of sites", calls.outputs_of_sites, arguments, _ignored)
        for batch, part in zip(batches, parts, strict=True):
            for indices, outputs in part:
                yield _chosen(batch, indices), outputs

    def divergences_from_itself(
        self, prompts: Sequence[Prompt], answers: Sequence[Response]
    ) -> tuple[Float[Tensor, " prompt"], Float[Tensor, " prompt"]]:
        """`null_divergences` by one actor: log-probabilities of whole answers are too large to be sent."""
        arguments = [(list(prompts), list(answers))]
        [found] = self._map("the baseline again", calls.divergences_from_itself, arguments, _ignored)
        return found[0], found[1]

    def fault_of_gradients(self, first_layer: int, rows: Sequence[Row]) -> str | None:
        """Compares gradients with finite differences on one actor."""
        [fault] = self._map("gradients", calls.fault_of_gradients, [(first_layer, list(rows))], _ignored)
        return None if fault is None else str(fault)

    def task(self, title: str, work: Callable[..., Any], *arguments: Any) -> Task:
        """A task that runs `work` on an actor's engine, with this one's prefix and batch size."""
        return Task("run", (work, self.chat.response_prefix, self.batch_size, *arguments), title)

    def _map(
        self, title: str, work: Callable[..., Any], arguments: Sequence[tuple[Any, ...]], progress: Progress
    ) -> list[Any]:
        return self.pool.map([self.task(title, work, *each) for each in arguments], progress)

    def _batches(self, prompts: Sequence[Prompt], n_candidates: int = 1) -> list[list[int]]:
        tokens = [self.chat.tokens(prompt) for prompt in prompts]
        return list(split_prompts(tokens, max(1, self.batch_size // n_candidates), self.facts.pads))


@site_outputs.register
def _(
    engine: RemoteEngine, prompts: Sequence[Prompt], answers: Sequence[Sequence[int]]
) -> Iterator[tuple[list[int], Mapping[str, Tensor]]]:
    return engine.outputs_of_sites(prompts, answers)


@null_divergences.register
def _(
    engine: RemoteEngine, prompts: Sequence[Prompt], answers: Sequence[Response]
) -> tuple[Float[Tensor, " prompt"], Float[Tensor, " prompt"]]:
    return engine.divergences_from_itself(prompts, answers)


@step_runner.register
def _(engine: RemoteEngine, first_layer: int) -> StepRunner:
    from .learning import RemoteStepRunner

    return RemoteStepRunner(engine, first_layer)


@fault_of_gradients.register
def _(engine: RemoteEngine, first_layer: int, rows: Sequence[Row]) -> str | None:
    return engine.fault_of_gradients(first_layer, rows)


def _chosen(items: Sequence[Any], indices: Sequence[int]) -> list[Any]:
    return [items[index] for index in indices]


def _ignored(_: int) -> None:
    """Ignores the count: the caller reports progress itself."""
