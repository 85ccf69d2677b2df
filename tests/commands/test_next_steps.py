"""The last lines of a run without questions: what happened, and commands that can be copied."""

import io
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from heretic.commands.next_steps import program, say_ending
from heretic.config import Settings
from heretic.ui.plain import PlainReporter
from tests.support.ui_toys import BASELINE, FRONT

Written = list[tuple[int, str, Path]]


@pytest.fixture
def ending() -> Callable[..., list[str]]:
    """The lines at the end of a run of some/model with the toys' front."""

    def lines(written: Written, asks: bool = False, settings: Settings | None = None) -> list[str]:
        stream = io.StringIO()
        settings = settings or Settings(model="some/model")
        study = SimpleNamespace(record=SimpleNamespace(baseline=BASELINE), trials=FRONT, n_finished=lambda: 9)
        reporter = PlainReporter(stream)
        session = SimpleNamespace(settings=settings, path=Path("studies/a b.jsonl"), reporter=reporter)
        running: Any = SimpleNamespace(study=study, reporter=reporter, loaded=SimpleNamespace(session=session))
        say_ending(running, written, asks)
        return stream.getvalue().splitlines()

    return lines


def test_a_search_ends_with_the_commands_that_use_its_study(ending: Callable[..., list[str]]) -> None:
    first, *commands, last = ending([])
    number = last.partition("the knee is trial ")[2].partition(" ")[0]
    assert first == "Next:" and last.startswith(f"Done: 9 trials, {len(FRONT)} of them on the front;")
    assert commands[0] == f"  heretic export some/model --trial {number}    # write it to model-heretic"
    assert [line.split()[1] for line in commands] == ["export", "chat", "compare", "report"]


def test_no_command_is_broken_by_a_terminal_of_80_columns(ending: Callable[..., list[str]]) -> None:
    model = "SmolLM2-135M-Instruct-of-somebody.gguf"
    lines = ending([], settings=Settings(model=model))[1:-1]
    assert max(map(len, lines)) <= 80
    assert [line.split()[1] for line in lines if line.startswith("  heretic")] == [
        "export",
        "chat",
        "compare",
        "report",
    ]
    assert "  # its answers next to the baseline's" in lines


def test_after_an_export_comes_the_upload(ending: Callable[..., list[str]]) -> None:
    number = FRONT[0].number
    *commands, last = ending([(number, "merge", Path("out"))])
    assert commands[-1].startswith("  heretic upload out OWNER/NAME ") and f"--trial {number} " in commands[1]
    assert last.startswith(f"Done: 9 trials, {len(FRONT)} of them on the front. Trial {number} (")
    assert last.endswith(" to out.")


def test_a_study_elsewhere_is_named_by_its_path(ending: Callable[..., list[str]]) -> None:
    found = ending([], settings=Settings(model="some/model", study_checkpoint_dir="studies"))
    assert "  heretic report 'studies/a b.jsonl'    # a web page about the study" in found


def test_whoever_was_asked_needs_no_commands(ending: Callable[..., list[str]]) -> None:
    assert len(ending([], asks=True)) == 1


@pytest.mark.parametrize(
    ("started", "found", "shown"),
    [
        (".venv/bin/heretic", None, ".venv/bin/heretic"),
        (".venv/bin/heretic", "/usr/bin/heretic", "heretic"),
        ("/bin/heretic-lab", "/bin/heretic-lab", "heretic-lab"),
        ("pytest", None, "heretic"),
    ],
)
def test_commands_are_named_as_the_shell_finds_them(
    started: str, found: str | None, shown: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.argv", [started])
    monkeypatch.setattr("shutil.which", lambda _: found)
    assert program() == shown
