"""Prompt sets from wherever they are: packaged, a file, a directory, the hub."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ..config import PromptSource
from ..errors import PromptError
from .files import READERS, read_rows
from .prompt import Prompt, PromptSet
from .split_notation import parse_split

PACKAGED = "packaged:"
SETS = Path(__file__).parent / "sets"


def load_prompts(source: PromptSource) -> PromptSet:
    """The prompts that `source` names, in order.

    Raises:
        PromptError: the source, its split or its column is missing, or it gives fewer prompts than asked for.
    """
    public = False
    if source.prompts is not None:
        chosen = parse_split(source.split).rows(len(source.prompts))
        texts = [source.prompts[i] for i in chosen]
    elif source.dataset.startswith(PACKAGED):
        texts = _packaged(source)
    elif Path(source.dataset).expanduser().is_file() or _looks_like_file(source.dataset):
        texts = _file(source)
    else:
        texts = _dataset(source)
        public = not Path(source.dataset).expanduser().is_dir()
    asked = parse_split(source.split).asked
    prompts = [text for text in texts if text.strip()]
    if not prompts:
        raise PromptError(f"Expected prompts in {_described(source)}, found none. Give a file or split with prompts.")
    # Rows are counted, blank ones among them: they are what a split counts, so asking for fewer always helps.
    if asked is not None and len(texts) < asked:
        raise PromptError(
            f"Expected {asked} prompts from {_described(source)}, found {len(texts)}. Ask for fewer, or give more."
        )
    whole = (Prompt(f"{source.prefix}{text}{source.suffix}", source.system_prompt) for text in prompts)
    return PromptSet(_described(source), tuple(whole), public)


def _packaged(source: PromptSource) -> list[str]:
    name = source.dataset.removeprefix(PACKAGED)
    path = SETS / f"{name}.jsonl"
    if not path.exists():
        known = ", ".join(sorted(each.stem for each in SETS.glob("*.jsonl")))
        raise PromptError(f"Expected one of the packaged prompt sets {known}, got {name!r}.")
    split = parse_split(source.split)
    rows = [row for row in read_rows(path) if split.name in ("", row["part"])]
    if not rows:
        raise PromptError(f"Expected split direction, search or report of {source.dataset}, got {source.split!r}.")
    column = _column(rows, source)
    return [column[i] for i in split.rows(len(column))]


def _file(source: PromptSource) -> list[str]:
    path = Path(source.dataset).expanduser()
    if not path.exists():
        raise PromptError(f"No prompt file at {source.dataset}. Give an existing file, a directory or a hub data set.")
    split = parse_split(source.split)
    if split.name not in ("", "train"):
        raise PromptError(
            f"Expected rows such as [:400] as the split of the file {source.dataset}, which has no named splits, "
            f"got {source.split!r}."
        )
    column = _column(read_rows(path), source)
    return [column[i] for i in split.rows(len(column))]


def _column(rows: Sequence[dict[str, Any]], source: PromptSource) -> list[str]:
    if not rows:
        return []
    if source.column not in rows[0]:
        raise PromptError(
            f"Expected a column {source.column!r} in {source.dataset}, found {', '.join(map(repr, rows[0]))}. "
            "Name the one that holds the prompts with `column`."
        )
    return [_text(row.get(source.column), source) for row in rows]


def _text(value: Any, source: PromptSource) -> str:
    if isinstance(value, str):
        return value
    if value is None:
        return ""
    raise PromptError(
        f"Expected texts in column {source.column!r} of {source.dataset}, got {type(value).__name__}: {value!r:.80}. "
        "Name a column of texts."
    )


def _dataset(source: PromptSource) -> list[str]:
    """A data set that the datasets library can load: a hub id, or a local directory."""
    from datasets import Dataset
    from datasets.exceptions import DatasetGenerationError, DatasetsError

    try:
        loaded = _load(source)
    except (DatasetsError, ValueError, OSError) as error:
        # The first says no more than that something is wrong with a file.
        told = error.__cause__ if isinstance(error, DatasetGenerationError) and error.__cause__ else error
        reason = next(iter(str(told).splitlines()), type(told).__name__)[:240]
        raise PromptError(
            f"{source.dataset} is neither a file nor a packaged set here, and could not be loaded as a data set "
            f"({reason}). Check the name, the split {source.split!r} and the connection, or give a local file."
        ) from error
    assert isinstance(loaded, Dataset)
    if source.column not in loaded.column_names:
        raise PromptError(
            f"Expected a column {source.column!r} in {source.dataset}, found "
            f"{', '.join(map(repr, loaded.column_names))}. Name the one that holds the prompts with `column`."
        )
    return [_text(value, source) for value in loaded[source.column]]


def _load(source: PromptSource) -> Any:
    """The data set's rows that the split asks for.

    Raises:
        ValueError: the data set was saved as another split.
    """
    from datasets import load_dataset, load_from_disk

    directory = Path(source.dataset).expanduser()
    if not (directory / "state.json").exists():
        name = str(directory) if directory.is_dir() else source.dataset
        return load_dataset(name, revision=source.commit, split=source.split or "train")
    saved = load_from_disk(str(directory))
    split = parse_split(source.split)
    if split.name and saved.split and split.name != str(saved.split):
        raise ValueError(f"it was saved as the split {str(saved.split)!r}, not {split.name!r}")
    return saved.select(split.rows(len(saved)))


def _looks_like_file(name: str) -> bool:
    return Path(name).suffix.lower() in READERS


def _described(source: PromptSource) -> str:
    return source.dataset + (f" ({source.split})" if source.split else "")
