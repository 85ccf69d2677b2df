"""Ground truth: on a model whose behaviour was planted, the program finds it and removes it."""

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from heretic.cli import main
from heretic.study.history import hypervolumes
from heretic.study.reader import RecordedStudy
from tests.support.planted import PLANTED_LAYER, planted_model


def study_of(tmp_path: Path) -> Path:
    [journal] = (tmp_path / "checkpoints").glob("*.jsonl")
    return journal


@pytest.mark.parametrize("row_normalization", ["none", "pre", "full"])
def test_planted_behaviour_is_found_and_removed(
    planted_directory: Path,
    planted_flags: list[str],
    tmp_path: Path,
    row_normalization: str,
    capsys: pytest.CaptureFixture[str],
) -> None:
    model = str(planted_directory / "planted")
    assert main([model, *planted_flags, "--row-normalization", row_normalization]) == 0
    _, planted = planted_model()
    vectors = load_file(study_of(tmp_path).with_suffix(".safetensors"))["directions"]
    # From the planted layer on, the residual holds the direction; below it, it must not.
    assert (vectors[PLANTED_LAYER + 1 :] @ planted).min() > 0.99
    assert (vectors[1 : PLANTED_LAYER + 1] @ planted).abs().max() < 0.5
    assert f"heretic export {study_of(tmp_path)}" in capsys.readouterr().err, "how to go on from here"
    assert main(["results", str(study_of(tmp_path)), "--json"]) == 0
    results = json.loads(capsys.readouterr().out)
    assert (results["baseline"]["refusals"], results["baseline"]["prompts"]) == (24, 24)
    assert results["baseline"]["metrics"]["refusals"]["value"] == 24
    best = results["front"][0]
    assert best["refusals"] == 0
    assert best["kl_divergence"] < 0.01
    assert best["metrics"]["refusals"] == {"value": 0}


@pytest.mark.parametrize("export", ["merge", "adapter"])
def test_the_written_model_answers(
    planted_directory: Path, planted_flags: list[str], tmp_path: Path, export: str, capsys: pytest.CaptureFixture[str]
) -> None:
    model = str(planted_directory / "planted")
    output = tmp_path / "edited"
    flags = ["--trial", "lowest-refusals", "--export", export, "--output", str(output)]
    named = ["--base-model", "owner/planted"] if export == "adapter" else []
    assert main([model, *planted_flags, *flags, *named]) == 0
    table = capsys.readouterr().err
    assert "searched" in table and "written" in table
    assert "  heretic upload " in table and table.splitlines()[-1].startswith("Done: ")
    manifest = json.loads((output / "heretic.json").read_text())
    assert manifest["trial"]["metrics"]["refusals"]["value"] == 0
    assert manifest["base_model"] == ("owner/planted" if named else "planted")
    for name in ("heretic.json", "README.md"):
        assert str(planted_directory) not in (output / name).read_text(), "a folder of this machine would be uploaded"
    if export == "adapter":
        adapter = json.loads((output / "adapter_config.json").read_text())
        assert (adapter["use_dora"], adapter["base_model_name_or_path"]) == (True, "owner/planted")
        return
    prompts = [flag for flag in planted_flags if flag.endswith("_search.txt") or "evaluation" in flag]
    fixed = ["--system-prompt", "none", "--dtypes", "float32", "--max-response-length", "4", "--batch-size", "8"]
    assert main(["evaluate", str(output), "--against", model, "--json", *prompts, *fixed]) == 0
    printed = capsys.readouterr()
    assert "Prompts: " in printed.err, "metrics of other prompts than the study's would be taken for its own"
    measured = json.loads(printed.out)
    assert (measured["refusals"], measured["prompts"]) == (0, 24)
    assert measured["kl_divergence"] == pytest.approx(manifest["trial"]["metrics"]["kl_divergence"]["value"], abs=1e-4)


def test_a_trial_of_a_recorded_study_is_exported_later(
    planted_directory: Path, planted_flags: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model = str(planted_directory / "planted")
    assert main([model, *planted_flags]) == 0
    output = tmp_path / "later"
    assert main(["export", str(study_of(tmp_path)), "--trial", "3", "--output", str(output)]) == 0
    assert json.loads((output / "heretic.json").read_text())["trial"]["number"] == 3
    edited = load_file(output / "model.safetensors")
    original = load_file(planted_directory / "planted" / "model.safetensors")
    changed = {key for key in original if not torch.equal(original[key], edited[key])}
    assert changed
    assert all("o_proj" in key or "down_proj" in key for key in changed)


def test_the_same_seed_gives_the_same_study(planted_directory: Path, planted_flags: list[str], tmp_path: Path) -> None:
    fronts = []
    for _ in range(2):
        arguments = [str(planted_directory / "planted"), *planted_flags, "--n-trials", "4", "--resume", "restart"]
        assert main(arguments) == 0
        journals = [path for path in (tmp_path / "checkpoints").glob("*.jsonl") if "." not in path.stem]
        lines = [json.loads(line) for line in journals[0].read_text().splitlines()]
        fronts.append([entry["user_attr"]["trial"] for entry in lines if "trial" in entry.get("user_attr", {})])
    assert len(fronts[0]) == 4
    assert fronts[0] == fronts[1]


def test_a_search_in_4_bits_writes_full_precision(
    planted_directory: Path, planted_flags: list[str], tmp_path: Path
) -> None:
    """The edit is compiled from the stored weights, and merged into them; 4 bits are the search's alone."""
    output = tmp_path / "edited"
    flags = ["--quantization", "bnb_4bit", "--trial", "lowest-refusals", "--output", str(output), "--n-trials", "4"]
    assert main([str(planted_directory / "planted"), *planted_flags, *flags]) == 0
    original, edited = (
        load_file(planted_directory / "planted" / "model.safetensors"),
        load_file(output / "model.safetensors"),
    )
    assert {key: (value.dtype, value.shape) for key, value in edited.items()} == {
        key: (value.dtype, value.shape) for key, value in original.items()
    }
    assert json.loads((output / "heretic.json").read_text())["trial"]["metrics"]["refusals"]["value"] == 0
    assert torch.equal(
        edited["model.layers.0.self_attn.q_proj.weight"], original["model.layers.0.self_attn.q_proj.weight"]
    )


@pytest.mark.parametrize("objective", ["log-odds", "both"])
def test_the_first_token_alone_finds_it_too(
    planted_directory: Path,
    planted_flags: list[str],
    tmp_path: Path,
    objective: str,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """A search without generation (log-odds), stopped and resumed, and its model written and scored."""
    model = str(planted_directory / "planted")
    flags = [*planted_flags, "--objective", objective]
    assert main([model, *flags, "--n-trials", "6"]) == 0
    written = ["--trial", "lowest-refusals", "--export", "merge", "--output", str(tmp_path / "edited")]
    assert main([model, *flags, "--resume", "continue", *written]) == 0
    assert "searched" in capsys.readouterr().err
    trial = json.loads((tmp_path / "edited" / "heretic.json").read_text())["trial"]
    assert trial["metrics"]["refusals"]["value"] == 0
    assert trial["metrics"]["kl_divergence"]["value"] < 0.01
    assert main([model, *planted_flags, "--resume", "continue"]) == 2
    assert "another objective" in capsys.readouterr().err


@pytest.mark.parametrize("startup", ["60", "4"])
def test_more_trials_never_give_a_worse_front(
    planted_directory: Path, planted_flags: list[str], tmp_path: Path, startup: str
) -> None:
    """A longer search has all candidates of a shorter one of the same seed, in whichever order."""
    found = {}
    for n_trials in (7, 14):
        place = tmp_path / str(n_trials)
        changes = {"--n-trials": n_trials, "--n-startup-trials": startup, "--study-checkpoint-dir": place}
        words = dict(zip(planted_flags[::2], planted_flags[1::2], strict=True)) | changes
        flags = [str(word) for pair in words.items() for word in pair]
        assert main([str(planted_directory / "planted"), *flags, "--heldout-trials", "0"]) == 0
        [journal] = place.glob("*.jsonl")
        study = RecordedStudy(journal)
        found[n_trials] = study.trials, hypervolumes(study.trials, study.baseline)[-1]
    (few, volume), (many, larger) = found.values()
    assert larger >= volume
    assert all(trial.parameters in [each.parameters for each in many] for trial in few)
