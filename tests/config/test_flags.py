"""The flags: grouped, described, and silent about what was not given."""

import argparse

import pytest
from pydantic import ConfigDict, Field

from heretic.config import SECTIONS, SearchSettings, Settings, add_flags, given_flags
from heretic.config.flags import short_text
from heretic.config.sections import Section


def parser_of(*keys: str) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="heretic")
    add_flags(parser, keys or None)
    return parser


def test_only_what_was_given_lands_in_the_namespace() -> None:
    assert vars(parser_of().parse_args([])) == {}
    assert given_flags(parser_of().parse_args(["--n-trials", "5", "--no-plot-residuals"])) == {
        "n_trials": "5",
        "plot_residuals": False,
    }


def test_what_is_no_setting_is_left_out() -> None:
    parser = parser_of()
    parser.add_argument("--verbose", action="store_true")
    assert given_flags(parser.parse_args(["--seed", "1", "--verbose"])) == {"seed": "1"}
    assert given_flags(argparse.Namespace(model=None, verb="search")) == {}


def test_a_parser_may_have_the_flags_of_some_settings() -> None:
    parser = parser_of(*SearchSettings.model_fields)
    assert given_flags(parser.parse_args(["--n-trials", "5"])) == {"n_trials": "5"}
    with pytest.raises(SystemExit) as caught:
        parser.parse_args(["--batch-size", "5"])
    assert caught.value.code == 2


@pytest.mark.parametrize("arguments", [["--n-trials"], ["--n-trails", "5"]])
def test_a_wrong_command_line_exits_with_status_2(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        parser_of().parse_args(arguments)
    assert caught.value.code == 2
    assert arguments[0] in capsys.readouterr().err


def test_help_has_every_flag_with_its_description_and_default(monkeypatch: pytest.MonkeyPatch) -> None:
    # Wide enough that no description is broken at a hyphen.
    monkeypatch.setenv("COLUMNS", "1000")
    folded = " ".join(parser_of().format_help().split())
    for section in SECTIONS:
        assert f"{section.model_config.get('title')}:" in folded
    for key, field in Settings.model_fields.items():
        assert f"--{key.replace('_', '-')}" in folded
        assert str(field.description).rstrip(".") in folded
    assert "another number is taken as it is (default: 200)." in folded
    assert "--row-normalization none|pre|full" in folded
    assert "--output DIR" in folded
    assert "full-normalization-lora-rank" not in folded


def test_some_flags_have_a_second_spelling() -> None:
    given = given_flags(parser_of().parse_args(["-n", "5", "-o", "edited", "--public"]))
    assert given == {"n_trials": "5", "output": "edited", "upload_public": True}


def test_the_first_sentence_of_a_help_is_a_phrase_with_the_default() -> None:
    assert short_text("Trials. More are better (default: 200).") == "trials (default: 200)"
    assert short_text("One sentence (default: 0.5).") == "one sentence (default: 0.5)"
    assert short_text("A revision. Pin one.") == "a revision"
    assert short_text("LoRA rank.") == "LoRA rank"
    assert short_text("Hugging Face repository, new or existing.") == "Hugging Face repository, new or existing"


def test_a_percent_sign_in_a_description_is_printed_as_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    class Sample(Section):
        model_config = ConfigDict(title="Sample")

        share: str = Field(default="5%", description="A share of 100 %.")

    monkeypatch.setattr("heretic.config.flags.SECTIONS", (Sample,))
    assert "A share of 100 % (default: 5%)." in parser_of("share").format_help()
