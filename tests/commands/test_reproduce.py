"""heretic reproduce: recorded metrics are measured again, and differences are named."""

import json
import re
import shutil
from pathlib import Path
from typing import Any

import pytest

from heretic.cli import main
from heretic.commands.reproduce import _compared
from heretic.study.reader import RecordedStudy
from tests.support.study_toys import BASELINE, trial

Content = dict[str, Any]


@pytest.fixture(scope="module")
def recorded(planted_directory: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory with a study, its report and an export, none of which a test changes."""
    place = tmp_path_factory.mktemp("recorded")
    flags = [f"--{side}-heldout-prompts={planted_directory}/{side}_report.txt" for side in ("good", "bad")]
    for side in ("good", "bad"):
        flags += [f"--{side}-prompts={planted_directory}/{side}_direction.txt"]
        flags += [f"--{side}-evaluation-prompts={planted_directory}/{side}_search.txt"]
    flags += ["--system-prompt", "none", "--dtypes", "float32", "--batch-size", "64", "--max-response-length", "4"]
    flags += ["--n-trials", "10", "--n-startup-trials", "7", "--study-checkpoint-dir", str(place / "checkpoints")]
    flags += ["--trial", "knee", "--output", str(place / "edited")]
    assert main([str(planted_directory / "planted"), *flags]) == 0
    [journal] = (place / "checkpoints").glob("*.jsonl")
    assert main(["report", str(journal), "--no-model", "--page", str(place / "report.html")]) == 0
    return place


@pytest.fixture
def report(recorded: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A report in a working directory of the test's own."""
    monkeypatch.chdir(tmp_path)
    return Path(shutil.copy(recorded / "report.json", "report.json"))


def altered(report: Path, change: Any) -> Path:
    content = json.loads(report.read_text())
    change(content)
    report.write_text(json.dumps(content))
    return report


def reproduced(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, Content]:
    capsys.readouterr()
    status = main(["reproduce", *arguments, "--json"])
    return status, json.loads(capsys.readouterr().out)


def refused(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    capsys.readouterr()
    assert main(["reproduce", *arguments]) == 2
    assert not Path("reproduced").exists()
    return " ".join(capsys.readouterr().err.split())


def test_the_recorded_trials_agree_when_they_are_measured_again(
    report: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = json.loads(report.read_text())
    status, found = reproduced(capsys, str(report))
    assert status == 0 and found["agrees"] and not found["whole"]
    assert {each["verdict"] for each in found["metrics"]} == {"exactly"}
    assert found["differences"] == []
    front = [f"trial {each['number']}" for each in before["front"]]
    assert [each["subject"] for each in found["metrics"] if each["metric"] == "KL (search)"] == front
    # Both parts of the prompts, candidates and the baseline.
    metrics = {(each["subject"], each["metric"]) for each in found["metrics"]}
    assert ("baseline", "refusals (search)") in metrics and ("baseline", "good: broken") in metrics
    assert (front[0], "bad: declined") in metrics and (front[0], "KL along answers") in metrics
    # A study of its own came of it, of the front alone.
    [journal] = Path("reproduced").glob("*.jsonl")
    assert len(RecordedStudy(journal).trials) == len(front)


def test_the_whole_search_is_the_same_from_its_seed(report: Path, capsys: pytest.CaptureFixture[str]) -> None:
    status, found = reproduced(capsys, str(report), "--search")
    assert status == 0 and found["whole"]
    assert {each["verdict"] for each in found["metrics"]} == {"exactly"}
    assert sum(each["metric"] == "KL (search)" for each in found["metrics"]) == 10


def test_another_seed_differs_and_the_first_other_trial_is_named(
    report: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def change(content: Content) -> None:
        content["runs"][-1]["settings"]["seed"] = 1

    assert main(["reproduce", str(altered(report, change)), "--search"]) == 1
    printed = " ".join(capsys.readouterr().out.split())
    assert re.search(r"The search goes another way from trial \d+ on", printed)
    assert "The metrics do not agree." in printed


def refusals_of_the_front(content: Content) -> None:
    number = content["front"][0]["number"]
    [trial] = [each for each in content["trials"] if each["number"] == number]
    trial["metrics"]["refusals"]["value"] += 12


def divergence_of_the_front(content: Content) -> None:
    number = content["front"][0]["number"]
    [trial] = [each for each in content["trials"] if each["number"] == number]
    trial["metrics"]["kl_divergence"]["value"] += 0.01


def declined_at_the_end(content: Content) -> None:
    metric = content["measured"]["baseline"]["sets"]["bad_heldout_prompts"]["classes"]["declined"]
    metric |= {"count": 2, "low": 0.028, "high": 0.301}


def divergence_at_the_end(content: Content) -> None:
    metric = content["measured"]["candidates"][0]["kl_answers"]
    metric |= {"mean": 0.5, "low": 0.4, "high": 0.6}


@pytest.mark.parametrize(
    ("change", "metric"),
    [
        (refusals_of_the_front, "refusals (search)"),
        (divergence_of_the_front, "KL (search)"),
        (declined_at_the_end, "bad: declined"),
        (divergence_at_the_end, "KL along answers"),
    ],
)
def test_an_altered_figure_does_not_agree(
    report: Path, change: Any, metric: str, capsys: pytest.CaptureFixture[str]
) -> None:
    status, found = reproduced(capsys, str(altered(report, change)))
    assert status == 1 and not found["agrees"]
    assert [each["metric"] for each in found["metrics"] if each["verdict"] == "no"] == [metric]


@pytest.mark.parametrize(
    ("recorded", "now", "verdicts"),
    [
        (trial(5, 10, 0.1, pruned=True), trial(0, 60, 0.1), ["within the interval", "exactly"]),
        (trial(5, 10, 0.1, pruned=True), trial(0, 10, 0.1, pruned=True), ["exactly", "exactly"]),
        (trial(5, 60, 0.1, pruned=True), trial(0, 10, 0.1), ["no", "exactly"]),
        (trial(5, 10, 0.1), trial(0, 60, 0.1), ["no", "exactly"]),
        (trial(5, 10, 0.1), trial(0, 10, 0.1, pruned=True), ["no", "no"]),
    ],
)
def test_a_recorded_lower_bound_agrees_with_more(recorded: Any, now: Any, verdicts: list[str]) -> None:
    """An export of a pruned trial is measured in full when it is reproduced."""
    found = [*_compared(recorded, now, BASELINE, (0.01, 0.0))]
    assert [each.verdict for each in found] == verdicts
    assert [each.metric for each in found] == [
        "refusals, at least (search)" if recorded.pruned else "refusals (search)",
        "KL (search)",
    ]


def test_a_figure_within_its_interval_agrees_and_differences_are_shown(
    report: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def change(content: Content) -> None:
        content["measured"]["baseline"]["sets"]["bad_heldout_prompts"]["classes"]["declined"] |= {
            "count": 18,
            "low": 0.699,
            "high": 0.972 + 0.03,
        }
        content["study"]["versions"]["torch"] = "1.0"
        content["runs"][-1]["hardware"]["memory"] = "1 GB"

    status, found = reproduced(capsys, str(altered(report, change)))
    assert status == 0
    [metric] = [each for each in found["metrics"] if each["verdict"] != "exactly"]
    assert (metric["recorded"], metric["now"], metric["verdict"]) == (18, 20, "within the interval")
    assert [(each["name"], each["recorded"]) for each in found["differences"]] == [("torch", "1.0"), ("memory", "1 GB")]


def test_a_journal_and_an_export_are_records_too(
    recorded: Path, planted_directory: Path, report: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    [journal] = (recorded / "checkpoints").glob("*.jsonl")
    assert reproduced(capsys, str(journal))[0] == 0
    # The reproduction that is there is not measured again, nor taken for another study.
    assert main(["reproduce", str(report)]) == 0
    assert "The metrics agree" in capsys.readouterr().out
    files = [f"--model={planted_directory}/planted"]
    for side in ("good", "bad"):
        files += [f"--{side}-prompts={planted_directory}/{side}_direction.txt"]
        files += [f"--{side}-evaluation-prompts={planted_directory}/{side}_search.txt"]
    status, found = reproduced(capsys, str(recorded / "edited"), "--study-checkpoint-dir", "other", *files)
    assert status == 0
    assert [each["metric"] for each in found["metrics"]] == ["refusals (search)", "refusals (search)", "KL (search)"]
    # The key of the configuration does the same.
    assert main(["--reproduce", str(report), "--study-checkpoint-dir", "third"]) == 0
    assert "The metrics agree" in capsys.readouterr().out


def test_an_export_on_the_hub_is_a_record(
    recorded: Path, report: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Tests have no network: one function replaces the hub."""
    asked = []

    def download(name: str, file: str, revision: str | None, local_files_only: bool) -> str:
        asked.append((name, file, revision))
        return str(recorded / "edited" / file)

    monkeypatch.setattr("huggingface_hub.hf_hub_download", download)
    # A model that was local to the author is searched by its name; its path has to be given.
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    assert "planted is not a path here" in refused(capsys, "owner/edited")
    assert asked[0] == ("owner/edited", "heretic.json", None)


def test_another_study_in_the_directory_is_an_error(
    recorded: Path, report: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copytree(recorded / "checkpoints", "checkpoints")
    said = refused(capsys, str(report), "--study-checkpoint-dir", "checkpoints", "--search")
    assert "Expected no study in" in said and "--study-checkpoint-dir" in said


def other_version(content: Content) -> None:
    content["version"] = 3


def other_model(content: Content) -> None:
    content["study"]["model_digest"] = "0" * 16


def no_model(content: Content) -> None:
    content["study"]["model"] = content["study"]["model_path"] = "./gone"


def other_prompts(content: Content) -> None:
    content["study"]["prompts"]["bad_evaluation_prompts"]["digest"] = "0" * 16


def other_report_prompts(content: Content) -> None:
    content["measured"]["prompts"]["good_heldout_prompts"]["digest"] = "0" * 16


def no_prompts(content: Content) -> None:
    content["runs"][-1]["settings"]["bad_prompts"]["dataset"] = "./gone.txt"


def unknown_field(content: Content) -> None:
    content["study"]["moon"] = "full"


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (other_version, "a record of version 1 or 2 in report.json, found version 3"),
        (unknown_field, "study.moon"),
        (no_model, "give its path with --model"),
        (other_model, "digest 0000000000000000"),
        (other_prompts, "--bad-evaluation-prompts"),
        (other_report_prompts, "--good-heldout-prompts"),
        (no_prompts, "./gone.txt"),
    ],
)
def test_a_run_that_can_not_be_repeated_is_an_error_at_once(
    report: Path, change: Any, says: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert says in refused(capsys, str(altered(report, change)))


@pytest.mark.parametrize(
    ("content", "says"),
    [("<!doctype html>", "It lies next to the page (.html)"), ("[1]", "found other JSON"), (None, "found none")],
)
def test_a_file_that_is_no_record_is_an_error(
    report: Path, content: str | None, says: str, capsys: pytest.CaptureFixture[str]
) -> None:
    name = Path("other.json")
    if content is not None:
        name.write_text(content)
    assert says in refused(capsys, str(name))


def test_an_export_records_no_search(recorded: Path, report: Path, capsys: pytest.CaptureFixture[str]) -> None:
    said = refused(capsys, str(recorded / "edited"), "--search")
    assert "it records one trial, not the search that found it" in said
