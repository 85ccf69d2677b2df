"""Prompt files in common formats: lines, JSON of many shapes, tables, compressed, and in other encodings."""

import gzip
import json
import random
from pathlib import Path
from typing import Any

import pytest

from heretic.config import PromptSource
from heretic.errors import PromptError
from heretic.prompts.files import read_rows, read_table
from heretic.prompts.loading import load_prompts
from heretic.prompts.prompt import PromptSet

QUESTION = "Name a river."
SHAREGPT = {"conversations": [{"from": "human", "value": QUESTION}, {"from": "gpt", "value": "Elbe"}]}
OPENAI = {"messages": [{"role": "user", "content": QUESTION}]}
PARTS = {"messages": [{"role": "user", "content": [{"type": "text", "text": QUESTION}]}]}
BATCH = {"custom_id": "1", "method": "POST", "url": "/v1/chat/completions", "body": {"model": "m", **OPENAI}}
ALPACA = {"instruction": QUESTION, "input": "", "output": "Elbe"}


def responses(said: Any, **more: str) -> dict[str, Any]:
    """A line of a batch for the Responses interface."""
    return {"custom_id": "1", "method": "POST", "url": "/v1/responses", "body": {"model": "m", "input": said, **more}}


def load(path: Path, content: str | bytes, **options: Any) -> PromptSet:
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return load_prompts(PromptSource(dataset=str(path), **options))


@pytest.mark.parametrize(
    ("name", "content", "column"),
    [
        ("list.json", [QUESTION], "prompt"),
        ("objects.json", [{"text": QUESTION}], "text"),
        ("alpaca.json", [ALPACA], "instruction"),
        ("sharegpt.json", [SHAREGPT], "conversations"),
        ("messages.json", [OPENAI], "messages"),
        ("parts.json", [PARTS], "messages"),
        ("one.json", OPENAI, "messages"),
        ("under.json", {"version": 1, "data": [{"text": QUESTION}]}, "text"),
        ("texts.json", {"prompts": [QUESTION]}, "text"),
        ("columns.json", {"id": [1], "text": [QUESTION]}, "text"),
        ("pandas.json", {"id": {"0": 1}, "text": {"0": QUESTION}}, "text"),
        ("openai.jsonl", OPENAI, "messages"),
        ("batch.jsonl", BATCH, "messages"),
        ("responses.jsonl", responses(QUESTION), "messages"),
        ("turns-of-responses.jsonl", responses(OPENAI["messages"], instructions="Be brief."), "messages"),
        ("parts-of-responses.jsonl", responses(PARTS["messages"]), "messages"),
        ("bare.jsonl", QUESTION, "prompt"),
        ("list.jsonl", [OPENAI], "messages"),
        ("turns.json", OPENAI["messages"], "messages"),
        ("lists.json", [SHAREGPT["conversations"]], "messages"),
        ("objects.ndjson", {"text": QUESTION}, "text"),
    ],
)
def test_json_in_its_usual_shapes(name: str, content: Any, column: str, tmp_path: Path) -> None:
    assert [each.text for each in load(tmp_path / name, json.dumps(content), column=column)] == [QUESTION]


def test_instructions_of_a_request_are_the_system_prompt(tmp_path: Path) -> None:
    line = json.dumps(responses(QUESTION, instructions="Be brief."))
    [loaded] = load(tmp_path / "a.jsonl", line, column="messages")
    assert (loaded.text, loaded.system) == (QUESTION, "Be brief.")
    assert read_rows(tmp_path / "a.jsonl")[0].keys() == {"messages", "custom_id", "method", "url", "body"}


def test_json_lines_under_the_name_of_json(tmp_path: Path) -> None:
    rows = [OPENAI, {"messages": [{"role": "user", "content": "Name a lake."}]}]
    loaded = load(tmp_path / "a.json", "\n".join(map(json.dumps, rows)), column="messages")
    assert [each.text for each in loaded] == [QUESTION, "Name a lake."]


def test_a_long_field_of_a_table(tmp_path: Path) -> None:
    [loaded] = load(tmp_path / "a.csv", f'text\n"{QUESTION * 15000}"\n')
    assert loaded.text == QUESTION * 15000


@pytest.mark.parametrize("name", ["prompts.txt", "prompts.lst", "prompts.md", "prompts", "PROMPTS.TXT"])
def test_any_other_file_is_lines_whatever_the_column(name: str, tmp_path: Path) -> None:
    loaded = load(tmp_path / name, f"Explain tides.\r\n\n{QUESTION}", column="prompt")
    assert [each.text for each in loaded] == ["Explain tides.", QUESTION]
    assert loaded.notes == ()


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("a.tsv", f"id\ttext\n1\t{QUESTION}\n"),
        ("a.csv", f"id;text\n1;{QUESTION}\n"),
        ("a.csv", f"id\ttext\n1\t{QUESTION}\n"),
        ("a.csv", f'id, text\n1, "{QUESTION}"\n'),
        ("a.csv", f'\ufeffid,text\r\n1,"{QUESTION}"\r\n'),
    ],
)
def test_tables_with_other_signs_between_columns(name: str, content: str, tmp_path: Path) -> None:
    assert [each.text for each in load(tmp_path / name, content)] == [QUESTION]


@pytest.mark.parametrize(
    ("name", "content"),
    [("a.txt.gz", QUESTION), ("a.jsonl.gz", json.dumps({"text": QUESTION})), ("a.csv.gz", f"text\n{QUESTION}\n")],
)
def test_packed_files(name: str, content: str, tmp_path: Path) -> None:
    assert [each.text for each in load(tmp_path / name, gzip.compress(content.encode()))] == [QUESTION]


def test_a_conversations_first_question_keeps_its_system_prompt(tmp_path: Path) -> None:
    turns = [
        {"role": "system", "content": "Be brief."},
        *OPENAI["messages"],
        {"role": "user", "content": "And a lake?"},
    ]
    content = json.dumps([{"messages": turns}, OPENAI])
    path = tmp_path / "a.json"
    assert [each.system for each in load(path, content, column="messages")] == ["Be brief.", None]
    assert [each.system for each in load(path, content, column="messages", system_prompt="none")] == ["", ""]
    assert {each.text for each in load(path, content, column="messages")} == {QUESTION}


def test_alpacas_input_stands_below_its_instruction(tmp_path: Path) -> None:
    content = json.dumps([{"instruction": "Translate.", "input": "Fluss", "output": "river"}, ALPACA])
    loaded = load(tmp_path / "a.json", content, column="instruction")
    assert [each.text for each in loaded] == ["Translate.\nFluss", QUESTION]


def test_columns_are_joined_by_a_pattern(tmp_path: Path) -> None:
    content = "Context,Behavior\nA long text.,Sum it up.\n,Name a river.\n"
    loaded = load(tmp_path / "a.csv", content, column="{Context}\n\n{Behavior}")
    assert [each.text for each in loaded] == ["A long text.\n\nSum it up.", QUESTION]
    with pytest.raises(PromptError, match="'Nothing'"):
        load(tmp_path / "a.csv", content, column="{Context} {Nothing}")


def test_prefix_and_suffix_are_words_of_their_own(tmp_path: Path) -> None:
    options = {"prefix": "Question:", "suffix": "Be brief."}
    assert next(iter(load(tmp_path / "a.txt", QUESTION, **options))).text == f"Question: {QUESTION} Be brief."
    assert next(iter(load(tmp_path / "a.txt", QUESTION, prefix="Q:\n"))).text == f"Q:\n{QUESTION}"


def test_rows_that_give_no_prompt_are_said(tmp_path: Path) -> None:
    rows = [{"text": QUESTION}, {"text": " "}, {"prompt": QUESTION}, {"prompt": QUESTION}]
    loaded = load(tmp_path / "a.jsonl", "\n".join(map(json.dumps, rows)))
    assert len(loaded) == 1
    assert [note.split(" of ")[0] for note in loaded.notes] == ["2", "1"]
    assert "lack the column 'text'" in loaded.notes[0]
    assert "no text in the column 'text'" in loaded.notes[1]


def test_a_column_that_only_later_rows_have_is_found(tmp_path: Path) -> None:
    rows = [{"prompt": QUESTION}, {"text": QUESTION}]
    assert len(load(tmp_path / "a.jsonl", "\n".join(map(json.dumps, rows)))) == 1


@pytest.mark.parametrize(
    ("name", "content", "told"),
    [
        ("a.txt", "Tides für alle".encode("utf-16"), "UTF-16"),
        ("a.txt", "Tides für alle".encode("utf-16-le"), "iconv -f UTF-16LE"),
        ("a.txt", "Tides für alle".encode("utf-32"), "iconv -f UTF-32"),
        ("a.xlsx", b"PK\x03\x04" + bytes(range(128, 255)), "no text file"),
        ("a.json", '{"text": "a"\n', "delimiter"),
        ("a.csv", "text\nTides für alle".encode("cp1252"), "line 2 is not UTF-8, and looks like cp1252"),
        ("a.md", b"\x89PNG\0\0", "no text file"),
        ("a.csv", "id,text\n1,Tides, and rivers\n", "3 fields under 2 columns"),
        ("a.csv", "text,text\na,b\n", "found two"),
        ("a.json", "[1, 2]", "entry 1: expected an object"),
        ("a.json", '{"a": [1], "b": [1, 2]}', "differ in length"),
        ("a.jsonl", '{"text": "a"}\n[1]', "line 2"),
        ("a.txt.gz", b"no gzip", "not a gzipped file"),
        ("a.json", '[{"text": 3}]', "got int"),
    ],
)
def test_what_is_wrong_with_a_file_is_one_paragraph(name: str, content: str | bytes, told: str, tmp_path: Path) -> None:
    with pytest.raises(PromptError) as caught:
        load(tmp_path / name, content)
    assert told.lower() in str(caught.value).lower()
    assert "\n" not in str(caught.value)


def test_columns_are_kept_for_those_who_read_tables(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_text('{"id": 1, "text": "a"}\n')
    assert read_table(tmp_path / "a.jsonl").rows == [{"id": 1, "text": "a"}]


@pytest.mark.parametrize("seed", range(12))
def test_a_damaged_archive_is_one_paragraph(seed: int, tmp_path: Path) -> None:
    draw = random.Random(seed)
    content = bytearray(gzip.compress(b"\n".join(b"prompt %d" % number for number in range(50))))
    for _ in range(3):
        content[draw.randrange(10, len(content))] = draw.randrange(256)
    path = tmp_path / "a.txt.gz"
    path.write_bytes(content[: draw.randrange(len(content))] if seed % 2 else content)
    with pytest.raises(PromptError, match="Could not read prompts"):
        read_rows(path)


def test_an_archive_that_unpacks_without_end_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("heretic.prompts.files.MOST_UNPACKED", 1000)
    path = tmp_path / "a.txt.gz"
    path.write_bytes(gzip.compress(b"a" * 1001))
    with pytest.raises(PromptError, match="unpacks to more"):
        read_rows(path)
