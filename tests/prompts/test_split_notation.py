"""Splits select the same rows as in the datasets library."""

import datasets
import pytest

from heretic.errors import PromptError
from heretic.prompts.split_notation import parse_split

BOUNDS = ("", "0", "3", "7", "10", "15", "-1", "-4", "-10", "-15")
SLICES = [f"[{start}:{stop}]" for start in BOUNDS for stop in BOUNDS]
PERCENTS = ("", "0%", "10%", "25%", "33%", "50%", "99%", "100%", "-10%", "-50%")


@pytest.mark.parametrize("count", [1, 7, 10])
def test_numbers_slice_as_a_data_set_does(count: int) -> None:
    rows = datasets.Dataset.from_dict({"row": list(range(count))})
    for text in SLICES:
        start, stop = (int(bound) if bound else None for bound in text[1:-1].split(":"))
        assert list(parse_split(text).rows(count)) == rows[start:stop]["row"], text


@pytest.mark.parametrize("count", [1, 7, 10, 999])
def test_percents_and_names_read_as_read_instructions_do(count: int) -> None:
    for start in PERCENTS:
        for stop in PERCENTS:
            text = f"train[{start}:{stop}]"
            absolute = datasets.ReadInstruction.from_spec(text).to_absolute({"train": count})[0]
            rows = range(count)[absolute.from_ : absolute.to]
            assert parse_split(text).rows(count) == rows, text


@pytest.mark.parametrize(
    ("text", "name", "asked"),
    [
        (None, "", None),
        ("", "", None),
        ("train", "train", None),
        ("train[:400]", "train", 400),
        ("[100:250]", "", 150),
        ("search[5:]", "search", None),
        ("[:-5]", "", None),
        ("[-5:10]", "", None),
        ("[:10%]", "", None),
        ("[10%:50]", "", None),
        ("test.v1-a_b[:3]", "test.v1-a_b", 3),
        ("[:]", "", None),
    ],
)
def test_name_and_number_asked_for(text: str | None, name: str, asked: int | None) -> None:
    split = parse_split(text)
    assert (split.name, split.asked) == (name, asked)


@pytest.mark.parametrize(
    "text", ["[:400", "train[400]", "train[:4:2]", "train [:4]", "[:4]train", "[a:b]", "[:5]\n", "%"]
)
def test_other_notations_are_errors(text: str) -> None:
    with pytest.raises(PromptError, match="Expected a split such as"):
        parse_split(text)
