"""The cost of a trial and of its stages: `python benchmarks/trial.py [--preset disclaimer] [--trials 5]`.

Runs SmolLM2-135M-Instruct on a packaged preset with the program's own prompt counts and response length. Prints the
median seconds of a fully evaluated trial and of its stages, of the same trials by the plain path (no shared prefix,
every row to its end), their ratio, and the process's peak memory. Machines are noisy: compare the ratio, not the
seconds.
"""

import argparse
import statistics
import time

from common import demo_engine, demo_prompts, demo_settings, mean_residuals

# isort: split
import psutil
import torch

from heretic.ablation.directions import find_directions
from heretic.ablation.edit import ModelEdit
from heretic.ablation.methods.kernel.compile import compile_edit
from heretic.ablation.methods.kernel.parameters import KernelParameters
from heretic.ablation.parameters import AblationParameters, WeightKernel
from heretic.ablation.sites import components_of
from heretic.config import Settings
from heretic.engine.local import LocalEngine
from heretic.engine.options import EngineOptions
from heretic.engine.protocol import no_progress
from heretic.evaluation.scorers.base import ScoringRun
from heretic.evaluation.scorers.refusals import MarkerRefusals
from heretic.prompts.prompt import Prompt


def candidate(engine: LocalEngine, number: int) -> AblationParameters:
    """Kernels of different strength over the upper half of the layers."""
    last = len(engine.loaded.layers) - 1
    kernel = WeightKernel(
        max_weight=0.8 + 0.1 * number, max_weight_position=0.7 * last, min_weight=0.3, min_weight_distance=0.4 * last
    )
    kernels = dict.fromkeys(components_of(engine.sites), kernel)
    return KernelParameters(direction_scope="per layer", direction_index=0.6 * last, kernels=kernels)


def timed(engine: LocalEngine, settings: Settings, good: tuple[Prompt, ...], bad: tuple[Prompt, ...], edit: ModelEdit):  # type: ignore[no-untyped-def]
    """Seconds of the KL divergence and of the responses of one candidate, and its refusals."""
    plain = not settings.compact_batch
    scorer = MarkerRefusals(bad, settings.refusal_markers, settings.max_response_length, stop_decided=not plain)
    start = time.perf_counter()
    engine.first_token_log_probabilities(good, [edit], no_progress)
    middle = time.perf_counter()
    [responses] = scorer.responses(ScoringRun(engine), [edit])
    return middle - start, time.perf_counter() - middle, sum(map(scorer.is_refusal, responses))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--preset", default="disclaimer")
    parser.add_argument("--trials", type=int, default=3)
    arguments = parser.parse_args()
    settings = demo_settings(preset=arguments.preset)
    good_d, bad_d, good, bad = demo_prompts(settings)
    start = time.perf_counter()
    engine = demo_engine(settings, 128)
    loaded = engine.loaded
    print(f"loading: {time.perf_counter() - start:.1f} s, {loaded.dtype}, {torch.get_num_threads()} threads")
    plain = LocalEngine(loaded, engine.chat, 128, EngineOptions(compact_batch=False, share_prefix=False))
    start = time.perf_counter()
    directions = find_directions(mean_residuals(engine, good_d), mean_residuals(engine, bad_d))
    print(f"residuals of {len(good_d) + len(bad_d)} prompts: {time.perf_counter() - start:.1f} s")
    stats = engine.weight_stats(directions, no_progress)
    rows = []
    for number in range(arguments.trials):
        edit = compile_edit(candidate(engine, number), directions, engine.sites, stats)
        ours = timed(engine, settings, good, bad, edit)
        reference = timed(plain, settings.model_copy(update={"compact_batch": False}), good, bad, edit)
        rows.append((*ours[:2], sum(ours[:2]), *reference[:2], sum(reference[:2])))
        print(
            f"trial {number}: ours {rows[-1][2]:.1f} s, plain {rows[-1][5]:.1f} s; refusals {ours[2]}, {reference[2]}"
        )
    medians = [statistics.median(column) for column in zip(*rows, strict=True)]
    print(f"{len(good)} + {len(bad)} prompts, {settings.max_response_length} tokens; medians in seconds:")
    print(f"  ours:  KL {medians[0]:.1f}, responses {medians[1]:.1f}, trial {medians[2]:.1f}")
    print(f"  plain: KL {medians[3]:.1f}, responses {medians[4]:.1f}, trial {medians[5]:.1f}")
    print(f"  plain / ours: {medians[5] / medians[2]:.2f}")
    peak = getattr(psutil.Process().memory_info(), "peak_wset", None) or peak_bytes()
    print(f"peak memory of the process: {peak / 2**30:.2f} GiB")


def peak_bytes() -> int:
    import resource

    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


if __name__ == "__main__":
    main()
