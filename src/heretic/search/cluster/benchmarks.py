"""Benchmarks by actors: the harness runs in the driver, and its requests are split over all actors."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from typing import Any

from lm_eval.api.model import LM

from ...ablation.edit import ModelEdit
from ...benchmark.harness import Step, WatchedModel, chat_text, request_key
from ...engine.local import LocalEngine
from ...engine.protocol import Progress
from .engine import RemoteEngine

BATCHES = 4
"""Batches of requests in one task: the harness sorts requests by length, which saves padding in large parts; small ones
keep all actors busy to the end."""


class RemoteModel(LM):
    """The harness's model, whose requests are answered by actors.

    The parts have the same requests whatever the number of actors.
    """

    def __init__(self, engine: RemoteEngine, batch_size: int, step: Step) -> None:
        super().__init__()
        self._engine = engine
        self._batch_size = batch_size
        self._step = step
        self._unfinished: dict[str, bool] = {}
        self.title = ""
        self._edit: ModelEdit = {}

    @contextmanager
    def edited(self, edit: ModelEdit) -> Iterator[None]:
        """All actors' models with `edit` applied, inside the `with` block."""
        self._edit = edit
        try:
            yield
        finally:
            self._edit = {}

    @property
    def tokenizer_name(self) -> str:
        return str(self._engine.chat.tokenizer.name_or_path)

    def chat_template(self, chat_template: bool | str = False) -> str:
        return str(self._engine.chat.tokenizer.chat_template)

    def apply_chat_template(self, chat_history: list[dict[str, str]], add_generation_prompt: bool = True) -> str:
        return chat_text(self._engine.chat, chat_history, add_generation_prompt)

    def loglikelihood(self, requests: list[Any], disable_tqdm: bool = False) -> list[Any]:
        return self._answers("loglikelihood", requests)

    def loglikelihood_rolling(self, requests: list[Any], disable_tqdm: bool = False) -> list[Any]:
        return self._answers("loglikelihood_rolling", requests)

    def generate_until(self, requests: list[Any], disable_tqdm: bool = False) -> list[Any]:
        return self._answers("generate_until", requests)

    def unfinished(self, request: tuple[Any, ...]) -> bool | None:
        """Whether the length limit cut off the answer to a request; None where nothing was generated."""
        return self._unfinished.get(request_key(request))

    def _answers(self, kind: str, requests: Sequence[Any]) -> list[Any]:
        size = BATCHES * self._batch_size
        parts = [list(requests[start : start + size]) for start in range(0, len(requests), size)]
        pool, found = self._engine.pool, list[Any]()
        edit = pool.share(self._edit)
        tasks = [self._engine.task(self.title, answer, edit, kind, part, self._batch_size) for part in parts]
        with self._step(self.title, len(requests)) as progress:
            for answers, unfinished in pool.map(tasks, progress):
                found += answers
                self._unfinished |= unfinished
        return found


def answer(
    engine: LocalEngine, edit: ModelEdit, kind: str, requests: list[Any], batch_size: int, *, progress: Progress
) -> tuple[list[Any], dict[str, bool]]:
    """Answers of the edited model to requests of the harness, and for generated ones whether they are unfinished."""
    lm = WatchedModel(engine.loaded.model, engine.chat, batch_size, lambda *_: nullcontext(progress), engine.sites)
    with lm.edited(edit):
        answers = getattr(lm, kind)(requests)
    return answers, lm.all_unfinished
