"""Bad input gets one paragraph (expected, got, what to do) and exit status 2; nothing is half-written."""

import json
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM

from heretic.cli import main
from tests.support.planted import planted_model, planted_tokenizer


@pytest.fixture
def said(capsys: pytest.CaptureFixture[str], tmp_path: Path):  # type: ignore[no-untyped-def]
    """Runs the program, which must refuse; returns its message."""

    def run(*arguments: str) -> str:
        before = {path for path in tmp_path.rglob("*") if path.is_file()}
        capsys.readouterr()
        assert main(list(arguments)) == 2
        captured = capsys.readouterr().err.splitlines()
        [message] = [line for line in captured if line.startswith("heretic: ")]
        assert captured[-1] == message, "one paragraph, and it comes last"
        left = {path for path in tmp_path.rglob("*") if path.is_file()} - before
        finished = [path for path in left if path.suffix == ".safetensors" and "checkpoints" not in str(path)]
        assert not finished
        return message

    return run


@pytest.fixture
def model_copy(planted_directory: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(planted_directory / "planted", tmp_path / "copy"))


def test_unknown_flag_value(said, planted_directory: Path, planted_flags: list[str]) -> None:  # type: ignore[no-untyped-def]
    message = said(str(planted_directory / "planted"), *planted_flags, "--row-normalization", "half")
    assert "row-normalization" in message.replace("_", "-") and "full" in message


def test_unknown_key_in_the_configuration(said, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    (tmp_path / "heretic.toml").write_text("n_trails = 3\n")
    assert "n_trials" in said("some-model", "--config", str(tmp_path / "heretic.toml"))


def test_missing_model(said, tmp_path: Path, planted_flags: list[str]) -> None:  # type: ignore[no-untyped-def]
    assert "does not exist" in said(str(tmp_path / "nowhere"), *planted_flags)
    assert "Expected a model, got none" in said(*planted_flags)


def test_a_directory_without_a_model(said, tmp_path: Path, planted_flags: list[str]) -> None:  # type: ignore[no-untyped-def]
    (tmp_path / "empty").mkdir()
    assert "neither config.json nor" in said(str(tmp_path / "empty"), *planted_flags)


def test_no_chat_template(said, model_copy: Path, planted_flags: list[str]) -> None:  # type: ignore[no-untyped-def]
    (model_copy / "chat_template.jinja").unlink()
    assert "no chat template" in said(str(model_copy), *planted_flags)


def test_an_empty_prompt_file(said, planted_directory: Path, planted_flags: list[str], tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    (tmp_path / "empty.txt").write_text("\n")
    message = said(str(planted_directory / "planted"), *planted_flags, "--bad-prompts", str(tmp_path / "empty.txt"))
    assert "found none" in message


def test_a_missing_column(said, planted_directory: Path, planted_flags: list[str], tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    (tmp_path / "rows.jsonl").write_text(json.dumps({"prompt": "word1"}) + "\n")
    message = said(str(planted_directory / "planted"), *planted_flags, "--bad-prompts", str(tmp_path / "rows.jsonl"))
    assert "'text'" in message and "'prompt'" in message


def test_a_prompt_longer_than_the_context(said, planted_directory, planted_flags, tmp_path) -> None:  # type: ignore[no-untyped-def]
    (tmp_path / "long.txt").write_text("word1\n" + "word2 " * 130 + "\n")
    message = said(str(planted_directory / "planted"), *planted_flags, "--bad-prompts", str(tmp_path / "long.txt"))
    assert "context of 128" in message


def test_fewer_prompts_than_asked_for(said, planted_directory: Path, planted_flags: list[str]) -> None:  # type: ignore[no-untyped-def]
    table = json.dumps({"dataset": str(planted_directory / "bad_direction.txt"), "split": "[:100]"})
    message = said(str(planted_directory / "planted"), *planted_flags, "--bad-prompts", table)
    assert "Expected 100 prompts" in message and "found 60" in message


def test_an_output_that_exists(said, planted_directory: Path, planted_flags: list[str], tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    (tmp_path / "there").mkdir()
    message = said(str(planted_directory / "planted"), *planted_flags, "--output", str(tmp_path / "there"))
    assert "exists already" in message
    assert not (tmp_path / "checkpoints").exists(), "refused before any work"


def test_a_study_of_another_model(said, model_copy: Path, planted_flags: list[str]) -> None:  # type: ignore[no-untyped-def]
    assert main([str(model_copy), *planted_flags]) == 0
    other, _ = planted_model(seed=1)
    other.save_pretrained(model_copy)
    message = said(str(model_copy), *planted_flags)
    assert "another model_digest" in message and "--resume restart" in message
    assert main([str(model_copy), *planted_flags, "--resume", "restart"]) == 0


def test_weights_exchanged_in_the_middle_of_a_file(said, model_copy: Path, planted_flags: list[str]) -> None:  # type: ignore[no-untyped-def]
    """The quick digest reads the ends of large files alone."""
    weights = load_file(model_copy / "model.safetensors") | {"unused": torch.zeros(1 << 20)}
    save_file(weights, model_copy / "model.safetensors", metadata={"format": "pt"})
    assert main([str(model_copy), *planted_flags]) == 0
    weights["unused"][1 << 19] = 1.0
    save_file(weights, model_copy / "model.safetensors", metadata={"format": "pt"})
    message = said(str(model_copy), *planted_flags)
    assert "another files_digest" in message and "--resume restart" in message
    study = planted_flags[planted_flags.index("--study-checkpoint-dir") + 1]
    assert "weights, config.json or code have changed" in said("export", study, "--output", f"{study}/new")


def test_a_study_with_other_prompts(said, planted_directory: Path, planted_flags: list[str]) -> None:  # type: ignore[no-untyped-def]
    model = str(planted_directory / "planted")
    assert main([model, *planted_flags]) == 0
    message = said(model, *planted_flags, "--bad-prompts", str(planted_directory / "bad_search.txt"))
    assert "another bad_prompts" in message
    assert "another max_response_length: 4 there, 5 now" in said(model, *planted_flags, "--max-response-length", "5")


def test_a_truncated_journal_is_mended(
    planted_directory: Path, planted_flags: list[str], tmp_path: Path, capsys
) -> None:  # type: ignore[no-untyped-def]
    model = str(planted_directory / "planted")
    assert main([model, *planted_flags]) == 0
    [journal] = (tmp_path / "checkpoints").glob("*.jsonl")
    with journal.open("a") as file:
        file.write('{"op_code": 4, "worker')
    capsys.readouterr()
    assert main([model, *planted_flags, "--n-trials", "13"]) == 0
    assert "incomplete" in capsys.readouterr().err


def test_a_damaged_journal(said, planted_directory: Path, planted_flags: list[str], tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    model = str(planted_directory / "planted")
    assert main([model, *planted_flags]) == 0
    [journal] = (tmp_path / "checkpoints").glob("*.jsonl")
    lines = journal.read_text().splitlines()
    journal.write_text("\n".join([*lines[:3], lines[3][:10], *lines[4:]]) + "\n")
    before = journal.read_text()
    assert "line 4" in said(model, *planted_flags)
    assert journal.read_text() == before


def test_logits_that_are_not_numbers(said, model_copy: Path, planted_flags: list[str]) -> None:  # type: ignore[no-untyped-def]
    model = AutoModelForCausalLM.from_pretrained(model_copy)
    with torch.no_grad():
        model.lm_head.weight[3, 3] = torch.nan
    model.save_pretrained(model_copy)
    assert "NaN" in said(str(model_copy), *planted_flags)


def test_a_model_that_never_declines(said, planted_directory: Path, planted_flags: list[str]) -> None:  # type: ignore[no-untyped-def]
    good = str(planted_directory / "good_search.txt")
    message = said(str(planted_directory / "planted"), *planted_flags, "--bad-evaluation-prompts", good)
    assert "declines none" in message


def test_a_trial_that_is_not_there(said, planted_directory: Path, planted_flags: list[str], tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    assert main([str(planted_directory / "planted"), *planted_flags]) == 0
    [journal] = (tmp_path / "checkpoints").glob("*.jsonl")
    message = said("export", str(journal), "--trial", "77", "--output", str(tmp_path / "new"))
    assert "Trial 77" in message and not (tmp_path / "new").exists()
    assert "No study at" in said("results", str(tmp_path / "none.jsonl"))


def test_a_tokenizer_is_missing(said, model_copy: Path, planted_flags: list[str]) -> None:  # type: ignore[no-untyped-def]
    for path in model_copy.glob("tokenizer*"):
        path.unlink()
    assert "Expected a tokenizer" in said(str(model_copy), *planted_flags)


def test_the_tokenizer_is_written_as_it_was(planted_directory: Path) -> None:
    assert planted_tokenizer().chat_template in (planted_directory / "planted" / "chat_template.jinja").read_text()
