"""Former names of configuration keys, for configurations and records that still use them."""

import re
from collections.abc import Mapping
from typing import Annotated, TypeVar

from pydantic import BeforeValidator

Value = TypeVar("Value")

RENAMED = {
    # heretic-llm 1.4.0
    "export_strategy": "export",
    # this program before its first release
    "bad_report_prompts": "bad_heldout_prompts",
    "candidates": "candidates_per_forward",
    "compact_rows": "compact_batch",
    "good_report_prompts": "good_heldout_prompts",
    "only_telling_prompts": "filter_direction_prompts",
    "over_refusal_prompts": "over_refusal_heldout_prompts",
    "promising_first": "order_startup_trials",
    "report_candidates": "heldout_trials",
    "report_response_length": "heldout_response_length",
    "reuse_layers": "cache_lower_layers",
    "seeds": "warm_start",
    "select": "trial",
    "stop_dominated": "prune_dominated",
    "textbook_trials": "literature_trials",
    "workers": "n_workers",
}
"""New name of each former key. In a configuration a former name works and warns."""

ELSEWHERE = {
    "chat_template_kwargs": "give `chat_template_arguments`, a table of variables",
    "checkpoint_action": "give `resume` (continue or restart)",
    "enable_thinking": "give `measure_thinking`, or `chat_template_arguments` = { enable_thinking = false }",
    "load_in_4bit": "give `quantization` = bnb_4bit",
    "load_in_8bit": "give `quantization` = bnb_8bit",
    "model_action": "give `export` (merge, adapter, gguf or none) or `upload`",
    "save_directory": "give `output`",
    "scorer": "give `objective`, `refusal_markers` and `over_refusal_objective`",
    "scorers": "give `objective` and `over_refusal_objective`",
    "trial_index": "give `trial`, the number that the table of the front shows, or a rule such as knee",
}
"""Keys of later releases of heretic-llm and of other programs, with what to give here instead; keys in backticks."""

WITHOUT_MEANING = {
    "collect_reproducibles": "every study records what is needed to reproduce it",
    "full_normalization_lora_rank": "an adapter for row_normalization = full is exact here at rank 1",
}
"""Keys of heretic-llm 1.4.0 that are ignored here, with the reason."""

WITHOUT_EFFECT = {
    "offload_outputs_to_cpu": "residuals are always kept in RAM, and log-probabilities on the model's device",
}
"""Keys that change nothing in this release, with what happens instead."""


def elsewhere(key: str, as_flags: bool = False) -> str:
    """What to give instead of a key of `ELSEWHERE`, by the names of keys or of flags."""
    if not as_flags:
        return ELSEWHERE[key].replace("`", "")
    return re.sub(r"`(\w+)`( =)?", lambda found: f"--{found[1].replace('_', '-')}", ELSEWHERE[key])


def renamed_keys(mapping: Mapping[str, Value]) -> dict[str, Value]:
    """`mapping` with former key names replaced by today's; a key that has its new name already wins."""
    renamed = {RENAMED[key]: value for key, value in mapping.items() if key in RENAMED}
    return renamed | {key: value for key, value in mapping.items() if key not in RENAMED}


def _rename(value: object) -> object:
    return renamed_keys(value) if isinstance(value, Mapping) else value


CurrentKeys = Annotated[dict[str, Value], BeforeValidator(_rename)]
"""A dictionary of a record by configuration key; former names are read as today's."""
