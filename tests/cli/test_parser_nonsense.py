"""Nonsense for any flag of any command is refused in one paragraph, before a model is loaded."""

from pathlib import Path

import pytest

from heretic.cli import main
from heretic.cli.registry import VERBS, build_parser
from heretic.config import Settings

NONSENSE = "§ nonsense ☃"
TEXTS = frozenset(
    {
        *(
            "system_prompt",
            "response_prefix",
            "chain_of_thought_skips",
            "refusal_markers",
            "evaluate_model",
            "reproduce",
        ),
        *(
            "refusal_openings",
            "residual_plot_style",
            "over_refusal_evaluation_prompts",
            "residual_plot_title",
            "residual_plot_path",
            "study_checkpoint_dir",
            "output",
            "base_model",
            # Any text may be the file of a journal.
            "storage",
        ),
    }
)
"""Settings that may be any text, or whose use depends on another setting."""
STUDY_VERBS = ("export", "chat", "compare", "benchmark", "report", "ui")
CASES = [
    *(
        f"chat STUDY {flag} {value}"
        for flag in ("--temperature", "--top-p", "--top-k")
        for value in ("hot", "-1", "nan")
    ),
    *(f"chat STUDY {flag} {value}" for flag in ("--tokens", "--seed") for value in ("few", "-1", "1.5")),
    *(f"{verb} STUDY --trial {value}" for verb in ("chat", "export") for value in ("77", "best")),
    *(f"{verb} STUDY --trials {value}" for verb in ("compare", "benchmark") for value in ("77", "best", "0,best")),
    *(f"{verb} STUDY --device-map nonsense" for verb in STUDY_VERBS),
    *(f"export STUDY --device-map {value}" for value in ("cuda:99", "17")),
    *(f"{verb} STUDY --full-precision-model org/full" for verb in ("export", "chat", "compare", "report")),
    *(f"compare STUDY --tokens {value}" for value in ("few", "0", "-3")),
    *(f"benchmark STUDY --limit {value}" for value in ("few", "0", "-3")),
    *(f"benchmark STUDY --tasks {value}" for value in ("heretic-facts,none.yaml", "none.yaml")),
    *(f"ui STUDY --port {value}" for value in ("99999", "-1", "many")),
    *("report STUDY --page page.json", "report STUDY --page there/page.html", "export STUDY --output there"),
    *(f"MODEL --{flag}" for flag in ("warm-start nosuch", "trial best", "trial 200", "trial -1", "model-commit main")),
    *(
        "MODEL --full-precision-model org/full",
        "MODEL --output there",
        "MODEL --upload a/b/c",
        "MODEL --plot-residuals",
    ),
    *(f"{verb} MODEL --device-map mps" for verb in ("evaluate", "inspect")),
    *(f"{verb} MODEL --model-commit main" for verb in ("evaluate", "inspect")),
    *(
        "evaluate MODEL --against nowhere/to/be",
        "inspect nowhere/to/be",
        "results nowhere.jsonl",
        "reproduce none.json",
    ),
    *("split none.txt", "split there --sizes 1,x", "upload there a/b/c", "upload nowhere a/b", "completion csh"),
    *("demo --device-map nonsense", "doctor MODEL --json=maybe"),
]
KEYS = [key for key in Settings.model_fields if key not in TEXTS and key != "model"]


def without(flags: list[str], given: str) -> list[str]:
    """The flags and their values without that of one."""
    pairs = zip(flags[::2], flags[1::2], strict=True)
    return [word for flag, value in pairs if flag != given for word in (flag, value)]


@pytest.fixture
def refused(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path, request: pytest.FixtureRequest
):  # type: ignore[no-untyped-def]
    """Runs the program, which must refuse without loading a model; returns its message."""

    def loads(*_: object) -> None:
        raise AssertionError("a model is loaded")

    monkeypatch.setattr("heretic.session.engine.load_model", loads)
    monkeypatch.setattr("heretic.commands.inspect.load_decoder", loads)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "there").mkdir()
    (tmp_path / "there/page.html").write_text("mine")

    def run(*words: str) -> str:
        try:
            status = main(list(words))
        except SystemExit as ended:
            status = int(ended.code or 0)
        said = capsys.readouterr().err
        assert status == 2, said
        assert "Traceback" not in said
        assert not list(tmp_path.rglob("*.safetensors"))
        return said

    return run


@pytest.mark.parametrize("key", KEYS)
def test_a_setting(key: str, refused, planted_directory: Path, planted_flags: list[str]) -> None:  # type: ignore[no-untyped-def]
    flag = f"--{key.replace('_', '-')}"
    others = [
        word
        for name, value in zip(planted_flags[::2], planted_flags[1::2], strict=True)
        if name != flag
        for word in (name, value)
    ]
    said = refused(str(planted_directory / "planted"), *others, f"{flag}={NONSENSE}")
    assert key in said.replace("-", "_") or NONSENSE in said


@pytest.mark.parametrize("case", CASES)
def test_a_flag_of_one_command(
    case: str, refused, planted_directory: Path, planted_flags: list[str], short_study: Path
) -> None:  # type: ignore[no-untyped-def]
    places = {"STUDY": str(short_study), "MODEL": str(planted_directory / "planted")}
    words = [places.get(word, word) for word in case.split()]
    settings = without(planted_flags, words[-2]) if case.startswith("MODEL") else []
    assert refused(*words, *settings).count("\n") < 6


@pytest.mark.parametrize("verb", ["", *VERBS])
def test_settings_that_a_command_does_not_use_are_refused(verb: str, capsys: pytest.CaptureFixture[str]) -> None:
    parser = build_parser(verb)
    takes_none = verb in ("demo", "doctor", "config")
    known = {action.dest for action in parser._actions}
    for key in Settings.model_fields:
        flag = f"--{key.replace('_', '-')}"
        if key in known or flag in parser._option_string_actions:
            continue
        positional = {"upload": ["DIRECTORY", "OWNER/NAME"], "completion": ["bash"]}.get(verb, ["name"])
        with pytest.raises(SystemExit) as ended:
            parser.parse_args([*([] if takes_none else positional), f"{flag}=1"])
        assert ended.value.code == 2
        assert f"{flag} has no effect on this command" in capsys.readouterr().err
