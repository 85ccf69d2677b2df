"""Shell completion: scripts that their shells can read, and that complete."""

import shutil
import subprocess
from pathlib import Path

import pytest

from heretic.cli.entry import VERBS, main


def script(shell: str, capsys: pytest.CaptureFixture[str]) -> str:
    assert main(["completion", shell]) == 0
    return capsys.readouterr().out


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish", "tcsh"])
def test_every_verb_and_flag_stands_in_the_script(shell: str, capsys: pytest.CaptureFixture[str]) -> None:
    text = script(shell, capsys)
    assert all(verb in text for verb in VERBS)
    assert "n-trials" in text and "top-p" in text and "upload-public" in text


def completed(script: Path, *words: str) -> set[str]:
    """What bash offers for the last of `words`."""
    quoted = " ".join(f"'{word}'" for word in words)
    program = (
        f"source {script}; COMP_WORDS=({quoted}); COMP_CWORD={len(words) - 1}; COMP_LINE='{' '.join(words)}'; "
        "COMP_POINT=${#COMP_LINE}; $(complete -p heretic | sed 's/.*-F \\([^ ]*\\) .*/\\1/') heretic; "
        'printf "%s\\n" "${COMPREPLY[@]}"'
    )
    done = subprocess.run(["bash", "--norc", "-c", program], capture_output=True, text=True, check=False)
    return {line.strip() for line in done.stdout.splitlines()}


@pytest.mark.skipif(shutil.which("bash") is None, reason="bash is not installed")
def test_bash_completes_verbs_and_their_flags(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "heretic"
    file.write_text(script("bash", capsys))
    assert "upload" in completed(file, "heretic", "up")
    assert completed(file, "heretic", "chat", "--top") == {"--top-p", "--top-k"}
    assert "--n-trials" in completed(file, "heretic", "--n-")


@pytest.mark.skipif(shutil.which("fish") is None, reason="fish is not installed")
def test_fish_completes_verbs_and_their_flags(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "heretic.fish"
    file.write_text(script("fish", capsys))
    for line, wanted in (
        ("heretic up", {"upload"}),
        ("heretic chat --top", {"--top-p", "--top-k"}),
        ("heretic completion zs", {"zsh"}),
        ("heretic --sampl", {"--sampler"}),
    ):
        command = ["fish", "--no-config", "-c", f"source {file}; complete -C '{line}'"]
        done = subprocess.run(command, capture_output=True, text=True, check=True, cwd=tmp_path)
        assert {each.partition("\t")[0] for each in done.stdout.splitlines()} == wanted, line


def test_a_shell_that_is_not_known_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["completion", "powershell"])
    assert ended.value.code == 2
    assert "bash" in capsys.readouterr().err
