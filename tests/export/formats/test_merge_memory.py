"""A model larger than the memory that a process may have is exported all the same."""

import subprocess
import sys
from pathlib import Path

import pytest

LAYERS, WIDTH, D_IN = 30, 512, 4096
"""252 MB in bfloat16."""
ROOM = 128 * 2**20
"""Of memory beyond what the imports take: half of the model."""

SCRIPT = f"""
import re, resource, sys
from pathlib import Path
import torch
from heretic.ablation.directions import Directions
from heretic.ablation.methods.kernel.parameters import KernelParameters
from heretic.ablation.parameters import WeightKernel
from heretic.ablation.sites import Site
from heretic.ablation.methods.tensors import StudyTensors
from heretic.export.edits import edit_from
from heretic.export.formats.merge import merge
from heretic.export.readers.base import open_checkpoint
from heretic.export.readers.tensors import TensorInfo
from heretic.export.writer import CheckpointWriter

base, out, whole = Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3] == "whole"
torch.set_num_threads(1)
kinds = ("mlp.down_proj", "mlp.up_proj")
names = [f"model.layers.{{layer}}.{{kind}}.weight" for layer in range({LAYERS}) for kind in kinds]
if not base.exists():
    base.mkdir()
    shapes = {{"down_proj": ({WIDTH}, {D_IN}), "up_proj": ({D_IN}, {WIDTH})}}
    tensors = [TensorInfo(name, torch.bfloat16, shapes[name.split(".")[4]]) for name in names]
    writer = CheckpointWriter(base, tensors, "20MB")
    for info in tensors:
        writer.add(info.key, torch.full(info.shape, 0.5, dtype=torch.bfloat16))
    writer.finish()
    (base / "config.json").write_text("{{}}")
reader = open_checkpoint(base)
size = sum(info.nbytes for info in reader.tensors())
assert size > 1.5 * {ROOM}, size
# Memory that is the process's own: pages of mapped files can be dropped at any time.
used = 1024 * int(re.search(r"VmData:\\s+(\\d+)", Path("/proc/self/status").read_text())[1])
resource.setrlimit(resource.RLIMIT_DATA, (used + {ROOM}, used + {ROOM}))
if whole:
    held = [reader.read(info.key).clone() for info in reader.tensors()]
    sys.exit(0)
sites = [Site(n, "mlp.down_proj", name.removesuffix(".weight"), name) for n, name in enumerate(names[::2])]
kernel = WeightKernel(max_weight=1.0, max_weight_position=0.0, min_weight=0.9, min_weight_distance={LAYERS})
parameters = KernelParameters(direction_scope="per layer", direction_index=0.0, kernels={{"mlp.down_proj": kernel}})
vectors = torch.nn.functional.normalize(torch.ones({LAYERS} + 1, {WIDTH}), dim=-1)
merge(reader, out, sites, edit_from(parameters, StudyTensors(Directions(vectors), {{}}), "full"), "20MB")
"""


@pytest.mark.skipif(sys.platform != "linux", reason="the limit on a process's own memory is Linux's")
def test_an_export_needs_the_room_of_a_few_tensors(tmp_path: Path) -> None:
    def run(what: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-c", SCRIPT, str(tmp_path / "base"), str(tmp_path / "out"), what]
        return subprocess.run(command, capture_output=True, text=True, check=False)

    # The limit is one: the whole model does not fit.
    whole = run("whole")
    assert whole.returncode != 0
    assert "memory" in whole.stderr.lower()
    streamed = run("streamed")
    assert streamed.returncode == 0, streamed.stderr
    written = sum(path.stat().st_size for path in (tmp_path / "out").glob("*.safetensors"))
    assert written > 1.5 * ROOM
