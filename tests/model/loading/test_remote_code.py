"""Remote code of a model is named before any of it runs."""

import json
from pathlib import Path

import pytest

from heretic.cli import main
from heretic.model.loading.checkpoint import Checkpoint
from heretic.model.loading.remote_code import needed_code
from tests.support.custom import write_custom

pytestmark = pytest.mark.usefixtures("modules_of_its_own")


def code_of(directory: Path) -> tuple[list[str], tuple[str, ...], tuple[str, ...]]:
    code = needed_code(Checkpoint(str(directory), directory))
    assert code is not None
    return [path.name for path in code.files], code.classes, code.elsewhere


def test_the_files_and_what_they_import_are_named(tmp_path: Path) -> None:
    write_custom(tmp_path)
    files, classes, elsewhere = code_of(tmp_path)
    assert sorted(files) == ["configuration_odd.py", "modeling_odd.py", "pieces_odd.py"]
    assert classes == ("configuration_odd.OddConfig", "modeling_odd.OddForCausalLM")
    assert elsewhere == ()


def test_code_of_another_repository_is_named(tmp_path: Path) -> None:
    write_custom(tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    config["auto_map"]["AutoModelForCausalLM"] = "owner/other--modeling_odd.OddForCausalLM"
    (tmp_path / "config.json").write_text(json.dumps(config))
    files, _, elsewhere = code_of(tmp_path)
    assert "modeling_odd.py" not in files
    assert elsewhere == ("owner/other",)


def test_a_tokenizer_may_need_code_of_its_own(tmp_path: Path) -> None:
    write_custom(tmp_path)
    settings = {"tokenizer_class": "OddTokenizer", "auto_map": {"AutoTokenizer": [None, "tokens_odd.OddTokenizer"]}}
    (tmp_path / "tokenizer_config.json").write_text(json.dumps(settings))
    assert "tokens_odd.OddTokenizer" in code_of(tmp_path)[1]


def test_no_code_is_needed_where_transformers_knows_the_model(tmp_path: Path) -> None:
    write_custom(tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps(config | {"model_type": "llama"}))
    assert needed_code(Checkpoint("known", tmp_path)) is None
    (tmp_path / "config.json").unlink()
    assert needed_code(Checkpoint("empty", tmp_path)) is None


@pytest.mark.parametrize("flags", [[], ["--no-trust-remote-code"]])
def test_without_consent_no_code_runs(flags: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_custom(tmp_path)
    assert main(["inspect", str(tmp_path), *flags]) == 2
    printed = capsys.readouterr().err
    assert "modeling_odd.py" in printed
    assert "--trust-remote-code" in printed
    assert not (tmp_path / "ran").exists()


def test_with_consent_the_code_runs(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_custom(tmp_path)
    assert main(["inspect", str(tmp_path), "--trust-remote-code", "--dtypes", "float32"]) == 0
    assert "OddForCausalLM" in capsys.readouterr().out
    assert (tmp_path / "ran").exists()
