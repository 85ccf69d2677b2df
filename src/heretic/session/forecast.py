"""Estimates of a search's memory, quantisation and minutes, before the model is downloaded or loaded."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Literal

import psutil
import torch

from ..config import Settings
from ..engine.learning.path import LearningSettings
from ..engine.memory_plan import LINEAR_BYTES
from ..events import Reporter
from ..model.accelerator import accelerator, devices
from ..model.loading.load import fastest_cpu_dtype
from ..model.loading.size import ModelSize, model_size
from ..model.placement import META
from ..report.text import duration
from .autotune import note_peak
from .context import RunningStudy
from .learning import steps_for, wanted_candidates
from .prompts import RunPrompts
from .speed import product_rate, record_search, recorded_share, work_of

ROOM = 1.2
"""Memory for each byte of weights: a fifth more for caches, residuals and what the libraries take."""
BYTES = {"bnb_4bit": 0.6, "bnb_8bit": 1.1, "none": 2.0}
"""Bytes a parameter by `quantization`, on a GPU; embeddings stay in 16 bits, and each block has its scale."""
BITS = {"none": "without quantization", "bnb_8bit": "in 8 bits", "bnb_4bit": "in 4 bits"}
SMALL = 50_000_000
"""Parameters below which no estimate is shown: the model fits, and takes seconds."""

STEP_TOKENS = 3560
"""Tokens of plain forwards that take the time of a step of learning, the path's answers included: on SmolLM2 a path's
steps and new responses take that of 18 fully measured trials of 200 prompts and 100 tokens, and the model's own answers
that of 3. The number of evaluation prompts and the response length don't change it."""
MEASURED = 0.75
"""Share of learned candidates that are fully measured; the others end early."""
SHARES = {"cpu": (1.0, 3.0)}
LEARNED_SHARES = {"cpu": (0.6, 1.3)}
OTHER_SHARES = (0.3, 1.5)
"""Least and largest usual share of a matrix product's rate that a search reaches, by device. Two CPU cores reach 1.3 to
3, as more responses end early and more trials are pruned, from which learning hardly gains; an H100 reaches 0.6 where
nothing ends early, and less with a small model (docs/speed.md)."""
SPREAD = 1.5
"""Factor by which the time of a search may differ from that of the last one: the model and the machine's load do."""
TELLING_TRIALS = 10
"""Fewest trials of a search whose speed is recorded: the first ones are slower than the rest. Of learned edits, the
candidates of a path."""


@dataclass(frozen=True, slots=True)
class Forecast:
    """The memory of one model on this machine: bytes needed by `quantization`, and bytes free on `place`."""

    size: ModelSize
    needed: dict[str, float]
    free: float
    place: Literal["GPU memory", "memory"]

    def fits(self, quantization: str) -> bool:
        return self.needed.get(quantization, self.needed["none"]) <= self.free

    @property
    def fitting(self) -> str | None:
        """The quantisation with the most bits that fits."""
        return next((name for name in LINEAR_BYTES if name in self.needed and self.fits(name)), None)

    def advice(self, quantization: str) -> str | None:
        """What to do where the model does not fit with this quantisation; None where it does."""
        if self.fits(quantization):
            return None
        name, need = self.size.name, self.needed.get(quantization, self.needed["none"])
        lacking = f"{name} needs about {gigabytes(need)} of {self.place}, and {gigabytes(self.free)} are free. "
        if self.fitting is not None:
            return f"{lacking}It fits {BITS[self.fitting]} (--quantization {self.fitting}), in about " + (
                f"{gigabytes(self.needed[self.fitting])}."
            )
        return (
            lacking
            + "It fits in no quantization. What does not fit is read again in each forward: take a "
            + ("smaller model or a larger machine, or expect many times the time.")
        )


def forecast(size: ModelSize, on_cpu: bool = False) -> Forecast:
    """The memory that a model needs and this machine has; `on_cpu` where it has a GPU that is not used."""
    on_cpu = on_cpu or accelerator() is None
    free = psutil.virtual_memory().available if on_cpu else sum(each.free for each in devices())
    if size.quantized is not None:
        needed = {"none": ROOM * size.stored}
    else:
        needed = {name: ROOM * size.parameters * each for name, each in BYTES.items()}
        if on_cpu:
            needed = {"none": ROOM * size.parameters * fastest_cpu_dtype().itemsize, "bnb_4bit": needed["bnb_4bit"]}
    return Forecast(size, needed, float(free), "memory" if on_cpu else "GPU memory")


def expected_time(
    size: ModelSize, trials: int, prompts: tuple[int, int], response_length: int, learned: bool = False
) -> str:
    """The estimated least and largest time of so many trials on this machine, and the basis of the estimate.

    Only the last search that learned says something about the time of `learned` edits: pruning speeds up others.
    """
    if size.parameters < SMALL:
        return "under a minute"
    work = search_work(size.parameters, trials, prompts, response_length, learned)
    share, rate = recorded_share(learned), product_rate(_product_dtype())
    if share is not None:
        usual = work / (share * rate)
        return f"{rough_range(usual / SPREAD, usual * SPREAD)} (from the last search on this machine)"
    least, largest = (LEARNED_SHARES if learned else SHARES).get(accelerator() or "cpu", OTHER_SHARES)
    return f"{rough_range(work / (largest * rate), work / (least * rate))} (computed from this machine's speed)"


def search_work(parameters: int, trials: int, prompts: tuple[int, int], response_length: int, learned: bool) -> float:
    """Floating-point operations of a search whose trials are fully evaluated, or of learning so many candidates."""
    work = work_of(parameters, prompts, response_length)
    if not learned:
        return trials * work
    steps = steps_for(LearningSettings(), trials)
    return 2.0 * parameters * STEP_TOKENS * steps + MEASURED * trials * work


def _product_dtype() -> torch.dtype:
    return fastest_cpu_dtype() if accelerator() is None else torch.float16


def lines(
    found: Forecast, quantization: str, trials: int, prompts: tuple[int, int], length: int, learned: bool = False
) -> Iterator[str]:
    """Size, memory and time in lines of their own."""
    size = found.size
    fetched = f"; {gigabytes(size.missing)} to fetch" if size.missing else ""
    yield f"{size.name}: {parameters_text(size)}, {gigabytes(size.stored)} on disk{fetched}."
    need = found.needed.get(quantization, found.needed["none"])
    yield f"Memory: about {gigabytes(need)} {BITS[quantization]}; {gigabytes(found.free)} of {found.place} are free."
    what = f"learning and measuring {trials} edits takes" if learned else f"{trials} trials take"
    expected = expected_time(size, trials, prompts, length, learned)
    yield f"Time: {what} {expected}. Loading and the held-out evaluation come on top."


def say_forecast(
    settings: Settings, method: str, response_length: int, prompts: RunPrompts, reporter: Reporter
) -> None:
    """Reports size, memory and time before anything is downloaded or loaded, and warns if the model does not fit."""
    size = model_size(str(settings.model), settings.model_commit)
    if size is None or size.parameters < SMALL:
        return
    found = forecast(size, on_cpu=str(settings.device_map).startswith("cpu"))
    trials = wanted_candidates(method, settings.n_trials)
    for line in lines(found, settings.quantization, trials, _counts(prompts), response_length, method == "learned"):
        reporter.say(line)
    if settings.time_budget is not None:
        reporter.say(f"The time budget ends the run after {duration(settings.time_budget)}.")
    if (advice := found.advice(settings.quantization)) is not None:
        reporter.warn(advice)


@contextmanager
def kept_speed(running: RunningStudy) -> Iterator[None]:
    """Reports the time of the search in the `with` block, and records its speed, if it was long enough, for later
    forecasts, and its peak memory on an accelerator."""
    loaded = running.loaded
    parameters = sum(each.numel() for each in loaded.engine.loaded.model.parameters())
    # The speed of a cluster is not this machine's.
    told = parameters >= SMALL and loaded.engine.loaded.device != META
    rate = product_rate(_product_dtype()) if told else 0.0
    before, started = running.study.n_finished(), time.monotonic()
    yield
    trials, seconds = running.study.n_finished() - before, time.monotonic() - started
    if trials:
        running.reporter.say(f"Search: {trials} trial{'' if trials == 1 else 's'} in {duration(seconds)}")
    note_peak(loaded.engine, loaded.session)
    learned = loaded.settings.method == "learned"
    if not told or trials < (LearningSettings().candidates if learned else TELLING_TRIALS):
        return
    length = loaded.settings.max_response_length
    work = search_work(parameters, trials, _counts(loaded.session.prompts), length, learned)
    # Another program may have had the machine for the moment of one of the two.
    record_search(work, seconds, max(rate, product_rate(_product_dtype())), learned)


def _counts(prompts: RunPrompts) -> tuple[int, int]:
    """Prompts of a trial of which the first token is needed, and those that get responses."""
    return len(prompts.good_evaluation), len(prompts.bad_evaluation) + len(prompts.over)


def parameters_text(size: ModelSize) -> str:
    """8 billion parameters; with "about" where they are not counted."""
    count = size.parameters
    number = f"{count / 1e9:.3g} billion" if count >= 1e9 else f"{count / 1e6:.0f} million"
    return f"{'' if size.exact else 'about '}{number} parameters"


def gigabytes(size: float) -> str:
    return f"{size / 1e9:.1f} GB"


def rough(seconds: float) -> str:
    """Seconds in words, without more digits than an estimate has."""
    if seconds < 90:
        return f"{max(10, round(seconds, -1)):.0f} s"
    minutes = seconds / 60
    return duration(60 * (round(minutes) if minutes < 20 else round(minutes / 5) * 5))


def rough_range(least: float, largest: float) -> str:
    """10 to 35 min; 50 s to 3 min; about 2 h where both are the same."""
    first, last = rough(least), rough(largest)
    if first == last:
        return f"about {first}"
    number, unit = first.rsplit(" ", 1)
    # One unit for both, unless either has two.
    same = number.isdecimal() and last.endswith(f" {unit}") and last.removesuffix(f" {unit}").isdecimal()
    return f"{number if same else first} to {last}"
