"""Memory and time of an export, as a multiple of its largest tensor.

Writes a random sharded bfloat16 checkpoint, exports it in a child process, and samples the child's anonymous memory
(RssAnon). Pages of mapped files are not counted: the kernel may drop them at any time.

    python benchmarks/export_memory.py --gigabytes 1.5 --d-model 4096 --d-in 12800
"""

import argparse
import re
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import torch

from heretic.ablation.directions import Directions
from heretic.ablation.methods.kernel.parameters import KernelParameters
from heretic.ablation.methods.tensors import StudyTensors
from heretic.ablation.parameters import WeightKernel
from heretic.ablation.sites import Site
from heretic.export.edits import edit_from
from heretic.export.formats.merge import merge
from heretic.export.readers.base import open_checkpoint
from heretic.export.readers.tensors import TensorInfo
from heretic.export.writer import CheckpointWriter

SAMPLES_A_SECOND = 500


def infos(layers: int, d_model: int, d_in: int) -> Iterator[TensorInfo]:
    """Names and shapes of a llama without its attention inputs; the embedding is as large as one MLP matrix."""
    yield TensorInfo("model.embed_tokens.weight", torch.bfloat16, (d_in, d_model))
    for layer in range(layers):
        prefix = f"model.layers.{layer}"
        yield TensorInfo(f"{prefix}.self_attn.o_proj.weight", torch.bfloat16, (d_model, d_model))
        yield TensorInfo(f"{prefix}.mlp.up_proj.weight", torch.bfloat16, (d_in, d_model))
        yield TensorInfo(f"{prefix}.mlp.down_proj.weight", torch.bfloat16, (d_model, d_in))
        yield TensorInfo(f"{prefix}.input_layernorm.weight", torch.bfloat16, (d_model,))


def write_checkpoint(directory: Path, layers: int, d_model: int, d_in: int) -> int:
    """Writes random weights, and gives their size in bytes."""
    directory.mkdir()
    tensors = tuple(infos(layers, d_model, d_in))
    writer = CheckpointWriter(directory, tensors, "500MB")
    for info in tensors:
        writer.add(info.key, torch.empty(info.shape, dtype=info.dtype).normal_(std=0.02))
    writer.finish()
    (directory / "config.json").write_text("{}")
    return sum(info.nbytes for info in tensors)


def export(source: Path, output: Path, layers: int, d_model: int, mode: str) -> None:
    """Edits every site of every layer."""
    sites = [
        Site(layer, component, f"model.layers.{layer}.{module}", f"model.layers.{layer}.{module}.weight")
        for layer in range(layers)
        for component, module in (("attn.o_proj", "self_attn.o_proj"), ("mlp.down_proj", "mlp.down_proj"))
    ]
    kernel = WeightKernel(max_weight=1.0, max_weight_position=0.0, min_weight=0.9, min_weight_distance=layers)
    parameters = KernelParameters(
        direction_scope="per layer", direction_index=0.0, kernels={"attn.o_proj": kernel, "mlp.down_proj": kernel}
    )
    vectors = torch.nn.functional.normalize(torch.randn(layers + 1, d_model), dim=-1)
    merge(open_checkpoint(source), output, sites, edit_from(parameters, StudyTensors(Directions(vectors), {}), mode))


def anonymous() -> int:
    """This process's anonymous memory in bytes."""
    return 1024 * int(re.search(r"RssAnon:\s+(\d+)", Path("/proc/self/status").read_text())[1])  # type: ignore[index]


class Peak(threading.Thread):
    """Samples anonymous memory until told to stop."""

    def __init__(self) -> None:
        super().__init__(daemon=True)
        self.value = anonymous()
        self.done = threading.Event()

    def run(self) -> None:
        while not self.done.wait(1 / SAMPLES_A_SECOND):
            self.value = max(self.value, anonymous())


def child(arguments: argparse.Namespace) -> None:
    """Exports, and prints peak above the baseline (bytes) and seconds."""
    torch.set_num_threads(1)
    baseline, start, peak = anonymous(), time.perf_counter(), Peak()
    peak.start()
    source = arguments.child
    export(source, source.parent / "out", arguments.layers, arguments.d_model, arguments.mode)
    peak.done.set()
    peak.join()
    print(peak.value - baseline, time.perf_counter() - start)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--gigabytes", type=float, default=1.5)
    parser.add_argument("--d-model", type=int, default=4096)
    parser.add_argument("--d-in", type=int, default=12800)
    parser.add_argument("--mode", choices=("none", "pre", "full"), default="full")
    parser.add_argument("--directory", type=Path, help="where the checkpoints go (default: the system's temporary one)")
    parser.add_argument("--layers", type=int, help=argparse.SUPPRESS)
    parser.add_argument("--child", type=Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.child is not None:
        child(arguments)
        return
    d_model, d_in = arguments.d_model, arguments.d_in
    layers = max(1, round(arguments.gigabytes * 1e9 / (2 * d_model * (d_model + 2 * d_in))))
    with tempfile.TemporaryDirectory(dir=arguments.directory) as temporary:
        source = Path(temporary) / "base"
        size = write_checkpoint(source, layers, d_model, d_in)
        options = ["--child", str(source), "--layers", str(layers), "--d-model", str(d_model), "--mode", arguments.mode]
        result = subprocess.run([sys.executable, __file__, *options], check=True, capture_output=True, text=True)
    peak, seconds = map(float, result.stdout.split())
    largest = 4 * d_model * d_in
    print(f"{layers} layers, {size / 1e9:.2f} GB in bfloat16, mode {arguments.mode}: {seconds:.1f} s, one thread")
    print(f"peak anonymous memory above the baseline after imports: {peak / 1e6:.0f} MB")
    print(f"  {peak / largest:.2f} x the largest tensor in float32 ({largest / 1e6:.0f} MB)")
    print(f"  {peak / size:.3f} x the model")


if __name__ == "__main__":
    main()
