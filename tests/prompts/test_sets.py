"""The packaged sets: sizes, disjoint parts, matched pairs, and no harmful content."""

import json
import re
from collections import Counter

import numpy as np
import pytest

from heretic.config import PromptSource
from heretic.errors import PromptError
from heretic.prompts.loading import SETS, load_prompts
from heretic.prompts.partition import SIMILAR, similarities

NAMES = ("refusal", "disclaimer")
OVER_REFUSAL = "over-refusal"
SIZES = {"direction": 200, "search": 100, "report": 100}
COLUMNS = ("good", "bad")

# Whole words; "shot", "minor", "killing me" and their like have other meanings and are left to the reader.
FORBIDDEN = """
ammo ammunition bomb bombs bullet bullets detonate explosive explosives firearm firearms grenade gun guns gunpowder
knife knives pistol rifle weapon weapons
cannabis cocaine crack-cocaine drug drugs fentanyl heroin lsd marijuana meth methamphetamine opioid opioids
overdose weed
anorexia bulimia self-harm selfharm suicidal suicide
erotic naked nude nudes porn porno pornography rape sex sexual sexually sexy
minors molest paedophile pedophile teenager teenagers toddler underage
bigot extremism extremist extremists genocide hitler jihad lynch nazi nazis supremacist terror terrorism terrorist
botnet ddos exploit hack hacker hacking keylogger malware phishing ransomware rootkit spyware trojan virus worm
assassinate kidnap kill murder poison torture
"""


def rows_of(name: str) -> list[dict[str, str]]:
    return [json.loads(line) for line in (SETS / f"{name}.jsonl").read_text(encoding="utf-8").split("\n") if line]


def texts(name: str, column: str, part: str | None = None) -> list[str]:
    return [row[column] for row in rows_of(name) if part in (None, row["part"])]


def words(text: str) -> list[str]:
    return re.findall(r"[\w'’-]+", text.lower())


def test_these_are_the_packaged_sets() -> None:
    assert sorted(path.stem for path in SETS.iterdir()) == sorted([*NAMES, OVER_REFUSAL])


@pytest.mark.parametrize("name", NAMES)
def test_every_pair_has_part_kind_and_two_texts(name: str) -> None:
    rows = rows_of(name)
    assert Counter(row["part"] for row in rows) == SIZES
    for row in rows:
        assert row.keys() == {"part", "kind", "good", "bad"}
        assert all(value.strip() == value != "" for value in row.values())
        assert row["good"] != row["bad"]


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("column", COLUMNS)
def test_parts_load_by_name_and_hold_no_prompt_of_another(name: str, column: str) -> None:
    loaded = {
        part: [p.text for p in load_prompts(PromptSource(dataset=f"packaged:{name}", split=part, column=column))]
        for part in SIZES
    }
    assert {part: len(each) for part, each in loaded.items()} == SIZES
    assert loaded == {part: texts(name, column, part) for part in SIZES}
    assert len({text for each in loaded.values() for text in each}) == 400
    whole = load_prompts(PromptSource(dataset=f"packaged:{name}", column=column))
    assert len(whole) == 400


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("column", COLUMNS)
def test_no_prompt_of_a_part_is_nearly_one_of_another(name: str, column: str) -> None:
    parts = np.array([row["part"] for row in rows_of(name)])
    alike = similarities(texts(name, column))
    across = alike[parts[:, None] != parts[None, :]]
    assert alike.max() > 0.99  # of a text with itself
    assert across.max() <= SIMILAR


@pytest.mark.parametrize("name", NAMES)
def test_kinds_are_shared_by_the_parts_in_proportion(name: str) -> None:
    counts = Counter((row["part"], row["kind"]) for row in rows_of(name))
    kinds = {kind for _, kind in counts}
    assert len(kinds) >= 10
    for kind in kinds:
        assert counts["direction", kind] >= 5
        for part in ("search", "report"):
            assert abs(counts[part, kind] - counts["direction", kind] / 2) <= 3


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("part", SIZES)
def test_good_and_bad_prompts_are_as_long(name: str, part: str) -> None:
    good, bad = (np.mean([len(text.split()) for text in texts(name, column, part)]) for column in COLUMNS)
    assert 0.9 < good / bad < 1.1


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("part", SIZES)
def test_good_and_bad_prompts_have_one_form(name: str, part: str) -> None:
    def shares(column: str) -> np.ndarray:
        found = texts(name, column, part)
        forms = [[t.endswith("?"), t.endswith("."), t[0].islower(), "'" in t or '"' in t, len(t) > 200] for t in found]
        return np.mean(forms, axis=0)

    assert np.abs(shares("good") - shares("bad")).max() < 0.15


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("part", SIZES)
@pytest.mark.parametrize("column", COLUMNS)
def test_no_template_is_repeated(name: str, part: str, column: str) -> None:
    openings = Counter(" ".join(words(text)[:3]) for text in texts(name, column, part))
    assert openings.most_common(1)[0][1] < 0.05 * SIZES[part]


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("column", COLUMNS)
def test_nothing_is_about_what_does_harm(name: str, column: str) -> None:
    found = {word for text in texts(name, column) for word in words(text)} & set(words(FORBIDDEN))
    assert found == set()


def test_an_unknown_set_is_an_error_that_lists_the_known() -> None:
    with pytest.raises(
        PromptError, match="Expected one of the packaged prompt sets disclaimer, over-refusal, refusal, got"
    ):
        load_prompts(PromptSource(dataset="packaged:harm"))


def test_an_unknown_split_is_an_error_that_lists_the_known() -> None:
    with pytest.raises(PromptError, match="Expected split direction, search or report of packaged:refusal"):
        load_prompts(PromptSource(dataset="packaged:refusal", split="train"))


def test_rows_of_a_part_can_be_sliced() -> None:
    source = PromptSource(dataset="packaged:refusal", split="search[10:12]", column="bad")
    assert [prompt.text for prompt in load_prompts(source)] == texts("refusal", "bad", "search")[10:12]
    with pytest.raises(PromptError, match=r"Expected 101 prompts from .* found 100"):
        load_prompts(PromptSource(dataset="packaged:refusal", split="search[:101]", column="bad"))
    with pytest.raises(PromptError, match="'part', 'kind', 'bad', 'good'"):
        load_prompts(PromptSource(dataset="packaged:refusal", split="search"))


def test_the_over_refusal_set_has_pairs_of_a_harmless_and_a_plain_prompt_with_their_reading() -> None:
    rows = rows_of(OVER_REFUSAL)
    assert len(rows) >= 100
    assert Counter(row["part"] for row in rows) == {"direction": 60, "search": 40, "report": 60}
    for row in rows:
        assert row.keys() == {"part", "kind", "good", "bad", "reading"}
        assert all(value.strip() == value != "" for value in row.values())
    for column in COLUMNS:
        assert len({row[column] for row in rows}) == len(rows)
        alike = similarities([row[column] for row in rows])
        parts = np.array([row["part"] for row in rows])
        assert alike[parts[:, None] != parts[None, :]].max() <= SIMILAR


def test_the_over_refusal_set_looks_harmful_and_its_counterparts_do_not() -> None:
    """It deliberately contains the words that the other sets exclude, with another meaning."""
    looks = re.compile(
        "kill|shoot|shot|bomb|attack|murder|poison|weapon|steal|rob|crash|burn|blow|die|dead|stab|bullet|massacre|nuke|"
        "hijack|punch|beat|bleed|execut|destroy|crack|explo|assassin|hostage|choke|strangle|drown|torch|fight|inject|"
        "sniper|raid|terminat|sacrific|suicid|smash|launder|trigger|gun |drug|behead|lynch|blast|smother|ambush|trap"
    )
    bad, good = ([bool(looks.search(text.lower())) for text in texts(OVER_REFUSAL, column)] for column in COLUMNS[::-1])
    assert sum(bad) > 120
    assert sum(good) < 5
