"""Rows of a prompt file: lines of text, JSON in its usual shapes, tables."""

import codecs
import csv
import gzip
import io
import json
import zlib
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..errors import PromptError
from ..files import parse_json

Rows = list[dict[str, Any]]
MOST_UNPACKED = 512 << 20
NO_TEXT = "it is no text file; save it as text, CSV or JSON lines"
PACKED = (b"PK\x03\x04", b"%PDF", b"\xd0\xcf\x11\xe0")
"""First bytes of office documents."""
TEXT = "text"
"""The column of files that have none: lines, and JSON lists of texts."""


@dataclass(frozen=True, slots=True)
class Table:
    """Rows by column name. `plain`: the file holds texts without columns."""

    rows: Rows
    plain: bool = False
    doubled: frozenset[str] = frozenset()
    """Columns that the file names twice."""


def read_rows(path: Path) -> Rows:
    """The file's rows by column name; those of `read_table`."""
    return read_table(path).rows


def read_table(path: Path) -> Table:
    """The rows of a .jsonl, .json, .csv, .tsv or .parquet file, or .gz of one; of any other file its lines.

    Raises:
        PromptError: the file's content does not match its extension, or is not text.
    """
    packed = path.suffix.lower() == ".gz"
    ending = Path(path.stem).suffix.lower() if packed else path.suffix.lower()
    try:
        content = _unpacked(path) if packed else path.read_bytes()
        if ending == ".parquet":
            return _parquet(content)
        return READERS.get(ending, _lines_of)(decode(content))
    except (ValueError, OSError, EOFError, csv.Error, zlib.error) as error:
        kind = ending or "text"
        raise PromptError(f"Could not read prompts from {path} as {kind} ({error}). Mend the file.") from error


def _unpacked(path: Path) -> bytes:
    """The content of a .gz file.

    Raises:
        ValueError: it is far larger than prompts are: a few kilobytes may decompress to any size.
    """
    with gzip.open(path) as file:
        content = file.read(MOST_UNPACKED + 1)
    if len(content) > MOST_UNPACKED:
        raise ValueError(f"it unpacks to more than {MOST_UNPACKED // 2**20} MiB")
    return content


def decode(content: bytes) -> str:
    """The text of a file in UTF-8.

    Raises:
        ValueError: it has another encoding; the text names it, and says how to save the file as UTF-8.
    """
    wide = _wide(content)
    if wide:
        raise ValueError(
            f"it is {wide}, which Notepad calls Unicode; save it as UTF-8 there, or: iconv -f {wide} -t UTF-8"
        )
    if content.startswith(PACKED):
        raise ValueError(NO_TEXT)
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        if b"\0" in content:
            raise ValueError(NO_TEXT) from error
        line = content[: error.start].count(b"\n") + 1
        raise ValueError(
            f"line {line} is not UTF-8, and looks like cp1252 (Windows, Excel); save it as UTF-8, or: iconv -f CP1252 "
            "-t UTF-8"
        ) from error
    if "\0" in text:
        raise ValueError(NO_TEXT)
    return text


def _wide(content: bytes) -> str:
    """The file's encoding if it is UTF-16 or UTF-32, else ""."""
    if content.startswith((codecs.BOM_UTF32_LE, codecs.BOM_UTF32_BE)):
        return "UTF-32"
    if content.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        return "UTF-16"
    # Without a byte order mark: nearly every other byte of a European text is zero.
    start = content[:2000]
    for name, zeros, others in (("UTF-16LE", start[1::2], start[::2]), ("UTF-16BE", start[::2], start[1::2])):
        if len(zeros) > 3 and zeros.count(0) > 0.8 * len(zeros) and 0 not in others:
            return name
    return ""


def _split(text: str) -> list[str]:
    # Not `splitlines`: it also splits at form feeds and U+2028, which texts and JSON strings may contain.
    lines = text.replace("\r\n", "\n").replace("\r", "\n").split("\n")
    return lines if lines[-1] else lines[:-1]


def _lines_of(text: str) -> Table:
    return Table([{TEXT: line} for line in _split(text) if line.strip()], plain=True)


def _jsonl(text: str) -> Table:
    if text.lstrip().startswith("["):
        # Some .jsonl files hold a single JSON list.
        with suppress(ValueError):
            return _json(text)
    entries = {}
    for number, line in enumerate(_split(text), 1):
        if not line.strip():
            continue
        try:
            entries[number] = parse_json(line)
        except ValueError as error:
            raise ValueError(f"line {number}: {error}") from error
    return _table(list(entries.values()), "line", list(entries))


def _json(text: str) -> Table:
    try:
        content = parse_json(text)
    except ValueError:
        # Some .json files hold JSON lines.
        if _is_object(_split(text.strip())[0]):
            return _jsonl(text)
        raise
    if isinstance(content, Mapping):
        return _object(content)
    entries = content if isinstance(content, list) else [content]
    if _is_conversation(entries):
        return _table([{"messages": entries}], "entry")
    return _table([{"messages": entry} if _is_conversation(entry) else entry for entry in entries], "entry")


def _is_object(line: str) -> bool:
    try:
        return isinstance(parse_json(line), dict)
    except ValueError:
        return False


def _is_conversation(entries: Any) -> bool:
    """Whether this is a list of the turns of one conversation."""
    return isinstance(entries, list) and all(
        isinstance(entry, dict) and ({"role", "content"} <= set(entry) or {"from", "value"} <= set(entry))
        for entry in entries or [None]
    )


def _object(content: Mapping[str, Any]) -> Table:
    """One conversation, a list under a key, or columns as pandas writes them."""
    lists = {key: value for key, value in content.items() if isinstance(value, list)}
    if len(lists) == 1 and not TURNS & set(lists):
        return _table(next(iter(lists.values())), "entry")
    columns = {key: list(value.values()) if isinstance(value, Mapping) else value for key, value in content.items()}
    if all(isinstance(column, list) for column in columns.values()) and not TURNS & set(lists):
        if len({len(column) for column in columns.values()}) > 1:
            raise ValueError("its columns differ in length")
        return Table([dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)])
    return _table([dict(content)], "entry")


TURNS = frozenset({"messages", "conversations"})
"""Keys of a conversation."""


def _table(entries: list[Any], unit: str, numbers: Sequence[int] | None = None) -> Table:
    """Rows of objects, or of texts alone; errors name an entry by its number."""
    if entries and all(isinstance(entry, str) for entry in entries):
        return Table([{TEXT: entry} for entry in entries], plain=True)
    rows: Rows = []
    for number, entry in zip(numbers or range(1, len(entries) + 1), entries, strict=True):
        if not isinstance(entry, dict):
            raise ValueError(f"{unit} {number}: expected an object, got {json.dumps(entry)[:60]}")
        body = entry.get("body")
        # A line of a batch of requests has its conversation in the body of the request.
        rows.append({**_with_turns(body), **entry} if isinstance(body, dict) else entry)
    return Table(rows)


def _with_turns(body: dict[str, Any]) -> dict[str, Any]:
    """The body of a request of Chat Completions or of Responses, with its conversation; nothing of any other."""
    if TURNS & set(body):
        return body
    said, system = body.get("input"), body.get("instructions")
    turns = [{"role": "user", "content": said}] if isinstance(said, str) else said
    if not isinstance(turns, list) or not _is_conversation(turns):
        return {}
    first = [{"role": "system", "content": system}] if isinstance(system, str) else []
    return {"messages": [*first, *turns]}


def _csv(text: str, delimiter: str | None = None) -> Table:
    header = text.split("\n", 1)[0]
    if delimiter is None:
        delimiter = "," if "," in header else next((sign for sign in ";\t" if sign in header), ",")
    spaced = f"{delimiter} " in header
    # A prompt may be a whole document; the default limit of a field is 128 KiB.
    csv.field_size_limit(max(csv.field_size_limit(), len(text)))
    reader = csv.DictReader(io.StringIO(text, newline=""), delimiter=delimiter, skipinitialspace=spaced)
    names = list(reader.fieldnames or [])
    rows: Rows = []
    for row in reader:
        if None in row:
            raise ValueError(
                f"line {reader.line_num}: {len(names) + len(row[None])} fields under {len(names)} columns; put texts "
                f"that have a {delimiter!r} in quotes"
            )
        rows.append(row)
    return Table(rows, doubled=frozenset(name for name in names if names.count(name) > 1))


def _parquet(content: bytes) -> Table:
    import pyarrow
    import pyarrow.parquet

    return Table(pyarrow.parquet.read_table(pyarrow.BufferReader(content)).to_pylist())


READERS: dict[str, Callable[[str], Table]] = {
    ".jsonl": _jsonl,
    ".ndjson": _jsonl,
    ".json": _json,
    ".csv": _csv,
    ".tsv": lambda text: _csv(text, "\t"),
}
ENDINGS = (".txt", ".md", ".gz", ".parquet", *READERS)
"""Extensions by which a name is taken for a missing file, rather than a data set of the hub."""
