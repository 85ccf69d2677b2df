"""The settings that a record may decide: those that metrics depend on, and no others.

Journals, reports and manifests come from other people. Permission to run code, addresses, secrets, output paths and
uploads come from this user's own flags, environment and configuration.
"""

import json
from collections.abc import Mapping
from typing import Any

from ..config import Settings, recorded_settings
from ..config.renamed import RENAMED, WITHOUT_MEANING, renamed_keys
from ..events import Reporter

COMPARED_SETTINGS = (
    "method",
    "learned_rank",
    "system_prompt",
    "filter_direction_prompts",
    "orthogonalize_direction",
    "winsorization_quantile",
    "experts",
    "row_normalization",
    "max_response_length",
    "generation_rules",
    "refusal_markers",
    "objective",
    "over_refusal_objective",
    "kl_divergence_scale",
    "kl_divergence_target",
    "quantization",
)
"""Settings that decide the metrics of a trial: a study can't be continued under others."""

PROMPT_SETTINGS = (
    *("preset", "good_prompts", "bad_prompts", "good_evaluation_prompts", "bad_evaluation_prompts"),
    *("over_refusal_evaluation_prompts", "good_heldout_prompts", "bad_heldout_prompts"),
    *("over_refusal_heldout_prompts", "chat_template_arguments", "chat_template_date"),
)
ROUNDING_SETTINGS = (
    *("dtypes", "batch_size", "candidates_per_forward", "n_workers", "open_candidates", "share_prefix"),
    *("cache_lower_layers", "fast_attention", "packed_weights", "gpu_kernels", "compact_batch", "static_decode"),
)
"""Settings whose rounding may move a metric in its last digits, or that decide the order in which trials are asked."""

SEARCH_SETTINGS = (
    *("n_trials", "n_startup_trials", "literature_trials", "warm_start", "time_budget", "sampler"),
    *("n_ei_candidates", "seed"),
    *("prune_dominated", "order_startup_trials", "response_prefix", "chain_of_thought_skips", "measure_thinking"),
    *("refusal_openings", "heldout_trials", "heldout_response_length"),
)
METRIC_SETTINGS = (*COMPARED_SETTINGS, *PROMPT_SETTINGS, *ROUNDING_SETTINGS, *SEARCH_SETTINGS)
"""The settings that a record keeps: without the author's permissions, addresses and paths."""

NAMED_ELSEWHERE = ("model", "model_commit")
"""Keys that a record repeats: its own fields name the model."""


def taken_from(recorded: Mapping[str, Any], source: str, reporter: Reporter) -> dict[str, Any]:
    """The recorded settings that decide metrics, under their present names; one warning lists the others."""
    named = {key: value for key, value in renamed_keys(recorded).items() if key not in WITHOUT_MEANING}
    defaults = Settings().model_dump(mode="json")
    dropped = [
        f"{key if key.isidentifier() else repr(key)} = {_short(value)}"
        for key, value in named.items()
        if key not in (*METRIC_SETTINGS, *NAMED_ELSEWHERE) and (key not in defaults or value != defaults[key])
    ]
    if dropped:
        reporter.warn(
            f"{source} also records {', '.join(dropped)}. This is ignored, because a record decides only what metrics "
            "depend on: set it yourself if you want it."
        )
    return {key: value for key, value in named.items() if key in METRIC_SETTINGS}


def recorded_values(
    recorded: Mapping[str, Any], source: str, reporter: Reporter, flags: Mapping[str, str | bool] | None = None
) -> dict[str, Any]:
    """The values of the recorded settings that decide metrics, validated; `flags` override them.

    Raises:
        ConfigError: a recorded value can't be used.
    """
    # Records without a method are from when `kernel` was the only one; those without rules applied none.
    taken = {"method": "kernel", "generation_rules": False} | taken_from(recorded, source, reporter)
    given = {key: value for key, value in (flags or {}).items() if RENAMED.get(key, key) in METRIC_SETTINGS}
    read = recorded_settings(taken, source, given)
    keys = {*taken, *(RENAMED.get(key, key) for key in given)}
    return {key: getattr(read, key) for key in sorted(keys)}


def _short(value: Any) -> str:
    text = json.dumps(value, ensure_ascii=True)
    return text if len(text) <= 80 else f"{text[:77]}..."
