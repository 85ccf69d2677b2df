"""A study continues only with the settings of its trials; the error names the field that differs."""

from typing import Any

import pytest

from heretic.errors import StudyError
from heretic.study.identity import check_same
from heretic.study.schema import StudyRecord
from tests.support.study_toys import record

COMPARED = ("model_digest", "dtype", "prompts", "settings", "space")


def now(**changes: Any) -> dict[str, Any]:
    dumped = record().model_dump(mode="json")
    return {name: dumped[name] for name in COMPARED} | changes


def changed(section: str, key: str, value: Any) -> dict[str, Any]:
    return now(**{section: now()[section] | {key: value}})


def test_the_same_run_goes_on() -> None:
    check_same(record(), now(), "study.jsonl")
    check_same(StudyRecord.model_validate_json(record().model_dump_json()), now(), "study.jsonl")


DIFFERENT = {
    "model_digest": now(model_digest="fedcba9876543210"),
    "dtype": now(dtype="float32"),
    "good_prompts": changed("prompts", "good_prompts", {"source": {}, "count": 200, "digest": "other"}),
    "bad_evaluation_prompts": changed("prompts", "bad_evaluation_prompts", {"source": {}, "count": 99, "digest": "bb"}),
    "row_normalization": changed("settings", "row_normalization", "none"),
    "refusal_markers": changed("settings", "refusal_markers", ["sorry", "cannot"]),
    "winsorization_quantile": changed("settings", "winsorization_quantile", 1.0),
    "search space: components": changed("space", "components", ["attn.o_proj"]),
    "search space: last_layer": changed("space", "last_layer", 12),
    "search space: direction_index": changed("space", "direction_index", [0.3, 0.9]),
    "search space: max_weight": changed("space", "max_weight", [0.8, 1.6]),
    "search space: max_weight_position": changed("space", "max_weight_position", [0.5, 1.0]),
    "search space: min_weight_distance": changed("space", "min_weight_distance", [1.0, 0.7]),
}


@pytest.mark.parametrize("field", DIFFERENT)
def test_the_field_that_differs_is_named(field: str) -> None:
    with pytest.raises(StudyError) as caught:
        check_same(record(), DIFFERENT[field], "checkpoints/m.jsonl")
    assert f"The study checkpoints/m.jsonl was run with another {field}: " in str(caught.value)
    assert "--resume restart" in str(caught.value)


def test_another_form_of_the_prompts_is_noticed_where_the_record_knows_it() -> None:
    check_same(record(), now(inputs="aa"), "study.jsonl")
    recorded = record().model_copy(update={"inputs": "aa"})
    check_same(recorded, now(inputs="aa"), "study.jsonl")
    with pytest.raises(StudyError, match="chat template, tokenizer"):
        check_same(recorded, now(inputs="bb"), "study.jsonl")


def test_both_values_are_shown_and_long_ones_cut() -> None:
    with pytest.raises(StudyError, match="'bfloat16' there, 'float32' now"):
        check_same(record(), DIFFERENT["dtype"], "study.jsonl")
    with pytest.raises(StudyError) as caught:
        check_same(record(), changed("settings", "refusal_markers", ["sorry"] * 1000), "study.jsonl")
    assert len(str(caught.value)) < 500


def test_where_a_set_came_from_does_not_matter_if_its_texts_are_the_same() -> None:
    moved = {"source": {"dataset": "copy.txt"}, "count": 200, "digest": "aa"}
    check_same(record(), changed("prompts", "good_prompts", moved), "study.jsonl")
