"""The responses that are counted, shown with their prompts."""

from collections.abc import Callable, Iterator, Mapping, Sequence

from ..ablation.edit import ModelEdit, SiteEdit
from ..config import Settings
from ..engine.base import Engine, Progress, Response, no_progress
from ..engine.local import LocalEngine
from ..evaluation.evaluator import Evaluator
from ..prompts.prompt import Prompt
from ..report.responses import response_lines
from ..study.study import Candidate
from ..ui.events import Reporter
from .prompts import RunPrompts
from .session import make_evaluator


class TrialEdit(Mapping[str, SiteEdit]):
    """A candidate's edit that knows the number of its trial."""

    def __init__(self, edit: ModelEdit, number: int) -> None:
        self._edit = edit
        self.number = number

    def __getitem__(self, module: str) -> SiteEdit:
        return self._edit[module]

    def __iter__(self) -> Iterator[str]:
        return iter(self._edit)

    def __len__(self) -> int:
        return len(self._edit)


def numbered(compile_candidate: Callable[[Candidate], ModelEdit]) -> Callable[[Candidate], ModelEdit]:
    """The same edits, with the numbers of their trials."""
    return lambda candidate: TrialEdit(compile_candidate(candidate), candidate.number)


def counting_evaluator(
    engine: LocalEngine, settings: Settings, prompts: RunPrompts, title: str, reporter: Reporter
) -> Evaluator:
    """An evaluator on the evaluation prompts; with `print_responses` it shows what it counts.

    `title` names the model wherever its edit is no trial's.
    """
    good, bad = prompts.good_evaluation.prompts, prompts.bad_evaluation.prompts
    if settings.print_responses:
        return ShowingEvaluator(engine, good, bad, settings, reporter, title)
    return make_evaluator(engine, settings, good, bad)


class ShowingEvaluator(Evaluator):
    """An evaluator that shows each response that it counts, as far as it was generated: a search goes as it would."""

    def __init__(
        self,
        engine: Engine,
        good: Sequence[Prompt],
        bad: Sequence[Prompt],
        settings: Settings,
        reporter: Reporter,
        title: str,
    ) -> None:
        super().__init__(engine, good, bad, settings.refusal_markers, settings.max_response_length)
        self._prompts = bad
        self._reporter = reporter
        self._title = title

    def responses(
        self,
        edits: Sequence[ModelEdit],
        progress: Progress = no_progress,
        enough: Sequence[int | None] | None = None,
    ) -> list[list[Response]]:
        responses = super().responses(edits, progress, enough)
        for edit, each in zip(edits, responses, strict=True):
            self._show(f"trial {edit.number}" if isinstance(edit, TrialEdit) else self._title, each)
        return responses

    def _show(self, title: str, responses: Sequence[Response]) -> None:
        marks = [self._mark(response) for response in responses]
        self._reporter.say(f"Responses of {title}: {marks.count('refusal')} refusals among {len(marks)}")
        for prompt, response, mark in zip(self._prompts, responses, marks, strict=True):
            self._reporter.say(response_lines(prompt.text, response.text, mark, response.complete))

    def _mark(self, response: Response) -> str:
        if self.is_refusal(response):
            return "refusal"
        return "given up" if response.cut else "answer"
