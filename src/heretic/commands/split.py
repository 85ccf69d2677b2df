"""Splits a prompt set into three disjoint parts: for directions, search and held-out evaluation."""

import json
from dataclasses import dataclass
from pathlib import Path

from ..config import PromptSource
from ..errors import PromptError
from ..events import Reporter
from ..files import expand_home, make_directory, write_atomically
from ..prompts.files import Rows
from ..prompts.loading import load_prompts, prompt_rows
from ..prompts.partition import clusters, deal, split_into_parts

PARTS = {"direction": 0.5, "search": 0.25, "report": 0.25}


@dataclass(frozen=True, slots=True)
class PromptSplit:
    """The written files with their numbers of prompts, and the groups of near-duplicates that were kept together."""

    files: dict[Path, int]
    prompts: int
    groups: int
    largest_group: int


def split_prompts(
    source: PromptSource, sizes: dict[str, int] | None, kind: str | None, output: Path, seed: int, reporter: Reporter
) -> PromptSplit:
    """Writes one .jsonl file per part; near-duplicates stay together, and a file's other columns are kept.

    `sizes` None splits all prompts 2:1:1. The values of the column `kind` are spread evenly.

    Raises:
        PromptError: the set can't be read or is too small for the parts, or a file exists already.
    """
    rows = _rows(source, reporter)
    stem = Path(source.dataset).stem or "prompts"
    targets = {part: output / f"{stem}.{part}.jsonl" for part in PARTS}
    there = [str(path) for path in targets.values() if path.exists()]
    if there:
        raise PromptError(f"{', '.join(there)} would be overwritten. Move them, or give another --output.")
    if kind is not None and kind not in rows[0]:
        raise PromptError(f"Expected a column {kind!r} in {source.dataset}, found {', '.join(map(repr, rows[0]))}.")
    with reporter.step(f"Comparing {len(rows)} prompts"):
        groups = clusters([str(row[source.column]) for row in rows])
    try:
        if sizes is None:
            parts = deal(groups, PARTS, seed)
        else:
            parts = split_into_parts(groups, [str(row.get(kind or "", "")) for row in rows], sizes, seed)
    except ValueError as error:
        raise PromptError(
            f"{source.dataset} can't be split into these parts: {error}. Ask for smaller parts, or give more prompts."
        ) from error
    make_directory(output)
    for part, indices in parts.items():
        lines = [json.dumps(rows[index], ensure_ascii=False, default=str) for index in indices]
        write_atomically(targets[part], ("\n".join(lines) + "\n").encode())
    files = {targets[part]: len(indices) for part, indices in parts.items()}
    return PromptSplit(files, len(rows), len(groups), max(map(len, groups)))


def parse_sizes(text: str) -> dict[str, int]:
    """`200,100,100` as the sizes of the parts.

    Raises:
        PromptError: the text has another form.
    """
    numbers = [part.strip() for part in text.split(",")]
    if len(numbers) != len(PARTS) or not all(number.isdigit() and int(number) > 0 for number in numbers):
        raise PromptError(f"Expected the sizes of the parts {', '.join(PARTS)}, as in 200,100,100, got {text!r}.")
    return dict(zip(PARTS, map(int, numbers), strict=True))


def _rows(source: PromptSource, reporter: Reporter) -> Rows:
    """The rows of a file with all their columns; for any other source, only its prompts."""
    prompts = load_prompts(source)
    for note in prompts.notes:
        reporter.warn(note)
    path = expand_home(source.dataset)
    if not path.is_file() or source.split:
        return [{source.column: prompt.text} for prompt in prompts]
    return prompt_rows(path, source.column)
