"""Ask, tell, close, open again: reported trials stay, and the sampler continues."""

import math
import random
from pathlib import Path

import optuna
import pytest

from heretic.ablation.methods.learned.space import LearnedSpace
from heretic.errors import StudyError
from heretic.study import journal_file
from heretic.study.journal import make_storage, study_path
from heretic.study.pareto import pareto_front
from heretic.study.reader import RecordedStudy, has_record
from heretic.study.sampler import SamplerOptions
from heretic.study.study import Study
from tests.support.learned_trials import learned_parameters
from tests.support.study_toys import BASELINE, SPACE, measure, metrics, open_study, record, search, values_of

RANDOM = SamplerOptions("random")


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return study_path(tmp_path, "org/model")


def kernels(trials: list[optuna.trial.FrozenTrial]) -> set[tuple[tuple[str, object], ...]]:
    return {tuple(sorted(trial.params.items())) for trial in trials}


def test_reported_trials_are_read_by_the_next_process(path: Path) -> None:
    with open_study(path) as study:
        reported = search(study, 6)
        assert study.trials == reported
    with Study(path, SPACE, RANDOM) as resumed:
        assert resumed.trials == reported
        assert resumed.record == record()
        assert resumed.mended == 0
    assert [values_of(trial.parameters) for trial in reported] == [
        (t.value("refusals"), t.value("kl_divergence")) for t in reported
    ]
    assert RecordedStudy(path).trials == reported


def test_parameters_of_a_candidate_are_those_of_its_trial(path: Path) -> None:
    with open_study(path) as study:
        candidate = study.ask(1)[0]
        params = candidate.trial.params
    assert candidate.parameters.direction_scope == params["direction_scope"]
    assert candidate.parameters.direction_index == params["direction_index"]
    for component, kernel in candidate.parameters.kernels.items():
        assert kernel.max_weight == params[f"{component}.max_weight"]
        assert kernel.min_weight == kernel.max_weight * params[f"{component}.min_weight"]


def test_trials_requested_together_differ_and_may_be_reported_in_any_order(path: Path) -> None:
    with open_study(path, "tpe", startup=2) as study:
        search(study, 4)
        candidates = study.ask(5)
        assert [candidate.number for candidate in candidates] == [4, 5, 6, 7, 8]
        assert len({candidate.parameters.model_dump_json() for candidate in candidates}) == 5
        reported = [measure(study, candidate) for candidate in reversed(candidates)]
        assert study.trials[4:] == reported[::-1]


def test_states_are_counted_and_only_measured_trials_are_complete(path: Path) -> None:
    with open_study(path) as study:
        assert study.n_finished() == 0
        search(study, 2)
        failed, running = study.ask(2)
        study.fail(failed, "the KL divergence on the good prompts is nan")
        assert study.count_by_state() == {"complete": 2, "fail": 1, "running": 1}
        assert study.n_finished() == 3
        assert running.number not in [trial.number for trial in study.trials]
        frozen = optuna.load_study(storage=make_storage(path), study_name="heretic").trials[failed.number]
    assert frozen.user_attrs["failure"] == "the KL divergence on the good prompts is nan"


@pytest.mark.parametrize("bad", [math.nan, math.inf])
@pytest.mark.parametrize("place", ["kl", "score"])
def test_metrics_that_are_no_numbers_are_never_recorded(path: Path, bad: float, place: str) -> None:
    with open_study(path) as study:
        candidate = study.ask(1)[0]
        figure, scores = (bad, (0.1, 0.1)) if place == "kl" else (0.1, (bad, 0.1))
        with pytest.raises(ValueError, match="finite"):
            study.tell(candidate, metrics(3, figure), scores)
        assert study.count_by_state() == {"running": 1}
        study.fail(candidate, "NaN")
        assert study.n_finished() == 1


def test_an_interrupted_trial_does_not_count_and_runs_again(path: Path) -> None:
    with open_study(path) as study:
        search(study, 2)
        left = study.ask(2)
        assert study.take_back_running() == 2
        assert study.n_finished() == 2
        again = study.ask(3)
        assert [candidate.parameters for candidate in again[:2]] == [candidate.parameters for candidate in left]
        assert again[2].parameters not in [candidate.parameters for candidate in left]


def test_taking_back_twice_is_taking_back_once(path: Path) -> None:
    with open_study(path) as study:
        left = study.ask(1)[0]
        assert study.take_back_running() == 1
        assert study.take_back_running() == 0
    with open_study(path) as resumed:
        first, second = resumed.ask(2)
        assert first.parameters == left.parameters
        assert second.parameters != left.parameters


@pytest.mark.parametrize("sampler", ["random", "tpe", "tpe-multivariate"])
def test_a_resumed_sampler_does_not_repeat_its_start_up_trials(path: Path, sampler: str) -> None:
    for _ in range(4):
        with open_study(path, sampler, startup=100) as study:  # type: ignore[arg-type]
            search(study, 5)
    trials = optuna.load_study(storage=make_storage(path), study_name="heretic").trials
    assert len(kernels(trials)) == 20


def test_the_same_seed_searches_the_same_way_and_another_differently(tmp_path: Path) -> None:
    reported = []
    for number, seed in enumerate((1, 1, 2)):
        with open_study(tmp_path / f"{number}.jsonl", "tpe", seed, startup=3) as study:
            reported.append(search(study, 6))
    assert reported[0] == reported[1]
    assert reported[0] != reported[2]


def test_there_is_no_record_before_the_study_begins(path: Path) -> None:
    assert not has_record(path)
    path.touch()
    assert not has_record(path)
    with Study(path, SPACE, RANDOM) as study:
        assert not has_record(path)
        with pytest.raises(StudyError, match="no record of a model"):
            _ = study.record
        with pytest.raises(StudyError, match="no record of a model"):
            RecordedStudy(path)
        study.begin(record())
        assert has_record(path)
    assert has_record(path)


def test_asking_for_a_record_writes_nothing(path: Path) -> None:
    with open_study(path) as study:
        search(study, 2)
    before = path.read_bytes()
    assert has_record(path)
    assert len(RecordedStudy(path).trials) == 2
    assert path.read_bytes() == before
    assert not has_record(path.with_name("other.jsonl"))
    assert not path.with_name("other.jsonl").exists()


def test_a_study_in_use_is_not_opened_again(path: Path) -> None:
    with open_study(path), pytest.raises(StudyError, match="in use"):
        Study(path, SPACE, RANDOM)
    Study(path, SPACE, RANDOM).close()


def test_a_damaged_study_is_not_opened_and_not_held(path: Path) -> None:
    with open_study(path) as study:
        search(study, 1)
    content = path.read_bytes()
    path.write_bytes(b"damage\n" + content)
    with pytest.raises(StudyError, match="line 1 of") as caught:
        Study(path, SPACE, RANDOM)
    assert caught.tb is not None  # keeps the half-opened study alive, so that nothing is freed by chance
    path.write_bytes(content)
    Study(path, SPACE, RANDOM).close()


NO_STUDIES = {
    "prompts": b'{"text": "a prompt"}\n{"text": "another"}\n',
    "arrays": b"[1, 2]\n[3]\n[4]\n",
    "binary": bytes(range(256)) * 4,
    "text": b"line\nline\nline\n",
    "unknown operation": b'{"op_code": 99, "worker_id": "w"}\n',
    "half an operation": b'{"op_code": 0, "worker_id": "w"}\n',
    "empty": b"",
}


@pytest.mark.parametrize("kind", NO_STUDIES)
def test_a_file_that_is_no_study_is_an_error_of_one_paragraph(path: Path, kind: str) -> None:
    path.write_bytes(NO_STUDIES[kind])
    with pytest.raises(StudyError) as caught:
        RecordedStudy(path)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)
    assert path.read_bytes() == NO_STUDIES[kind]


def test_a_missing_study_is_an_error_and_is_not_made(path: Path) -> None:
    with pytest.raises(StudyError, match="No study at"):
        RecordedStudy(path)
    with pytest.raises(StudyError, match="No study at"):
        RecordedStudy(path.parent)
    assert not path.exists()


def test_a_reader_follows_a_running_search(path: Path) -> None:
    with open_study(path) as study:
        reader = RecordedStudy(path)
        assert reader.trials == []
        for _ in range(5):
            search(study, 1)
            study.ask(1)
            assert reader.trials == study.trials
            assert RecordedStudy(path).count_by_state() == reader.count_by_state() == study.count_by_state()
        assert reader.record == record()


def test_a_reader_sees_whole_trials_while_a_line_is_being_written(path: Path, tmp_path: Path) -> None:
    with open_study(path) as study:
        reported = search(study, 2)
    content = path.read_bytes()
    begun = content.index(b"\n", content.index(b'"heretic":{')) + 1
    partial = tmp_path / "partial.jsonl"
    seen = []
    for length in random.Random(0).sample(range(begun, len(content)), 100):
        partial.write_bytes(content[:length])
        trials = RecordedStudy(partial).trials
        assert trials == reported[: len(trials)]
        assert partial.stat().st_size == length
        seen.append(len(trials))
    assert set(seen) == {0, 1}


def test_the_front_is_that_of_the_reported_metrics(path: Path) -> None:
    with open_study(path) as study:
        reported = search(study, 20)
    assert pareto_front(RecordedStudy(path).trials, BASELINE) == pareto_front(reported, BASELINE)


def test_trials_of_another_program_are_not_gone_on_with(path: Path) -> None:
    """Studies of heretic-llm have the same name and path, but no record from which their trials could be read."""
    foreign = optuna.create_study(storage=make_storage(path), study_name="heretic", directions=["minimize"] * 2)
    trial = foreign.ask()
    SPACE.suggest(trial)
    foreign.tell(trial, [0.5, 0.5])
    content = path.read_bytes()
    for _ in range(2):
        with pytest.raises(StudyError, match=r"1 trial without a record.*--resume restart"):
            Study(path, SPACE, RANDOM)
    assert path.read_bytes() == content


def test_a_candidate_that_no_sampler_draws_is_kept_whole(tmp_path: Path) -> None:
    """It leaves the queue unchanged, even after a kill that left it running."""
    space = LearnedSpace(("attn.o_proj",), 1)
    parameters = learned_parameters()
    with Study(tmp_path / "study.jsonl", space, RANDOM) as study:
        study.begin(record())
        study.enqueue(parameters)
        assert study.holds(parameters)
        assert not study.holds(learned_parameters(tensors="other"))
        [candidate] = study.ask(1)
        assert candidate.parameters == parameters
    with Study(tmp_path / "study.jsonl", space, RANDOM) as study:
        assert study.take_back_running() == 1
        [candidate] = study.ask(1)
        assert candidate.parameters == parameters
        study.tell(candidate, metrics(3, 0.01), (0.01, 0.1))
        assert [trial.parameters for trial in study.trials] == [parameters]


def test_a_request_is_synced_with_the_next_result(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    study = open_study(tmp_path / "s.jsonl")
    synced: list[int] = []
    monkeypatch.setattr(journal_file.os, "fsync", synced.append)
    candidates = study.ask(2)
    assert synced == []
    # A kill loses nothing: the entries are in the file.
    assert (tmp_path / "s.jsonl").read_text().count('"op_code":4') >= 2
    for candidate in candidates:
        measure(study, candidate)
    assert len(synced) == 2
