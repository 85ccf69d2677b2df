"""Where the time of a decode step goes: `python benchmarks/step.py [--rows 70] [--dtype float32]`.

An edited SmolLM2-135M-Instruct answers `--rows` prompts of the demo, in the faster dtype, with one thread as in a
process of a search. Prints milliseconds a step (median of steps 30 to 60), the same without the keys `packed_weights`
and `fast_attention`, and the share of each kind of operation by torch's profiler.
"""

import argparse
import statistics
import time
from typing import Any

from common import Bench

# isort: split
import torch
from torch.profiler import ProfilerActivity, profile

from heretic.engine.local import LocalEngine
from heretic.engine.options import EngineOptions
from heretic.engine.protocol import no_progress
from heretic.model.kernels.packed_linear import unpack_weights

FIRST, LAST, TOKENS = 30, 60, 64
KINDS = {
    "matrix products of weights": ("mkldnn", "addmm", "aten::mm", "aten::linear"),
    "products of attention": ("bmm", "scaled_dot"),
    "copies": ("copy_", "aten::cat", "index"),
}


class Steps:
    """Times each forward of one new position by hooks on the model, and profiles those from FIRST to LAST."""

    def __init__(self, profiled: bool) -> None:
        self.seconds: list[float] = []
        self.profile = profile(activities=[ProfilerActivity.CPU]) if profiled else None
        self._start = 0.0

    def before(self, model: torch.nn.Module, arguments: tuple[Any, ...], named: dict[str, Any]) -> None:
        if self.profile is not None and len(self.seconds) == FIRST:
            self.profile.__enter__()
        self._start = time.perf_counter()

    def after(self, model: torch.nn.Module, arguments: tuple[Any, ...], named: dict[str, Any], output: Any) -> None:
        if named["input_ids"].shape[1] > 1:
            return
        self.seconds.append(time.perf_counter() - self._start)
        if self.profile is not None and len(self.seconds) == LAST:
            self.profile.__exit__(None, None, None)

    def run(self, engine: LocalEngine, prompts, edit) -> float:  # type: ignore[no-untyped-def]
        """Median milliseconds of a step."""
        model = engine.loaded.model
        hooks = [
            model.register_forward_pre_hook(self.before, with_kwargs=True),
            model.register_forward_hook(self.after, with_kwargs=True),
        ]
        try:
            engine.generate(prompts, [edit], TOKENS, None, no_progress)
        finally:
            for hook in hooks:
                hook.remove()
        return 1000 * statistics.median(self.seconds[FIRST:LAST])


def shares(profiled: profile) -> dict[str, float]:
    own = {event.key: event.self_cpu_time_total for event in profiled.key_averages()}
    total = sum(own.values())
    found = {
        kind: sum(each for key, each in own.items() if any(name in key for name in names)) / total
        for kind, names in KINDS.items()
    }
    return found | {"the rest (norms, rotary, softmax, the edit)": 1 - sum(found.values())}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=70)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--dtype", default="auto")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    bench = Bench(TOKENS, dtypes=[arguments.dtype])
    [parameters] = bench.random_parameters(1, seed=0)
    edit = bench.edit(parameters)
    prompts = bench.bad[: arguments.rows]
    engine = bench.engine
    engine.set_batch_size(arguments.rows)
    steps = Steps(profiled=True)
    print(f"{arguments.rows} rows, {engine.loaded.dtype}, {arguments.threads} thread(s)")
    print(f"a step: {Steps(profiled=False).run(engine, prompts, edit):.0f} ms")
    steps.run(engine, prompts, edit)
    assert steps.profile is not None
    for kind, share in shares(steps.profile).items():
        print(f"  {share:4.0%} {kind}")
    unpack_weights(engine.loaded.model)
    print(f"without packed weights: {Steps(profiled=False).run(engine, prompts, edit):.0f} ms")
    engine.loaded.model.set_attn_implementation("sdpa")
    plain = LocalEngine(
        engine.loaded, engine.chat, arguments.rows, EngineOptions(fast_attention=False, packed_weights=False)
    )
    print(f"nor attention of its own: {Steps(profiled=False).run(plain, prompts, edit):.0f} ms")


if __name__ == "__main__":
    main()
