"""What a study keeps on disk beside Optuna's own entries."""

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, SerializerFunctionWrapHandler, model_serializer

from ..ablation.parameters import AblationParameters
from ..config.renamed import CurrentKeys


class Record(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class PromptRecord(Record):
    """One prompt set as it was used: where it came from, how many, and the digest of its texts.

    `public`: whether it is a data set of the hub. Older records don't say (None).
    """

    source: dict[str, Any]
    count: int
    digest: str
    public: bool | None = None

    @model_serializer(mode="wrap")
    def _without_what_is_unknown(self, handler: SerializerFunctionWrapHandler) -> dict[str, Any]:
        written = handler(self)
        return written if self.public is not None else {k: v for k, v in written.items() if k != "public"}


class BaselineRecord(Record):
    """Refusals of the unmodified model among `prompts` bad evaluation prompts, and where over-refusal is an objective
    too, those among `over_prompts` harmless ones that look harmful.

    `refusal_tokens` are what they begin with, and `probability` is that of such a beginning, where the objective of the
    search needs them.
    """

    refusals: int
    prompts: int
    refusal_tokens: tuple[int, ...] | None = None
    probability: float | None = None
    over_refusals: int | None = None
    over_prompts: int | None = None

    @property
    def objectives(self) -> int:
        """How many figures the search minimises."""
        return 2 if self.over_refusals is None else 3

    @model_serializer(mode="wrap")
    def _without_what_is_not_needed(self, handler: SerializerFunctionWrapHandler) -> dict[str, Any]:
        return {key: value for key, value in handler(self).items() if value is not None}


class StudyRecord(Record):
    """All that must be the same for trials to be comparable, and all that an export needs beside the weights.

    `telling`: by prompt set, the places of those that the directions were made from, where not all were
    (`filter_direction_prompts`).
    """

    version: Literal[1] = 1
    model: str
    model_path: str
    gguf_file: str | None
    model_revision: str | None
    model_digest: str
    dtype: str
    prompts: dict[str, PromptRecord]
    settings: CurrentKeys[Any]
    space: dict[str, Any]
    sites: list[dict[str, Any]]
    response_prefix: str
    batch_size: int
    baseline: BaselineRecord
    versions: dict[str, str]
    telling: dict[str, tuple[int, ...]] | None = None

    @model_serializer(mode="wrap")
    def _without_what_was_not_done(self, handler: SerializerFunctionWrapHandler) -> dict[str, Any]:
        written = handler(self)
        return written if self.telling is not None else {k: v for k, v in written.items() if k != "telling"}


class RunRecord(Record):
    """One start of the program on a study: when (UTC), all its settings, versions and hardware."""

    version: Literal[1] = 1
    started: str
    settings: CurrentKeys[Any]
    versions: dict[str, str]
    hardware: dict[str, str]


class TrialRecord(Record):
    """One trial with figures. A `bound` was given up as dominated: it has at least `refusals`, and is on no front.

    `over_refusals` is None where that is no objective of the search.
    """

    number: int
    refusals: int
    kl_divergence: float
    parameters: AblationParameters
    bound: bool = False
    over_refusals: int | None = None

    @model_serializer(mode="wrap")
    def _without_what_is_no_objective(self, handler: SerializerFunctionWrapHandler) -> dict[str, Any]:
        written = handler(self)
        return written if self.over_refusals is not None else {k: v for k, v in written.items() if k != "over_refusals"}
