"""Prints the responses that refusals are counted in, with their prompts."""

from collections.abc import Mapping, Sequence

from ..config import EvaluationSettings
from ..engine.local import LocalEngine
from ..engine.protocol import Response
from ..evaluation.evaluator import Evaluator
from ..evaluation.scorers.base import Show
from ..evaluation.scorers.refusals import MarkerClassifier
from ..events import Reporter
from ..prompts.prompt import Prompt
from ..report.responses import response_lines
from .engine import make_evaluator
from .prompts import RunPrompts


def counting_evaluator(
    engine: LocalEngine, settings: EvaluationSettings, prompts: RunPrompts, title: str, reporter: Reporter
) -> Evaluator:
    """An evaluator on the evaluation prompts; with `print_responses` it shows the responses that it counts.

    `title` names the model outside the trials of a search.
    """
    bad = prompts.bad_evaluation.prompts
    show = response_shower(bad, settings.refusal_markers, title, reporter) if settings.print_responses else None
    return make_evaluator(engine, settings, prompts, show)


def response_shower(prompts: Sequence[Prompt], markers: Sequence[str], title: str, reporter: Reporter) -> Show:
    """Shows each response as far as it was generated; pruning is not affected."""
    classifier = MarkerClassifier(markers)

    def mark(response: Response) -> str:
        if classifier.holds_marker(response.text) or (not response.pruned and classifier.is_refusal(response.text)):
            return "refusal"
        return "pruned" if response.pruned else "answer"

    def show(number: int | None, responses: Mapping[int, Response]) -> None:
        marks = {prompt: mark(response) for prompt, response in sorted(responses.items())}
        count = list(marks.values()).count("refusal")
        name = title if number is None else f"trial {number}"
        reporter.say(f"Responses of {name}: {count} refusals among {len(marks)}")
        for prompt, each in marks.items():
            response = responses[prompt]
            reporter.say(response_lines(prompts[prompt].text, response.text, each, response.complete))

    return show
