"""A worker loads the model with the driver's settings, measures, and reduces its own batch when memory runs out."""

from pathlib import Path

import pytest
import torch

from heretic.engine.local import LocalEngine
from heretic.engine.protocol import RuntimeProfile
from heretic.search.cluster.calls import first_tokens
from heretic.search.cluster.system import ActorFacts, Refused
from heretic.search.cluster.worker import ModelWorker
from tests.support.inline_actors import planted_session, worker_spec

PROFILE = RuntimeProfile("float32", "", 8)


@pytest.fixture
def worker(planted_directory: Path) -> ModelWorker:
    made = ModelWorker(worker_spec(planted_session(planted_directory)))
    assert isinstance(made.open(PROFILE), ActorFacts)
    return made


def test_when_memory_runs_out_this_worker_halves_its_batch_and_keeps_it(
    worker: ModelWorker, planted_directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = LocalEngine.first_token_log_probabilities

    def small(engine: LocalEngine, *arguments: object) -> torch.Tensor:
        if engine.batch_size > 2:
            raise RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory")
        return whole(engine, *arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(LocalEngine, "first_token_log_probabilities", small)
    prompts = planted_session(planted_directory).prompts.good.prompts
    for number in range(2):
        answer = worker.perform(number, "run", "first tokens", first_tokens, "", 8, prompts, [{}])
        assert answer.value.shape[:2] == (1, len(prompts))
        assert worker._engine is not None
        assert worker._engine.batch_size == 2


def test_a_task_that_another_actor_has_answered_ends(worker: ModelWorker, planted_directory: Path) -> None:
    worker.cancel(7)
    prompts = planted_session(planted_directory).prompts.good.prompts
    assert worker.perform(7, "run", "first tokens", first_tokens, "", 8, prompts, [{}]).cancelled
    assert not worker.perform(8, "run", "first tokens", first_tokens, "", 8, prompts, [{}]).cancelled
    assert worker.status().doing == "idle"


def test_a_model_that_can_not_be_loaded_is_a_paragraph_with_the_machine(
    tmp_path: Path, planted_directory: Path
) -> None:
    session = planted_session(planted_directory)
    spec = worker_spec(session)
    (tmp_path / "planted").mkdir()
    for path in session.checkpoint.directory.iterdir():
        (tmp_path / "planted" / path.name).write_bytes(path.read_bytes())
    broken = planted_session(tmp_path)
    spec = worker_spec(broken)
    (tmp_path / "planted" / "tokenizer.json").unlink()
    opened = ModelWorker(spec).open(PROFILE)
    assert isinstance(opened, Refused)
    assert "tokenizer" in opened.reason
