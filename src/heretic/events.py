"""Protocols for the output of a run and for the questions that it asks; `ui` implements them."""

from collections.abc import Callable, Generator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any, Literal, Protocol

from .config import Benchmark, ExportName
from .study.schema import BaselineRecord, TrialRecord

Progress = Callable[[int], None]


@dataclass(frozen=True, slots=True)
class WorkerState:
    """One actor of a cluster: its name, what it does now, and how many tasks it has finished."""

    name: str
    doing: str
    finished: int


def no_workers() -> Sequence[WorkerState]:
    """Returns no actors: this process measures."""
    return ()


@dataclass(frozen=True, slots=True)
class SearchState:
    """The progress of a search. `best` is the knee of the front, `trials` has all complete ones, `under_way` is the
    number of requested trials without a result. Times are in seconds. `workers` gives the actors at any time."""

    finished: int
    wanted: int
    front: Sequence[TrialRecord]
    best: TrialRecord | None
    baseline: BaselineRecord
    elapsed: float
    remaining: float | None
    trials: Sequence[TrialRecord] = ()
    under_way: int = 1
    workers: Callable[[], Sequence[WorkerState]] = no_workers


class SearchView(Protocol):
    """The view of a running search."""

    def rows(self, count: int) -> None:
        """`count` more prompts are done, of any of the trials under way."""

    def learning(self, point: int, step: int, steps: int, left: float) -> None:
        """Reports the finished steps of a learned point, the next trial; `left` seconds remain until its last step."""

    def complete(self, trial: TrialRecord, state: SearchState) -> None:
        """A trial has been evaluated."""

    def failed(self, number: int, reason: str, state: SearchState) -> None:
        """A trial could not be measured."""


class Reporter(Protocol):
    """Receives a run's messages and progress."""

    def say(self, text: str) -> None:
        """Shows a message."""

    def warn(self, text: str) -> None:
        """Shows a warning: something that the user may want to change."""

    def confirm(self, text: str, details: Sequence[str], question: str) -> bool:
        """Shows the text and asks the `question`; False unless a person says yes."""

    def step(self, title: str, total: int | None = None) -> AbstractContextManager[Progress]:
        """A long step of `total` units; the value is called with the units done since its last call."""

    def search(self, state: SearchState, rows_a_trial: int) -> AbstractContextManager[SearchView]:
        """The search, from its start to its end."""

    def front(self, front: Sequence[TrialRecord], best: TrialRecord | None, baseline: BaselineRecord) -> None:
        """The Pareto front as a table, `best` marked."""

    def table(self, title: str, columns: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
        """Values side by side."""


ResumeChoice = Literal["continue", "results", "restart"]


@dataclass(frozen=True, slots=True)
class Action:
    """What to do next with the results.

    `kind` save needs `export`, the name of a format, and `output`; upload needs `repository` too; compare may have
    `others`; benchmark needs `benchmarks`, more `n_trials`.
    """

    kind: Literal["save", "upload", "chat", "compare", "benchmark", "report", "more", "leave"]
    trial: TrialRecord | None = None
    export: ExportName | None = None
    output: str | None = None
    n_trials: int = 0
    repository: str | None = None
    public: bool = False
    others: tuple[TrialRecord, ...] = ()
    benchmarks: tuple[Benchmark, ...] = ()


class Partner(Protocol):
    """The model's side of a conversation; remembers it."""

    def reply(self, text: str) -> Generator[str, None, None]:
        """The answer to `text`, in pieces. If it is closed early, the pieces so far stay in the conversation."""

    def reset(self) -> None:
        """Forgets the conversation."""

    def use_system_prompt(self, text: str) -> bool:
        """Forgets the conversation; the next has this system prompt ("" for none).

        True where the chat template takes no such message, so that it goes before the user's text.
        """

    def use_sampling(self, **changes: Any) -> None:
        """Sets `temperature` (0 is greedy), `top_p` or `top_k` for the next answers."""

    def use_most_tokens(self, count: int) -> None:
        """Sets the maximum length of a response."""

    def use_seed(self, seed: int) -> None:
        """Seeds the sampling: the same seed gives the same answers."""


@dataclass(frozen=True, slots=True)
class FormatChoice:
    """An export format in a menu: `label` follows a verb, and `suffix` ends the default name of a directory."""

    name: ExportName
    label: str
    suffix: str


class Chooser(Protocol):
    """Answers the program's questions: a person at a terminal, or the flags.

    `asks` tells whether a choice that can't be carried out may be made again.
    """

    asks: bool

    def resume(self, finished: int, wanted: int, path: str) -> ResumeChoice:
        """What to do with a study of this model that is on disk."""

    def offer(self, formats: Sequence[FormatChoice]) -> None:
        """The formats that the model can be written in; called once, before `next_action`, of one that asks."""

    def next_action(self, front: Sequence[TrialRecord], baseline: BaselineRecord) -> Action:
        """What to do with the front; asked again until it is `leave`."""

    def chat(self, partner: Partner, title: str) -> None:
        """Lets the person talk to the partner; called only after a choice of `chat`."""

    def compare(self, names: Sequence[str], ask: Callable[[str], list[str]]) -> None:
        """Shows what `ask` answers to the person's prompts, one answer per name; only after a choice of `compare`."""
