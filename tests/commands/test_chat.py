"""Chats with trials of a recorded study, and comparisons of two."""

import io
import shutil
from pathlib import Path

import pytest

from heretic.cli import main
from heretic.study.pareto import pareto_front
from heretic.study.reader import RecordedStudy

SIDES, PARTS = ("good", "bad"), ("prompts", "evaluation-prompts")


@pytest.fixture(scope="module")
def study(short_study: Path) -> Path:
    return short_study


def chat(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], said: str, *arguments: str) -> str:
    monkeypatch.setattr("sys.stdin", io.StringIO(said))
    assert main(["chat", *arguments]) == 0
    return capsys.readouterr().out


def test_a_piped_chat_answers_line_by_line_as_the_trial_and_as_the_model(
    study: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    lines = "word1 trigger1\n\n/reset\nword2 trigger2\n"
    edited = chat(monkeypatch, capsys, lines, str(study), "--trial", "lowest-refusals")
    assert edited.count("Model: sure here") == 2 and "sorry" not in edited
    itself = chat(monkeypatch, capsys, lines, str(study), "--trial", "baseline", "--tokens", "2")
    assert itself.count("sorry") == 2 and "Chat with the baseline." in itself


def test_what_a_chat_begins_with_comes_from_flags(
    study: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    flags = [str(study), "--temperature", "5", "--seed", "7", "--tokens", "8", "--system-prompt", "none"]
    texts = {chat(monkeypatch, capsys, "word1 word2\n", *flags) for _ in range(2)}
    assert len(texts) == 1, "the seed decides what is drawn"
    assert chat(monkeypatch, capsys, "word1 word2\n", *flags, "--top-k", "1") not in texts


@pytest.mark.parametrize(
    ("flags", "message_part"),
    [
        (["--trial", "99"], "Trial 99 is not on the Pareto front"),
        (["--trial", "best"], "Expected a trial's number"),
    ],
)
def test_a_missing_trial_is_an_error_before_anything_is_loaded(
    study: Path, flags: list[str], message_part: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["chat", str(study), *flags]) == 2
    message = capsys.readouterr().err
    assert message_part in message and "Loading" not in message


def test_an_invalid_value_is_an_error(study: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["chat", str(study), "--top-p", "2"]) == 2
    assert "--top-p: Expected a number from 0 to 1" in capsys.readouterr().err


def test_answers_of_several_candidates_stand_together(study: Path, capsys: pytest.CaptureFixture[str]) -> None:
    prompts = ["--prompt", "word1 trigger1", "--prompt", "word2 trigger2"]
    recorded = RecordedStudy(study)
    best = pareto_front(recorded.trials, recorded.baseline)[0].number
    other = next(trial.number for trial in recorded.trials if trial.number != best)
    # The first of the front is named twice, and answers once.
    trials = f"lowest-refusals, {other}, {best}"
    assert main(["compare", str(study), "--trials", trials, "--tokens", "3", *prompts]) == 0
    text = capsys.readouterr().out
    assert text.count("[baseline]") == text.count(f"[trial {best}]") == text.count(f"[trial {other}]") == 2
    itself, edited = text.split("[baseline]")[1].split(f"[trial {best}]", 1)
    assert "sorry" in itself
    assert "sure here" in edited.split(f"[trial {other}]")[0]


def test_a_system_prompt_that_the_template_refuses_is_folded_and_said(
    planted_directory: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    model = shutil.copytree(planted_directory / "planted", tmp_path / "planted")
    template = model / "chat_template.jinja"
    refusal = "{% if messages[0].role == 'system' %}{{ raise_exception('no system role') }}{% endif %}"
    template.write_text(refusal + template.read_text(encoding="utf-8"), encoding="utf-8")
    prompts = [f"--{side}-{part}={planted_directory / f'{side}_search.txt'}" for side in SIDES for part in PARTS]
    flags = ["--system-prompt", "none", "--n-trials", "1", "--n-startup-trials", "1", "--dtypes", "float32"]
    flags += ["--study-checkpoint-dir", str(tmp_path / "studies"), "--export", "none", "--heldout-trials", "0"]
    assert main([str(model), *prompts, *flags, "--batch-size", "8", "--max-response-length", "4"]) == 0
    [study] = (tmp_path / "studies").glob("*.jsonl")
    capsys.readouterr()
    said = "word1\n/system word2 word3\nword1\n/system none\n"
    text = chat(monkeypatch, capsys, said, str(study), "--trial", "baseline", "--system-prompt", "word4")
    assert text.count("takes no system message: it goes before the user's text") == 2
    assert text.count("Model: sure here") == 2
