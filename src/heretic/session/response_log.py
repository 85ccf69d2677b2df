"""The responses that are counted, shown with their prompts."""

from collections.abc import Mapping, Sequence

from ..config import Settings
from ..engine.local import LocalEngine
from ..engine.protocol import Response
from ..evaluation.evaluator import Evaluator, Seen
from ..evaluation.scorers.refusals import MarkerClassifier
from ..events import Reporter
from ..prompts.prompt import Prompt
from ..report.responses import response_lines
from .engine import make_evaluator
from .prompts import RunPrompts


def counting_evaluator(
    engine: LocalEngine, settings: Settings, prompts: RunPrompts, title: str, reporter: Reporter
) -> Evaluator:
    """An evaluator on the evaluation prompts; with `print_responses` what it counts is shown.

    `title` names the model wherever its edit is no trial's.
    """
    good, bad = prompts.good_evaluation.prompts, prompts.bad_evaluation.prompts
    seen = response_shower(bad, settings.refusal_markers, title, reporter) if settings.print_responses else None
    return make_evaluator(engine, settings, good, bad, seen, prompts.over)


def response_shower(prompts: Sequence[Prompt], markers: Sequence[str], title: str, reporter: Reporter) -> Seen:
    """Shows each response as far as it was generated: a search goes as it would."""
    classifier = MarkerClassifier(markers)

    def mark(response: Response) -> str:
        if classifier.holds_marker(response.text) or (not response.pruned and classifier.is_refusal(response.text)):
            return "refusal"
        return "given up" if response.pruned else "answer"

    def show(number: int | None, responses: Mapping[int, Response]) -> None:
        marks = {prompt: mark(response) for prompt, response in sorted(responses.items())}
        refusals = list(marks.values()).count("refusal")
        name = title if number is None else f"trial {number}"
        reporter.say(f"Responses of {name}: {refusals} refusals among {len(marks)}")
        for prompt, each in marks.items():
            response = responses[prompt]
            reporter.say(response_lines(prompts[prompt].text, response.text, each, response.complete))

    return show
