"""A base model's card, and the record of a study of it."""

from typing import Any

import yaml

from heretic.config import Settings
from heretic.study.schema import PromptRecord, StudyRecord
from tests.support import study_toys as toys

BASE_CARD = """---
license: other
license_name: some-licence
license_link: LICENSE
language: [en, de]
datasets: [org/data]
pipeline_tag: text-generation
tags: [chat]
model-index:
- name: model
  results: []
---
# The base

It was trained on $5 of data. {{ braces }}
"""
TRIAL = toys.trial(17, 3, 0.1234)


def record(**changes: Any) -> StudyRecord:
    prompts = {
        f"{side}_{part}": PromptRecord(
            source={"dataset": "packaged:refusal", "split": part, "column": side}, count=100, digest="aa"
        )
        for side in ("good", "bad")
        for part in ("prompts", "evaluation_prompts")
    }
    dumped = Settings().model_dump(mode="json")
    keys = ("system_prompt", "row_normalization", "orthogonalize_direction", "winsorization_quantile", "quantization")
    settings = {key: dumped[key] for key in (*keys, "max_response_length", "refusal_markers")}
    return toys.record(
        **{"prompts": prompts, "settings": settings, "versions": {"heretic": "0.1.0", "torch": "2.13.0"}} | changes
    )


def parsed(base: str) -> tuple[dict[str, Any], str]:
    _, head, body = base.split("---\n", 2)
    return yaml.safe_load(head), body
