"""The four prompt sets of a run."""

from dataclasses import dataclass

from ..config import PromptSettings, PromptSource, resolve_prompts
from ..prompts.loading import load_prompts
from ..prompts.prompt import Prompt, PromptSet


@dataclass(frozen=True, slots=True)
class RunPrompts:
    """Prompts for the directions (good, bad) and for the search (good_evaluation, bad_evaluation)."""

    good: PromptSet
    bad: PromptSet
    good_evaluation: PromptSet
    bad_evaluation: PromptSet
    sources: dict[str, PromptSource]

    def sets(self) -> dict[str, PromptSet]:
        """By the name of their key in the configuration."""
        return {
            "good_prompts": self.good,
            "bad_prompts": self.bad,
            "good_evaluation_prompts": self.good_evaluation,
            "bad_evaluation_prompts": self.bad_evaluation,
        }

    def all(self) -> list[Prompt]:
        return [prompt for each in self.sets().values() for prompt in each]

    def sample(self, a_side: int) -> list[Prompt]:
        """A few good and bad evaluation prompts."""
        return [*self.good_evaluation.prompts[:a_side], *self.bad_evaluation.prompts[:a_side]]


def load_run_prompts(settings: PromptSettings) -> RunPrompts:
    """Raises:
    PromptError: one of the sets is not as it must be.
    """
    sources = resolve_prompts(settings)
    good, bad, good_evaluation, bad_evaluation = map(load_prompts, sources)
    return RunPrompts(good, bad, good_evaluation, bad_evaluation, sources._asdict())
