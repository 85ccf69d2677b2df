"""Seconds and memory of a step of learning: `python benchmarks/learned_step.py [--tiny] [--checkpoints]`.

Llama-3.1-8B's shape with random weights in bfloat16, 16 good and 16 bad rows; the layers from the 9th of 32 on are
edited. Prints the median of the timed steps, the peak memory beyond the weights, and the time of one forward of
the same rows without a graph.
"""

import argparse
import statistics
import time
from typing import Any

import torch

from heretic.ablation.directions import Directions
from heretic.ablation.methods.learned.layout import layout_of, start_at_means
from heretic.engine.learning.forward import AnswerForward
from heretic.engine.learning.path import LearningSettings, PathLearner
from heretic.engine.learning.step import MOST_POSITIONS, StepRunner
from heretic.engine.learning.targets import baseline_targets
from heretic.engine.protocol import Response
from random_model import LLAMA_8B, random_engine, random_prompts

STEPS, PROMPTS, ANSWER, PREFIX = 10, 64, 16, 24


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tiny", action="store_true")
    parser.add_argument("--checkpoints", action="store_true")
    arguments = parser.parse_args()
    shape: tuple[int, int, dict[str, Any]] = (4, 128, {}) if arguments.tiny else (32, 4096, LLAMA_8B)
    engine = random_engine(shape[0], shape[1], 32, "off", **shape[2]).local
    learner = random_learner(engine)
    forward = AnswerForward(engine.loaded, engine.forward, 202, learner.layout.first_layer, arguments.checkpoints)
    forward.prepare(learner.targets.rows)
    cuda = torch.cuda.is_available()
    runner = StepRunner(forward, None if cuda else MOST_POSITIONS)
    weights = torch.cuda.memory_allocated() if cuda else 0
    times = []
    for _ in range(STEPS):
        if cuda:
            torch.cuda.synchronize()
            torch.cuda.reset_peak_memory_stats()
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


def plain(forward: AnswerForward, learner: PathLearner) -> float:
    """Seconds of one forward of a step's rows through the whole model, without a graph."""
    good, _, refusals = learner.batch()
    batch = forward.join([*good, *refusals])
    times = []
    with torch.no_grad():
        for _ in range(4):
            begun = time.perf_counter()
            forward._forward.last_logits(batch.ids, batch.mask, 1)
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
