"""Prompt sets from wherever they are: packaged, a file, a directory, the hub."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..config import PromptSource
from ..errors import PromptError
from ..files import expand_home
from .files import ENDINGS, TEXT, Table, read_rows, read_table
from .prompt import Prompt, PromptSet
from .rows import check_columns, columns_of, names_of, text_of
from .split_notation import parse_split

PACKAGED = "packaged:"
SETS = Path(__file__).parent / "sets"


@dataclass(frozen=True, slots=True)
class _Texts:
    """A text for each row of the split, "" where the row has none, with its own system prompt if any."""

    texts: Sequence[tuple[str, str | None]]
    lacking: int = 0
    """Rows without the column."""


def load_prompts(source: PromptSource) -> PromptSet:
    """The prompts that `source` names, in order.

    Raises:
        PromptError: the source, its split or its column is missing, or it gives fewer prompts than asked for.
    """
    public = False
    if source.prompts is not None:
        chosen = parse_split(source.split).rows(len(source.prompts))
        found = _Texts([(source.prompts[i], None) for i in chosen])
    elif source.dataset.startswith(PACKAGED):
        found = _packaged(source)
    elif expand_home(source.dataset).is_file() or _looks_like_file(source.dataset):
        found = _file(source)
    else:
        found = _dataset(source)
        public = not expand_home(source.dataset).is_dir()
    asked = parse_split(source.split).asked
    texts = found.texts
    prompts = [(text, system) for text, system in texts if text.strip()]
    if not prompts:
        raise PromptError(f"Expected prompts in {_described(source)}, found none. Give a file or split with prompts.")
    # Splits count blank rows too, so this counts them: asking for fewer rows always helps.
    if asked is not None and len(texts) < asked:
        raise PromptError(
            f"Expected {asked} prompts from {_described(source)}, found {len(texts)}. Ask for fewer, or give more."
        )
    own = source.system_prompt
    whole = (Prompt(_joined(source, text), system if own is None else own) for text, system in prompts)
    return PromptSet(_described(source), tuple(whole), public, _notes(source, found, len(prompts)))


def _joined(source: PromptSource, text: str) -> str:
    """Prefix, text and suffix, with a space between them where there is no white space."""
    whole = ""
    for part in (source.prefix, text, source.suffix):
        joint = " " if whole and part and not whole[-1].isspace() and not part[0].isspace() else ""
        whole += joint + part
    return whole


def _notes(source: PromptSource, found: _Texts, used: int) -> tuple[str, ...]:
    """Notes on rows that gave no prompt."""
    blank = len(found.texts) - used - found.lacking
    where = f"of {len(found.texts)} rows of {_described(source)}"
    notes = []
    if found.lacking:
        notes.append(f"{found.lacking} {where} lack the column {source.column!r} and are left out.")
    if blank > 0:
        notes.append(f"{blank} {where} have no text in the column {source.column!r} and are left out.")
    return tuple(notes)


def _packaged(source: PromptSource) -> _Texts:
    name = source.dataset.removeprefix(PACKAGED)
    path = SETS / f"{name}.jsonl"
    if not path.exists():
        known = ", ".join(sorted(each.stem for each in SETS.glob("*.jsonl")))
        raise PromptError(f"Expected one of the packaged prompt sets {known}, got {name!r}.")
    split = parse_split(source.split)
    rows = [row for row in read_rows(path) if split.name in ("", row["part"])]
    if not rows:
        raise PromptError(f"Expected split direction, search or report of {source.dataset}, got {source.split!r}.")
    return _column(Table(rows), source)


def _file(source: PromptSource) -> _Texts:
    path = expand_home(source.dataset)
    if not path.exists():
        raise PromptError(f"No prompt file at {source.dataset}. Give an existing file, a directory or a hub data set.")
    split = parse_split(source.split)
    if split.name not in ("", "train"):
        raise PromptError(
            f"Expected rows such as [:400] as the split of the file {source.dataset}, which has no named splits, "
            f"got {source.split!r}."
        )
    return _column(read_table(path), source)


def _column(table: Table, source: PromptSource) -> _Texts:
    """The texts of the split's rows."""
    rows = [table.rows[i] for i in parse_split(source.split).rows(len(table.rows))]
    if table.plain or not rows:
        return _Texts([(row[TEXT], None) for row in rows])
    names = names_of(table.rows)
    check_columns(source.column, names, source.dataset, table.doubled)
    wanted = columns_of(source.column, names)
    lacking = sum(not any(name in row for name in wanted) for row in rows)
    return _Texts([text_of(row, source.column, source.dataset) for row in rows], lacking)


def prompt_rows(path: Path, column: str) -> list[dict[str, Any]]:
    """The rows of a file that give a prompt, each with its text under `column`; texts without columns too."""
    table = read_table(path)
    rows = [(row, row[TEXT] if table.plain else text_of(row, column, str(path))[0]) for row in table.rows]
    return [{**({} if table.plain else row), column: text} for row, text in rows if text.strip()]


def _dataset(source: PromptSource) -> _Texts:
    """A data set that the datasets library can load: a hub id, or a local directory."""
    from datasets import Dataset
    from datasets.exceptions import DatasetGenerationError, DatasetsError

    try:
        loaded = _load(source)
    except (DatasetsError, ValueError, OSError) as error:
        # A DatasetGenerationError says only that generation failed; its cause says why.
        cause = error.__cause__ if isinstance(error, DatasetGenerationError) and error.__cause__ else error
        raise PromptError(
            f"{source.dataset} is neither a file nor a packaged set here, and could not be loaded as a data set "
            f"({_reason(cause)}). Check the name, the split {source.split!r}, the configuration (`subset`) and the "
            "connection, or give a local file."
        ) from error
    assert isinstance(loaded, Dataset)
    check_columns(source.column, loaded.column_names, source.dataset)
    wanted = columns_of(source.column, loaded.column_names)
    rows: Sequence[Mapping[str, Any]] = list(loaded.select_columns(wanted))
    return _Texts([text_of(row, source.column, source.dataset) for row in rows])


def _reason(error: BaseException) -> str:
    """The first line of an error, with the second one where that lists the configurations to choose from."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()] or [type(error).__name__]
    kept = lines[:2] if "onfig" in lines[0] else lines[:1]
    return " ".join(kept)[:400].rstrip(".")


def _load(source: PromptSource) -> Any:
    """The data set's rows of the split.

    Raises:
        ValueError: the data set was saved as another split.
    """
    from datasets import load_dataset, load_from_disk

    directory = expand_home(source.dataset)
    if not (directory / "state.json").exists():
        name = str(directory) if directory.is_dir() else source.dataset
        return load_dataset(name, source.subset, revision=source.commit, split=source.split or "train")
    saved = load_from_disk(str(directory))
    split = parse_split(source.split)
    if split.name and saved.split and split.name != str(saved.split):
        raise ValueError(f"it was saved as the split {str(saved.split)!r}, not {split.name!r}")
    return saved.select(split.rows(len(saved)))


def _looks_like_file(name: str) -> bool:
    return Path(name).suffix.lower() in ENDINGS


def _described(source: PromptSource) -> str:
    return source.dataset + (f" ({source.split})" if source.split else "")
