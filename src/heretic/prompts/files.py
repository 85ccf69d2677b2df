"""Rows of a prompt file: .txt (one prompt a line), .jsonl, .csv, .parquet."""

import csv
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from ..errors import PromptError

Rows = list[dict[str, Any]]


def read_rows(path: Path) -> Rows:
    """The file's rows by column name; lines of a .txt file are rows of one column, `text`.

    Raises:
        PromptError: the ending is none of these, or the file is not what its ending says.
    """
    reader = READERS.get(path.suffix.lower())
    if reader is None:
        raise PromptError(f"Expected a prompt file that ends in {', '.join(READERS)}, got {path.name}. Convert it.")
    try:
        return reader(path)
    except (ValueError, OSError, csv.Error) as error:
        raise PromptError(f"Could not read prompts from {path} as {path.suffix} ({error}). Mend the file.") from error


def _lines(path: Path) -> list[str]:
    # Not `splitlines`: it also ends lines at form feeds and at signs such as U+2028, which texts and JSON strings hold.
    with path.open(encoding="utf-8-sig") as file:
        return [line.removesuffix("\n") for line in file]


def _txt(path: Path) -> Rows:
    return [{"text": line} for line in _lines(path) if line.strip()]


def _jsonl(path: Path) -> Rows:
    rows = []
    for number, line in enumerate(_lines(path), 1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except ValueError as error:
            raise ValueError(f"line {number}: {error}") from error
        if not isinstance(row, dict):
            raise ValueError(f"line {number}: expected an object, got {line[:60]!r}")
        rows.append(row)
    return rows


def _csv(path: Path) -> Rows:
    with path.open(encoding="utf-8-sig", newline="") as file:
        return list(csv.DictReader(file))


def _parquet(path: Path) -> Rows:
    import pyarrow.parquet

    return pyarrow.parquet.read_table(path).to_pylist()


READERS: dict[str, Callable[[Path], Rows]] = {".txt": _txt, ".jsonl": _jsonl, ".csv": _csv, ".parquet": _parquet}
