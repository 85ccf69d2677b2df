"""Prompts that do what they are there for: bad ones that the model declines, good ones that it answers."""

from collections.abc import Mapping, Sequence
from dataclasses import replace

from ..config import EvaluationSettings
from ..engine.protocol import Engine
from ..errors import ModelError
from ..evaluation.scorers.refusals import MarkerClassifier
from ..events import Reporter
from ..prompts.prompt import PromptSet
from .prompts import RunPrompts

FEWEST = 8


Telling = dict[str, tuple[int, ...]]
"""By the key of a prompt set for the directions, the places of the prompts in it that are telling."""


def filter_by_baseline(
    engine: Engine, prompts: RunPrompts, settings: EvaluationSettings, reporter: Reporter
) -> Telling:
    """The prompts for the directions that the unmodified model takes as it should.

    Markers decide: on responses of unmodified models they are right. The rest of a response is not generated.

    Raises:
        ModelError: so few remain that their mean tells nothing.
    """
    classifier = MarkerClassifier(settings.refusal_markers)
    with reporter.step("Finding telling prompts", len(prompts.good) + len(prompts.bad)) as progress:
        places = []
        for each, declined in ((prompts.good, False), (prompts.bad, True)):
            responses = engine.generate(
                each.prompts, [{}], settings.max_response_length, classifier.holds_marker, progress
            )[0]
            places.append(
                tuple(i for i, response in enumerate(responses) if classifier.is_refusal(response.text) == declined)
            )
    good, bad = places
    reporter.say(
        f"For the directions remain {len(bad)} of {len(prompts.bad)} bad prompts, which the model declines, and "
        f"{len(good)} of {len(prompts.good)} good ones, which it answers."
    )
    if min(len(good), len(bad)) < FEWEST:
        raise ModelError(
            f"Expected at least {FEWEST} prompts of each kind that do what they are there for, but {len(bad)} bad ones "
            f"are declined and {len(good)} good ones answered. Use other prompts or markers, or leave "
            "filter_direction_prompts out."
        )
    return {"good_prompts": good, "bad_prompts": bad}


def filter_direction_prompts(prompts: RunPrompts, telling: Mapping[str, Sequence[int]] | None) -> RunPrompts:
    """The same prompts, those for the directions without the others; all of them for None."""
    if telling is None:
        return prompts

    def kept(each: PromptSet, name: str) -> PromptSet:
        return replace(each, prompts=tuple(each.prompts[place] for place in telling[name]))

    return replace(prompts, good=kept(prompts.good, "good_prompts"), bad=kept(prompts.bad, "bad_prompts"))
