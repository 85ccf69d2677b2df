"""[Model] What is loaded, in which precision, on which devices."""

from typing import Annotated

from pydantic import ConfigDict, Field

from ..types import DeviceMap, Dtype, Experts, MemoryLimits, Metavar, Name, Quantization
from .base import Section


class ModelSettings(Section):
    """Which model to load, in which precision and on which devices."""

    model_config = ConfigDict(title="Model")

    model: Name = Field(
        default=None,
        description="Model to edit: a hub id, a local directory or a .gguf file.",
        examples=["Qwen/Qwen3-4B-Instruct-2507"],
    )
    model_commit: Name = Field(
        default=None,
        description="Revision of a hub model: a branch, tag or commit. Pin a commit to get the same weights again.",
        examples=["main"],
    )
    trust_remote_code: bool | None = Field(
        default=None,
        description="Run Python code that comes with the model. Without a value, heretic asks when a model needs it, "
        "and refuses where nobody can be asked.",
        examples=[True],
    )
    dtypes: list[Dtype] = Field(
        default=["auto", "float16", "bfloat16", "float32"],
        min_length=1,
        description="Data types to load the model in, tried in order until one gives finite logits. On a GPU, auto is "
        "the checkpoint's own type; on a CPU, the faster of bfloat16 and float32.",
    )
    quantization: Quantization = Field(
        default="none",
        description="Load 4-bit or 8-bit weights (bitsandbytes) for the search. Use it when the model does not fit "
        "into GPU memory; exports keep full precision.",
    )
    full_precision_model: Name = Field(
        default=None,
        description="Unquantised original to export from, when the model is itself quantised: a hub id, a local "
        "directory, or dequantize to convert its own weights to bfloat16.",
        examples=["path/to/original"],
    )
    experts: Experts = Field(
        default=None,
        description="Experts of a mixture-of-experts model to edit: numbers for every layer (0-3,6) or by layer "
        "(12:0-3;13:6). All are edited by default.",
        examples=["0-3,6"],
    )
    device_map: Annotated[DeviceMap, Metavar("NAME|TABLE")] = Field(
        default="auto",
        description="Device of each part of the model, as in Accelerate: auto, cpu, cuda:0 or a table. Change it to "
        "pin the model to one device.",
    )
    max_memory: MemoryLimits = Field(
        default=None,
        description="Memory limit of each device for weights. Set it to leave room for other programs. What does not "
        "fit on a GPU goes to the CPU's memory, and what does not fit there stays on disk.",
        examples=[{"0": "20GB", "cpu": "64GB"}],
    )
