"""Filter of direction prompts: keeps bad ones that the model declines, and good ones that it answers."""

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
"""Prompts of each kind below which their mean is mostly noise."""

KeptPrompts = dict[str, tuple[int, ...]]
"""Indices of the prompts to fit directions to, by the key of their set."""


def filter_by_baseline(
    engine: Engine, prompts: RunPrompts, settings: EvaluationSettings, reporter: Reporter
) -> KeptPrompts:
    """The bad direction prompts that the baseline declines, and the good ones that it answers.

    Markers decide, which are accurate on unedited models. A response is generated up to its first marker.

    Raises:
        ModelError: fewer than `FEWEST` prompts of a kind remain.
    """
    classifier = MarkerClassifier(settings.refusal_markers)
    with reporter.step("Filtering direction prompts", len(prompts.good) + len(prompts.bad)) as progress:
        kept = []
        for each, declined in ((prompts.good, False), (prompts.bad, True)):
            responses = engine.generate(
                each.prompts, [{}], settings.max_response_length, classifier.holds_marker, progress
            )[0]
            kept.append(
                tuple(i for i, response in enumerate(responses) if classifier.is_refusal(response.text) == declined)
            )
    good, bad = kept
    reporter.say(
        f"The directions are fitted to the {len(bad)} of {len(prompts.bad)} bad prompts that the model declines and "
        f"the {len(good)} of {len(prompts.good)} good ones that it answers."
    )
    if min(len(good), len(bad)) < FEWEST:
        raise ModelError(
            f"Expected at least {FEWEST} bad prompts that the model declines and as many good ones that it answers, "
            f"got {len(bad)} and {len(good)}. Use other prompts or markers, or leave filter_direction_prompts out."
        )
    return {"good_prompts": good, "bad_prompts": bad}


def filter_direction_prompts(prompts: RunPrompts, kept: Mapping[str, Sequence[int]] | None) -> RunPrompts:
    """The prompts with only the `kept` direction prompts; all of them for None."""
    if kept is None:
        return prompts

    def filtered(each: PromptSet, name: str) -> PromptSet:
        return replace(each, prompts=tuple(each.prompts[index] for index in kept[name]))

    return replace(prompts, good=filtered(prompts.good, "good_prompts"), bad=filtered(prompts.bad, "bad_prompts"))
