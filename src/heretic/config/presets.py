"""Prompt sets by name, for the prompt keys that are not given."""

from typing import NamedTuple

from .sections import PromptSettings
from .values import PromptSource

_HUB = {"good": "mlabonne/harmless_alpaca", "bad": "mlabonne/harmful_behaviors"}
_HUB_SPLITS = {"direction": "train[:400]", "search": "test[:100]"}


class PromptSources(NamedTuple):
    """The four prompt sets of a run, under the names of their keys."""

    good_prompts: PromptSource
    bad_prompts: PromptSource
    good_evaluation_prompts: PromptSource
    bad_evaluation_prompts: PromptSource


def preset_source(preset: str, split: str, kind: str) -> PromptSource:
    """One set of a preset; `split` is direction or search, `kind` is good or bad."""
    if preset == "hub":
        return PromptSource(dataset=_HUB[kind], split=_HUB_SPLITS[split])
    return PromptSource(dataset=f"packaged:{preset}", split=split, column=kind)


def resolve_prompts(settings: PromptSettings) -> PromptSources:
    """The four prompt sets: what is given, and the preset's where nothing is."""
    return PromptSources(
        settings.good_prompts or preset_source(settings.preset, "direction", "good"),
        settings.bad_prompts or preset_source(settings.preset, "direction", "bad"),
        settings.good_evaluation_prompts or preset_source(settings.preset, "search", "good"),
        settings.bad_evaluation_prompts or preset_source(settings.preset, "search", "bad"),
    )
