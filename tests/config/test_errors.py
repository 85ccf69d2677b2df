"""What the user reads when a configuration can't be used: one paragraph with key, place, expected, got, advice."""

from pathlib import Path

import pytest

from heretic.config import load_settings
from heretic.config.origins import line_of
from heretic.config.renamed import ELSEWHERE, elsewhere
from heretic.errors import ConfigError


def problem(toml: str = "", flags: dict[str, str | bool] | None = None) -> str:
    """The paragraph that a config.toml and flags lead to."""
    Path("config.toml").write_text(toml, encoding="utf-8")
    with pytest.raises(ConfigError) as caught:
        load_settings(flags or {})
    text = str(caught.value)
    assert "\n" not in text
    assert not any(
        word in text for word in ("Traceback", "pydantic", "errors.", "input_value", "Input should", "type=")
    )
    return text


def test_an_unknown_key_names_the_nearest_and_its_line() -> None:
    text = problem("seed = 1\n\nn_trails = 5\n")
    assert "n_trails (config.toml, line 3) is not a known key: did you mean n_trials?" in text


def test_a_key_like_no_other_gets_no_guess() -> None:
    text = problem("zzzzqqqq = 5\n")
    assert "zzzzqqqq (config.toml, line 1) is not a known key." in text
    assert "did you mean" not in text


def test_an_unknown_key_in_a_table_names_the_nearest_and_its_line() -> None:
    text = problem('[good_prompts]\ndataset = "a"\n[bad_prompts]\ndataset = "b"\ncolunm = "x"\n')
    assert "bad_prompts.colunm (config.toml, line 5) is not a known key: did you mean bad_prompts.column?" in text


def test_a_key_of_a_table_like_no_other_gets_no_guess() -> None:
    text = problem('[bad_prompts]\ndataset = "b"\nqqqq = "x"\n')
    assert "bad_prompts.qqqq (config.toml, line 3) is not a known key. Correct" in text


def test_an_unknown_key_in_a_list_of_tables() -> None:
    text = problem('[[benchmarks]]\ntask = "a"\nname = "b"\n[[benchmarks]]\ntusk = "a"\ntask = "a"\nname = "b"\n')
    assert "benchmarks[1].tusk (config.toml, line 1) is not a known key: did you mean benchmarks[1].task?" in text


def test_an_unknown_key_in_a_variable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HERETIC_BAD_PROMPTS", '{"colunm": "x"}')
    text = problem('[bad_prompts]\ndataset = "b"\n')
    assert "bad_prompts.colunm (HERETIC_BAD_PROMPTS) is not a known key: did you mean bad_prompts.column?" in text


@pytest.mark.parametrize(
    ("key", "value", "words"),
    [
        ("n_trials", "0", "n_trials (--n-trials): expected a number greater than or equal to 1, got '0'"),
        ("n_trials", "many", "n_trials (--n-trials): expected a whole number, got 'many'"),
        ("kl_divergence_scale", "x", "kl_divergence_scale (--kl-divergence-scale): expected a number, got 'x'"),
        ("export", "zip", "export (--export): expected 'merge', 'adapter', 'gguf' or 'none', got 'zip'"),
        ("plot_residuals", "maybe", "plot_residuals (--plot-residuals): expected true or false, got 'maybe'"),
        ("time_budget", "soon", "time_budget (--time-budget): expected a duration such as 90s, 30m, 1h30m"),
        ("max_shard_size", "big", "max_shard_size (--max-shard-size): expected a size such as 5GB"),
        ("trial", "best", "trial (--trial): expected 'knee', 'lowest-kl' or 'lowest-refusals' or a whole number"),
        ("export", "addapter", "'gguf' or 'none', got 'addapter': did you mean adapter?"),
        ("max_memory", "much", "max_memory (--max-memory): expected a table, got 'much'"),
        (
            "dtypes",
            "auto,float8",
            "dtypes[1] (--dtypes): expected 'auto', 'float16', 'bfloat16' or 'float32', got 'float8'",
        ),
        ("dtypes", "", "dtypes (--dtypes): expected a list that should have at least 1 item"),
        ("model_commit", True, "model_commit (--model-commit): expected text, got True"),
        ("n_trials", "3.5", "n_trials (--n-trials): expected a whole number, got '3.5'"),
        ("bad_prompts", '{"column": "x"}', "bad_prompts.dataset (--bad-prompts) is missing"),
        ("bad_prompts", '{"dataset": ', "bad_prompts (--bad-prompts): expected a list or table in JSON or TOML"),
        ("chain_of_thought_skips", "<think>", "chain_of_thought_skips (--chain-of-thought-skips): expected a list"),
    ],
)
def test_a_bad_value_says_what_was_expected_and_what_came(key: str, value: str | bool, words: str) -> None:
    text = problem(flags={key: value})
    assert words in text
    assert "Correct it, or leave it out" in text


def test_a_bad_value_names_the_layer_that_gave_it(monkeypatch: pytest.MonkeyPatch) -> None:
    assert "n_trials (config.toml, line 2): expected a number greater" in problem("seed = 1\nn_trials = 0\n")
    monkeypatch.setenv("HERETIC_N_TRIALS", "-1")
    assert "n_trials (HERETIC_N_TRIALS): expected a number greater than or equal to 1, got '-1'" in problem(
        "n_trials = 0\n"
    )
    assert "n_trials (--n-trials): expected a whole number" in problem("n_trials = 0\n", flags={"n_trials": "x"})


def test_a_bad_value_of_a_merged_table_names_the_layer_that_gave_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HERETIC_BAD_PROMPTS", '{"column": "x"}')
    text = problem('[bad_prompts]\ndataset = "b"\ncolumn = "y"\nsplit = 4\n')
    assert "bad_prompts.split (config.toml, line 4): expected text, got 4" in text


def test_several_problems_are_listed_in_one_paragraph() -> None:
    text = problem("n_trails = 5\nseed = -1\n", flags={"export": "zip", "max_memory": "{"})
    assert "for 4 reasons: (1) n_trails" in text
    assert all(f"({number})" in text for number in (2, 3, 4))
    assert "Correct them, or leave them out" in text
    assert "seed (config.toml, line 2)" in text and "export (--export)" in text and "max_memory (--max-memory)" in text


@pytest.mark.parametrize("key", ELSEWHERE)
def test_a_key_of_another_release_is_answered_by_what_to_give_here(key: str) -> None:
    text = problem(f"{key} = 1")
    assert f"{key} (config.toml, line 1) is a key of another program: {elsewhere(key)}. Correct" in text


def test_both_names_of_a_key_are_a_problem() -> None:
    text = problem('export = "merge"\nexport_strategy = "adapter"\n')
    assert "export_strategy (config.toml, line 2) is another name of export: give one of them" in text


def test_a_bad_value_is_named_by_the_name_that_was_used() -> None:
    assert "export (config.toml, line 2): expected 'merge'" in problem('seed = 1\nexport_strategy = "zip"\n')
    assert "export (--export-strategy): expected 'merge'" in problem(flags={"export_strategy": "zip"})


def test_a_long_value_is_cut() -> None:
    assert "..." in problem(flags={"n_trials": "9x" * 500})
    assert len(problem(flags={"n_trials": "9x" * 500})) < 400


def test_bad_toml_names_file_and_line() -> None:
    text = problem("seed = 1\nn_trials = = 2\n")
    assert text.startswith("config.toml can't be read as TOML") and "line 2" in text


def test_a_file_that_is_not_text_is_a_config_error() -> None:
    Path("config.toml").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(ConfigError, match=r"config\.toml can't be read as TOML"):
        load_settings({})


def test_a_given_file_must_exist(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"Expected a configuration file at .*missing\.toml"):
        load_settings({}, tmp_path / "missing.toml")


@pytest.mark.parametrize(
    ("path", "line"),
    [(["seed"], 2), (["bad", "column"], 5), (["good", "column"], 6), (["bad", "dataset"], 3), (["absent"], None)],
)
def test_lines_of_keys(path: list[str], line: int | None) -> None:
    text = '# seed = 0\nseed = 1\n[bad]\n\ncolumn = "x"\n[good]\n[other]\ncolumn = "y"\ndataset = "z"\n'
    assert line_of(text, path) == line


@pytest.mark.parametrize("key", ["scorer", "load_in_4bit", "print_debug_information", "study_name", "compile"])
def test_a_key_of_another_program_gets_no_misleading_guess(key: str) -> None:
    assert "did you mean" not in problem(f'{key} = "x"\n')


def test_a_key_below_a_table_by_mistake_is_told_to_go_above() -> None:
    text = problem('[bad_prompts]\ndataset = "b"\nrefusal_markers = ["sorry"]\n')
    assert "bad_prompts.refusal_markers (config.toml, line 3) is not a known key: refusal_markers belongs" in text
    assert "above the first [table]" in text


def test_a_file_in_another_encoding_is_told_apart() -> None:
    for encoding in ("utf-16", "cp1252"):
        Path("config.toml").write_bytes('system_prompt = "Grüße"\n'.encode(encoding))
        with pytest.raises(ConfigError, match=r"it is not UTF-8 .* Save it as UTF-8"):
            load_settings({})
