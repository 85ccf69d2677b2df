"""The engine as its callers see it: a model measured under candidate edits.

`evaluation` and `search` use no more of a model than `Engine` has, which is what tests replace. `session` and
`commands`, which load the model, save it and free its memory, hold the `LocalEngine` itself, and so does
`search/parallelism.py`, which times it on this machine.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from typing import Any, Protocol

import torch
from jaxtyping import Float
from torch import Tensor

from ..ablation.directions import Directions
from ..ablation.edit import ModelEdit
from ..ablation.sites import Site
from ..ablation.weight_stats import WeightStats
from ..model.chat.format import ChatFormat
from ..model.sharding import ranks
from ..prompts.prompt import Prompt

Progress = Callable[[int], None]
"""Called with the number of prompts (rows, sites) done since the last call."""

IsSettled = Callable[[str], bool]
"""Whether the text of a response so far settles how it counts, so that its generation may end."""


@dataclass(frozen=True, slots=True)
class RuntimeProfile:
    """Measurements of a model before its first use, which later engines of the same model reuse.

    `template_arguments` are variables of the chat template, and `template_date` what it prints as today's date, if any.
    """

    dtype: str
    response_prefix: str
    batch_size: int
    template_arguments: Mapping[str, Any] = field(default_factory=dict)
    template_date: str | None = None


@dataclass(frozen=True, slots=True)
class Response:
    """A greedy response. `tokens` exclude the end of text.

    `complete` is False where generation stopped before the end of text; `pruned` is True where it stopped because the
    candidate was pruned, so that the rest of the response is unknown.
    """

    text: str
    n_tokens: int
    complete: bool
    pruned: bool = False
    tokens: tuple[int, ...] = ()


class Engine(Protocol):
    """One model, measured under edits; an empty edit is the baseline."""

    @property
    def sites(self) -> tuple[Site, ...]: ...

    @property
    def chat(self) -> ChatFormat:
        """How prompts become tokens, and tokens text."""
        ...

    @property
    def batch_size(self) -> int:
        """The most rows (prompts times candidates) of one forward."""
        ...

    @property
    def profile(self) -> RuntimeProfile: ...

    def with_batch_size(self, batch_size: int) -> AbstractContextManager[None]:
        """Another batch size inside the `with` block."""
        ...

    def with_prefix(self, response_prefix: str) -> AbstractContextManager[None]:
        """Another response prefix inside the `with` block."""
        ...

    def halve_batch_size(self) -> bool:
        """Halves the batch size from now on; False if it is 1 already."""
        ...

    def free_buffers(self) -> None:
        """Frees the memory that is kept for further batches."""
        ...

    def residuals(
        self, prompts: Sequence[Prompt], progress: Progress
    ) -> Iterator[tuple[list[int], Float[Tensor, "prompt residual d_model"]]]:
        """Residuals at the last token, fp32 on the CPU, batch by batch, with the indices of each batch's prompts."""
        ...

    def weight_stats(self, directions: Directions, progress: Progress) -> Mapping[str, WeightStats]:
        """Statistics of every site's weight, by module name."""
        ...

    def gain(self, site: Site) -> Float[Tensor, " d_model"] | None:
        """The factor of each feature between the site and the stream, fp32; None where there is none."""
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

        Positions are those that predict each token of the answer, and the one after its last token.
        """
        ...

    def generate(
        self,
        prompts: Sequence[Prompt],
        edits: Sequence[ModelEdit],
        max_new_tokens: int,
        is_settled: IsSettled | None,
        progress: Progress,
        prune_at: Sequence[int | None] | None = None,
    ) -> list[list[Response]]:
        """Greedy responses, by candidate and prompt.

        A response ends early once `is_settled` holds for its text. A candidate with `prune_at[candidate]` settled
        responses is pruned: all its responses end (None: never).
        """
        ...


NO_MEMORY = ("can't allocate memory", "not enough memory", "std::bad_alloc", "MPS backend out of memory")
"""What an error says that is a lack of memory: of torch's allocator on Linux, of that on Windows, of C++, of MPS."""
MEMORY_ERRORS = (RuntimeError, MemoryError)
"""Types of errors that may be a lack of memory, if `out_of_memory` says so."""


def out_of_memory(error: Exception) -> bool:
    """Whether an engine failed for lack of memory, so that it may go on with less at once.

    Never for a model over several processes: the others wait for this one in the middle of a forward.
    """
    return ranks() == 1 and lacked_memory(error)


def lacked_memory(error: Exception) -> bool:
    """Whether an error is an accelerator's own of lacking memory, Python's, or a plain RuntimeError, as the CPU's
    allocator and MPS raise it."""
    if isinstance(error, torch.OutOfMemoryError | MemoryError):
        return True
    return isinstance(error, RuntimeError) and any(text in str(error) for text in NO_MEMORY)


def no_progress(_: int) -> None:
    """A `Progress` that shows nothing."""
