"""EleutherAI's lm-evaluation-harness on a model in memory, with its hooks."""

import difflib
import json
import logging
import os
import traceback
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any, Protocol

import lm_eval
import lm_eval.evaluator
from lm_eval.models.huggingface import HFLM
from lm_eval.tasks import TaskManager

from ..ablation.edit import ModelEdit
from ..ablation.sites import Site
from ..engine.protocol import Progress
from ..errors import BenchmarkError
from ..model.chat.format import ChatFormat
from ..model.hooks.edits import edited_model
from .comparison import Document, TaskRun
from .packaged import PACKAGED, packaged_task

Step = Callable[[str, int], AbstractContextManager[Progress]]
"""Opens a step of that many requests under a title."""

# It reports each task's settings, and warns about values that are set here on purpose.
logging.getLogger("lm_eval").setLevel(logging.ERROR)
# It asks git for the commit of the working directory, which is irrelevant here, and git prints errors.
lm_eval.evaluator.get_git_commit_hash = lambda: None


class WatchedModel(HFLM):
    """The harness's own wrapper of a transformers model, which also reports progress and truncated answers."""

    def __init__(self, model: Any, chat: ChatFormat, batch_size: int, step: Step, sites: Sequence[Site] = ()) -> None:
        # The template has written the BOS token already.
        super().__init__(pretrained=model, tokenizer=chat.tokenizer, batch_size=batch_size, add_bos_token=False)
        self._chat = chat
        self._sites = sites
        self._step = step
        self._ended: list[bool] = []
        self._unfinished: dict[str, bool] = {}
        self._tick: Progress = lambda _: None
        self.title = ""
        self.set_cache_hook(self)

    def apply_chat_template(self, chat_history: list[dict[str, str]], add_generation_prompt: bool = True) -> str:
        return chat_text(self._chat, chat_history, add_generation_prompt)

    def edited(self, edit: ModelEdit) -> AbstractContextManager[Any]:
        """The model with `edit` applied, inside the `with` block."""
        return edited_model(self.model, [edit], self._sites)

    def loglikelihood(self, requests: list[Any], disable_tqdm: bool = False) -> Any:
        with self._step(self.title, len(requests)) as self._tick:
            return super().loglikelihood(requests, True)

    def generate_until(self, requests: list[Any], disable_tqdm: bool = False) -> Any:
        with self._step(self.title, len(requests)) as self._tick:
            return super().generate_until(requests, True)

    def _model_generate(self, context: Any, max_length: int, stop: list[str], **generation_kwargs: Any) -> Any:
        output = super()._model_generate(context, max_length, stop, **generation_kwargs)
        for row in output[:, context.shape[1] :].tolist():
            text = self.tok_decode(row, skip_special_tokens=False)
            self._ended.append(any(end and end in text for end in stop) or self.eot_token_id in row)
        return output

    def add_partial(self, kind: str, request: tuple[Any, ...], _: Any) -> None:
        """The harness's hook for caches: called with each request once it is answered, in the order of the rows."""
        self._tick(1)
        if kind == "generate_until":
            self._unfinished[request_key(request)] = not self._ended.pop(0)

    def unfinished(self, request: tuple[Any, ...]) -> bool | None:
        """Whether the length limit cut off the answer to a request; None where nothing was generated."""
        return self._unfinished.get(request_key(request))

    @property
    def all_unfinished(self) -> dict[str, bool]:
        """`unfinished` of all generated answers, by `request_key`."""
        return dict(self._unfinished)


class BenchmarkModel(Protocol):
    """A model of the harness, in this process or elsewhere; `title` names what it measures."""

    title: str

    def edited(self, edit: ModelEdit) -> AbstractContextManager[Any]: ...

    def unfinished(self, request: tuple[Any, ...]) -> bool | None: ...


def chat_text(chat: ChatFormat, history: list[dict[str, str]], add_generation_prompt: bool) -> str:
    """The prompt as in the search, with the response prefix at its end."""
    text = chat.render_messages(history, continued=not add_generation_prompt)
    return text + chat.response_prefix if add_generation_prompt else text


def harness_version() -> str:
    from importlib.metadata import version

    return version("lm-eval")


def run_task(lm: BenchmarkModel, task: str, limit: int | None, system_prompt: str | None) -> TaskRun:
    """The model's scores on a task of the harness: a packaged one, a YAML file, or a name that the harness knows.

    Raises:
        BenchmarkError: there is no such task, or its data can't be had.
    """
    manager, spec = find_task(task)
    try:
        results = lm_eval.simple_evaluate(
            model=lm,
            tasks=[spec],
            limit=limit,
            bootstrap_iters=0,
            log_samples=True,
            apply_chat_template=True,
            fewshot_as_multiturn=True,
            system_instruction=system_prompt,
            task_manager=manager,
            # Tasks that execute the model's output (code, say) stay disabled: the user did not ask for that.
            confirm_run_unsafe_code=False,
        )
    except AssertionError as error:
        # The harness asserts properties of a task's texts (no empty answers, say); the session skips the task.
        raise BenchmarkError(
            f"Expected the benchmark {task} to fit this model's tokenizer and template, but lm-evaluation-harness "
            f"stopped at a check of its own ({_place(error)}). Take another benchmark."
        ) from error
    except (OSError, ConnectionError, ImportError) as error:
        raise BenchmarkError(
            f"Expected the data of the benchmark {task}, could not get it ({type(error).__name__}: "
            f"{str(error).splitlines()[0][:200] if str(error) else 'no message'}). Check the connection and what the "
            f"task needs; without a network, the packaged tasks run: {', '.join(PACKAGED)}."
        ) from error
    return _read(lm, results)


def _place(error: Exception) -> str:
    """The line of code that raised an error, as FILE:LINE: CODE."""
    last = traceback.extract_tb(error.__traceback__)[-1]
    return f"{Path(last.filename).name}:{last.lineno}: {last.line}"


def find_task(task: str) -> tuple[TaskManager, str | dict[str, Any]]:
    """The harness's index of tasks, and what to ask it for.

    Raises:
        BenchmarkError: there is no such task.
    """
    if task in PACKAGED:
        return TaskManager(include_defaults=False), packaged_task(task)
    if task.endswith((".yaml", ".yml")):
        if not Path(task).is_file():
            raise BenchmarkError(f"Expected a task of lm-evaluation-harness in {task}, but there is no such file.")
        return TaskManager(include_defaults=False), str(Path(task))
    manager = TaskManager()
    if task not in manager.all_tasks:
        near = difflib.get_close_matches(task, [*PACKAGED, *manager.all_tasks], n=3)
        advice = f"Did you mean {' or '.join(near)}?" if near else "Its documentation lists them."
        raise BenchmarkError(
            f"Expected a task of lm-evaluation-harness {harness_version()}, a .yaml file of one, or a packaged one "
            f"({', '.join(PACKAGED)}), got {task!r}. {advice}"
        )
    return manager, task


def _read(lm: BenchmarkModel, results: Mapping[str, Any]) -> TaskRun:
    documents: dict[tuple[str, int], Document] = {}
    higher: dict[str, bool] = {}
    for task, samples in results["samples"].items():
        better = results.get("higher_is_better", {}).get(task, {})
        for sample in samples:
            scores = {_named(metric, sample["filter"]): sample[metric] for metric in sample["metrics"]}
            higher |= {_named(metric, sample["filter"]): better.get(metric, True) for metric in sample["metrics"]}
            key = (task, sample["doc_id"])
            before = documents[key].scores if key in documents else {}
            # A paired test needs one number for each document, so lists and weighted sums are left out.
            numbers = {name: float(value) for name, value in scores.items() if isinstance(value, int | float)}
            documents[key] = Document(
                task=task,
                number=sample["doc_id"],
                digest=sample["doc_hash"][:16],
                scores={**before, **numbers},
                unfinished=lm.unfinished(sample["arguments"][0]),
                sample=sample,
            )
    return TaskRun(list(documents.values()), higher)


def _named(metric: str, name: str) -> str:
    return metric if name == "none" else f"{metric} ({name})"


def request_key(request: tuple[Any, ...]) -> str:
    """A request's arguments as text."""
    return json.dumps(request, sort_keys=True, default=str)


def write_samples(directory: Path, task: str, model: str, run: TaskRun) -> Path:
    """The harness's record of each document, responses included, one JSON object a line."""
    from ..files import write_atomically

    name = "".join(letter if letter.isalnum() or letter in "-_" else "-" for letter in Path(task).stem)
    path = directory / f"{name}.{model}.jsonl"
    lines = [
        json.dumps({**each.sample, "unfinished": each.unfinished}, ensure_ascii=False, default=str)
        for each in run.documents
    ]
    write_atomically(path, ("\n".join(lines) + os.linesep).encode())
    return path
