"""Studies of all versions can be read and continued, with the same metrics."""

import json
import shutil
from collections.abc import Sequence
from pathlib import Path

import pytest
from pydantic import ValidationError

from heretic.ablation.parameters import WeightKernel
from heretic.errors import StudyError
from heretic.study.reader import RecordedStudy, has_record
from heretic.study.schema import BaselineRecord, StudyRecord, TrialRecord
from tests.support.study_toys import GOLDEN, open_study, record, search, trial

VALUES = [(0, 28, 0.065041087848256), (1, 38, 0.0732860080061187), (2, 23, 0.05253583870696103)]


@pytest.fixture(params=["study-1.jsonl", "study-2.jsonl"])
def golden(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """The same study as each version wrote it."""
    return Path(shutil.copy(GOLDEN / request.param, tmp_path / "m.jsonl"))


def values(trials: Sequence[TrialRecord]) -> list[tuple[int, float, float]]:
    return [(trial.number, trial.value("refusals"), trial.value("kl_divergence")) for trial in trials]


def test_its_metrics_and_parameters_are_read(golden: Path) -> None:
    study = RecordedStudy(golden)
    assert values(study.trials) == VALUES
    assert study.count_by_state() == {"complete": 3, "fail": 1, "running": 1}
    assert (study.baseline.value("refusals"), study.baseline.metrics["refusals"].of) == (80, 100)
    assert [trial.parameters.direction_scope for trial in study.trials] == ["per layer", "per layer", "global"]
    assert study.trials[2].parameters.direction_index == 6.428440458947011
    assert study.trials[2].parameters.kernels["mlp.down_proj"] == WeightKernel(
        max_weight=1.492663609894861,
        max_weight_position=10.774328032874028,
        min_weight=0.021413793827618488,
        min_weight_distance=3.3724717827991046,
    )


def test_its_record_is_read(golden: Path) -> None:
    assert RecordedStudy(golden).record == record()
    for name in ("record-1.json", "record-2.json"):
        assert StudyRecord.model_validate_json((GOLDEN / name).read_text()) == record()


def test_a_record_is_written_as_version_2() -> None:
    assert json.loads(record().model_dump_json()) == json.loads((GOLDEN / "record-2.json").read_text())


def test_metrics_of_version_1_become_a_table() -> None:
    """Over-refusals, a pruned trial, and what the first-token score keeps of the baseline."""
    old = {"refusals": 80, "prompts": 100, "over_refusals": 2, "over_prompts": 10}
    read = BaselineRecord.model_validate(old | {"refusal_tokens": [3, 4], "probability": 0.5})
    assert list(read.metrics) == ["refusals", "kl_divergence", "over_refusals"]
    assert [(metric.value, metric.of, metric.scale) for metric in read.metrics.values()] == [
        (80, 100, 80),
        (0, None, 1),
        (2, 10, 10),
    ]
    assert read.metrics["refusals"].details == {"refusal_tokens": [3, 4], "probability": 0.5}
    whole, pruned = trial(7, 3, 0.25, over=1), trial(8, 9, 0.5, over=0, pruned=True)
    for each, fields in (
        (whole, {"refusals": 3, "kl_divergence": 0.25, "over_refusals": 1, "bound": False}),
        (pruned, {"refusals": 9, "kl_divergence": 0.5, "over_refusals": 0, "bound": True}),
    ):
        parameters = each.parameters.model_dump(mode="json")
        assert TrialRecord.model_validate({"number": each.number, "parameters": parameters, **fields}) == each
    assert pruned.pruned and not whole.pruned


def test_a_preview_of_version_1_is_still_known(golden: Path) -> None:
    """Version 1 kept the KL divergence of a preview as an attribute of the enqueued trial."""
    with open_study(golden) as study:
        encoded = study.space.encode(study.trials[0].parameters)
        study._optuna.enqueue_trial(encoded, user_attrs={"kl_divergence": 0.5})
        study.enqueue(study.trials[1].parameters, {"kl_divergence": 0.25})
        asked = study.ask(3)
    assert [each.known for each in asked if each.known] == [{"kl_divergence": 0.5}, {"kl_divergence": 0.25}]


def test_it_can_be_continued(golden: Path) -> None:
    before = golden.read_bytes()
    with open_study(golden, "tpe", startup=2) as study:
        assert study.n_finished() == 4
        search(study, 2)
        assert values(study.trials[:3]) == VALUES
        assert study.count_by_state() == {"complete": 5, "fail": 2}
    assert golden.read_bytes().startswith(before)


@pytest.mark.parametrize("change", [{"version": 3}, {"unheard_of": 1}, {"baseline": 3}])
def test_a_record_of_another_version_is_an_error(golden: Path, change: dict[str, object]) -> None:
    fields = json.loads((GOLDEN / "record-1.json").read_text()) | change
    with pytest.raises(ValidationError):
        StudyRecord.model_validate(fields)
    lines = golden.read_text().splitlines(keepends=True)
    lines[2] = json.dumps({"op_code": 2, "worker_id": "w", "study_id": 0, "user_attr": {"heretic": fields}}) + "\n"
    golden.write_text("".join(lines))
    assert has_record(golden)
    with pytest.raises(
        StudyError, match=r"another version of this program, or changed since \(StudyRecord: 1 fields differ\)"
    ):
        RecordedStudy(golden)
