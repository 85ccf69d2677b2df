"""Prompts that do what they are there for: bad ones that the model declines, good ones that it answers."""

from dataclasses import replace

from ..config import EvaluationSettings
from ..engine.base import Engine
from ..errors import ModelError
from ..evaluation.refusals import MarkerClassifier
from ..prompts.prompt import PromptSet
from ..ui.events import Reporter
from .prompts import RunPrompts

FEWEST = 8


def telling_prompts(
    engine: Engine, prompts: RunPrompts, settings: EvaluationSettings, reporter: Reporter
) -> RunPrompts:
    """The same prompts, those for the directions without what the unmodified model takes otherwise than it should.

    Markers decide: on responses of unmodified models they are right. The rest of a response is not generated.

    Raises:
        ModelError: so few remain that their mean tells nothing.
    """
    classifier = MarkerClassifier(settings.refusal_markers)
    with reporter.step("Finding telling prompts", len(prompts.good) + len(prompts.bad)) as progress:
        kept = []
        for each, declined in ((prompts.good, False), (prompts.bad, True)):
            responses = engine.respond(
                each.prompts, [{}], settings.max_response_length, classifier.holds_marker, progress
            )[0]
            telling = [
                prompt
                for prompt, response in zip(each, responses, strict=True)
                if classifier.is_refusal(response.text) == declined
            ]
            kept.append(PromptSet(each.source, tuple(telling), each.public))
    good, bad = kept
    reporter.say(
        f"For the directions remain {len(bad)} of {len(prompts.bad)} bad prompts, which the model declines, and "
        f"{len(good)} of {len(prompts.good)} good ones, which it answers."
    )
    if min(len(good), len(bad)) < FEWEST:
        raise ModelError(
            f"Expected at least {FEWEST} prompts of each kind that do what they are there for, but {len(bad)} bad ones "
            f"are declined and {len(good)} good ones answered. Use other prompts or markers, or leave "
            "only_telling_prompts out."
        )
    return replace(prompts, good=good, bad=bad)
