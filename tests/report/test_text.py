"""Metrics, numbers and times in words."""

import pytest

from heretic.report.text import baseline_text, duration, front_columns, front_rows, metrics_text, number_text, strengths
from tests.support.study_toys import baseline, trial
from tests.support.ui_toys import BASELINE, FRONT


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0, "0 s"),
        (0.4, "0 s"),
        (12.3, "12 s"),
        (59.4, "59 s"),
        (59.6, "1 min"),
        (60, "1 min"),
        (61, "1 min 1 s"),
        (185, "3 min 5 s"),
        (3599.4, "59 min 59 s"),
        (3599.6, "1 h"),
        (3600, "1 h"),
        (3661, "1 h 1 min"),
        (7800, "2 h 10 min"),
        (100_000, "27 h 46 min"),
    ],
)
def test_durations(seconds: float, text: str) -> None:
    assert duration(seconds) == text


def test_real_numbers_have_four_decimals() -> None:
    texts = {0: "0.0000", 0.12344: "0.1234", 0.12346: "0.1235", 12.5: "12.5000", -1e-9: "0.0000", -0.00006: "-0.0001"}
    assert [number_text(value) for value in texts] == list(texts.values())


def test_metrics_in_a_line_and_in_columns() -> None:
    third = baseline(over=(3, 10))
    whole, pruned = trial(0, 7, 0.25, over=1), trial(1, 9, 0.5, over=0, pruned=True)
    assert metrics_text(whole, third) == "refusals 7/100, KL 0.2500, over-refusals 1/10"
    assert metrics_text(pruned, third) == "refusals >=9/100, KL 0.5000, over-refusals 0/10"
    assert baseline_text(third) == "baseline: 80/100 refusals, 3/10 over-refusals"
    assert front_columns(third) == ("", "Trial", "Refusals", "KL", "Over-refusals", "Direction; strengths")


def test_a_row_of_the_front_has_all_that_decides_and_marks_the_knee() -> None:
    rows = front_rows(FRONT, FRONT[1], BASELINE)
    assert rows[1] == ("*", "8", "4/100", "0.3000", "layer 7.0; attn 1.20 @ 9, mlp 1.20 @ 9")
    assert [row[0] for row in rows] == ["", "*", ""]
    assert [row[0] for row in front_rows(FRONT, None, BASELINE)] == ["", "", ""]


def test_strengths_name_the_direction_that_is_used() -> None:
    assert strengths(FRONT[0]).startswith("per layer; ")
    assert strengths(FRONT[1]).startswith("layer 7.0; ")
