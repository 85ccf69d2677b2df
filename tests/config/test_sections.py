"""What the settings are: sections, ranges, durations, presets."""

import subprocess
import sys
from typing import Any

import pytest
from pydantic import ValidationError

from heretic.config import (
    SECTIONS,
    PromptSource,
    SearchSettings,
    Settings,
    resolve_prompts,
)
from heretic.config.defaults import REFUSAL_MARKERS
from heretic.config.types import parse_duration

HEAVY = ("torch", "transformers", "optuna", "datasets", "numpy")


def test_importing_the_settings_imports_nothing_heavy() -> None:
    program = f"import heretic.config, sys; print([name for name in {HEAVY} if name in sys.modules])"
    result = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "[]"


def test_settings_are_the_sections_and_each_key_has_one_section() -> None:
    keys = [key for section in SECTIONS for key in section.model_fields]
    assert len(keys) == len(set(keys))
    assert set(keys) == set(Settings.model_fields)
    assert all(issubclass(Settings, section) for section in SECTIONS)


def test_every_setting_is_described_in_sentences_and_its_section_has_a_title() -> None:
    for section in SECTIONS:
        assert section.model_config.get("title")
        for key, field in section.model_fields.items():
            text = field.description or ""
            assert text.endswith(".") and text[0].isupper() and "\n" not in text and len(text) < 250, key


def test_defaults_pass_their_own_checks() -> None:
    for section in SECTIONS:
        section()


def test_constructing_settings_reads_no_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HERETIC_N_TRIALS", "3")
    assert Settings().n_trials == SearchSettings().n_trials == 200


def test_settings_cannot_be_changed() -> None:
    with pytest.raises(ValidationError, match="frozen"):
        Settings().__setattr__("n_trials", 3)
    with pytest.raises(ValidationError, match="frozen"):
        SearchSettings().__setattr__("n_trials", 3)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("n_trials", 0),
        ("n_startup_trials", -1),
        ("n_ei_candidates", 0),
        ("batch_size", -1),
        ("max_batch_size", 0),
        ("max_response_length", 0),
        ("winsorization_quantile", 0.0),
        ("winsorization_quantile", 1.1),
        ("kl_divergence_scale", 0.0),
        ("kl_divergence_scale", float("inf")),
        ("kl_divergence_target", float("nan")),
        ("kl_divergence_target", -0.1),
        ("seed", -1),
        ("trial", -1),
        ("trial", "best"),
        ("time_budget", 0),
        ("refusal_markers", []),
        ("refusal_markers", [""]),
        ("dtypes", []),
        ("dtypes", ["float8"]),
        ("max_shard_size", "many"),
        ("preset", "none"),
        ("good_prompts", {"dataset": ""}),
        ("chain_of_thought_skips", [["<think>"]]),
        ("benchmarks", [{"task": "mmlu"}]),
        ("base_model", "models"),
        ("base_model", "/home/me/models/mine"),
    ],
)
def test_values_out_of_range_are_refused(key: str, value: object) -> None:
    with pytest.raises(ValidationError, match=key):
        Settings.model_validate({key: value})


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("90s", 90), ("90", 90), ("30m", 1800), ("1h30m", 5400), ("2h", 7200), ("1h5s", 3605), (" 1.5s ", 1.5), (7, 7)],
)
def test_durations(text: object, seconds: float) -> None:
    assert Settings.model_validate({"time_budget": text}).time_budget == seconds


@pytest.mark.parametrize("text", ["", "h", "soon", "5d", "30m1h", "-5s", "1:30"])
def test_what_is_no_duration_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="1h30m"):
        parse_duration(text)


def test_the_default_markers_are_those_of_the_specification() -> None:
    assert len(REFUSAL_MARKERS) == 33
    assert len(set(REFUSAL_MARKERS)) == 33
    assert all(marker == marker.lower() for marker in REFUSAL_MARKERS)


def test_memory_limits_name_gpus_by_number() -> None:
    settings = Settings.model_validate({"max_memory": {"0": "20GB", "cpu": "64GB"}})
    assert settings.max_memory == {0: "20GB", "cpu": "64GB"}


def test_a_bare_string_is_a_prompt_source() -> None:
    assert Settings.model_validate({"bad_prompts": "bad.txt"}).bad_prompts == PromptSource(dataset="bad.txt")


@pytest.mark.parametrize("preset", ["refusal", "disclaimer"])
def test_a_packaged_preset_stands_for_the_prompts(preset: str) -> None:
    sources = resolve_prompts(Settings.model_validate({"preset": preset}))
    dataset = f"packaged:{preset}"
    assert sources.good_prompts == PromptSource(dataset=dataset, split="direction", column="good")
    assert sources.bad_prompts == PromptSource(dataset=dataset, split="direction", column="bad")
    assert sources.good_evaluation_prompts == PromptSource(dataset=dataset, split="search", column="good")
    assert sources.bad_evaluation_prompts == PromptSource(dataset=dataset, split="search", column="bad")


def test_the_hub_preset_stands_for_the_prompts() -> None:
    sources = resolve_prompts(Settings(preset="hub"))
    good, bad = "mlabonne/harmless_alpaca", "mlabonne/harmful_behaviors"
    assert sources.good_prompts == PromptSource(dataset=good, split="train[:400]", column="text")
    assert sources.bad_prompts == PromptSource(dataset=bad, split="train[:400]", column="text")
    assert sources.good_evaluation_prompts == PromptSource(dataset=good, split="test[:100]", column="text")
    assert sources.bad_evaluation_prompts == PromptSource(dataset=bad, split="test[:100]", column="text")


def test_given_prompts_go_before_the_preset() -> None:
    given = PromptSource(dataset="bad.txt")
    sources = resolve_prompts(Settings(bad_prompts=given))
    assert sources.bad_prompts == given
    assert sources.good_prompts.dataset == "packaged:refusal"


@pytest.mark.parametrize(("text", "expected"), [("none", ""), ("None ", ""), ("", ""), ("Be brief.", "Be brief.")])
def test_the_system_prompt_none_is_no_system_prompt(text: str, expected: str) -> None:
    assert Settings(system_prompt=text).system_prompt == expected
    assert PromptSource(dataset="a.txt", system_prompt=text).system_prompt == expected
    assert PromptSource(dataset="a.txt").system_prompt is None


@pytest.mark.parametrize("value", ["auto", "cpu", "cuda:1", "0", {"": "cpu"}, {"model.layers.0": 0, "lm_head": "disk"}])
def test_device_maps_of_accelerate(value: Any) -> None:
    assert Settings(device_map=value).device_map == value


@pytest.mark.parametrize("value", ["nonsense", "cuda:x", "gpu", "", {"": "there"}])
def test_other_device_maps_are_refused_before_a_model_is_loaded(value: Any) -> None:
    with pytest.raises(ValidationError, match="cuda:0"):
        Settings(device_map=value)
