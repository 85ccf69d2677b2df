"""The questions, as menus on a terminal. Escape or Ctrl+C goes back; nothing is lost by leaving."""

import sys
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import questionary

from ..config import Benchmark
from ..events import Action, FormatChoice, Partner, ResumeChoice
from ..files import expand_home
from ..printable import printable
from ..report.text import metric_text, share_interval, value_text
from ..study.pareto import knee
from ..study.schema import BASELINE, BaselineRecord, TrialRecord
from .chat import talk
from .compare import comparison_screen
from .flags import default_output

MORE_SAMPLED, MORE_LEARNED = 50, 8
"""How many more trials are suggested: of a sampler, and of another learned path."""

Answer = TypeVar("Answer")


class MenuChooser:
    """Asks a person."""

    asks = True

    def __init__(self, model: str, benchmarks: Sequence[Benchmark] = ()) -> None:
        self._model = model
        self._formats: Sequence[FormatChoice] = ()
        self._benchmarks = benchmarks
        self._trial: TrialRecord | None = None

    def resume(self, finished: int, wanted: int, path: str) -> ResumeChoice:
        state = f"{finished} of {wanted} trials are done" if finished < wanted else f"all {finished} trials are done"
        choices: list[tuple[str, ResumeChoice]] = [
            ("Show its results", "results"),
            ("Start a new study (the old one is kept)", "restart"),
        ]
        if finished < wanted:
            choices.insert(0, ("Continue it", "continue"))
        answer = _select(f"There is a study of this model ({path}): {state}.", choices)
        if answer is None:
            raise KeyboardInterrupt
        return answer

    def offer(self, formats: Sequence[FormatChoice]) -> None:
        self._formats = formats

    def next_action(self, front: Sequence[TrialRecord], baseline: BaselineRecord) -> Action:
        while True:
            if self._trial is None:
                chosen = self._choose(front, baseline)
                if isinstance(chosen, Action):
                    return chosen
                self._trial = chosen
            action = self._act(self._trial, front, baseline)
            if action is not None:
                return action
            self._trial = None

    def chat(self, partner: Partner, title: str) -> None:
        talk(partner, title)

    def compare(self, names: Sequence[str], ask: Callable[[str], list[str]]) -> None:
        comparison_screen(sys.stdout)(names, ask)

    def _choose(self, front: Sequence[TrialRecord], baseline: BaselineRecord) -> TrialRecord | Action:
        best = knee(front, baseline).number if front else None
        choices: list[tuple[str, TrialRecord | str]] = [
            (_title(trial, baseline) + ("  * knee" if trial.number == best else ""), trial) for trial in front
        ]
        choices += [("Run more trials", "more"), ("Leave", "leave")]
        knee_choice = next((trial for trial in front if trial.number == best), None)
        answer = _select("Which trial?", choices, knee_choice)
        if isinstance(answer, TrialRecord):
            return answer
        if answer == "more":
            more = MORE_LEARNED if any(trial.parameters.method == "learned" for trial in front) else MORE_SAMPLED
            count = ask(questionary.text("How many more trials?", default=str(more), validate=_positive))
            return Action("more", n_trials=int(count)) if count else self._choose(front, baseline)
        return Action("leave")

    def _act(self, trial: TrialRecord, front: Sequence[TrialRecord], baseline: BaselineRecord) -> Action | None:
        """The action for the trial; None returns to the front. Escape at a later question asks this one again."""
        while True:
            answer = self._ask_what(trial)
            if answer in (None, "back"):
                return None
            if answer == "chat":
                return Action("chat", trial)
            if answer == "report":
                return Action("report", trial)
            if answer == "compare":
                action = self._compare(trial, front, baseline)
            elif answer == "benchmark":
                action = self._benchmark(trial)
            elif answer == "upload":
                action = self._upload(trial)
            else:
                assert not isinstance(answer, str)
                action = self._save(trial, answer)
            if action is not None:
                return action

    def _ask_what(self, trial: TrialRecord) -> str | FormatChoice | None:
        """A format to save it in, or one of the other things."""
        choices: list[tuple[str, str | FormatChoice]] = [
            *((f"Save {form.label}", form) for form in self._formats),
            ("Chat with it", "chat"),
            (f"Compare its answers with those of the {BASELINE} and of other trials", "compare"),
            *([(f"Benchmark it and the {BASELINE}", "benchmark")] if self._benchmarks else []),
            *([("Upload it to the Hugging Face hub", "upload")] if self._formats else []),
            ("Write a report: a page about all trials", "report"),
            ("Back to the front", "back"),
        ]
        return _select(f"Trial {trial.number}: what next?", choices)

    def _compare(self, trial: TrialRecord, front: Sequence[TrialRecord], baseline: BaselineRecord) -> Action | None:
        others = [(_title(each, baseline), each) for each in front if each.number != trial.number]
        if not others:
            return Action("compare", trial)
        chosen = ask(
            questionary.checkbox(
                "Which others?",
                choices=[questionary.Choice(printable(title), each) for title, each in others],
                instruction="(space marks, Enter continues; none is fine)",
            )
        )
        return None if chosen is None else Action("compare", trial, others=tuple(chosen))

    def _benchmark(self, trial: TrialRecord) -> Action | None:
        chosen = ask(
            questionary.checkbox(
                "Which benchmarks?",
                instruction="(space marks, Enter continues)",
                choices=[
                    questionary.Choice(
                        printable(f"{each.name}: {each.description}" if each.description else each.name), each
                    )
                    for each in self._benchmarks
                ],
            )
        )
        return Action("benchmark", trial, benchmarks=tuple(chosen)) if chosen else None

    def _save(self, trial: TrialRecord, form: FormatChoice) -> Action | None:
        output = self._directory(form, "Directory to write to:")
        return Action("save", trial, form.name, output) if output else None

    def _upload(self, trial: TrialRecord) -> Action | None:
        """Escape at any question is no upload."""
        form = _select("Upload what?", [(form.label[0].upper() + form.label[1:], form) for form in self._formats])
        if form is None:
            return None
        default = default_output(self._model) + form.suffix
        repository = ask(questionary.text("Repository (OWNER/NAME, new or existing):", default=default))
        if not repository:
            return None
        public = _select(
            "Who may see it? (A repository that exists stays as it is.)",
            [("Only you and your organisation", False), ("Everybody", True)],
        )
        if public is None:
            return None
        output = self._directory(form, "Directory to write to first (it stays):")
        return Action("upload", trial, form.name, output, repository=repository, public=public) if output else None

    def _directory(self, form: FormatChoice, question: str) -> str | None:
        default = default_output(self._model) + form.suffix
        directory: str | None = ask(questionary.path(question, default=default))
        return str(expand_home(directory)) if directory else None


def _title(trial: TrialRecord, baseline: BaselineRecord) -> str:
    """The trial's metrics in columns, counts with their intervals."""
    parts = []
    for name, metric in baseline.metrics.items():
        width = len(value_text(metric, metric.of or 0))
        interval = f" {share_interval(metric, trial.value(name)):<10}" if metric.of is not None else ""
        parts.append(f"{metric.label} {metric_text(trial, name, baseline):>{width}}{interval}")
    return f"Trial {trial.number:>3}: {' '.join(parts)}".rstrip()


def _select(question: str, choices: Sequence[tuple[str, Answer]], first: Answer | None = None) -> Answer | None:
    """The chosen value; None for Escape or Ctrl+C. The cursor begins at `first`, or at the first choice."""
    shown = [questionary.Choice(printable(title), value) for title, value in choices]
    begin = None if first is None else next(choice for choice in shown if choice.value is first)
    answer: Answer | None = ask(questionary.select(printable(question), choices=shown, default=begin))
    return answer


def ask(question: questionary.Question) -> Any:
    """The answer; None for Escape or Ctrl+C."""
    from prompt_toolkit.key_binding import KeyBindings, merge_key_bindings

    escape = KeyBindings()
    escape.add("escape", eager=True)(lambda event: event.app.exit(result=None))
    application = question.application
    existing = [application.key_bindings] if application.key_bindings else []
    application.key_bindings = merge_key_bindings([*existing, escape])
    return question.ask(kbi_msg="")


def _positive(text: str) -> bool | str:
    # `isdecimal`: "²" is a digit, but no number to `int`.
    return True if text.isdecimal() and int(text) > 0 else "A whole number above 0."
