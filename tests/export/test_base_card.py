"""Nothing that loads, counts or tells another model's story is taken from a base card."""

import pytest

from heretic.export.base_card import kept_metadata, without_pictures


@pytest.mark.parametrize(
    "key", ["new_version", "widget", "extra_gated_prompt", "thumbnail", "inference", "eval_results", "co2_eq_emissions"]
)
def test_only_what_stays_true_is_kept(key: str) -> None:
    assert kept_metadata({"license": "mit", key: "x", "language": [False, "en"]}) == {
        "license": "mit",
        "language": ["no", "en"],
    }


@pytest.mark.parametrize(
    "picture",
    [
        "![seen](https://tracker.example/p.png)",
        "![seen][ref]",
        '<img src="https://tracker.example/p.png" alt="x">',
        "<IMG\nSRC=https://tracker.example/p.png>",
        '<iframe src="https://tracker.example"></iframe>',
        "<script>alert(1)</script>",
        '<link rel="stylesheet" href="https://tracker.example/s.css">',
    ],
)
def test_nothing_that_loads_is_taken_from_the_base_card(picture: str) -> None:
    text = without_pictures(f"Before {picture} after, [a link](https://example.com).")
    assert "tracker" not in text and "<" not in text and "![" not in text
    assert text.startswith("Before ") and text.endswith(" after, [a link](https://example.com).")
