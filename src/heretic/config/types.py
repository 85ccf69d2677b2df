"""Types of settings: choices of words, prompt sources, benchmarks, durations, sizes, memory limits, experts."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, model_validator

from ..ablation.parameters import MethodName
from ..files import expand_home

Dtype = Literal["auto", "float16", "bfloat16", "float32"]
Quantization = Literal["none", "bnb_4bit", "bnb_8bit"]
StaticDecode = Literal["auto", "on", "off"]
Preset = Literal["refusal", "disclaimer", "over-refusal", "hub"]
MethodChoice = Literal["auto", MethodName]
"""A method, or the best of them that the model allows."""
Objective = Literal["markers", "log-odds", "both"]
Sampler = Literal["tpe", "tpe-multivariate", "random"]
Resume = Literal["continue", "restart"]
Rule = Literal["knee", "lowest-kl", "lowest-refusals"]
_GgufType = Literal[
    "same",
    "F32",
    "F16",
    "BF16",
    "Q8_0",
    "Q6_K",
    "Q5_K_M",
    "Q5_K_S",
    "Q5_1",
    "Q5_0",
    "Q4_K_M",
    "Q4_K_S",
    "Q4_1",
    "Q4_0",
    "IQ4_NL",
    "IQ4_XS",
    "Q3_K_L",
    "Q3_K_M",
    "Q3_K_S",
    "IQ3_M",
    "IQ3_S",
    "IQ3_XS",
    "IQ3_XXS",
    "Q2_K",
    "IQ2_M",
    "IQ2_S",
    "IQ2_XS",
    "IQ2_XXS",
]
"""Names of the types of files in export/ggml/file_types.py."""

_DURATION = re.compile(r"(?:(\d+)h)?(?:(\d+)m)?(?:(\d+(?:\.\d+)?)s?)?")
_EXPERTS = re.compile(r"(?:(?:\d+:|\*:)?\d+(?:-\d+)?(?:,\d+(?:-\d+)?)*(?:;(?!$)|$))+")
_SIZE = re.compile(r"\d+(?:\.\d+)?\s*(?:[KMGT]i?)?B?", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Metavar:
    """Placeholder of a value in --help, where the type alone says too little."""

    text: str


def none_is_empty(value: str) -> str:
    """The system prompt; "" (no system message, so that the template may add its own) for the word none."""
    return "" if value.strip().lower() == "none" else value


ExportName = Literal["merge", "adapter", "gguf"]
"""Names of the formats in export/formats/registry.py."""

SystemPrompt = Annotated[str, AfterValidator(none_is_empty)]
Text = Annotated[str, Field(min_length=1)]


INLINE = "inline"
"""`dataset` of prompts that are written in the configuration."""


class PromptSource(BaseModel):
    """Source of a prompt set; a bare string is its `dataset`, a bare list are its prompts."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    dataset: str = Field(
        min_length=1,
        description="Hub id, local directory or file: one prompt per line, or .jsonl, .json, .csv, .tsv, .parquet, "
        "also compressed (.gz).",
    )
    prompts: tuple[Text, ...] | None = Field(
        default=None, min_length=1, description="The prompts themselves, instead of a dataset."
    )
    commit: str | None = Field(default=None, description="Revision of a hub dataset.")
    subset: str | None = Field(default=None, description="Configuration of a hub dataset that has several.")
    split: str | None = Field(
        default=None, description="Split and slice, such as `train[:400]`, or `[:400]` of a file without splits."
    )
    column: str = Field(
        default="text",
        description="Column of texts or conversations, or a pattern of several: `{context} {question}`.",
    )
    prefix: str = Field(default="", description="Text put before each prompt, with a space.")
    suffix: str = Field(default="", description="Text put after each prompt, with a space.")
    system_prompt: SystemPrompt | None = Field(
        default=None, description="System prompt of this set, instead of the one for all sets."
    )
    residual_plot_label: str | None = Field(default=None, description="Name of this set in residual plots.")
    residual_plot_color: str | None = Field(default=None, description="Colour of this set in residual plots.")

    @model_validator(mode="before")
    @classmethod
    def _bare_string_is_the_dataset(cls, value: Any) -> Any:
        if isinstance(value, list | tuple):
            value = {"prompts": value}
        if isinstance(value, dict) and value.get("prompts") is not None:
            return {"dataset": INLINE} | value
        return {"dataset": value} if isinstance(value, str) else value

    @model_validator(mode="after")
    def _not_both(self) -> "PromptSource":
        if self.prompts is not None and self.dataset != INLINE:
            raise ValueError("expected either `dataset` or `prompts`")
        return self


class Benchmark(BaseModel):
    """A task of lm-evaluation-harness."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    task: str = Field(min_length=1, description="The harness's name of the task, or a .yaml file of one.")
    name: str = Field(description="Name to show.")
    description: str = Field(default="", description="What the task measures.")


def parse_duration(value: object) -> object:
    """Seconds from "90s", "30m", "1h30m" or plain seconds; numbers and None pass through.

    Raises:
        ValueError: the text is no duration.
    """
    if not isinstance(value, str):
        return value
    text = value.strip().lower()
    match = _DURATION.fullmatch(text)
    if not text or match is None:
        raise ValueError("expected a duration such as 90s, 30m, 1h30m or a number of seconds")
    hours, minutes, seconds = (float(part or 0) for part in match.groups())
    return hours * 3600 + minutes * 60 + seconds


def parse_experts(value: object) -> object:
    """Numbers of experts by layer ("*": every other layer) from "0-3,6" or "12:0-3,6;13:5" or a list; None for "all".

    Raises:
        ValueError: the text is neither.
    """
    if isinstance(value, list | tuple):
        return {"*": list(value)}
    if not isinstance(value, str):
        return value
    text = "".join(value.split()).lower()
    if text in ("", "all"):
        return None
    if _EXPERTS.fullmatch(text) is None:
        raise ValueError("expected all, numbers of experts such as 0-3,6 for every layer, or by layer: 12:0-3,6;13:5")
    found: dict[str, list[int]] = {}
    for part in text.split(";"):
        layer, _, numbers = part.rpartition(":")
        ranges = [[int(end) for end in each.split("-")] for each in numbers.split(",")]
        found[layer or "*"] = [number for ends in ranges for number in range(ends[0], ends[-1] + 1)]
    return found


def check_experts(value: Mapping[str, Sequence[int]] | None) -> Mapping[str, Sequence[int]] | None:
    """The choice itself.

    Raises:
        ValueError: a key is no layer, or nothing is chosen.
    """
    for layer, numbers in (value or {}).items():
        if layer != "*" and not layer.isdecimal():
            raise ValueError(f"expected numbers of layers, or * for every layer, got {layer}")
        if not numbers:
            raise ValueError("expected at least one expert in each layer that is named")
    if value is not None and not value:
        raise ValueError("expected at least one layer with experts, or all")
    return value


def check_size(value: int | str) -> int | str:
    """The size itself.

    Raises:
        ValueError: the text is no size.
    """
    if isinstance(value, str) and _SIZE.fullmatch(value.strip()) is None:
        raise ValueError("expected a size such as 5GB, 500MB or a number of bytes")
    return value


def number_devices(value: Mapping[int | str, int | str] | None) -> dict[int | str, int | str] | None:
    """Memory limits with integers for GPUs: Accelerate looks for 0, and TOML and JSON have only "0"."""
    if value is None:
        return None
    return {int(key) if isinstance(key, str) and key.isdecimal() else key: limit for key, limit in value.items()}


def _empty_is_none(value: object) -> object:
    return None if value == "" else value


def _expand_home(path: Path | None) -> Path | None:
    return None if path is None else expand_home(path)


# An empty value, as in `HERETIC_OUTPUT= heretic`, counts as not given.
EmptyIsNone = BeforeValidator(_empty_is_none)
Name = Annotated[str | None, EmptyIsNone]
# `~` is the home directory in configuration files too, which no shell expands.
InHome = AfterValidator(_expand_home)
Folder = Annotated[Path, InHome, Metavar("DIR")]
Finite = Annotated[float, Field(allow_inf_nan=False)]
Duration = Annotated[
    Annotated[float, Field(gt=0, allow_inf_nan=False)] | None, BeforeValidator(parse_duration), Metavar("DURATION")
]
Size = Annotated[int | str, AfterValidator(check_size), Metavar("SIZE")]
MemoryLimits = Annotated[dict[int | str, int | str] | None, AfterValidator(number_devices), Metavar("TABLE")]
Experts = Annotated[
    dict[str, list[int]] | None,
    BeforeValidator(parse_experts),
    AfterValidator(check_experts),
    Metavar("all|N-N,N|LAYER:N,N;LAYER:N"),
]
Prompts = Annotated[PromptSource | None, Metavar("FILE|HUB-ID|TABLE")]

DEVICES = re.compile(r"auto|balanced|balanced_low_0|sequential|(cpu|cuda|mps|xpu|npu|hpu|mlu|musa|disk)(:\d+)?|\d+")
"""What Accelerate takes for a device map: a strategy, a device, or the number of one."""


def _devices(value: str | dict[str, int | str]) -> str | dict[str, int | str]:
    for name in [value] if isinstance(value, str) else map(str, value.values()):
        if DEVICES.fullmatch(name) is None:
            raise ValueError("expected auto, balanced, sequential, cpu, or a device such as cuda:0")
    return value


DeviceMap = Annotated[str | dict[str, int | str], AfterValidator(_devices)]


def _upper_case(value: object) -> object:
    return value.upper() if isinstance(value, str) and value.lower() != "same" else value


# Other programs write q4_K_M or q4_k_m.
GgufType = Annotated[_GgufType, BeforeValidator(_upper_case), Metavar("TYPE")]
