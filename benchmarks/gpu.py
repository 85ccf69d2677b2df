"""The cost of a study on a GPU: `python benchmarks/gpu.py [--tests] [--parts first candidate study command] [--tiny]`.

A model of Llama-3.1-8B's shape with random weights (throughput does not depend on their values), 100 good and 100 bad
prompts, 100 tokens a response; no response ends early and no candidate is pruned, so this is the worst case. Parts:

candidate   one fully measured candidate, by recorded steps (CUDA graphs) and by plain steps; how far decoding is from
            the limit of the GPU's matrix rate and bandwidth, measured here; peak memory next to the plan; how long both
            ways gave the same responses
first       from the loaded model to the first trials: batch size, baseline, number of candidates, recording
study       200 trials, from the two above
command     `heretic` on SmolLM2-135M-Instruct: 200 trials, held-out front, export. Where its .gguf file is in the
            user's cache (`heretic demo` fetches it), or given by --smollm2
4bits       as `candidate`, with weights in 4 bits (bitsandbytes); not by default

Under 8 minutes on an H100; ends with one table, which is also in the file `--output` after each part: a part that fails
is named there, and the others run. `--tests` first runs the tests that need a GPU (`make gpu` does both). Where memory
does not suffice it halves the number of candidates, as a search does. Without a GPU, `--tiny` runs it on a small shape
to show that it works; its seconds mean nothing.

To compare with heretic-llm 1.4.0: `--save DIRECTORY` writes the model as a checkpoint. heretic-llm, in a virtual
environment of its own, searches it with `--batch-size 100 --max-response-length 100`; its log has seconds a trial.
"""

import argparse
import gc
import time
import traceback
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from common import limit_of

# isort: split
import torch
from platformdirs import user_cache_path

from gpu_program import TINY_TRIALS, TRIALS, Run, measure_command, run_tests
from heretic.engine.batch_size import find_batch_size, find_candidates, planned_batch_size, planned_candidates
from heretic.engine.cuda_graphs.static_batch import BatchCapacity
from heretic.engine.local import LocalEngine
from heretic.engine.measured_plan import measured_plan
from heretic.engine.protocol import Response, no_progress, out_of_memory
from heretic.model.loading.demo_model import MEMBER
from heretic.prompts.prompt import Prompt
from random_model import LLAMA_8B, RandomEngine, random_engine, random_prompts

PARTS = ("first", "candidate", "study", "command", "4bits")
GIB = 2**30
WAYS = {"on": "recorded steps", "off": "plain steps"}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tiny", action="store_true")
    parser.add_argument("--tests", action="store_true", help="run the tests that need a GPU first")
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=PARTS[:-1])
    parser.add_argument("--candidates", type=int, metavar="N", help="candidates per forward, found by default")
    parser.add_argument("--smollm2", type=Path, metavar="FILE", help="its .gguf file, for the part `command`")
    parser.add_argument("--output", type=Path, metavar="FILE", help="where the table is written")
    parser.add_argument("--save", metavar="DIRECTORY", help="write the model and its tokenizer, and end")
    arguments = parser.parse_args()
    if not arguments.tiny and not torch.cuda.is_available():
        raise SystemExit("Expected a GPU, found none. Use --tiny to see on a CPU that the benchmark runs.")
    if arguments.save:
        save(engine_of(arguments.tiny, "off"), arguments.save)
        return
    run = Run(arguments.tiny, arguments.candidates, TINY_TRIALS if arguments.tiny else TRIALS)
    model = arguments.smollm2 or user_cache_path("heretic") / "models" / Path(MEMBER).name
    work: dict[str, Callable[[], None]] = {
        "first": lambda: measure_first(run),
        "candidate": lambda: measure_both_ways(run),
        "4bits": lambda: measure_4bits(run),
        "study": lambda: compute_study(run),
        "command": lambda: measure_command(run, model),
    }
    parts = ["tests"] * arguments.tests + [part for part in work if part in arguments.parts]
    work["tests"] = lambda: run_tests(run)
    device = torch.cuda.get_device_name() if torch.cuda.is_available() else "CPU, tiny shape: the seconds mean nothing"
    title = f"{device}, torch {torch.__version__}"
    print(title)
    started = time.perf_counter()
    for part in parts:
        try:
            work[part]()
        # What one part lacks, the others may have: a device is lent for minutes.
        except Exception as error:  # noqa: BLE001
            traceback.print_exc()
            run.add(part, f"failed: {type(error).__name__}: {str(error).partition(chr(10))[0][:100]}")
        if arguments.output:
            arguments.output.parent.mkdir(parents=True, exist_ok=True)
            arguments.output.write_text(table(run, title))
    print(f"\n{table(run, title)}\n{time.perf_counter() - started:.0f} s in all")
    if run.failed:
        raise SystemExit(1)


def table(run: Run, title: str) -> str:
    rows = "".join("| {} | {} | {} |\n".format(*line) for line in run.lines)
    return f"| {title} | reached | asked |\n| --- | --- | --- |\n{rows}"


def measure_4bits(run: Run) -> None:
    run.bits = ", 4 bits"
    try:
        measure_way(run, "on")
    finally:
        run.bits = ""


def compute_study(run: Run) -> None:
    if run.candidate and run.first:
        whole = run.first + run.trials * run.candidate
        run.add(f"{run.trials} trials, start-up included (computed)", f"{whole:.0f} s", "<= 95 s")


def engine_of(tiny: bool, way: str) -> RandomEngine:
    # The previous way's model is still held by reference cycles: two models would not fit.
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
    torch.manual_seed(0)
    shape: tuple[int, int, dict[str, Any]] = (2, 128, {}) if tiny else (32, 4096, LLAMA_8B)
    return random_engine(shape[0], shape[1], 1, way, **shape[2])


def quantise(model: torch.nn.Module) -> None:
    """Packs the linear modules of the layers into nf4, as `quantization = bnb_4bit` loads them."""
    from bitsandbytes.nn import Linear4bit, Params4bit

    for name, module in list(model.named_modules()):
        if isinstance(module, torch.nn.Linear) and "lm_head" not in name:
            packed = Linear4bit(
                module.in_features, module.out_features, False, module.weight.dtype, True, "nf4", device="meta"
            )
            weight = Params4bit(module.weight.data.cpu(), False, compress_statistics=True, quant_type="nf4")
            packed.weight = weight.to(module.weight.device)
            parent, _, last = name.rpartition(".")
            setattr(model.get_submodule(parent), last, packed)


def save(engine: RandomEngine, directory: str) -> None:
    engine.local.loaded.model.save_pretrained(directory)  # type: ignore[operator]
    engine.local.loaded.tokenizer.save_pretrained(directory)


def measure_first(run: Run) -> None:
    """From the loaded model to the first trials, as a search goes."""
    print("first trials:")
    engine = engine_of(run.tiny, "on")
    local, bad, good = engine.local, random_prompts(run.prompts, 40), random_prompts(run.prompts)
    on_gpu = torch.cuda.is_available()
    seconds, started = {}, time.perf_counter()

    def lap(name: str) -> None:
        seconds[name] = time.perf_counter() - started - sum(seconds.values())

    size = planned_batch_size(local, bad, 128, run.length) if on_gpu else find_batch_size(local, bad, 8, no_progress)
    local.set_batch_size(size)
    lap(f"batch size {size}")
    find = planned_candidates if on_gpu else lambda engine, bad, _, tried: find_candidates(engine, bad, tried)
    count = run.given or find(local, bad, run.length, no_progress)
    if local.graphs is not None:
        longest = max(len(local.chat.tokens(prompt)) for prompt in bad)
        local.graphs.reserve(BatchCapacity(count * len(bad), longest + run.length, count, rank=1))
    lap(f"{count} candidates per forward")
    local.first_token_log_probabilities(good, [{}], no_progress)
    local.generate(bad, [{}], run.length, None, no_progress)
    lap("baseline, recording included")
    measure_candidates(engine, count, good, bad, run.length)
    lap("first trials, recording included")
    run.first = sum(seconds.values())
    print("  " + ", ".join(f"{name}: {each:.1f} s" for name, each in seconds.items()))
    run.add("first trials, after loading", f"{run.first:.1f} s", "<= 10 s")
    run.given = count


def measure_both_ways(run: Run) -> None:
    answers = [measure_way(run, way) for way in WAYS]
    equal = [agreed(first.tokens, second.tokens) for first, second in zip(*answers, strict=True)]
    # In bfloat16 another order of sums may choose the other of two tokens that are about as likely, and with random
    # weights many are.
    run.add("tokens of a response that both ways give, up to the first difference", f"{sum(equal) / len(equal):.0f}")


def agreed(first: Sequence[int], second: Sequence[int]) -> int:
    """How many tokens are equal before the first that differs."""
    return next((n for n, (a, b) in enumerate(zip(first, second, strict=False)) if a != b), len(first))


def measure_way(run: Run, way: str) -> list[Response]:
    """Measures a candidate by one way of decoding; returns the responses of the first candidate."""
    print(f"{WAYS[way]}:")
    engine = engine_of(run.tiny, way)
    local, good, bad = engine.local, random_prompts(run.prompts), random_prompts(run.prompts, 40)
    if run.bits:
        quantise(local.loaded.model)
    count = run.given or (planned_candidates(local, bad, run.length, no_progress) if torch.cuda.is_available() else 2)
    planned = measured_plan(local, bad, run.length)
    while True:
        try:
            measure_candidates(engine, count, good, bad, run.length)
            if torch.cuda.is_available():
                torch.cuda.reset_peak_memory_stats()
            seconds, responses = measure_candidates(engine, count, good, bad, run.length)
            break
        except RuntimeError as error:
            if not out_of_memory(error) or count == 1:
                raise
        # Outside the handler, which holds the tensors of the failed forward.
        release(local)
        count //= 2
        print(f"  no memory: {count} candidates per forward instead")
    report_way(run, way, engine, count, seconds / count)
    if torch.cuda.is_available() and way == "on":
        rows = count * len(bad)
        # Prompts of 8 to 40 words are prefilled in slices, the largest of which has about a quarter of them.
        peak, plan = torch.cuda.max_memory_allocated() / GIB, planned.peak(rows, rows // 4) / GIB
        run.add(f"memory, {count} candidates per forward", f"{peak:.1f} GiB, planned {plan:.1f}", "within 10 %")
    return responses


def report_way(run: Run, way: str, engine: RandomEngine, count: int, seconds: float) -> None:
    local, bad = engine.local, random_prompts(run.prompts, 40)
    asked = "<= 0.42 s" if way == "on" else ""
    run.add(f"fully measured candidate, {WAYS[way]}, {count} per forward", f"{seconds:.2f} s", asked)
    if way == "on":
        run.candidate = run.candidate or seconds
        if not local.uses_cuda_graphs:
            print("  CUDA graphs were not used: see the warning above")
    positions = sum(len(local.chat.tokens(prompt)) for prompt in bad) // len(bad) + run.length // 2
    rate = local.decoding_rate(bad, count, run.length)
    limit = limit_of(local, count * len(bad), positions)
    print(f"  {limit.compared_with(rate)}")
    run.add(f"decoding, {WAYS[way]}, of its limit", f"{rate / limit.tokens:.0%}", ">= 85 %" if way == "on" else "")


def release(engine: LocalEngine) -> None:
    """Frees what the engine keeps for the candidates of the last forward."""
    with engine.without_layer_cache():
        pass
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()


def measure_candidates(
    engine: RandomEngine, count: int, good: list[Prompt], bad: list[Prompt], length: int
) -> tuple[float, list[Response]]:
    """Seconds that `count` candidates in the same forwards take, and the responses of the first."""
    local = engine.local
    local.set_batch_size(count * len(bad))
    torch.manual_seed(1)
    edits = engine.random_edits(count)
    start = time.perf_counter()
    local.first_token_log_probabilities(good, edits, no_progress)
    middle = time.perf_counter()
    responses = local.generate(bad, edits, length, None, no_progress)
    end = time.perf_counter()
    print(f"  {count} candidates: KL {middle - start:.2f} s, responses {end - middle:.2f} s", flush=True)
    return end - start, responses[0]


if __name__ == "__main__":
    main()
