"""Families whose weights can't be edited, and the reason that is given."""

import pytest
from tiny_models import tiny_model

from heretic.errors import ModelError
from heretic.model.sites.find import find_sites


@pytest.mark.parametrize(
    ("family", "says"),
    [
        ("openai-gpt", r"layer 0 \(Block\) ln_2 normalises the sum"),
        ("git", r"layer 0 \(GitLayer\) output.LayerNorm normalises the sum"),
        ("rwkv", r"layer 0 \(RwkvBlock\) the output of feed_forward.value is multiplied by a gate"),
    ],
)
def test_the_reason_is_named_instead_of_a_request_for_a_report(family: str, says: str) -> None:
    with pytest.raises(ModelError, match=says) as raised:
        find_sites(tiny_model(family))
    assert "report" not in str(raised.value)
