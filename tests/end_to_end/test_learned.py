"""The whole program with the method `learned`, on models whose behaviour was planted."""

import json
import signal
import subprocess
import sys
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from heretic.cli import main
from heretic.config import Settings
from heretic.engine.learning.path import LearningSettings
from heretic.study.reader import RecordedStudy
from tests.support.planted import PLANTED_LAYER, planted_model, planted_tokenizer
from tests.support.quantised import quantise
from tests.support.two_planted import MARKERS, two_planted_model

# All is written at one site, 64 features turn faster than thousands, and without what was planted an answer of two
# tokens is no less likely than exp(-3).
ROWS = {"good_rows": 16, "bad_rows": 8, "refusal_rows": 16}
ONE_SITE = partial(
    LearningSettings,
    **ROWS,
    lambdas=(1.0, 0.5),
    warm_up=0,
    first_steps=40,
    direction_step=0.005,
    final=0.05,
    margin=3.0,
    scalings=(),
)
SMALL_STEPS = partial(
    LearningSettings,
    **ROWS,
    lambdas=(30.0, 10.0, 3.0, 1.5, 0.8, 0.5, 0.35, 0.25),
    first_steps=32,
    direction_step=0.03,
)

METHOD = ["--method", "learned"]
ONE_PATH = ["--n-trials", str(Settings.model_fields["n_trials"].default)]


def study_of(directory: Path) -> Path:
    [journal] = [path for path in directory.glob("*.jsonl") if "." not in path.stem]
    return journal


def trials_of(directory: Path) -> list[dict[str, Any]]:
    lines = [json.loads(line) for line in study_of(directory).read_text().splitlines()]
    return [entry["user_attr"]["trial"] for entry in lines if "trial" in entry.get("user_attr", {})]


def front_of(journal: Path, capsys: pytest.CaptureFixture[str]) -> list[dict[str, Any]]:
    capsys.readouterr()
    assert main(["results", str(journal), "--json"]) == 0
    front: list[dict[str, Any]] = json.loads(capsys.readouterr().out)["front"]
    return front


def test_the_planted_direction_is_learned_removed_and_written(
    planted_directory: Path,
    planted_flags: list[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """A path with its front, exports that measure as searched, a report, a card, and a second measurement."""
    monkeypatch.setattr("heretic.session.learning.LearningSettings", ONE_SITE)
    model, output = str(planted_directory / "planted"), tmp_path / "edited"
    flags = [*planted_flags, *METHOD, *ONE_PATH, "--trial", "lowest-refusals", "--export", "merge"]
    flags += ["--output", str(output)]
    assert main([model, *flags]) == 0
    journal = study_of(tmp_path / "checkpoints")
    assert len(trials_of(tmp_path / "checkpoints")) == 2, "the points of one path"
    best = front_of(journal, capsys)[0]
    assert best["refusals"] == 0 and best["kl_divergence"] < 0.01
    manifest = json.loads((output / "heretic.json").read_text())
    parameters = manifest["trial"]["parameters"]
    kept = load_file(output / "heretic.tensors" / f"{parameters['tensors']}.safetensors")
    _, planted = planted_model()
    learned = kept[f"direction.{PLANTED_LAYER}"][:, 0]
    assert torch.nn.functional.cosine_similarity(learned, planted, dim=0).abs() > 0.99
    card = (output / "README.md").read_text()
    assert "Method: learned" in card and "by gradient" in card and "heretic.tensors" in card
    adapter = tmp_path / "adapter"
    chosen = ["--trial", str(manifest["trial"]["number"])]
    assert main(["export", str(journal), *chosen, "--export", "adapter", "--output", str(adapter)]) == 0
    assert main(["report", str(journal)]) == 0
    page = journal.with_suffix(".report.html").read_text()
    assert "The loss along the path" in page and "learned direction" in page
    prompts = ["--model", model, *planted_flags[:8]]
    for source, place in ((journal, "again"), (output, "of the export")):
        assert main(["reproduce", str(source), "--study-checkpoint-dir", str(tmp_path / place), *prompts]) == 0
    (output / "heretic.tensors" / f"{parameters['tensors']}.safetensors").unlink()
    lost = ["reproduce", str(output), "--study-checkpoint-dir", str(tmp_path / "lost"), *prompts]
    assert main(lost) == 2
    assert "tensors of a trial" in capsys.readouterr().err


def test_a_path_that_is_killed_goes_on(planted_directory: Path, planted_flags: list[str], tmp_path: Path) -> None:
    """The finished points are kept, and the others equal those of an uninterrupted path."""
    model = str(planted_directory / "planted")
    flags = [*planted_flags, *METHOD, "--candidates-per-forward", "1", "--heldout-trials", "0"]
    whole = [*flags, "--study-checkpoint-dir", str(tmp_path / "whole"), "--n-trials", "5"]
    assert main([model, *whole]) == 0
    command = [sys.executable, "-m", "heretic", model, *flags, "--n-trials", "5"]
    with subprocess.Popen(command, stderr=subprocess.PIPE, stdin=subprocess.DEVNULL, text=True) as process:
        assert process.stderr is not None
        assert any("Trial 1:" in line for line in process.stderr)
        process.send_signal(signal.SIGKILL)
    before = trials_of(tmp_path / "checkpoints")
    assert 2 <= len(before) < 5
    assert main([model, *flags, "--n-trials", "5", "--resume", "continue"]) == 0
    after, expected = trials_of(tmp_path / "checkpoints"), trials_of(tmp_path / "whole")
    assert after[: len(before)] == before
    points = [each["parameters"]["point"] for each in after]
    assert points[:3] == [3, 4, 5]
    assert points[4] == 3
    assert [each["parameters"] for each in after] == [each["parameters"] for each in expected]
    assert [each["metrics"] for each in after] == [each["metrics"] for each in expected]


def test_ctrl_c_during_the_models_own_answers_says_how_to_continue(
    planted_directory: Path,
    planted_flags: list[str],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    def interrupted(*_: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("heretic.session.learning.baseline_targets", interrupted)
    assert main([str(planted_directory / "planted"), *planted_flags, *METHOD]) == 130
    assert "Stopped. Run the command again to continue" in " ".join(capsys.readouterr().err.split())


SHORT = partial(LearningSettings, lambdas=(3.0, 1.0), warm_up=0, first_steps=8, scalings=((-1, 0.8), (-1, 0.5)))


@pytest.mark.parametrize("n_trials", ["200", "6"])
def test_another_path_follows_with_another_seed(
    n_trials: str, planted_directory: Path, planted_flags: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Further trials, from the menu or by their number, are points of a second path."""
    monkeypatch.setattr("heretic.session.learning.LearningSettings", SHORT)
    from heretic.events import Action
    from heretic.ui.flags import FlagChooser

    actions = [Action("leave")] if n_trials == "6" else [Action("leave"), Action("more", n_trials=2)]
    monkeypatch.setattr(FlagChooser, "next_action", lambda *_: actions.pop())
    flags = [*planted_flags, *METHOD, "--heldout-trials", "0", "--n-trials", n_trials]
    assert main([str(planted_directory / "planted"), *flags]) == 0
    numbers = [
        (each["parameters"]["path"], each["parameters"]["point"]) for each in trials_of(tmp_path / "checkpoints")
    ]
    assert numbers == [(0, 0), (0, 1), (0, 1), (0, 1), (1, 0), (1, 1)]


def test_the_last_points_follow_with_other_strengths(
    planted_directory: Path, planted_flags: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Their edits are the point's with scaled strengths, and a run stopped among them continues there."""
    monkeypatch.setattr("heretic.session.learning.LearningSettings", SHORT)
    flags = [str(planted_directory / "planted"), *planted_flags, *METHOD, *ONE_PATH, "--heldout-trials", "0"]
    assert main([*flags, "--n-trials", "3", "--candidates-per-forward", "1"]) == 0
    assert main([*flags, "--resume", "continue"]) == 0
    trials = [each["parameters"] for each in trials_of(tmp_path / "checkpoints")]
    assert [(each["point"], each["scale"]) for each in trials] == [(0, 1.0), (1, 1.0), (1, 0.8), (1, 0.5)]
    folder = next((tmp_path / "checkpoints").glob("*.tensors"))
    last, weaker = (load_file(folder / f"{trials[number]['tensors']}.safetensors") for number in (1, 3))
    assert last.keys() == weaker.keys()
    for name, tensor in last.items():
        assert torch.equal(weaker[name], 0.5 * tensor if name.startswith("strength.") else tensor)
    assert trials[3]["losses"] == []


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("method", ["bnb_4bit", "bnb_8bit", "fp8"])
def test_gradients_pass_quantised_weights(
    method: str,
    planted_directory: Path,
    planted_flags: list[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """As in QLoRA, the weights stay packed, and the edits act on their outputs. Where bitsandbytes packs 4-bit
    weights for a CPU's own instructions there is no gradient: the kernel method searches instead."""
    if method != "fp8":
        pytest.importorskip("bitsandbytes")
    monkeypatch.setattr("heretic.session.learning.LearningSettings", partial(ONE_SITE, lambdas=(1.0,)))
    quantise(planted_directory / "planted", tmp_path / method, method)
    full = ["--full-precision-model", str(planted_directory / "planted"), "--heldout-trials", "0"]
    assert main([str(tmp_path / method), *planted_flags, *METHOD, *full, "--n-trials", "1"]) == 0
    journal = study_of(tmp_path / "checkpoints")
    if RecordedStudy(journal).record.no_gradient is not None:
        said = " ".join(capsys.readouterr().err.split())
        assert "bitsandbytes has packed these 4-bit weights for inference on this CPU: the method kernel" in said
        return
    best = front_of(journal, capsys)[0]
    assert best["refusals"] == 0 and best["kl_divergence"] < 0.02


def test_the_kernel_method_takes_over_where_no_gradient_passes(
    planted_directory: Path,
    planted_flags: list[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """The record and the report say so, and the same command continues the study without a new check."""
    checked = []

    def fault(*_: Any) -> str:
        checked.append(True)
        return "nothing passes"

    monkeypatch.setattr("heretic.engine.learning.runners.gradient_fault", fault)
    command = [str(planted_directory / "planted"), *planted_flags, *METHOD, "--heldout-trials", "0"]
    for trials in (2, 3):
        assert main([*command, "--n-trials", str(trials), "--resume", "continue"]) == 0
        said = " ".join(capsys.readouterr().err.split())
        assert "No edits can be learned of this model, since nothing passes: the method kernel searches" in said
    assert checked == [True]
    journal = study_of(tmp_path / "checkpoints")
    record = RecordedStudy(journal).record
    assert (record.settings["method"], record.no_gradient) == ("kernel", "nothing passes")
    assert [trial["parameters"].get("method", "kernel") for trial in trials_of(journal.parent)] == ["kernel"] * 3
    page = tmp_path / "page.html"
    assert main(["report", str(journal), "--output", str(page), "--no-model"]) == 0
    assert "kernel in place of learned, since nothing passes" in page.read_text()


def test_a_point_that_diverges_is_a_failed_trial(
    planted_directory: Path,
    planted_flags: list[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    from heretic.engine.learning.path import PathLearner

    quick = partial(LearningSettings, first_steps=3, steps=2)
    monkeypatch.setattr("heretic.session.learning.LearningSettings", quick)
    monkeypatch.setattr(PathLearner, "_fault", lambda self: "the loss diverges" if self.point in (1, 3) else None)
    assert main([str(planted_directory / "planted"), *planted_flags, *METHOD, "--n-trials", "4"]) == 0
    said = capsys.readouterr().err
    assert "Trial 0 failed: the loss diverges" in said, "a point on the way that is dropped"
    assert "Trial 1 failed: the loss diverges" in said
    assert [each["parameters"]["point"] for each in trials_of(tmp_path / "checkpoints")] == [4, 5]


def test_two_directions_need_rank_two(
    planted_directory: Path,
    planted_flags: list[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """No kernel removes the behaviour, and a learned edit of rank 2 does."""
    monkeypatch.setattr("heretic.session.learning.LearningSettings", SMALL_STEPS)
    model, _ = two_planted_model()
    model.save_pretrained(tmp_path / "two")
    planted_tokenizer().save_pretrained(tmp_path / "two")
    fewest = {}
    for method in ("kernel", "learned"):
        place = tmp_path / method
        flags = [*planted_flags, "--method", method, "--learned-rank", "2", "--heldout-trials", "0"]
        flags += ONE_PATH if method == "learned" else []
        flags += ["--refusal-markers", json.dumps(MARKERS), "--study-checkpoint-dir", str(place)]
        assert main([str(tmp_path / "two"), *flags]) == 0
        fewest[method] = front_of(study_of(place), capsys)[0]
    assert fewest["kernel"]["refusals"] > 0
    assert fewest["learned"]["refusals"] == 0 and fewest["learned"]["kl_divergence"] < 0.01
