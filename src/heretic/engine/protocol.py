"""What an engine offers; evaluation and the pipeline know no more of a model than this."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from jaxtyping import Float
from torch import Tensor

from ..ablation.directions import Directions
from ..ablation.edit import ModelEdit
from ..ablation.sites import Site
from ..ablation.weight_stats import WeightStats
from ..prompts.prompt import Prompt

Progress = Callable[[int], None]
"""Called with the number of prompts (rows, sites) done since the last call."""


@dataclass(frozen=True, slots=True)
class Response:
    """A greedy response. `complete` is False where generation stopped before the end of text; `cut` is True where it
    did because the candidate was given up: what would have followed is not known. `tokens` are without the end."""

    text: str
    n_tokens: int
    complete: bool
    cut: bool = False
    tokens: tuple[int, ...] = ()


class Engine(Protocol):
    """One model, measured under edits; an empty edit is the baseline. `batch_size` rows run at once."""

    batch_size: int

    @property
    def sites(self) -> tuple[Site, ...]: ...

    def halve(self) -> bool:
        """Takes half as many rows a forward from now on; False if it is one already."""
        ...

    def residuals(
        self, prompts: Sequence[Prompt], progress: Progress
    ) -> Iterator[tuple[list[int], Float[Tensor, "prompt residual d_model"]]]:
        """Residuals at the last token, fp32 on the CPU, batch by batch, with the indices of each batch's prompts."""
        ...

    def weight_stats(self, directions: Directions, progress: Progress) -> Mapping[str, WeightStats]:
        """Statistics of every site's weight, by module name."""
        ...

    def first_token_log_probabilities(
        self, prompts: Sequence[Prompt], edits: Sequence[ModelEdit], progress: Progress
    ) -> Float[Tensor, "candidate prompt vocab"]:
        """Log-probabilities of the first response token, fp32, on the model's own device: they are large."""
        ...

    def answer_log_probabilities(
        self,
        prompts: Sequence[Prompt],
        answers: Sequence[Sequence[int]],
        edits: Sequence[ModelEdit],
        progress: Progress,
    ) -> Iterator[tuple[int, Float[Tensor, "candidate position vocab"]]]:
        """Log-probabilities along given answers (teacher-forced), fp32, prompt by prompt with its index.

        Positions are those before each token of the answer, and the one behind it.
        """
        ...

    def generate(
        self,
        prompts: Sequence[Prompt],
        edits: Sequence[ModelEdit],
        max_new_tokens: int,
        decided: Callable[[str], bool] | None,
        progress: Progress,
        enough: Sequence[int | None] | None = None,
    ) -> list[list[Response]]:
        """Greedy responses, by candidate and prompt. A row ends early once `decided` holds for its text so far, and
        all rows of a candidate once `enough` of them are decided (None: never)."""
        ...


def no_progress(_: int) -> None:
    """For callers that show nothing."""
