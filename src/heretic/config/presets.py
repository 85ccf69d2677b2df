"""Prompt sets of the presets, for prompt keys that are not given."""

from typing import NamedTuple

from .sections import HeldoutSettings, PromptSettings
from .types import PromptSource

_HUB = {"good": "mlabonne/harmless_alpaca", "bad": "mlabonne/harmful_behaviors"}
_HUB_SPLITS = {"direction": "train[:400]", "search": "test[:100]"}


OVER_REFUSAL = "over-refusal"


class PromptSources(NamedTuple):
    """The four prompt sets of a search, by key."""

    good_prompts: PromptSource
    bad_prompts: PromptSource
    good_evaluation_prompts: PromptSource
    bad_evaluation_prompts: PromptSource


def preset_source(preset: str, split: str, kind: str) -> PromptSource:
    """One set of a preset; `split` is direction, search or report (held-out), `kind` is good or bad."""
    if preset == "hub":
        return PromptSource(dataset=_HUB[kind], split=_HUB_SPLITS[split])
    return PromptSource(dataset=f"packaged:{preset}", split=split, column=kind)


def resolve_prompts(settings: PromptSettings) -> PromptSources:
    """The four prompt sets: the given ones, and the preset's for the others."""
    return PromptSources(
        settings.good_prompts or preset_source(settings.preset, "direction", "good"),
        settings.bad_prompts or preset_source(settings.preset, "direction", "bad"),
        settings.good_evaluation_prompts or preset_source(settings.preset, "search", "good"),
        settings.bad_evaluation_prompts or preset_source(settings.preset, "search", "bad"),
    )


class HeldoutSources(NamedTuple):
    """The prompt sets of the held-out evaluation, by key."""

    good_heldout_prompts: PromptSource
    bad_heldout_prompts: PromptSource
    over_refusal_heldout_prompts: PromptSource | None


def resolve_heldout_prompts(
    prompts: PromptSettings, heldout: HeldoutSettings, refusals: bool = True
) -> HeldoutSources | None:
    """The held-out prompt sets; None where the search uses the user's own sets and no held-out ones are given.

    Over-refusal is measured on the packaged set, unless the search itself is about over-refusal, or not about
    `refusals` at all.
    """
    preset = "refusal" if prompts.preset == "hub" else prompts.preset
    found = {}
    for kind, given, own in (
        ("good", heldout.good_heldout_prompts, prompts.good_evaluation_prompts),
        ("bad", heldout.bad_heldout_prompts, prompts.bad_evaluation_prompts),
    ):
        if given is None and own is not None:
            return None
        found[kind] = given or preset_source(preset, "report", kind)
    over = heldout.over_refusal_heldout_prompts
    if over is None and refusals and found["bad"].dataset != f"packaged:{OVER_REFUSAL}":
        over = preset_source(OVER_REFUSAL, "report", "bad")
    return HeldoutSources(found["good"], found["bad"], over)
