"""The prompt sets of a run."""

from dataclasses import dataclass, replace

from ..config import HeldoutSettings, PromptSettings, PromptSource, resolve_heldout_prompts, resolve_prompts
from ..config.presets import OVER_REFUSAL, preset_source
from ..errors import PromptError
from ..evaluation.heldout.evaluate import HeldoutPrompts
from ..prompts.loading import load_prompts
from ..prompts.prompt import Prompt, PromptSet

OVER_REFUSAL_EVALUATION = "over_refusal_evaluation_prompts"


@dataclass(frozen=True, slots=True)
class RunPrompts:
    """Prompts for the directions (good, bad) and for the search (good_evaluation, bad_evaluation, and over_refusal if
    that is an objective)."""

    good: PromptSet
    bad: PromptSet
    good_evaluation: PromptSet
    bad_evaluation: PromptSet
    sources: dict[str, PromptSource]
    over_refusal: PromptSet | None = None

    @property
    def over(self) -> tuple[Prompt, ...]:
        return self.over_refusal.prompts if self.over_refusal is not None else ()

    def sets(self) -> dict[str, PromptSet]:
        """By the name of their key in the configuration."""
        third = {} if self.over_refusal is None else {OVER_REFUSAL_EVALUATION: self.over_refusal}
        return {
            "good_prompts": self.good,
            "bad_prompts": self.bad,
            "good_evaluation_prompts": self.good_evaluation,
            "bad_evaluation_prompts": self.bad_evaluation,
            **third,
        }

    @property
    def notes(self) -> list[str]:
        """Which rows of the sets gave no prompt."""
        return [note for each in self.sets().values() for note in each.notes]

    def all(self) -> list[Prompt]:
        return [prompt for each in self.sets().values() for prompt in each]

    def sample(self, per_side: int) -> list[Prompt]:
        """The first good and the first bad evaluation prompts, `per_side` of each."""
        return [*self.good_evaluation.prompts[:per_side], *self.bad_evaluation.prompts[:per_side]]


NO_SET = PromptSet("none", ())
NO_PROMPTS = RunPrompts(NO_SET, NO_SET, NO_SET, NO_SET, sources={})
"""No prompts, for commands that have their own."""


def load_run_prompts(settings: PromptSettings, over_refusals: bool) -> RunPrompts:
    """The prompt sets of the settings, with the one for `over_refusals` if these are an objective.

    Raises:
        PromptError: a set can't be read, or two that must be disjoint are not.
    """
    sources = resolve_prompts(settings)
    good, bad, good_evaluation, bad_evaluation = map(load_prompts, sources)
    prompts = RunPrompts(good, bad, good_evaluation, bad_evaluation, sources._asdict())
    if not over_refusals:
        return prompts
    source = settings.over_refusal_evaluation_prompts or preset_source(OVER_REFUSAL, "search", "bad")
    over = load_prompts(source)
    twice = {prompt.text for prompt in over} & {prompt.text for prompt in bad_evaluation}
    if twice:
        raise PromptError(
            f"Expected {OVER_REFUSAL_EVALUATION} that are no bad_evaluation_prompts, but {len(twice)} of {len(over)} "
            f"are ({min(twice)[:60]!r}...): their refusals would count twice. Leave over_refusal_objective out."
        )
    return replace(prompts, over_refusal=over, sources=prompts.sources | {OVER_REFUSAL_EVALUATION: source})


HELDOUT_KEYS = ("good_heldout_prompts", "bad_heldout_prompts", "over_refusal_heldout_prompts")


def load_heldout_prompts(
    settings: HeldoutSettings, run: PromptSettings, refusals: bool, used: RunPrompts
) -> HeldoutPrompts | None:
    """The held-out prompts of a run with the prompts `used`; None if there are none for the user's own sets.

    `refusals` says whether the run is about refusals: then over-refusal is measured too.

    Raises:
        PromptError: a set can't be read or is given alone, or directions or search use some of its prompts.
    """
    sources = resolve_heldout_prompts(run, settings, refusals)
    if settings.heldout_trials == 0:
        return None
    if sources is None:
        alone = [key for key in HELDOUT_KEYS if getattr(settings, key) is not None]
        if alone:
            raise PromptError(
                f"Expected good_heldout_prompts and bad_heldout_prompts together, since the search uses your own sets, "
                f"got {' and '.join(alone)} alone. Give both, or none of them."
            )
        return None
    over = sources.over_refusal_heldout_prompts
    part = HeldoutPrompts(
        load_prompts(sources.good_heldout_prompts),
        load_prompts(sources.bad_heldout_prompts),
        load_prompts(over) if over is not None else None,
    )
    owners = {prompt.text: name for name, each in used.sets().items() for prompt in each}
    for name, each in part.sets().items():
        seen = [prompt.text for prompt in each if prompt.text in owners]
        if seen:
            raise PromptError(
                f"Expected {name} that directions and search do not use, but {len(seen)} of {len(each)} are in "
                f"{owners[seen[0]]} too ({seen[0][:60]!r}...). Give prompts of their own (heretic split makes disjoint "
                "parts of a set), or leave held-out evaluation out (heldout_trials = 0)."
            )
    return part
