"""Options: short and full help, suggestions, no abbreviations, parts of tables."""

import json

import pytest

from heretic.cli.parser import Parser
from heretic.cli.registry import VERBS, build_parser
from heretic.config import Settings, given_flags


def refused(verb: str, arguments: list[str], capsys: pytest.CaptureFixture[str]) -> str:
    """What a command says to arguments that it can't use."""
    with pytest.raises(SystemExit) as ended:
        build_parser(verb).parse_args(arguments)
    assert ended.value.code == 2
    return capsys.readouterr().err


def shown(verb: str, flag: str, capsys: pytest.CaptureFixture[str]) -> str:
    with pytest.raises(SystemExit) as ended:
        build_parser(verb).parse_args([flag])
    assert ended.value.code == 0
    return capsys.readouterr().out


def small_parser() -> Parser:
    parser = Parser("small", "", "A small command.")
    parser.add_settings(("n_trials", "seed", "bad_prompts"), ("n_trials",))
    return parser


def test_help_shows_what_matters_and_help_all_the_rest_in_groups(capsys: pytest.CaptureFixture[str]) -> None:
    for flag, visible in (("--help", False), ("--help-all", True)):
        with pytest.raises(SystemExit):
            small_parser().parse_args([flag])
        text = capsys.readouterr().out
        assert "--n-trials" in text
        assert ("--seed" in text, "eight a path" in text, "Search:" in text) == (visible,) * 3


@pytest.mark.parametrize("verb", VERBS)
def test_the_short_help_of_a_command_fits_a_screen(
    verb: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "100")
    lines = shown(verb, "--help", capsys).splitlines()
    assert len(lines) <= 40


def test_help_all_of_the_search_has_every_setting(capsys: pytest.CaptureFixture[str]) -> None:
    text = shown("", "--help-all", capsys)
    assert all(f"--{key.replace('_', '-')}" in text for key in Settings.model_fields)
    assert text.index("Model:") < text.index("Export:") < text.index("Engine:")


def test_an_option_can_not_be_abbreviated(capsys: pytest.CaptureFixture[str]) -> None:
    assert "unknown option --trust: did you mean" in refused("", ["model", "--trust"], capsys)


@pytest.mark.parametrize(
    ("verb", "arguments", "words"),
    [
        ("", ["model", "--n-trails", "5"], "unknown option --n-trails: did you mean --n-trials?"),
        ("chat", ["study", "--temprature=1"], "unknown option --temprature: did you mean --temperature?"),
        ("chat", ["study", "--qqqqzzzz"], "unknown option --qqqqzzzz\n"),
        ("", ["model", "--n_trials", "5"], "unknown option --n_trials: did you mean --n-trials?"),
        ("", ["model", "--save-directory", "x"], "--save-directory is an option of another program: give --output\n"),
        ("", ["model", "--load-in-4bit"], "give --quantization bnb_4bit"),
        ("", ["model", "--compile"], "unknown option --compile\n"),
        ("export", ["study", "--n-trials", "5"], "--n-trials has no effect on this command"),
        ("chat", ["study", "--model", "other"], "--model has no effect on this command"),
        ("compare", ["study", "--no-prune-dominated"], "--no-prune-dominated has no effect on this command"),
        ("inspect", ["model", "-n", "5"], "-n has no effect on this command"),
        ("completion", ["bassh"], "expected one of bash, zsh, fish, tcsh, got 'bassh': did you mean bash?"),
        ("results", ["study", "other"], "unexpected argument 'other'"),
    ],
)
def test_what_is_no_option_of_a_command_is_refused(
    verb: str, arguments: list[str], words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    said = refused(verb, arguments, capsys)
    assert words in said
    assert f"Try heretic {verb}".strip() in said and "--help." in said


def test_parts_of_a_table_are_put_together() -> None:
    arguments = [
        "m",
        "--bad-prompts.dataset",
        "x.csv",
        "--bad-prompts.residual-plot-label=Bad",
        "--max-memory.0",
        "8GB",
    ]
    given = given_flags(build_parser("").parse_args(arguments))
    assert json.loads(str(given["bad_prompts"])) == {"dataset": "x.csv", "residual_plot_label": "Bad"}
    assert json.loads(str(given["max_memory"])) == {"0": "8GB"}


def test_variables_of_a_template_have_types() -> None:
    parts = ["--chat-template-arguments.enable_thinking", "false", "--chat-template-arguments.reasoning_effort=low"]
    given = given_flags(build_parser("").parse_args(["m", *parts]))
    assert json.loads(str(given["chat_template_arguments"])) == {"enable_thinking": False, "reasoning_effort": "low"}


def test_a_switch_without_meaning_here_needs_no_value() -> None:
    parse = build_parser("").parse_args
    assert "collect_reproducibles" in given_flags(parse(["m", "--collect-reproducibles"]))
    assert "collect_reproducibles" in given_flags(parse(["m", "--collect-reproducibles", "true"]))


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--bad-prompts", "x.csv", "--bad-prompts.column", "text"], "give --bad-prompts or its parts"),
        (["--bad-prompts.column"], "--bad-prompts.column: expected one argument"),
        (["--seed.column", "x"], "unknown option --seed.column"),
    ],
)
def test_parts_that_can_not_be_put_together_are_refused(
    arguments: list[str], words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert words in refused("", ["m", *arguments], capsys)


@pytest.mark.parametrize(("words", "value"), [("true", True), ("False", False), (None, True)])
@pytest.mark.parametrize("equals", [True, False])
def test_a_switch_may_have_a_word_as_in_heretic_llm(words: str | None, value: bool, equals: bool) -> None:
    flag = "--orthogonalize-direction"
    given = [flag] if words is None else [f"{flag}={words}"] if equals else [flag, words]
    namespace = build_parser("").parse_args([*given, "m"])
    assert namespace.name == "m"
    assert given_flags(namespace) == {"orthogonalize_direction": value}


@pytest.mark.parametrize("verb", ["", *VERBS])
def test_help_fits_80_columns(verb: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    for flag in ("--help", "--help-all") if verb in ("", "evaluate") else ("--help",):
        assert max(map(len, shown(verb, flag, capsys).splitlines())) <= 80
