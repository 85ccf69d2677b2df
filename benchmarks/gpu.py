"""A study's cost on a GPU: `python benchmarks/gpu.py [--tiny]`.

A model of Llama-3.1-8B's shape with random weights (throughput does not depend on their values), 100 good and 100 bad
prompts, 100 tokens a response; no response ends early and no candidate is given up, so this is the worst case. Finds
the number of candidates a forward as a search does, times that many, and prints what 200 trials take. Without a GPU,
`--tiny` runs it on a small shape to see that it works; its seconds mean nothing.
"""

import argparse
import time

import torch

from heretic.engine.base import no_progress
from heretic.engine.batch_size import find_candidates
from random_model import random_engine, random_prompts

LLAMA_8B = {
    "intermediate_size": 14336,
    "num_attention_heads": 32,
    "num_key_value_heads": 8,
    "head_dim": 128,
    "vocab_size": 128256,
}
TRIALS, PROMPTS, LENGTH = 200, 100, 100


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tiny", action="store_true")
    arguments = parser.parse_args()
    if not arguments.tiny and not torch.cuda.is_available():
        raise SystemExit("Expected a GPU, found none. Use --tiny to see on a CPU that the benchmark runs.")
    prompts, length = (8, 8) if arguments.tiny else (PROMPTS, LENGTH)
    engine = random_engine(2, 128, prompts) if arguments.tiny else random_engine(32, 4096, prompts, **LLAMA_8B)
    local = engine.local
    good, bad = random_prompts(prompts), random_prompts(prompts, 40)
    count = find_candidates(local, bad, no_progress)
    local.batch_size = count * prompts
    edits = engine.random_edits(count)
    for title in ("warm-up", "timed"):
        start = time.perf_counter()
        local.first_token_log_probabilities(good, edits, no_progress)
        middle = time.perf_counter()
        local.respond(bad, edits, length, None, no_progress)
        end = time.perf_counter()
        print(f"{title}: {count} candidates: KL {middle - start:.2f} s, responses {end - middle:.2f} s")
    device = torch.cuda.get_device_name() if torch.cuda.is_available() else "CPU, tiny shape: the seconds mean nothing"
    total = TRIALS / count * (end - start)
    print(f"{TRIALS} trials of {prompts} + {prompts} prompts, {length} tokens: {total:.0f} s ({device})")
    if torch.cuda.is_available():
        print(f"peak memory: {torch.cuda.max_memory_allocated() / 2**30:.1f} GiB")


if __name__ == "__main__":
    main()
