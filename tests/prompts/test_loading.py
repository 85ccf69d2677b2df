"""Prompts from files and directories, and a one-paragraph error for each fault."""

import json
import re
from pathlib import Path
from typing import Any

import datasets
import pyarrow
import pyarrow.parquet
import pytest

from heretic.config import PromptSource
from heretic.errors import PromptError
from heretic.prompts.loading import load_prompts
from heretic.prompts.prompt import Prompt

TEXTS = [f"Prompt {number}: häßlich, \"quoted\", a 'word'" for number in range(8)]
ROWS = [{"id": number, "text": text, "other": text.upper()} for number, text in enumerate(TEXTS)]


def write(path: Path, rows: list[dict[str, Any]]) -> Path:
    if path.suffix == ".txt":
        path.write_text("".join(row["text"] + "\n" for row in rows), encoding="utf-8")
    elif path.suffix == ".jsonl":
        path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")
    elif path.suffix == ".csv":
        datasets.Dataset.from_list(rows).to_pandas().to_csv(path, index=False)
    else:
        pyarrow.parquet.write_table(pyarrow.Table.from_pylist(rows), path)
    return path


def texts(path: Path | str, **options: Any) -> list[str]:
    return [prompt.text for prompt in load_prompts(PromptSource(dataset=str(path), **options))]


def error(path: Path | str, **options: Any) -> str:
    with pytest.raises(PromptError) as caught:
        load_prompts(PromptSource(dataset=str(path), **options))
    message = str(caught.value)
    assert "\n" not in message
    assert message.endswith(".")
    assert len(message) < 700
    return message


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")


@pytest.fixture(params=["txt", "jsonl", "csv", "parquet"])
def file(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    return write(tmp_path / f"prompts.{request.param}", ROWS)


@pytest.fixture(params=["saved", "jsonl", "csv", "parquet"])
def directory(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """A directory that datasets saved, or one of files."""
    path = tmp_path / "prompts"
    if request.param == "saved":
        datasets.Dataset.from_list(ROWS, split=datasets.Split.TRAIN).save_to_disk(path)
    else:
        path.mkdir()
        write(path / f"train.{request.param}", ROWS)
    return path


def test_a_file_gives_its_texts_in_order(file: Path) -> None:
    assert texts(file) == TEXTS


def test_a_directory_gives_its_texts_in_order(directory: Path) -> None:
    assert texts(directory) == TEXTS


def test_another_column_gives_other_texts(file: Path, directory: Path) -> None:
    assert texts(directory, column="other") == [text.upper() for text in TEXTS]
    if file.suffix != ".txt":
        assert texts(file, column="other") == [text.upper() for text in TEXTS]


@pytest.mark.parametrize("split", ["train[:3]", "train[2:5]", "train[-2:]", "train[:50%]", "train", None])
def test_a_split_takes_its_rows(file: Path, directory: Path, split: str | None) -> None:
    start, stop = {"train[:3]": (0, 3), "train[2:5]": (2, 5), "train[-2:]": (6, 8), "train[:50%]": (0, 4)}.get(
        str(split), (0, 8)
    )
    assert texts(file, split=split) == texts(directory, split=split) == TEXTS[start:stop]


def test_rows_of_a_file_need_no_name(file: Path) -> None:
    assert texts(file, split="[:3]") == TEXTS[:3]


def test_a_split_may_name_no_other_part(file: Path, directory: Path) -> None:
    assert "'test[:3]'" in error(file, split="test[:3]")
    assert "test" in error(directory, split="test[:3]")


def test_prefix_suffix_and_system_prompt_go_with_each_prompt(file: Path) -> None:
    source = PromptSource(dataset=str(file), prefix="Q: ", suffix=" A:", system_prompt="Be brief.")
    assert list(load_prompts(source)) == [Prompt(f"Q: {text} A:", "Be brief.") for text in TEXTS]
    assert next(iter(load_prompts(PromptSource(dataset=str(file))))).system is None
    assert next(iter(load_prompts(PromptSource(dataset=str(file), system_prompt="none")))).system == ""


def test_the_digest_tells_texts_order_and_system_prompt(tmp_path: Path) -> None:
    path = write(tmp_path / "a.jsonl", ROWS)
    turned = write(tmp_path / "b.jsonl", ROWS[::-1])
    copied = write(tmp_path / "c.txt", ROWS)
    digest = load_prompts(PromptSource(dataset=str(path))).digest
    assert load_prompts(PromptSource(dataset=str(copied))).digest == digest
    others = [PromptSource(dataset=str(turned)), PromptSource(dataset=str(path), system_prompt="none")]
    assert digest not in [load_prompts(other).digest for other in others]


def test_home_is_expanded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    write(tmp_path / "prompts.txt", ROWS)
    (tmp_path / "files").mkdir()
    write(tmp_path / "files" / "train.jsonl", ROWS)
    assert texts("~/prompts.txt") == texts("~/files") == TEXTS


def test_blank_lines_and_byte_order_marks_are_no_prompts(tmp_path: Path) -> None:
    for name, content in (("a.txt", "one\n\n  \ntwo\r\nthree"), ("b.jsonl", '{"text": "one"}\n\n{"text": "two"}\n')):
        path = tmp_path / name
        path.write_bytes(b"\xef\xbb\xbf" + content.encode())
        assert texts(path)[:2] == ["one", "two"]
    assert texts(tmp_path / "a.txt", split="[:3]") == ["one", "two", "three"]


@pytest.mark.parametrize("sign", ["\u2028", "\u0085", "\x0b", "\x0c"])
def test_a_prompt_may_hold_signs_that_only_look_like_line_ends(tmp_path: Path, sign: str) -> None:
    rows = [{"text": f"one{sign}still one"}, {"text": "two"}]
    assert texts(write(tmp_path / "a.txt", rows)) == [f"one{sign}still one", "two"]
    if sign > "\x1f":  # JSON escapes control characters
        assert texts(write(tmp_path / "a.jsonl", rows)) == [f"one{sign}still one", "two"]


def test_a_row_without_text_is_left_out(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_text('{"text": "one"}\n{"text": ""}\n{"text": null}\n{"other": "x"}\n{"text": "two"}\n')
    assert texts(path) == ["one", "two"]
    assert texts(path, split="[:3]") == ["one"]


def test_quoted_line_ends_stay_in_a_csv_prompt(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_bytes(b'text,other\r\n"two\nlines",x\r\nshort\r\n')
    assert texts(tmp_path / "a.csv") == ["two\nlines", "short"]


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    for ending in ("txt", "jsonl", "csv", "parquet"):
        assert f"No prompt file at {tmp_path}/none.{ending}." in error(tmp_path / f"none.{ending}")


def test_endings_may_be_upper_case(tmp_path: Path) -> None:
    (tmp_path / "PROMPTS.TXT").write_text("one\n")
    assert texts(tmp_path / "PROMPTS.TXT") == ["one"]


def test_a_missing_column_is_an_error_that_lists_the_columns(file: Path, directory: Path) -> None:
    if file.suffix != ".txt":
        assert f"Expected a column 'prompt' in {file}, found 'id', 'text', 'other'." in error(file, column="prompt")
    assert "found 'id', 'text', 'other'." in error(directory, column="prompt")


def test_a_column_of_numbers_is_an_error(tmp_path: Path, directory: Path) -> None:
    for name in ("a.jsonl", "a.parquet"):
        assert "Expected texts in column 'id'" in error(write(tmp_path / name, ROWS), column="id")
    assert "got int: 0" in error(directory, column="id")


@pytest.mark.parametrize("name", ["a.txt", "a.jsonl", "a.csv"])
@pytest.mark.parametrize("content", ["", "\n\n"])
def test_an_empty_file_is_an_error(tmp_path: Path, name: str, content: str) -> None:
    (tmp_path / name).write_text(content)
    assert "found none" in error(tmp_path / name)


def test_fewer_prompts_than_asked_for_are_an_error(file: Path, directory: Path) -> None:
    assert "Expected 9 prompts from" in error(file, split="[:9]")
    assert "found 8." in error(file, split="[:9]")
    assert "found 3." in error(file, split="[5:9]")
    assert "9" in error(directory, split="train[:9]")
    assert "found none" in error(file, split="[8:]")


BROKEN = {
    "a.jsonl": (b'{"text": "one"}\n{"text": \n', "line 2:"),
    "b.jsonl": (b'{"text": "one"}\n\n["text"]\n', "line 3: expected an object"),
    "c.jsonl": (b'{"text": "one"}\n{"text": "\xff"}\n', "line 2 is not UTF-8"),
    "d.txt": ("one".encode("utf-16"), "UTF-16"),
    "e.csv": (b"text\none, two\n", "2 fields under 1"),
    "f.parquet": (b"PAR1 but not really", "Parquet"),
    "g.parquet": (b"", "Parquet"),
}


@pytest.mark.parametrize("name", BROKEN)
def test_a_broken_file_is_an_error_that_says_where(tmp_path: Path, name: str) -> None:
    content, reason = BROKEN[name]
    (tmp_path / name).write_bytes(content)
    message = error(tmp_path / name)
    assert f"Could not read prompts from {tmp_path / name}" in message
    assert re.search(reason, message, re.IGNORECASE)


def test_a_directory_of_nothing_or_of_broken_files_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    assert "could not be loaded as a data set" in error(tmp_path / "empty")
    (tmp_path / "broken").mkdir()
    (tmp_path / "broken" / "train.jsonl").write_text('{"text": "one"}\n{"text": \n')
    assert "could not be loaded as a data set (JSON parse error" in error(tmp_path / "broken")
    (tmp_path / "half").mkdir()
    (tmp_path / "half" / "state.json").write_text("{}")
    assert "could not be loaded as a data set" in error(tmp_path / "half")


def test_a_saved_dictionary_of_data_sets_gives_the_named_split(tmp_path: Path) -> None:
    parts = {"train": ROWS[:5], "test": ROWS[5:]}
    datasets.DatasetDict({n: datasets.Dataset.from_list(rows) for n, rows in parts.items()}).save_to_disk(
        tmp_path / "d"
    )
    assert texts(tmp_path / "d") == TEXTS[:5]
    assert texts(tmp_path / "d", split="test[:2]") == TEXTS[5:7]
    assert "'other'" in error(tmp_path / "d", split="other")


def test_a_saved_data_set_that_names_no_split_answers_to_any(tmp_path: Path) -> None:
    datasets.Dataset.from_list(ROWS).save_to_disk(tmp_path / "d")
    assert texts(tmp_path / "d") == texts(tmp_path / "d", split="test") == TEXTS
    assert texts(tmp_path / "d", split="[2:4]") == TEXTS[2:4]


def test_a_name_that_is_nowhere_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(datasets.config, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    assert "org/none is neither a file nor a packaged set here" in error("org/none")


def test_prompts_may_stand_in_the_configuration_itself() -> None:
    source = PromptSource.model_validate(["One.", "Two.", "Three."])
    assert [prompt.text for prompt in load_prompts(source)] == ["One.", "Two.", "Three."]
    table = PromptSource.model_validate({"prompts": ["One.", "Two."], "split": "[1:]", "suffix": " Be brief."})
    assert [prompt.text for prompt in load_prompts(table)] == ["Two. Be brief."]
    # A study's record holds them, and gives them back.
    assert load_prompts(PromptSource(**source.model_dump(mode="json"))).digest == load_prompts(source).digest
    with pytest.raises(ValueError, match="either `dataset` or `prompts`"):
        PromptSource.model_validate({"dataset": "a.txt", "prompts": ["One."]})


def test_a_data_set_of_several_configurations_lists_them(tmp_path: Path) -> None:
    head = "---\nconfigs:\n" + "".join(
        f"- config_name: {name}\n  data_files: {name}.jsonl\n" for name in ("contextual", "standard")
    )
    (tmp_path / "README.md").write_text(f"{head}---\n")
    for name in ("contextual", "standard"):
        write(tmp_path / f"{name}.jsonl", [{"text": f"{name} prompt"}])
    message = error(tmp_path)
    assert "'contextual', 'standard'" in message
    assert "`subset`" in message
    assert texts(tmp_path, subset="standard") == ["standard prompt"]
