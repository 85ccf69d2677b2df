"""Answers of the baseline and several trials to the same prompts."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from ..ablation.edit import ModelEdit
from ..engine.local import LocalEngine
from ..engine.protocol import no_progress
from ..prompts.prompt import Prompt
from ..session.context import LoadedStudy
from ..study.schema import BASELINE, TrialRecord

Screen = Callable[[Sequence[str], Callable[[str], list[str]]], None]
"""Shows answers side by side: it receives the sides' names and a function that gives each side's answer to a prompt."""


@dataclass(frozen=True, slots=True)
class Comparison:
    """Greedy answers of one model under several edits, all in one batch."""

    engine: LocalEngine
    edits: Sequence[ModelEdit]
    max_tokens: int

    def ask(self, text: str) -> list[str]:
        """One answer per edit; " ..." marks those that reached the maximum length."""
        answers = self.engine.generate([Prompt(text)], self.edits, self.max_tokens, None, no_progress)
        return [each.text if each.complete else f"{each.text} ..." for [each] in answers]


def compare(loaded: LoadedStudy, trials: Sequence[TrialRecord], max_tokens: int, screen: Screen) -> None:
    """Compares the baseline and `trials` of a study on the screen."""
    comparison = Comparison(loaded.engine, [loaded.edit(trial) for trial in (None, *trials)], max_tokens)
    screen([BASELINE, *(f"trial {trial.number}" for trial in trials)], comparison.ask)
