"""The estimates that are shown before a search's model is downloaded or loaded."""

from types import SimpleNamespace
from typing import Any

import pytest
import torch

from heretic.engine.learning.path import LearningSettings
from heretic.model.loading.size import ModelSize
from heretic.session import forecast as module
from heretic.session.forecast import expected_time, forecast, kept_speed, lines, rough, rough_range, search_work
from heretic.session.speed import work_of
from tests.support.recorders import Recorder

EIGHT = ModelSize("owner/name", 16 * 10**9, 8 * 10**9, exact=True, missing=16 * 10**9)


def on_machine(monkeypatch: pytest.MonkeyPatch, gigabytes: float) -> None:
    """A CPU with so much free memory, which is faster in float32."""
    monkeypatch.setattr(module, "accelerator", lambda: None)
    monkeypatch.setattr(module, "fastest_cpu_dtype", lambda: torch.float32)
    monkeypatch.setattr(module.psutil, "virtual_memory", lambda: type("", (), {"available": gigabytes * 1e9}))


def test_the_quantisation_that_fits_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    on_machine(monkeypatch, 12)
    found = forecast(EIGHT)
    assert found.needed == {"none": pytest.approx(38.4e9), "bnb_4bit": pytest.approx(5.76e9)}
    advice = str(found.advice("none"))
    assert "needs about 38.4 GB of memory, and 12.0 GB are free" in advice
    assert "(--quantization bnb_4bit), in about 5.8 GB" in advice
    assert found.advice("bnb_4bit") is None


def test_what_fits_in_nothing_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    on_machine(monkeypatch, 2)
    assert "fits in no quantization" in str(forecast(EIGHT).advice("none"))


def test_weights_that_are_quantised_already_are_as_large_as_their_files(monkeypatch: pytest.MonkeyPatch) -> None:
    on_machine(monkeypatch, 2)
    packed = ModelSize("a", 10**9, 2 * 10**9, exact=False, quantized="gptq")
    assert forecast(packed).needed == {"none": pytest.approx(1.2e9)}


def test_time_is_measured_where_there_was_a_search(monkeypatch: pytest.MonkeyPatch) -> None:
    on_machine(monkeypatch, 50)
    monkeypatch.setattr(module, "recorded_share", lambda learned: None if learned else 0.5)
    monkeypatch.setattr(module, "product_rate", lambda dtype: 2e12)
    assert expected_time(EIGHT, 1, (100, 100), 100) == "4 to 8 min (from the last search on this machine)"
    # Another program takes half of the machine now.
    monkeypatch.setattr(module, "product_rate", lambda dtype: 1e12)
    assert expected_time(EIGHT, 1, (100, 100), 100) == "7 to 16 min (from the last search on this machine)"
    # Learning is not sped up by pruning, as that search was.
    learned = expected_time(EIGHT, LearningSettings().candidates, (100, 100), 100, learned=True)
    assert learned == "1 h 50 min to 4 h (computed from this machine's speed)"


def test_time_is_computed_as_a_range_where_there_was_no_search(monkeypatch: pytest.MonkeyPatch) -> None:
    on_machine(monkeypatch, 50)
    monkeypatch.setattr(module, "recorded_share", lambda _: None)
    monkeypatch.setattr(module, "product_rate", lambda dtype: 1e13)
    size, memory, time = lines(forecast(EIGHT), "none", 200, (100, 100), 100)
    assert size == "owner/name: 8 billion parameters, 16.0 GB on disk; 16.0 GB to fetch."
    assert memory == "Memory: about 38.4 GB without quantization; 50.0 GB of memory are free."
    assert time == (
        "Time: 200 trials take 35 min to 1 h 45 min (computed from this machine's speed). "
        "Loading and the held-out evaluation come on top."
    )
    # Searches reach a smaller share of a GPU's rate.
    monkeypatch.setattr(module, "accelerator", lambda: "cuda")
    assert expected_time(EIGHT, 200, (100, 100), 100).startswith("1 h 10 min to 5 h 55 min ")


def test_learned_edits_cost_the_steps_of_their_paths_and_their_measurement(monkeypatch: pytest.MonkeyPatch) -> None:
    settings = LearningSettings()
    monkeypatch.setattr(module, "STEP_TOKENS", 10)
    monkeypatch.setattr(module, "MEASURED", 0.0)
    path = 2 * 10 * sum(map(settings.steps_of, range(len(settings.lambdas))))

    def work(trials: int) -> float:
        return search_work(1, trials, (100, 100), 100, learned=True)

    assert (work(settings.candidates), work(2 * settings.candidates)) == (path, 2 * path)
    # The first candidate needs the points on the way; strengths that are scaled need no steps.
    assert work(1) == 2 * 10 * sum(map(settings.steps_of, range(settings.warm_up + 1))) < work(2)
    assert work(settings.candidates - 1) == path
    monkeypatch.setattr(module, "MEASURED", 0.5)
    assert work(settings.candidates) == path + settings.candidates / 2 * work_of(1, (100, 100), 100)


@pytest.mark.parametrize(
    ("seconds", "text"), [(3, "10 s"), (64, "60 s"), (130, "2 min"), (1630, "25 min"), (9000, "2 h 30 min")]
)
def test_estimates_are_rounded(seconds: float, text: str) -> None:
    assert rough(seconds) == text


@pytest.mark.parametrize(
    ("least", "largest", "text"),
    [
        (600, 2100, "10 to 35 min"),
        (50, 170, "50 s to 3 min"),
        (3000, 9000, "50 min to 2 h 30 min"),
        (7200, 14400, "2 to 4 h"),
        (7200, 7210, "about 2 h"),
    ],
)
def test_ranges_name_a_unit_once(least: float, largest: float, text: str) -> None:
    assert rough_range(least, largest) == text


def test_a_search_ends_with_its_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "note_peak", lambda *_: None)
    counts, reporter = iter([3, 5]), Recorder()
    study = SimpleNamespace(n_finished=lambda: next(counts))
    engine = SimpleNamespace(loaded=SimpleNamespace(model=torch.nn.Linear(1, 1)))
    loaded = SimpleNamespace(engine=engine, session=None, settings=SimpleNamespace(method="kernel"))
    running: Any = SimpleNamespace(study=study, reporter=reporter, loaded=loaded)
    with kept_speed(running):
        assert reporter.lines == []
    assert reporter.lines == ["Search: 2 trials in 0 s"]


@pytest.mark.parametrize(
    ("method", "finished", "kept"), [("learned", 8, True), ("learned", 7, False), ("kernel", 8, False)]
)
def test_the_speed_of_a_whole_path_is_kept(
    monkeypatch: pytest.MonkeyPatch, method: str, finished: int, kept: bool
) -> None:
    recorded: list[tuple[Any, ...]] = []
    monkeypatch.setattr(module, "note_peak", lambda *_: None)
    monkeypatch.setattr(module, "SMALL", 0)
    monkeypatch.setattr(module, "_counts", lambda _: (100, 100))
    monkeypatch.setattr(module, "record_search", lambda *given: recorded.append(given))
    rates = iter([1.0, 3.0] if kept else [1.0])
    monkeypatch.setattr(module, "product_rate", lambda _: next(rates))
    counts = iter([0, finished])
    engine = SimpleNamespace(loaded=SimpleNamespace(model=torch.nn.Linear(1, 1, bias=False), device="cpu"))
    settings, session = SimpleNamespace(method=method, max_response_length=100), SimpleNamespace(prompts=None)
    running: Any = SimpleNamespace(
        study=SimpleNamespace(n_finished=lambda: next(counts)),
        reporter=Recorder(),
        loaded=SimpleNamespace(engine=engine, session=session, settings=settings),
    )
    with kept_speed(running):
        pass
    work = search_work(1, finished, (100, 100), 100, learned=True)
    # The machine was busy for a moment when the search began.
    assert [(each[0], *each[2:]) for each in recorded] == ([(work, 3.0, True)] if kept else [])
