"""What a recorded decode step must compute and move: `python benchmarks/gpu_arithmetic.py [--rows 800]`.

Arithmetic, without a GPU: a model of Llama-3.1-8B's shape in 16 bits, at the matrix rate that was measured on an H100
and the bandwidth of its data sheet. Each part's time is a lower bound: it leaves out launches, and the share of the
rates that a kernel does not reach.
"""

import argparse
from dataclasses import dataclass

MATRIX_RATE, BANDWIDTH = 780e12, 3.35e12
LAYERS, WIDTH, INNER, HEADS, GROUPS, HEAD_DIM, VOCABULARY = 32, 4096, 14336, 32, 8, 128, 128256
HALF = 2

PLAIN_EDIT = 40
"""Bytes that the edit in fp32 moves for each number of an output: a copy in fp32 (6), its product with the right
factors (4), the difference (8), the row's scale (4), the product with it (12), and the result in 16 bits (6)."""

FUSED_EDIT = 4
"""In one pass: read and written in 16 bits."""

NORM = 40
"""Bytes that a norm moves for each number, in the library's seven operations."""

GATE = 10
"""Of the gate: the activation (4), and its product with the other half (6)."""


@dataclass(frozen=True)
class Part:
    name: str
    operations: float
    moved: float

    @property
    def milliseconds(self) -> float:
        return 1000 * max(self.operations / MATRIX_RATE, self.moved / BANDWIDTH)


def parts(rows: int, used: int, buffers: int) -> list[Part]:
    attention = WIDTH * WIDTH + 2 * WIDTH * GROUPS * HEAD_DIM + WIDTH * WIDTH
    weights = LAYERS * (attention + 3 * WIDTH * INNER) + WIDTH * VOCABULARY
    position = rows * 2 * GROUPS * HEAD_DIM * LAYERS * HALF
    written = rows * WIDTH * 2 * LAYERS
    return [
        Part("matrix products", 2.0 * rows * weights, HALF * weights),
        Part(f"attention to buffers of {buffers} positions", 0, position * buffers),
        Part(f"attention to the {used} that hold something", 0, position * used),
        Part("edits of every site, in fp32", 0, PLAIN_EDIT * written),
        Part("edits of every site, in one pass", 0, FUSED_EDIT * written),
        Part("norms", 0, NORM * rows * WIDTH * (2 * LAYERS + 1)),
        Part("gates", 0, GATE * rows * INNER * LAYERS),
        Part("logits and the choice", 0, 2 * HALF * rows * VOCABULARY),
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=800)
    parser.add_argument("--used", type=int, default=76, help="positions of a row that hold something, on average")
    parser.add_argument("--buffers", type=int, default=160, help="positions of the buffers")
    arguments = parser.parse_args()
    print(f"{arguments.rows} rows, one step:")
    for part in parts(arguments.rows, arguments.used, arguments.buffers):
        print(
            f"{part.milliseconds:7.2f} ms  {part.operations / 1e12:6.2f} TFLOP {part.moved / 1e9:6.1f} GB  {part.name}"
        )


if __name__ == "__main__":
    main()
