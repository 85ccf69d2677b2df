"""How far decoding is from what the machine can do: `python benchmarks/limits.py [--rows 100]`.

Measures the rate of a large matrix product and of a large copy, and from them what a decode step could take at best:
operations of the weights and of attention over the matrix rate, or bytes of weights, keys and values over the
bandwidth, whichever is more. Prints the decode loop's tokens a second beside it, by all threads and by one (as the
processes of a search have).
"""

import argparse
import os
import time
from dataclasses import dataclass

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
os.environ.setdefault("TQDM_DISABLE", "1")

import torch

from heretic.config import Settings, resolve_prompts
from heretic.engine.local import LocalEngine
from heretic.model.chat.format import chat_format
from heretic.model.loading.checkpoint import find_checkpoint
from heretic.model.loading.demo_model import demo_model
from heretic.model.loading.load import load_model
from heretic.prompts.loading import load_prompts

TOKENS = 24
SIDE = {"cuda": 8192}
"""Of the square matrices, by kind of device (others: 2048): smaller ones don't reach a GPU's rate."""


def best_seconds(task, times: int = 5) -> float:  # type: ignore[no-untyped-def]
    best = float("inf")
    for _ in range(times):
        start = time.perf_counter()
        task()
        if torch.cuda.is_available():
            torch.cuda.synchronize()
        best = min(best, time.perf_counter() - start)
    return best


def machine_rates(device: torch.device, dtype: torch.dtype) -> tuple[float, float]:
    """(operations a second of a matrix product, bytes a second of a copy, read and written)."""
    side = SIDE.get(device.type, 2048)
    a = torch.randn(side, side, device=device).to(dtype)
    source = torch.ones(1 << 26, dtype=torch.float32, device=device)
    target = torch.empty_like(source)
    operations = 2 * side**3 / best_seconds(lambda: a @ a)
    return operations, 2 * source.nbytes / best_seconds(lambda: target.copy_(source))


def step_cost(engine: LocalEngine, rows: int, positions: int) -> tuple[float, float]:
    """(operations, bytes) of one decode step of `rows` rows that look back on `positions`."""
    model = engine.loaded.model
    head = model.get_output_embeddings().weight  # type: ignore[operator]
    weights = [module.weight for module in model.modules() if isinstance(module, torch.nn.Linear)]
    numbers = sum(weight.numel() for weight in {id(w): w for w in [*weights, head]}.values())
    config = model.config  # type: ignore[union-attr]
    head_dim = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
    queries = config.num_attention_heads * head_dim * len(engine.loaded.layers)
    cached = config.num_key_value_heads * head_dim * len(engine.loaded.layers) * 2
    size = engine.loaded.dtype.itemsize
    return 2 * rows * numbers + 4 * rows * positions * queries, size * (numbers + rows * positions * cached)


@dataclass(frozen=True)
class Limit:
    """What a decode step must do and move, and the rates that bound it: per second, and tokens a second at best."""

    operations: float
    moved: float
    matrix_rate: float
    bandwidth: float
    tokens: float

    def beside(self, reached: float) -> str:
        """A line on how far from it the `reached` tokens a second are."""
        return (
            f"{self.operations / 1e9:.1f} GFLOP and {self.moved / 2**20:.0f} MiB a step, at "
            f"{self.matrix_rate / 1e9:.0f} GFLOP/s and {self.bandwidth / 2**30:.1f} GiB/s at most {self.tokens:.0f} "
            f"tokens/s; decoding reaches {reached:.0f}, {100 * reached / self.tokens:.0f} % of it"
        )


def limit_of(engine: LocalEngine, rows: int, positions: int) -> Limit:
    """Of decoding `rows` rows that look back on `positions`, at the machine's rates of now."""
    operations, moved = step_cost(engine, rows, positions)
    matrix, bandwidth = machine_rates(engine.loaded.device, engine.loaded.dtype)
    return Limit(operations, moved, matrix, bandwidth, rows / max(operations / matrix, moved / bandwidth))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=100)
    arguments = parser.parse_args()
    settings = Settings(preset="disclaimer", system_prompt="none")
    loaded = load_model(find_checkpoint(str(demo_model())), settings, lambda _: None)
    prompts = load_prompts(resolve_prompts(settings)[3]).prompts
    rows = [prompts[index % len(prompts)] for index in range(arguments.rows)]
    engine = LocalEngine(loaded, chat_format(loaded.tokenizer, "none", "SmolLM2"), arguments.rows)
    positions = sum(len(engine.chat.tokens(prompt)) for prompt in rows) // len(rows) + TOKENS // 2
    for threads in sorted({torch.get_num_threads(), 1}, reverse=True):
        torch.set_num_threads(threads)
        limit = limit_of(engine, arguments.rows, positions)
        line = limit.beside(engine.decoding_rate(rows, 1, TOKENS))
        print(f"{threads} threads, {loaded.dtype}, {arguments.rows} rows: {line}")


if __name__ == "__main__":
    main()
