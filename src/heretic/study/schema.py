"""The records of a study on disk, in addition to Optuna's own entries."""

from typing import Any, Literal

from pydantic import SerializerFunctionWrapHandler, field_validator, model_serializer, model_validator

from ..ablation.methods.registry import AnyParameters
from ..config.renamed import CurrentKeys
from . import version1
from .metrics import BaselineMetric, Metric, Record

BASELINE = "baseline"
"""The name of the unmodified model, wherever it is shown next to trials."""


MOST_LAYERS = 10_000
"""More layers than any model has: files edited by hand may hold any number."""


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
    """The baseline's value of each metric of the search, by the metric's name; the primary metric comes first."""

    version: Literal[2] = 2
    metrics: dict[str, BaselineMetric]

    @model_validator(mode="before")
    @classmethod
    def _of_version_1(cls, content: Any) -> Any:
        return version1.upgraded(version1.baseline_fields, content) if version1.is_version_1(content) else content

    def value(self, name: str) -> float:
        return self.metrics[name].value


class StudyRecord(Record):
    """All that must be equal for trials to be comparable, and all that an export needs besides the weights.

    `telling`: by prompt set, the places of those that the directions were made from, where not all were
    (`filter_direction_prompts`). `inputs` is the digest of the prompts as tokens. `files_digest` is the SHA-256 of all
    bytes of the weights, config.json and code; earlier records lack both. `model_digest` covers config.json, and of
    each weight file its size and its first and last MiB. `no_gradient`: why no gradient of the model can be learned
    from, where the method `kernel` searched in place of `learned`.
    """

    version: Literal[2] = 2
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
    inputs: str | None = None
    files_digest: str | None = None
    no_gradient: str | None = None

    @model_validator(mode="before")
    @classmethod
    def _of_version_1(cls, content: Any) -> Any:
        # Only the baseline has changed since, and its class reads the old form.
        if isinstance(content, dict) and content.get("version") == 1:
            return content | {"version": 2}
        return content

    @field_validator("space")
    @classmethod
    def _names_the_layers(cls, space: dict[str, Any]) -> dict[str, Any]:
        last = space.get("last_layer")
        if not isinstance(last, int) or not 0 <= last <= MOST_LAYERS:
            raise ValueError(f"last_layer is a number from 0 to {MOST_LAYERS}, got {last!r:.40}")
        return space

    @field_validator("sites")
    @classmethod
    def _have_a_layer(cls, sites: list[dict[str, Any]]) -> list[dict[str, Any]]:
        for site in sites:
            if not isinstance(site.get("layer"), int) or not isinstance(site.get("component"), str):
                raise ValueError(f"a site has a layer and a component, got {site!r:.80}")
        return sites

    @model_serializer(mode="wrap")
    def _without_what_was_not_done(self, handler: SerializerFunctionWrapHandler) -> dict[str, Any]:
        optional = ("telling", "inputs", "files_digest", "no_gradient")
        return {key: value for key, value in handler(self).items() if value is not None or key not in optional}


class RunRecord(Record):
    """One start of the program on a study: when (UTC), all its settings, versions and hardware."""

    version: Literal[1] = 1
    started: str
    settings: CurrentKeys[Any]
    versions: dict[str, str]
    hardware: dict[str, str]


class TrialRecord(Record):
    """One measured trial: its parameters, and its metrics by name.

    By default these are `refusals`, a count of prompts, and `kl_divergence`, a mean over prompts in nats:
    `trial.value("refusals")`.
    """

    version: Literal[2] = 2
    number: int
    parameters: AnyParameters
    metrics: dict[str, Metric]

    @model_validator(mode="before")
    @classmethod
    def _of_version_1(cls, content: Any) -> Any:
        return version1.upgraded(version1.trial_fields, content) if version1.is_version_1(content) else content

    @property
    def pruned(self) -> bool:
        """Whether it ended early as dominated: a metric of it is only a lower bound, and it is on no front."""
        return any(metric.censored for metric in self.metrics.values())

    def value(self, name: str) -> float:
        """The metric of that name; a pruned trial's may be a lower bound.

        Raises:
            KeyError: the study has no such metric.
        """
        return self.metrics[name].value
