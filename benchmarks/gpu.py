"""The cost of a study on a GPU: `python benchmarks/gpu.py [--tiny] [--candidates N]`.

A model of Llama-3.1-8B's shape with random weights (throughput does not depend on their values), 100 good and 100 bad
prompts, 100 tokens a response; no response ends early and no candidate is pruned, so this is the worst case. It
decodes by plain steps and by recorded steps (CUDA graphs), each with the number of candidates a forward that a search
would find, or with `--candidates`, which takes less time. Where memory does not suffice it halves the number, as a
search does. Prints the time of 200 trials, how far decoding is from the limit of the GPU's measured matrix rate and
bandwidth, the peak memory, and whether both ways gave the same responses. Without a GPU, `--tiny` runs it on a small
shape to show that it works; its seconds mean nothing.

To compare with heretic-llm 1.4.0: `--save DIRECTORY` writes the model as a checkpoint. heretic-llm, in a virtual
environment of its own, searches it with `--batch-size 100 --max-response-length 100`; its log has seconds a trial.
"""

import argparse
import gc
import time
from typing import Any

from common import limit_of

# isort: split
import torch

from heretic.engine.batch_size import find_candidates
from heretic.engine.local import LocalEngine
from heretic.engine.protocol import Response, no_progress, out_of_memory
from heretic.prompts.prompt import Prompt
from random_model import LLAMA_8B, RandomEngine, random_engine, random_prompts

TRIALS, PROMPTS, LENGTH = 200, 100, 100
TINY_PROMPTS, TINY_LENGTH = 8, 12


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tiny", action="store_true")
    parser.add_argument("--candidates", type=int, metavar="N", help="candidates a forward, found by default")
    parser.add_argument("--save", metavar="DIRECTORY", help="write the model and its tokenizer, and end")
    arguments = parser.parse_args()
    if not arguments.tiny and not torch.cuda.is_available():
        raise SystemExit("Expected a GPU, found none. Use --tiny to see on a CPU that the benchmark runs.")
    if arguments.save:
        save(engine_of(arguments.tiny, "off"), arguments.save)
        return
    device = torch.cuda.get_device_name() if torch.cuda.is_available() else "CPU, tiny shape: the seconds mean nothing"
    print(f"{TRIALS} trials on {device}")
    started = time.perf_counter()
    answers = [measure(arguments.tiny, way, arguments.candidates) for way in ("off", "on")]
    pairs = list(zip(*answers, strict=True))
    same = sum(first.tokens == second.tokens for first, second in pairs)
    print(f"of {len(pairs)} responses of the first candidate, {same} are the same token by token (in bfloat16 another")
    print("order of sums may choose the other of two tokens that are about as likely)")
    print(f"{time.perf_counter() - started:.0f} s in all")


def engine_of(tiny: bool, way: str) -> RandomEngine:
    torch.manual_seed(0)
    shape: tuple[int, int, dict[str, Any]] = (2, 128, {}) if tiny else (32, 4096, LLAMA_8B)
    return random_engine(shape[0], shape[1], 1, way, **shape[2])


def save(engine: RandomEngine, directory: str) -> None:
    engine.local.loaded.model.save_pretrained(directory)  # type: ignore[operator]
    engine.local.loaded.tokenizer.save_pretrained(directory)


def measure(tiny: bool, way: str, given: int | None) -> list[Response]:
    """Prints the measurements of one way of decoding; returns the responses of the first candidate."""
    prompts, length = (TINY_PROMPTS, TINY_LENGTH) if tiny else (PROMPTS, LENGTH)
    # The model of the way before is garbage in cycles: two of them would not fit.
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
    start = time.perf_counter()
    engine = engine_of(tiny, way)
    local = engine.local
    good, bad = random_prompts(prompts), random_prompts(prompts, 40)
    built = time.perf_counter()
    count = given or find_candidates(local, bad, no_progress)
    print(
        f"static_decode = {way}: model made in {built - start:.0f} s, {count} candidates a forward found in "
        f"{time.perf_counter() - built:.0f} s"
    )
    while True:
        try:
            return measure_candidates(engine, count, good, bad, length)
        except RuntimeError as error:
            if not out_of_memory(error) or count == 1:
                raise
        # Outside the handler, which holds the tensors of the failed forward.
        release(local)
        count //= 2
        print(f"  no memory: {count} candidates a forward instead")


def release(engine: LocalEngine) -> None:
    """Gives back what the engine keeps for the candidates of the last forward."""
    with engine.without_layer_cache():
        pass
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()


def measure_candidates(
    engine: RandomEngine, count: int, good: list[Prompt], bad: list[Prompt], length: int
) -> list[Response]:
    """Prints what `count` candidates a forward cost."""
    local = engine.local
    prompts = len(bad)
    local.set_batch_size(count * prompts)
    edits = engine.random_edits(count)
    if torch.cuda.is_available():
        torch.cuda.reset_peak_memory_stats()
    for title in ("warm-up", "timed"):
        start = time.perf_counter()
        local.first_token_log_probabilities(good, edits, no_progress)
        middle = time.perf_counter()
        responses = local.generate(bad, edits, length, None, no_progress)
        end = time.perf_counter()
        print(f"  {title}: KL {middle - start:.2f} s, responses {end - middle:.2f} s", flush=True)
    print(
        f"  {TRIALS} trials of {prompts} + {prompts} prompts, {length} tokens: {TRIALS / count * (end - start):.0f} s "
        f"({(end - start) / count:.2f} s a candidate, {count} candidates a forward)"
    )
    if torch.cuda.is_available():
        print(f"  peak memory: {torch.cuda.max_memory_allocated() / 2**30:.1f} GiB")
    positions = sum(len(local.chat.tokens(prompt)) for prompt in bad) // prompts + length // 2
    rate = local.decoding_rate(bad, count, length)
    print(f"  {limit_of(local, count * prompts, positions).compared_with(rate)}", flush=True)
    return responses[0]


if __name__ == "__main__":
    main()
