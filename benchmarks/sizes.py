"""The cost of a trial by size: `python benchmarks/sizes.py [--plot sizes.html] [--quick]`.

A fully evaluated candidate of a random model of Llama's shape, with one of prompts, response length, layers and
candidates per forward changed at a time. The end token never comes, so every response has its full length. Prints a
table of seconds per candidate, absolute and relative to the first row; `--plot` draws the same (needs plotly).
"""

import argparse
import time
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import common  # noqa: F401, sets OpenMP's wait policy

# isort: split
import torch

from heretic.engine.protocol import no_progress
from random_model import random_engine, random_prompts


@dataclass(frozen=True)
class Size:
    prompts: int = 48
    length: int = 32
    layers: int = 8
    candidates: int = 1


def sizes(quick: bool) -> list[Size]:
    base = Size(16, 8, 4) if quick else Size()
    changes: dict[str, tuple[int, ...]] = {
        "prompts": (base.prompts // 4, base.prompts // 2, base.prompts * 2),
        "length": (base.length // 2, base.length * 2, base.length * 4),
        "layers": (base.layers // 2, base.layers * 2),
        "candidates": (2, 4),
    }
    return [base] + [replace(base, **{name: value}) for name, values in changes.items() for value in values]


def seconds(size: Size, width: int) -> float:
    """The time of one candidate: first-token log-probabilities and responses."""
    engine = random_engine(size.layers, width, batch_size=size.prompts * size.candidates)
    prompts = random_prompts(size.prompts)
    edits = engine.random_edits(size.candidates)
    best = float("inf")
    for _ in range(2):
        start = time.perf_counter()
        engine.local.first_token_log_probabilities(prompts, edits, no_progress)
        engine.local.generate(prompts, edits, size.length, None, no_progress)
        best = min(best, time.perf_counter() - start)
    return best / size.candidates


def plot(rows: list[tuple[Size, float]], path: Path) -> None:
    import plotly.graph_objects as graph
    from plotly.subplots import make_subplots

    names = list(asdict(rows[0][0]))
    base = rows[0][0]
    figure = make_subplots(rows=1, cols=len(names), subplot_titles=names, shared_yaxes=True)
    for column, name in enumerate(names, 1):
        points = sorted((getattr(s, name), t) for s, t in rows if replace(s, **{name: getattr(base, name)}) == base)
        figure.add_trace(
            graph.Scatter(x=[p[0] for p in points], y=[p[1] for p in points], mode="lines+markers"), 1, column
        )
    figure.update_layout(showlegend=False, yaxis_title="seconds per candidate")
    figure.update_yaxes(rangemode="tozero")
    figure.write_html(path)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--plot", type=Path)
    parser.add_argument("--width", type=int, default=512, help="d_model")
    parser.add_argument("--quick", action="store_true", help="sizes that take seconds, to see that it runs")
    arguments = parser.parse_args()
    print(f"{torch.get_num_threads()} threads; d_model {arguments.width}")
    print("| prompts | response length | layers | candidates per forward | seconds per candidate | relative |")
    print("| --- | --- | --- | --- | --- | --- |")
    rows: list[tuple[Size, float]] = []
    for size in sizes(arguments.quick):
        rows.append((size, seconds(size, arguments.width)))
        relative = rows[-1][1] / rows[0][1]
        print(
            f"| {' | '.join(str(v) for v in asdict(size).values())} | {rows[-1][1]:.2f} | {relative:.2f} |", flush=True
        )
    if arguments.plot:
        plot(rows, arguments.plot)


if __name__ == "__main__":
    main()
