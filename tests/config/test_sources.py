"""How settings are read: order, decoding, legacy keys."""

import argparse
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from heretic.config import PromptSource, Settings, add_flags, given_flags, load_settings, recorded_settings
from heretic.config.document import toml_value
from heretic.config.renamed import RENAMED, WITHOUT_EFFECT
from heretic.errors import ConfigError
from tests.support.settings_samples import SAMPLES, TABLE

SPECIFIED = """
good_prompts bad_prompts good_evaluation_prompts bad_evaluation_prompts system_prompt model model_commit
evaluate_model reproduce seed dtypes quantization device_map max_memory offload_outputs_to_cpu batch_size
max_batch_size max_response_length response_prefix chain_of_thought_skips kl_divergence_scale
kl_divergence_target orthogonalize_direction row_normalization winsorization_quantile n_trials
n_startup_trials refusal_markers study_checkpoint_dir benchmarks max_shard_size print_responses
print_residual_geometry plot_residuals residual_plot_path residual_plot_title residual_plot_style
"""


def flags_of(*arguments: str) -> dict[str, str | bool]:
    parser = argparse.ArgumentParser(exit_on_error=False)
    add_flags(parser)
    return given_flags(parser.parse_args(arguments))


def as_held(key: str, value: Any) -> Any:
    return PromptSource(**value) if key == "bad_prompts" else value


def check_only(key: str, settings: Settings, expected: Any) -> None:
    """The setting has its value and every other setting its default."""
    assert getattr(settings, key) == as_held(key, expected)
    assert settings.model_copy(update={key: getattr(Settings(), key)}) == Settings()


def check_warned(key: str, place: str, warnings: list[str]) -> None:
    """A key that does nothing is answered by its name and place, the others by nothing."""
    assert [(key in warning, place in warning, "has no effect" in warning) for warning in warnings] == (
        [(True, True, True)] if key in WITHOUT_EFFECT else []
    )


def test_samples_cover_the_settings_and_the_settings_cover_the_specification() -> None:
    assert set(SAMPLES) == set(Settings.model_fields)
    assert set(SPECIFIED.split()) <= set(Settings.model_fields)


@pytest.mark.parametrize("key", SAMPLES)
def test_each_key_is_read_from_the_file(key: str, load_toml: Callable[[str], Settings]) -> None:
    raw, _, expected = SAMPLES[key]
    check_only(key, load_toml(f"{key} = {toml_value(raw)}"), expected)


@pytest.mark.parametrize("key", SAMPLES)
def test_each_key_is_read_from_the_environment(key: str, monkeypatch: pytest.MonkeyPatch) -> None:
    _, text, expected = SAMPLES[key]
    monkeypatch.setenv(f"HERETIC_{key.upper()}", text)
    settings, warnings = load_settings({})
    check_warned(key, f"HERETIC_{key.upper()}", warnings)
    check_only(key, settings, expected)


@pytest.mark.parametrize("key", SAMPLES)
def test_each_key_is_read_from_its_flag(key: str) -> None:
    _, text, expected = SAMPLES[key]
    flag = key.replace("_", "-")
    switches = {"true": [f"--{flag}"], "false": [f"--no-{flag}"]}
    settings, warnings = load_settings(flags_of(*switches.get(text, [f"--{flag}", text])))
    check_warned(key, f"--{flag}", warnings)
    check_only(key, settings, expected)


def test_flags_go_before_the_environment_and_that_before_the_file(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "config.toml").write_text("n_trials = 1\nseed = 1\nbatch_size = 1\n")
    monkeypatch.setenv("HERETIC_N_TRIALS", "2")
    monkeypatch.setenv("HERETIC_SEED", "2")
    settings, _ = load_settings({"n_trials": "3"})
    assert (settings.n_trials, settings.seed, settings.batch_size) == (3, 2, 1)


def test_a_given_file_is_read_instead_of_the_one_in_the_working_directory(tmp_path: Path) -> None:
    (tmp_path / "config.toml").write_text("n_trials = 1\n")
    (tmp_path / "other.toml").write_text("seed = 5\n")
    settings, _ = load_settings({}, tmp_path / "other.toml")
    assert (settings.n_trials, settings.seed) == (200, 5)


def test_tables_are_merged_by_key(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "config.toml").write_text('[bad_prompts]\ndataset = "a.csv"\ncolumn = "prompt"\nprefix = "p"\n')
    monkeypatch.setenv("HERETIC_BAD_PROMPTS", '{"dataset": "b.csv", "suffix": "s"}')
    settings, _ = load_settings({"bad_prompts": "{ prefix = 'q' }"})
    assert settings.bad_prompts == PromptSource(dataset="b.csv", column="prompt", prefix="q", suffix="s")


def test_a_bare_string_replaces_the_whole_table(tmp_path: Path) -> None:
    (tmp_path / "config.toml").write_text('[bad_prompts]\ndataset = "a.csv"\ncolumn = "prompt"\n')
    settings, _ = load_settings({"bad_prompts": "b.txt"})
    assert settings.bad_prompts == PromptSource(dataset="b.txt")


def test_a_table_adds_to_a_bare_string(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HERETIC_BAD_PROMPTS", "b.txt")
    settings, _ = load_settings({"bad_prompts": '{"split": "[:10]"}'})
    assert settings.bad_prompts == PromptSource(dataset="b.txt", split="[:10]")


@pytest.mark.parametrize("key", ["max_memory", "time_budget", "response_prefix", "trial", "output", "model", "seed"])
def test_the_word_none_takes_back_what_the_file_gave(key: str, tmp_path: Path) -> None:
    (tmp_path / "config.toml").write_text(f"{key} = {toml_value(SAMPLES[key][0])}\n")
    if key == "seed":
        with pytest.raises(ConfigError, match="expected a whole number"):
            load_settings({key: "none"})
    else:
        assert getattr(load_settings({key: "none"})[0], key) is None


def test_none_in_the_file_is_the_same_word(load_toml: Callable[[str], Settings]) -> None:
    settings = load_toml('time_budget = "none"\nexport = "none"\nsystem_prompt = "none"\nquantization = "none"\n')
    assert settings.time_budget is None
    assert (settings.export, settings.system_prompt, settings.quantization) == ("none", "", "none")


@pytest.mark.parametrize("key", ["output", "trial", "model", "good_prompts", "time_budget", "trust_remote_code"])
def test_an_empty_variable_counts_as_not_given(key: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(f"HERETIC_{key.upper()}", "")
    assert getattr(load_settings({})[0], key) is None


@pytest.mark.parametrize(
    "text", ["sorry,i cannot", " sorry , i cannot,", '["sorry", "i cannot"]', "['sorry', 'i cannot']"]
)
def test_a_list_of_words_is_written_with_commas_or_as_a_list(text: str) -> None:
    assert load_settings({"refusal_markers": text})[0].refusal_markers == ["sorry", "i cannot"]


@pytest.mark.parametrize(("text", "expected"), [("true", True), ("False", False), ("1", True), ("no", False)])
def test_booleans_of_the_environment(text: str, expected: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HERETIC_ORTHOGONALIZE_DIRECTION", text)
    assert load_settings({})[0].orthogonalize_direction is expected


def test_variables_of_other_programs_are_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("N_TRIALS", "3")
    monkeypatch.setenv("MODEL", "x")
    assert load_settings({}) == (Settings(), [])


def test_an_unknown_variable_is_a_warning_with_the_nearest_name(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HERETIC_N_TRAILS", "3")
    settings, warnings = load_settings({})
    assert settings == Settings()
    assert warnings == ["HERETIC_N_TRAILS is not a setting and is ignored: did you mean HERETIC_N_TRIALS?"]


def test_a_configuration_of_the_existing_tool_loads_and_what_does_nothing_is_named(tmp_path: Path) -> None:
    keys = {key: raw for key, (raw, _, _) in SAMPLES.items() if key in SPECIFIED.split() and not isinstance(raw, dict)}
    lines = [f"{key} = {toml_value(raw)}" for key, raw in keys.items()]
    lines += ['export_strategy = "adapter"', "full_normalization_lora_rank = 3"]
    lines += ["[max_memory]", '0 = "20GB"', "[device_map]", '"" = "cpu"']
    lines += ["[bad_prompts]", *(f"{key} = {toml_value(value)}" for key, value in TABLE.items())]
    lines += ['commit = "abc"', 'split = "train[:400]"', 'prefix = ""', 'suffix = ""']
    lines += ['residual_plot_label = "Bad"', 'residual_plot_color = "darkorange"']
    for name in ("good_evaluation_prompts", "bad_evaluation_prompts"):
        lines += [f"[{name}]", 'dataset = "mlabonne/harmless_alpaca"', 'split = "test[:100]"', 'column = "text"']
    (tmp_path / "config.toml").write_text("\n".join(lines))
    settings, warnings = load_settings({})
    assert "export_strategy" in warnings[0] and "called export here" in warnings[0]
    assert "full_normalization_lora_rank" in warnings[1] and "no meaning" in warnings[1]
    assert [warning.split()[0] for warning in warnings[2:]] == list(WITHOUT_EFFECT)
    assert all("(config.toml, line" in warning for warning in warnings)
    assert settings.export == "adapter"
    assert settings.bad_prompts is not None and settings.bad_prompts.split == "train[:400]"
    assert {key: getattr(settings, key) for key in keys} == {key: SAMPLES[key][2] for key in keys}


@pytest.mark.parametrize("former", RENAMED)
@pytest.mark.parametrize("way", ["file", "environment", "flag"])
def test_a_former_name_of_a_key_works_and_warns(
    former: str, way: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    key = RENAMED[former]
    raw, text, expected = SAMPLES[key]
    if way == "file":
        (tmp_path / "config.toml").write_text(f"{former} = {toml_value(raw)}")
    elif way == "environment":
        monkeypatch.setitem(os.environ, f"HERETIC_{former.upper()}", text)
    dashed = former.replace("_", "-")
    flags = flags_of(
        *([f"--no-{dashed}" if expected is False else f"--{dashed}"] + ([] if isinstance(expected, bool) else [text]))
    )
    settings, [warning] = load_settings(flags if way == "flag" else {})
    check_only(key, settings, expected)
    place = {"file": "config.toml, line 1", "environment": f"HERETIC_{former.upper()}", "flag": f"--{dashed}"}[way]
    assert warning == f"{former} ({place}) is called {key} here. The name {former} still works."


def test_a_record_with_former_names_is_read_without_a_warning() -> None:
    settings = recorded_settings({"heldout_trials": 3, "seeds": "old.jsonl", "n_trials": 7}, "study.jsonl", {})
    assert (settings.heldout_trials, settings.warm_start, settings.n_trials) == (3, "old.jsonl", 7)


def test_a_flag_without_meaning_is_taken_with_a_warning() -> None:
    settings, warnings = load_settings(flags_of("--full-normalization-lora-rank", "3"))
    assert settings == Settings()
    assert len(warnings) == 1 and "--full-normalization-lora-rank" in warnings[0]


@pytest.mark.parametrize(
    ("given", "experts"),
    [
        ("12:0-1,7;13:5;*:2", {"12": [0, 1, 7], "13": [5], "*": [2]}),
        ("[1, 3]", {"*": [1, 3]}),
        ('{"4": [1]}', {"4": [1]}),
        ("all", None),
    ],
)
def test_experts_are_chosen_for_all_layers_or_by_layer(given: str, experts: dict[str, list[int]] | None) -> None:
    assert load_settings({"experts": given})[0].experts == experts


@pytest.mark.parametrize("given", ["some", "3:", "1-", '{"x": [1]}', "{}", '{"1": []}', "1;2;"])
def test_what_chooses_no_experts_is_refused(given: str) -> None:
    with pytest.raises(ConfigError, match="experts"):
        load_settings({"experts": given})
