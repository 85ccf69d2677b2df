"""Former names of keys: in mappings and in records."""

from pydantic import BaseModel

from heretic.config import Settings, renamed_keys
from heretic.config.renamed import RENAMED, WITHOUT_MEANING, CurrentKeys


def test_former_names_lead_to_settings_and_are_none_themselves() -> None:
    assert set(RENAMED.values()) <= set(Settings.model_fields)
    assert not {*RENAMED, *WITHOUT_MEANING} & set(Settings.model_fields)


def test_a_mapping_gets_the_current_names_and_a_current_name_wins() -> None:
    assert renamed_keys({"workers": 2, "seed": 1}) == {"n_workers": 2, "seed": 1}
    assert (
        renamed_keys({"n_workers": 3, "workers": 2}) == renamed_keys({"workers": 2, "n_workers": 3}) == {"n_workers": 3}
    )


def test_a_record_is_read_with_the_current_names() -> None:
    class Record(BaseModel):
        settings: CurrentKeys[int]

    assert Record.model_validate({"settings": {"candidates": 4}}).settings == {"candidates_per_forward": 4}
