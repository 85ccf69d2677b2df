"""The seconds of the held-out evaluation: `python benchmarks/heldout.py [--candidates 6] [--processes 2]`.

Measures SmolLM2-135M-Instruct's baseline and random candidates on packaged held-out prompts in each of three ways: one
model after another with all threads, several models in the same forwards, and each candidate in one of several
processes (on a CPU). Prints the seconds of each way, and of how many responses the text is that of the first.
"""

import argparse
import time

from common import Bench, demo_settings

# isort: split
from heretic.config import resolve_heldout_prompts
from heretic.engine.protocol import no_progress
from heretic.evaluation.heldout.evaluate import HeldoutBaseline, HeldoutEvaluator, HeldoutPrompts, HeldoutRequest
from heretic.evaluation.heldout.measurer import HeldoutMeasurer, SharedForwards
from heretic.evaluation.heldout.response_classes import ResponseClassifier
from heretic.evaluation.heldout.schema import ModelMetrics
from heretic.prompts.loading import load_prompts
from heretic.prompts.prompt import PromptSet
from heretic.search.heldout_pool import ForkedHeldout
from heretic.search.process_pool import can_fork


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--candidates", type=int, default=6)
    parser.add_argument("--together", type=int, default=4, help="models in the same forwards")
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--prompts", type=int, default=32, help="held-out prompts of each kind")
    parser.add_argument("--tokens", type=int, default=32, help="tokens a response")
    parser.add_argument("--dtype", default="auto")
    arguments = parser.parse_args()
    bench = Bench(arguments.tokens, prompts=8, dtypes=[arguments.dtype])
    settings = demo_settings()
    classifier = ResponseClassifier(settings.refusal_openings, settings.refusal_markers)
    evaluator = HeldoutEvaluator(bench.engine, heldout_prompts(arguments.prompts), classifier, arguments.tokens)
    edits = [bench.edit(each) for each in bench.random_parameters(arguments.candidates, 0)]
    requests = [HeldoutRequest(number, edit, {}) for number, edit in enumerate(edits)]
    ways: dict[str, HeldoutMeasurer] = {
        "one after another": SharedForwards(),
        f"{arguments.together} in the same forwards": SharedForwards(arguments.together),
    }
    if can_fork(bench.engine.loaded.device):
        ways[f"{arguments.processes} processes"] = ForkedHeldout(arguments.processes)
    bench.engine.set_batch_size(max(bench.engine.batch_size, arguments.together * arguments.prompts))
    first: list[str | None] = []
    for name, measurer in ways.items():
        seconds, texts = timed(measurer, evaluator, requests)
        first = first or texts
        same = sum(one == other for one, other in zip(first, texts, strict=True))
        print(f"{name}: {seconds:.1f} s for the baseline and {len(requests)} candidates, {same} of {len(texts)} equal")


def heldout_prompts(count: int) -> HeldoutPrompts:
    settings = demo_settings()
    sources = resolve_heldout_prompts(settings, settings)
    assert sources is not None
    good, bad = (load_prompts(each) for each in (sources.good_heldout_prompts, sources.bad_heldout_prompts))
    return HeldoutPrompts(
        PromptSet(good.source, good.prompts[:count]), PromptSet(bad.source, bad.prompts[:count]), None
    )


def timed(
    measurer: HeldoutMeasurer, evaluator: HeldoutEvaluator, requests: list[HeldoutRequest]
) -> tuple[float, list[str | None]]:
    """Seconds, and the texts of all responses in the order of the requests."""
    start = time.perf_counter()
    models: dict[int, ModelMetrics] = {}
    for result in measurer.measure(evaluator, requests, no_progress):
        if isinstance(result, HeldoutBaseline):
            models[-1] = result.metrics
        elif isinstance(result.outcome, ModelMetrics):
            models[result.request.trial] = result.outcome
    seconds = time.perf_counter() - start
    texts = [each.text for number in sorted(models) for part in models[number].sets.values() for each in part.responses]
    return seconds, texts


if __name__ == "__main__":
    main()
