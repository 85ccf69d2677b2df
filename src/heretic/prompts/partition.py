"""Disjoint parts of a prompt set, near-duplicates kept together.

To a model, prompts that differ by a word or two are the same prompt: near-duplicates in both parts would leak the first
part into the second.
"""

import random
import zlib
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

SHINGLE = 5
BUCKETS = 1 << 14
SIMILAR = 0.4
BLOCK = 512


def similarities(texts: Sequence[str]) -> np.ndarray:
    """Jaccard similarity of the texts' character 5-grams, (text, text), fp32; 1 on the diagonal.

    The 5-grams are hashed into 16,384 buckets: a collision moves a similarity by a few hundredths.
    """
    marks = _marks(texts)
    return _jaccard(marks, marks)


def _marks(texts: Sequence[str]) -> Any:
    """Which 5-grams each text has, (text, bucket), sparse."""
    from scipy.sparse import csr_array

    rows = [
        sorted(
            {zlib.crc32(folded[i : i + SHINGLE].encode()) % BUCKETS for i in range(max(1, len(folded) - SHINGLE + 1))}
        )
        for folded in (f" {' '.join(text.lower().split())} " for text in texts)
    ]
    starts = np.cumsum([0, *map(len, rows)])
    columns = np.concatenate([np.asarray(row, dtype=np.int32) for row in rows])
    return csr_array((np.ones(len(columns), dtype=np.float32), columns, starts), shape=(len(texts), BUCKETS))


def _jaccard(marks: Any, others: Any) -> np.ndarray:
    shared = (marks @ others.T).toarray()
    return shared / (marks.sum(axis=1)[:, None] + others.sum(axis=1)[None, :] - shared)


def alike(texts: Sequence[str], threshold: float) -> Iterator[tuple[int, int]]:
    """Pairs (first < second) of texts whose similarity is above the threshold; a block of rows at a time."""
    marks = _marks(texts)
    for start in range(0, len(texts), BLOCK):
        above = _jaccard(marks[start : start + BLOCK], marks) > threshold
        for first, second in zip(*np.nonzero(above), strict=True):
            if start + first < second:
                yield start + int(first), int(second)


def clusters(*columns: Sequence[str], threshold: float = SIMILAR) -> list[list[int]]:
    """Row indices grouped so that rows alike in any column (similarity above `threshold`), directly or through
    others, share a group."""
    parent = list(range(len(columns[0])))

    def root(index: int) -> int:
        while parent[index] != index:
            parent[index] = parent[parent[index]]
            index = parent[index]
        return index

    for column in columns:
        for first, second in alike(column, threshold):
            parent[root(second)] = root(first)
    groups: dict[int, list[int]] = {}
    for index in range(len(parent)):
        groups.setdefault(root(index), []).append(index)
    return list(groups.values())


def split_into_parts(
    groups: Sequence[Sequence[int]], kinds: Sequence[str], sizes: Mapping[str, int], seed: int = 0
) -> dict[str, list[int]]:
    """Assigns whole groups to parts of the given sizes, stratified by kind; surplus groups are left out.

    Raises:
        ValueError: the groups do not fill the parts.
    """
    order = list(groups)
    random.Random(seed).shuffle(order)
    order.sort(key=len, reverse=True)
    parts: dict[str, list[int]] = {name: [] for name in sizes}
    taken: dict[tuple[str, str], int] = {}
    for group in order:
        kind = kinds[group[0]]
        room = [name for name, size in sizes.items() if len(parts[name]) + len(group) <= size]
        if not room:
            continue
        # To the part with the fewest rows of this kind, then the fewest overall, relative to its size.
        chosen = min(room, key=lambda p: (taken.get((p, kind), 0) / sizes[p], len(parts[p]) / sizes[p]))
        parts[chosen].extend(group)
        taken[chosen, kind] = taken.get((chosen, kind), 0) + len(group)
    short = {name: size - len(parts[name]) for name, size in sizes.items() if len(parts[name]) < size}
    if short:
        raise ValueError(f"not enough prompts after clustering: {short} are missing")
    return parts


def deal(groups: Sequence[Sequence[int]], shares: Mapping[str, float], seed: int = 0) -> dict[str, list[int]]:
    """Assigns all rows to parts in whole groups, largest first, each to the part that lacks most of its share.

    Raises:
        ValueError: there are fewer groups than parts.
    """
    if len(groups) < len(shares):
        raise ValueError(f"{len(groups)} groups of near-duplicates are too few for {len(shares)} parts")
    order = list(groups)
    random.Random(seed).shuffle(order)
    order.sort(key=len, reverse=True)
    parts: dict[str, list[int]] = {name: [] for name in shares}
    for group in order:
        chosen = min(shares, key=lambda name: (len(parts[name]) / shares[name], -shares[name]))
        parts[chosen].extend(group)
    return {name: sorted(rows) for name, rows in parts.items()}
