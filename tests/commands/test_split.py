"""Any prompt set becomes three parts that a run can take, and no part sees another's near-duplicates."""

import json
from pathlib import Path

import pytest

from heretic.cli import main
from heretic.config import PromptSource
from heretic.prompts.loading import load_prompts
from heretic.prompts.partition import SIMILAR, deal, similarities

THINGS = [
    *("anchor", "barrel", "candle", "dragon", "engine", "falcon", "guitar", "hammer", "island", "jacket", "kettle"),
    *("ladder", "mirror", "needle", "orchid"),
]
VERBS = ["describe", "paint", "whistle", "borrow"]


def pool(path: Path) -> list[dict[str, str]]:
    """Near-duplicates in fours, each of the four with another sign at its end."""
    rows = [
        {"id": f"{thing}-{i}", "sort": thing[0], "ask": f"{VERBS[n % 4]} {thing}s, {thing}land{sign}"}
        for n, thing in enumerate(THINGS)
        for i, sign in enumerate((".", "!", "?", ""))
    ]
    path.write_text("\n".join(map(json.dumps, rows)) + "\n")
    return rows


def parts_of(directory: Path) -> dict[str, list[dict[str, str]]]:
    found = {}
    for part in ("direction", "search", "report"):
        lines = (directory / f"pool.{part}.jsonl").read_text().splitlines()
        found[part] = [json.loads(line) for line in lines]
    return found


@pytest.mark.parametrize("sizes", [[], ["--sizes", "24,12,12", "--kind", "sort"]])
def test_parts_are_disjoint_down_to_near_duplicates(
    sizes: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = pool(tmp_path / "pool.jsonl")
    assert (
        main(["split", str(tmp_path / "pool.jsonl"), "--column", "ask", "--output", str(tmp_path / "out"), *sizes]) == 0
    )
    assert "60 prompts, 15 groups of near-duplicates (largest 4)" in " ".join(capsys.readouterr().err.split())
    parts = parts_of(tmp_path / "out")
    everything = [row for part in parts.values() for row in part]
    if sizes:
        assert {part: len(each) for part, each in parts.items()} == {"direction": 24, "search": 12, "report": 12}
    else:
        assert sorted(row["id"] for row in everything) == sorted(row["id"] for row in rows)
        assert len(parts["direction"]) == pytest.approx(30, abs=4)
    assert all(row in rows for row in everything)  # other columns are kept
    texts = [row["ask"] for row in everything]
    owner = [part for part, each in parts.items() for _ in each]
    alike = similarities(texts)
    for i, one in enumerate(owner):
        for j, other in enumerate(owner):
            assert one == other or alike[i, j] <= SIMILAR
    # A run takes them as they are.
    source = PromptSource(dataset=str(tmp_path / "out" / "pool.search.jsonl"), column="ask")
    assert len(load_prompts(source)) == len(parts["search"])


def test_the_same_seed_deals_alike_and_nothing_is_written_over(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pool(tmp_path / "pool.jsonl")
    command = ["split", str(tmp_path / "pool.jsonl"), "--column", "ask", "--output"]
    for name, seed in (("a", "0"), ("b", "0"), ("c", "1")):
        assert main([*command, str(tmp_path / name), "--seed", seed]) == 0
    assert parts_of(tmp_path / "a") == parts_of(tmp_path / "b") != parts_of(tmp_path / "c")
    assert main([*command, str(tmp_path / "a")]) == 2
    assert "would be overwritten" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("flags", "expected"),
    [
        (["--sizes", "10,10"], "as in 200,100,100"),
        (["--sizes", "100,100,100"], "not enough prompts after clustering"),
        (["--kind", "colour"], "Expected a column 'colour'"),
        (["--column", "question"], "Expected a column 'question'"),
    ],
)
def test_what_can_not_be_split_is_said(
    flags: list[str], expected: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pool(tmp_path / "pool.jsonl")
    column = [] if "--column" in flags else ["--column", "ask"]
    assert main(["split", str(tmp_path / "pool.jsonl"), *column, "--output", str(tmp_path / "out"), *flags]) == 2
    assert expected in " ".join(capsys.readouterr().err.split())
    assert not (tmp_path / "out").exists()


def test_dealing_gives_every_part_its_share() -> None:
    groups = [[i] for i in range(100)]
    dealt = deal(groups, {"a": 0.5, "b": 0.25, "c": 0.25})
    assert {name: len(rows) for name, rows in dealt.items()} == {"a": 50, "b": 25, "c": 25}
    assert sorted(row for rows in dealt.values() for row in rows) == list(range(100))
    with pytest.raises(ValueError, match="too few"):
        deal([[0, 1, 2]], {"a": 0.5, "b": 0.5})
