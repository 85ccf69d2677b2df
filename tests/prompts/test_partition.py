"""Near-duplicates are found, kept together, and assigned to disjoint parts."""

import random
from collections import Counter

import numpy as np
import pytest

from heretic.prompts.partition import SIMILAR, clusters, similarities, split_into_parts

SUBJECTS = ("a kettle", "the old barn", "my neighbour's dog", "two green apples", "this map", "her wooden boat")
TEXTS = [f"{verb} {subject} {end}" for subject in SUBJECTS for verb, end in (("Draw", "for me"), ("draw", "for  me!"))]
SIZES = {"direction": 40, "search": 20, "report": 20}


def shingles(text: str) -> set[str]:
    folded = f" {' '.join(text.lower().split())} "
    return {folded[i : i + 5] for i in range(max(1, len(folded) - 4))}


def naive_similarity(one: str, other: str) -> float:
    a, b = shingles(one), shingles(other)
    return len(a & b) / len(a | b)


def naive_clusters(columns: list[list[str]], threshold: float) -> set[frozenset[int]]:
    """Groups grown from every row until nothing joins them."""
    count = len(columns[0])
    alike = [
        {j for j in range(count) if any(naive_similarity(c[i], c[j]) > threshold for c in columns)}
        for i in range(count)
    ]
    groups = set()
    for start in range(count):
        group = {start}
        while (grown := group.union(*(alike[i] for i in group))) != group:
            group = grown
        groups.add(frozenset(group))
    return groups


def random_texts(seed: int, count: int = 25) -> list[str]:
    rng = random.Random(seed)
    vocabulary = ["river", "stone", "cloud", "lamp", "quiet", "orange"]
    return [" ".join(rng.choices(vocabulary, k=4)) for _ in range(count)]


def test_similarity_is_the_share_of_common_shingles() -> None:
    texts = [*TEXTS, *random_texts(0), "", "ab"]
    naive = np.array([[naive_similarity(one, other) for other in texts] for one in texts])
    assert naive.min() == 0
    np.testing.assert_allclose(similarities(texts), naive, atol=0.03)
    assert similarities(texts).dtype == np.float32


def test_case_and_white_space_make_no_difference() -> None:
    assert similarities(["Draw  a KETTLE", " draw a kettle\n"]).min() == 1


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("threshold", [0.2, SIMILAR, 0.7])
def test_clusters_are_what_the_pairwise_version_finds(seed: int, threshold: float) -> None:
    columns = [random_texts(seed), random_texts(seed + 100)]
    found = clusters(*columns, threshold=threshold)
    assert {frozenset(group) for group in found} == naive_clusters(columns, threshold)
    assert sorted(index for group in found for index in group) == list(range(25))


def test_rows_alike_in_either_column_share_a_cluster() -> None:
    first = ["draw a kettle", "draw a kettle", "name the moons", "sing it loud"]
    second = ["count to nine", "bake some bread", "bake some bread", "walk the dog"]
    assert [len(group) for group in clusters(first)] == [2, 1, 1]
    assert sorted(map(sorted, clusters(first, second))) == [[0, 1, 2], [3]]


def groups_and_kinds(seed: int) -> tuple[list[list[int]], list[str]]:
    """Groups of one to three rows, each of one kind, somewhat more than the parts need."""
    rng = random.Random(seed)
    groups: list[list[int]] = []
    kinds: list[str] = []
    while len(kinds) < 100:
        size = rng.choice([1, 1, 1, 1, 2, 3])
        groups.append(list(range(len(kinds), len(kinds) + size)))
        kinds += [rng.choice("abcd")] * size
    return groups, kinds


@pytest.mark.parametrize("seed", range(10))
def test_parts_are_disjoint_of_their_sizes_and_of_whole_groups(seed: int) -> None:
    groups, kinds = groups_and_kinds(seed)
    parts = split_into_parts(groups, kinds, SIZES, seed)
    assert {name: len(rows) for name, rows in parts.items()} == SIZES
    dealt = [row for rows in parts.values() for row in rows]
    assert len(set(dealt)) == len(dealt)
    for group in groups:
        assert len({name for name, rows in parts.items() for row in group if row in rows}) <= 1
        assert len(set(group) & set(dealt)) in (0, len(group))


@pytest.mark.parametrize("seed", range(10))
def test_kinds_are_dealt_in_proportion(seed: int) -> None:
    groups, kinds = groups_and_kinds(seed)
    parts = split_into_parts(groups, kinds, SIZES, seed)
    counts = {name: Counter(kinds[row] for row in rows) for name, rows in parts.items()}
    for kind in "abcd":
        total = sum(count[kind] for count in counts.values())
        for name, size in SIZES.items():
            assert abs(counts[name][kind] - total * size / sum(SIZES.values())) <= 4


def test_a_seed_deals_the_same_way_each_time() -> None:
    groups, kinds = groups_and_kinds(0)
    assert split_into_parts(groups, kinds, SIZES, 3) == split_into_parts(groups, kinds, SIZES, 3)
    assert split_into_parts(groups, kinds, SIZES, 3) != split_into_parts(groups, kinds, SIZES, 4)


def test_too_few_rows_are_an_error_that_says_how_many_are_missing() -> None:
    with pytest.raises(ValueError, match=r"not enough prompts after clustering: \{'b': 1\} are missing"):
        split_into_parts([[0], [1], [2]], "xxx", {"a": 2, "b": 2})


def test_a_group_that_a_part_has_no_room_for_is_left_out() -> None:
    parts = split_into_parts([[0, 1], [2, 3], [4]], "xxxxx", {"a": 3})
    assert len(parts["a"]) == 3
    assert 4 in parts["a"]
