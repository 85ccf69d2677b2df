"""A chat template is found wherever repositories of models keep it."""

import json
from pathlib import Path

import gguf
import pytest

from heretic.config import Settings
from heretic.errors import ModelError
from heretic.model.chat.format import chat_format
from heretic.model.loading.checkpoint import Checkpoint
from heretic.model.loading.load import load_tokenizer
from heretic.prompts.prompt import Prompt
from tests.support.gguf_files import TEMPLATE, write_gguf
from tests.support.planted import planted_tokenizer


def rendered(checkpoint: Checkpoint) -> str:
    return chat_format(load_tokenizer(checkpoint, Settings()), None, "tiny").render(Prompt("word1"))


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    tokenizer = planted_tokenizer()
    tokenizer.chat_template = None
    tokenizer.save_pretrained(tmp_path)
    return tmp_path


@pytest.mark.parametrize(
    "content", ["[A] {{ messages[0].content }}", [{"name": "default", "template": "[A] {{ messages[0].content }}"}]]
)
def test_a_processors_template_is_read(directory: Path, content: object) -> None:
    (directory / "chat_template.json").write_text(json.dumps({"chat_template": content}))
    assert rendered(Checkpoint("tiny", directory)) == "[A] word1"


def test_the_tokenizers_own_comes_first(directory: Path) -> None:
    (directory / "chat_template.json").write_text(json.dumps({"chat_template": "[A] {{ messages[0].content }}"}))
    (directory / "chat_template.jinja").write_text("[B] {{ messages[0].content }}")
    assert rendered(Checkpoint("tiny", directory)) == "[B] word1"


@pytest.mark.parametrize("content", ["{", "[]", "{}"])
def test_a_damaged_one_is_a_paragraph(directory: Path, content: str) -> None:
    (directory / "chat_template.json").write_text(content)
    with pytest.raises(ModelError, match=r"chat_template\.json"):
        rendered(Checkpoint("tiny", directory))


def test_named_templates_without_a_default_are_listed(directory: Path) -> None:
    path = directory / "tokenizer_config.json"
    named = [{"name": name, "template": "{{ messages[0].content }}"} for name in ("tool_use", "rag")]
    path.write_text(json.dumps(json.loads(path.read_text()) | {"chat_template": named}))
    with pytest.raises(ModelError, match="tool_use, rag"):
        rendered(Checkpoint("tiny", directory))


def test_a_template_beside_a_gguf_file_takes_the_place_of_its_own(tmp_path: Path) -> None:
    write_gguf(tmp_path / "tiny.gguf", {})
    checkpoint = Checkpoint("tiny", tmp_path, "tiny.gguf")
    assert rendered(checkpoint) == "word1"
    (tmp_path / "chat_template.jinja").write_text("[A] {{ messages[0].content }}")
    assert rendered(checkpoint) == "[A] word1"


def test_named_templates_of_a_gguf_file_are_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    named = [{"name": "chatml", "template": f"[A] {TEMPLATE}"}, {"name": "tool_use", "template": "tools"}]
    add = gguf.GGUFWriter.add_chat_template
    monkeypatch.setattr(gguf.GGUFWriter, "add_chat_template", lambda self, _: add(self, named))
    write_gguf(tmp_path / "tiny.gguf", {})
    assert rendered(Checkpoint("tiny", tmp_path, "tiny.gguf")) == "[A] word1"
