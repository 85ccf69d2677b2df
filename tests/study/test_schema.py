"""A study that version 1 wrote stays readable and can be gone on with."""

import json
import shutil
from pathlib import Path

import pytest
from pydantic import ValidationError

from heretic.ablation.parameters import WeightKernel
from heretic.errors import StudyError
from heretic.study.reader import RecordedStudy, has_record
from heretic.study.schema import StudyRecord
from tests.support.study_toys import GOLDEN, open_study, record, search

FIGURES = [(0, 28, 0.065041087848256), (1, 38, 0.0732860080061187), (2, 23, 0.05253583870696103)]


@pytest.fixture
def golden(tmp_path: Path) -> Path:
    return Path(shutil.copy(GOLDEN / "study-1.jsonl", tmp_path / "m.jsonl"))


def test_its_figures_and_parameters_are_read(golden: Path) -> None:
    study = RecordedStudy(golden)
    assert [(trial.number, trial.refusals, trial.kl_divergence) for trial in study.trials] == FIGURES
    assert study.count_by_state() == {"complete": 3, "fail": 1, "running": 1}
    assert (study.baseline.refusals, study.baseline.prompts) == (80, 100)
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
    assert StudyRecord.model_validate_json((GOLDEN / "record-1.json").read_text()) == record()


def test_what_is_written_now_is_what_version_1_wrote() -> None:
    assert json.loads(record().model_dump_json()) == json.loads((GOLDEN / "record-1.json").read_text())


def test_it_can_be_gone_on_with(golden: Path) -> None:
    before = golden.read_bytes()
    with open_study(golden, "tpe", startup=2) as study:
        assert study.n_finished() == 4
        search(study, 2)
        assert [(trial.number, trial.refusals, trial.kl_divergence) for trial in study.trials[:3]] == FIGURES
        assert study.count_by_state() == {"complete": 5, "fail": 2}
    assert golden.read_bytes().startswith(before)


@pytest.mark.parametrize("change", [{"version": 2}, {"unheard_of": 1}, {"baseline": 3}])
def test_a_record_of_another_version_is_an_error(golden: Path, change: dict[str, object]) -> None:
    fields = json.loads((GOLDEN / "record-1.json").read_text()) | change
    with pytest.raises(ValidationError):
        StudyRecord.model_validate(fields)
    lines = golden.read_text().splitlines(keepends=True)
    lines[2] = json.dumps({"op_code": 2, "worker_id": "w", "study_id": 0, "user_attr": {"heretic": fields}}) + "\n"
    golden.write_text("".join(lines))
    assert has_record(golden)
    with pytest.raises(StudyError, match=r"another version of this program \(1 fields differ\)"):
        RecordedStudy(golden)
