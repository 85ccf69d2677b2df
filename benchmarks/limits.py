"""How far decoding is from what the machine can do: `python benchmarks/limits.py [--rows 100]`.

Measures the rate of a large matrix product and of a large copy. They limit a decode step: operations of the weights and
of attention over the matrix rate, or bytes of weights, keys and values over the bandwidth, whichever takes longer.
Prints the decode loop's tokens a second next to that limit, by all threads and by one (as in a process of a search).
"""

import argparse

from common import demo_engine, demo_prompts, demo_settings, limit_of

# isort: split
import torch

TOKENS = 24


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=100)
    arguments = parser.parse_args()
    settings = demo_settings()
    prompts = demo_prompts(settings)[3]
    rows = [prompts[index % len(prompts)] for index in range(arguments.rows)]
    engine = demo_engine(settings, arguments.rows)
    positions = sum(len(engine.chat.tokens(prompt)) for prompt in rows) // len(rows) + TOKENS // 2
    for threads in sorted({torch.get_num_threads(), 1}, reverse=True):
        torch.set_num_threads(threads)
        limit = limit_of(engine, arguments.rows, positions)
        line = limit.compared_with(engine.decoding_rate(rows, 1, TOKENS))
        print(f"{threads} threads, {engine.loaded.dtype}, {arguments.rows} rows: {line}")


if __name__ == "__main__":
    main()
