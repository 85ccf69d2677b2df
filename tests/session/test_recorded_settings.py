"""Which settings a record may decide."""

import io

import pytest

from heretic.config import Settings
from heretic.config.changes import changed, values_as_json
from heretic.errors import ConfigError
from heretic.session.recorded_settings import COMPARED_SETTINGS, METRIC_SETTINGS, recorded_values
from heretic.ui.plain import PlainReporter

NEVER_TAKEN = {
    *("model", "model_commit", "trust_remote_code", "full_precision_model", "device_map", "max_memory"),
    *("offload_outputs_to_cpu", "max_batch_size", "print_responses", "evaluate_model", "benchmarks", "judges"),
    *("study_checkpoint_dir", "resume", "reproduce", "trial", "export", "gguf_type", "output"),
    *("imatrix", "max_shard_size", "base_model"),
    *("upload", "upload_public", "print_residual_geometry", "plot_residuals", "residual_plot_path"),
    *("residual_plot_title", "residual_plot_style"),
    *("ray", "ray_address", "gpus_per_model", "threads_per_model", "max_actors", "storage"),
}


def taken(recorded: dict[str, object], own: Settings | None = None, **flags: str) -> tuple[Settings, str]:
    printed = io.StringIO()
    values = recorded_values(recorded, "a.jsonl", PlainReporter(printed), flags)
    return changed(own or Settings(), values), " ".join(printed.getvalue().split())


def test_every_setting_is_either_taken_from_records_or_never() -> None:
    """Every new setting must be classified: a key belongs to the list only if metrics depend on it."""
    assert len(set(METRIC_SETTINGS)) == len(METRIC_SETTINGS)
    assert set(METRIC_SETTINGS).isdisjoint(NEVER_TAKEN)
    assert {*METRIC_SETTINGS, *NEVER_TAKEN} == set(Settings.model_fields)
    assert set(COMPARED_SETTINGS) <= set(METRIC_SETTINGS)


def test_a_record_decides_what_metrics_depend_on_and_the_user_the_rest() -> None:
    own = Settings(trust_remote_code=False, seed=1, upload="me/mine")
    settings, printed = taken({"seed": 7, "trust_remote_code": True, "upload": "them/theirs", "moon": "full"}, own)
    assert (settings.seed, settings.trust_remote_code, settings.upload) == (7, False, "me/mine")
    assert printed.count("ignored") == 1
    assert 'trust_remote_code = true, upload = "them/theirs", moon = "full"' in printed


def test_what_changes_nothing_is_not_worth_a_warning() -> None:
    assert taken({"trust_remote_code": None, "device_map": "auto", "judges": [], "model": "a/b"})[1] == ""
    assert taken(values_as_json(Settings(), METRIC_SETTINGS))[1] == ""


def test_flags_count_over_the_record() -> None:
    assert taken({"seed": 7, "n_trials": 3}, seed="9")[0].seed == 9


def test_former_names_are_read() -> None:
    settings, printed = taken({"only_telling_prompts": True, "workers": 3})
    assert settings.filter_direction_prompts and settings.n_workers == 3 and printed == ""


def test_a_record_without_a_method_is_of_the_first_one() -> None:
    own = Settings(method="oblique")
    assert taken({"seed": 7}, own)[0].method == "kernel"
    assert taken({"seed": 7, "method": "oblique"})[0].method == "oblique"
    assert taken({"seed": 7}, own, method="oblique")[0].method == "oblique"


def test_a_bad_value_is_an_error_that_names_the_record() -> None:
    with pytest.raises(ConfigError, match=r"seed \(a.jsonl\): expected a number greater"):
        taken({"seed": -1})


def test_a_key_can_not_write_to_the_terminal() -> None:
    assert "\x1b" not in taken({"\x1b[2J": 1, "upload": "\x1b]0;title\x07"})[1]
