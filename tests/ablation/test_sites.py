"""Sites of three kinds, and their records."""

from typing import Any

import pytest
import torch

from heretic.ablation.sites import ExpertSite, FusedExpertsSite, MeasuredGain, PostNorm, Site

NAME = (1, "mlp.down_proj", "model.layers.1.mlp.down", "model.layers.1.mlp.down.weight")
BLOCK = "model.layers.1.mlp"
SITES = [
    Site(*NAME),
    Site(*NAME, transposed=True, downstream=PostNorm("model.layers.1.post_norm")),
    Site(*NAME, downstream=MeasuredGain(torch.ones(4))),
    ExpertSite(*NAME, expert=2, block=BLOCK),
    FusedExpertsSite(*NAME, n_experts=8, block=BLOCK),
    FusedExpertsSite(*NAME, n_experts=8, block=BLOCK, chosen=(1, 5)),
]


@pytest.mark.parametrize("site", SITES)
def test_a_record_gives_the_same_site(site: Site) -> None:
    record = site.plain()
    assert "gain" not in record
    restored = Site.from_plain(
        {key: list(value) if isinstance(value, tuple) else value for key, value in record.items()}
    )
    assert restored == site
    assert type(restored) is type(site)


def old_record(**more: Any) -> dict[str, Any]:
    """The form that records had before sites were of three kinds: all fields of all kinds."""
    fields = {"layer": NAME[0], "component": NAME[1], "module": NAME[2], "key": NAME[3], "transposed": False}
    return fields | dict.fromkeys(["post_norm", "experts", "expert", "block", "chosen"]) | more


@pytest.mark.parametrize(
    ("record", "site"),
    [
        (old_record(), SITES[0]),
        (old_record(transposed=True, post_norm="model.layers.1.post_norm"), SITES[1]),
        (old_record(post_norm="model.layers.1"), SITES[2]),
        (old_record(expert=2, block=BLOCK), SITES[3]),
        (old_record(experts=8, block=BLOCK), SITES[4]),
        (old_record(experts=8, block=BLOCK, chosen=[1, 5]), SITES[5]),
    ],
)
def test_earlier_records_are_read(record: dict[str, Any], site: Site) -> None:
    restored = Site.from_plain(record)
    assert restored == site
    assert type(restored) is type(site)


def test_an_expert_needs_its_number_and_its_block() -> None:
    with pytest.raises(TypeError, match="expert"):
        ExpertSite(*NAME, block=BLOCK)  # type: ignore[call-arg]
    with pytest.raises(TypeError, match="block"):
        FusedExpertsSite(*NAME, n_experts=8)  # type: ignore[call-arg]
