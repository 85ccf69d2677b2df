"""Answers of trials and of the baseline to the same prompts."""

from collections.abc import Sequence

from ..ablation.edit import ModelEdit
from ..config import Settings
from ..engine.local import LocalEngine
from ..engine.protocol import no_progress
from ..events import Reporter
from ..prompts.prompt import Prompt
from ..session.recorded import find_trial, open_study
from ..study.reader import RecordedStudy
from ..study.schema import BASELINE, TrialRecord
from ..ui.compare import Sides, compare_until_done


class Comparison:
    """Greedy answers of one model under several edits, all in one batch."""

    def __init__(self, engine: LocalEngine, edits: Sequence[ModelEdit], most_tokens: int) -> None:
        self._engine = engine
        self._edits = edits
        self._most_tokens = most_tokens

    def ask(self, text: str) -> list[str]:
        """One answer an edit, with " ..." behind those that the length cut off."""
        answers = self._engine.generate([Prompt(text)], self._edits, self._most_tokens, None, no_progress)
        return [each.text if each.complete else f"{each.text} ..." for [each] in answers]


def compare(
    study: RecordedStudy,
    trials: Sequence[str],
    prompts: Sequence[str],
    most_tokens: int,
    settings: Settings,
    reporter: Reporter,
    sides: Sides,
) -> None:
    """Asks the baseline and `trials` (by default the knee) of a recorded study the same: `prompts`, or what the
    user types.

    Raises:
        StudyError: there is no such trial.
        ModelError: the model can't be loaded.
    """
    named = [find_trial(study, wanted) for wanted in trials or ["knee"]]
    # Two names may be those of one trial.
    chosen = list({trial.number: trial for trial in named}.values())
    opened = open_study(study, settings, reporter)
    edits = [opened.edit(trial) for trial in (None, *chosen)]
    comparison = Comparison(opened.engine, edits, most_tokens)
    run_comparison(comparison, chosen, prompts, sides)


def run_comparison(comparison: Comparison, trials: Sequence[TrialRecord], prompts: Sequence[str], sides: Sides) -> None:
    """Asks `prompts`, or what the user types until there is no more."""
    names = [BASELINE, *(f"trial {trial.number}" for trial in trials)]
    if not prompts:
        compare_until_done(comparison.ask, names, sides)
        return
    for prompt in prompts:
        sides.show(prompt, names, comparison.ask(prompt))
