"""Seconds and memory of a step of learning: `python benchmarks/learned_step.py [--tiny | --demo] [--checkpoints]`.

Llama-3.1-8B's shape with random weights in bfloat16, 16 good and 16 bad rows; the layers from the 9th of 32 on are
edited. Prints the median of the timed steps, the peak memory beyond the weights, and the time of one forward of
the same rows without a graph.

With `--demo` it is SmolLM2 on the demo's prompts with the default settings, on a CPU: processor time of a step and of
one forward of the same rows, in the same groups and as one batch; the peak memory of a step and of the measurement of
one candidate, beyond what the process held before; and the seconds of a step in one process and in several (Linux).
"""

import argparse
import ctypes
import statistics
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from common import Bench, demo_prompts, demo_settings  # isort: skip  (before torch)

import torch

from heretic.ablation.directions import Directions
from heretic.ablation.methods.learned.layout import layout_of, start_at_means
from heretic.engine.learning.forward import AnswerForward
from heretic.engine.learning.path import LearningSettings, PathLearner
from heretic.engine.learning.step import MOST_POSITIONS, Part, StepRunner, groups_of, parts_of
from heretic.engine.learning.targets import baseline_targets, behaviour_end_of
from heretic.engine.protocol import Response, no_progress
from heretic.evaluation.scorers.refusals import MarkerClassifier
from heretic.search.forked_learning import ForkedStepRunner, ForkedTasks
from random_model import LLAMA_8B, random_engine, random_prompts

STEPS, PROMPTS, ANSWER, PREFIX = 10, 64, 16, 24
DEMO_STEPS = 4


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tiny", action="store_true")
    parser.add_argument("--demo", action="store_true")
    parser.add_argument("--checkpoints", action="store_true")
    arguments = parser.parse_args()
    if arguments.demo:
        demo(arguments.checkpoints)
        return
    shape: tuple[int, int, dict[str, Any]] = (4, 128, {}) if arguments.tiny else (32, 4096, LLAMA_8B)
    engine = random_engine(shape[0], shape[1], 32, "off", **shape[2]).local
    learner = random_learner(engine)
    forward = AnswerForward(engine.loaded, engine.forward, 202, learner.layout.first_layer, arguments.checkpoints)
    forward.prepare(learner.targets.answers, learner.targets.pieces)
    cuda = torch.cuda.is_available()
    runner = StepRunner(forward, None if cuda else MOST_POSITIONS)
    weights = torch.cuda.memory_allocated() if cuda else 0
    times = []
    if cuda:
        torch.cuda.reset_peak_memory_stats()
    for _ in range(STEPS):
        if cuda:
            torch.cuda.synchronize()
        begun = time.perf_counter()
        runner.take([learner])
        if cuda:
            torch.cuda.synchronize()
        times.append(time.perf_counter() - begun)
    print(f"{statistics.median(times[2:]):.3f} s a step (first {times[0]:.2f} s)")
    print(f"{plain(forward, learner):.3f} s one forward of its rows without a graph")
    if cuda:
        print(
            f"weights and what is kept {weights / 2**30:.1f} GiB, beyond them at most "
            f"{(torch.cuda.max_memory_allocated() - weights) / 2**30:.2f} GiB"
        )


def demo(checkpoints: bool) -> None:
    bench = Bench(tokens=100, dtypes=["bfloat16"])
    show_step(bench, checkpoints)
    [parameters] = bench.random_parameters(1, 0)
    print(f"measuring a candidate adds {peak_memory(lambda: bench.evaluate(parameters)):.2f} GiB at its peak")


def show_step(bench: Bench, checkpoints: bool) -> None:
    learner = demo_learner(bench)
    pad = bench.engine.chat.tokenizer.pad_token_id
    forward = AnswerForward(bench.engine.loaded, bench.engine.forward, pad, learner.layout.first_layer, checkpoints)
    held = resident_memory()
    answers, pieces = learner.targets.answers, learner.targets.pieces
    used = processor_time(partial(forward.prepare, answers, pieces))
    print(f"states of {len(answers)} + {len(pieces)} rows: {resident_memory() - held:.2f} GiB, {used:.1f} s")
    runner = StepRunner(forward, MOST_POSITIONS)
    used = []
    for _ in range(DEMO_STEPS):
        state = learner.generator.get_state()
        parts = parts_of(learner, 0)
        learner.generator.set_state(state)
        grouped = processor_time(partial(forwards, forward, list(groups_of(parts, MOST_POSITIONS))))
        whole = processor_time(partial(forwards, forward, [parts]))
        used.append((grouped, whole, processor_time(partial(runner.take, [learner]))))
        print("forwards of groups {:.2f} s, of one batch {:.2f} s, step {:.2f} s".format(*used[-1]), flush=True)
    grouped, whole, step = (statistics.median(each) for each in zip(*used, strict=True))
    print(f"a step costs {step / grouped:.2f} forwards of its rows in groups, {step / whole:.2f} in one batch")
    print(f"a step adds {peak_memory(lambda: runner.take([learner])):.2f} GiB at its peak")
    threads = torch.get_num_threads()
    forked = ForkedStepRunner(runner, ForkedTasks(threads))
    alone, together = (median_seconds(partial(each.take, [learner])) for each in (runner, forked))
    print(f"seconds a step: {alone:.2f} in one process of {threads} threads, {together:.2f} in {threads} of one thread")


def demo_learner(bench: Bench) -> PathLearner:
    """A path on the first direction prompts of the demo, with as many rows a step as by default."""
    engine = bench.engine
    settings = demo_settings()
    prompts = [each[:PROMPTS] for each in demo_prompts(settings)[:2]]
    tokens = [[engine.chat.tokens(prompt) for prompt in each] for each in prompts]
    length = LearningSettings().answer_tokens
    [good], [bad] = (engine.generate(each, [{}], length, None, no_progress) for each in prompts)
    markers = MarkerClassifier(settings.refusal_markers)
    end = behaviour_end_of(markers.holds_marker, engine.chat.decode)
    targets = baseline_targets(tokens[0], good, tokens[1], bad, end, 10)
    layout = layout_of(engine.sites, {}, 8)
    start = start_at_means(layout, [bench.directions], 0.3)
    draw = torch.Generator().manual_seed(0)
    return PathLearner(layout, start, targets, LearningSettings(), draw, engine.loaded.device)


@torch.no_grad()
def forwards(forward: AnswerForward, groups: Sequence[Sequence[Part]]) -> None:
    """A forward of each group through the whole model, without a graph."""
    for group in groups:
        batch = forward.join([part.row for part in group])
        forward.parts.forward.last_logits(batch.ids, batch.mask, 1)


def median_seconds(work: Callable[[], Any]) -> float:
    """The median of some runs, by the clock."""
    times = []
    for _ in range(2 * DEMO_STEPS):
        begun = time.perf_counter()
        work()
        times.append(time.perf_counter() - begun)
    return statistics.median(times)


def processor_time(work: Callable[[], Any]) -> float:
    begun = time.process_time()
    work()
    return time.process_time() - begun


def resident_memory(line: str = "VmRSS") -> float:
    """GiB of memory that the process holds, or held at its peak (`VmHWM`)."""
    found = dict(each.split(":", 1) for each in Path("/proc/self/status").read_text().splitlines())
    return int(found[line].split()[0]) / 2**20


def peak_memory(work: Callable[[], Any]) -> float:
    """GiB that the work adds at its peak to what the process holds; freed memory is returned to the system first."""
    ctypes.CDLL("libc.so.6").malloc_trim(0)
    before = resident_memory()
    Path("/proc/self/clear_refs").write_text("5")
    work()
    return resident_memory("VmHWM") - before


def plain(forward: AnswerForward, learner: PathLearner) -> float:
    """Seconds of one forward of a step's rows through the whole model, without a graph."""
    batch = forward.join([part.row for part in parts_of(learner, 0)])
    times = []
    with torch.no_grad():
        for _ in range(4):
            begun = time.perf_counter()
            forward.parts.forward.last_logits(batch.ids, batch.mask, 1)
            if torch.cuda.is_available():
                torch.cuda.synchronize()
            times.append(time.perf_counter() - begun)
    return min(times)


def random_learner(engine: Any) -> PathLearner:
    """A path from random directions, on random rows that begin alike."""
    draw = torch.Generator().manual_seed(0)
    answers = [
        Response("", ANSWER, False, tokens=tuple(torch.randint(0, 200, (ANSWER,), generator=draw).tolist()))
        for _ in range(2 * PROMPTS)
    ]
    prompts = [[7] * PREFIX + engine.chat.tokens(prompt) for prompt in random_prompts(2 * PROMPTS)]
    targets = baseline_targets(
        prompts[:PROMPTS], answers[:PROMPTS], prompts[PROMPTS:], answers[PROMPTS:], lambda _: 10, 10
    )
    loaded = engine.loaded
    layout = layout_of(loaded.sites, {}, len(loaded.layers) // 4)
    vectors = torch.nn.functional.normalize(torch.randn(len(loaded.layers) + 1, loaded.d_model, generator=draw), dim=-1)
    settings = LearningSettings(lambdas=(1.0,), first_steps=STEPS + 1, steps=1)
    start = start_at_means(layout, [Directions(vectors)], 0.3)
    return PathLearner(layout, start, targets, settings, draw, loaded.device)


if __name__ == "__main__":
    main()
