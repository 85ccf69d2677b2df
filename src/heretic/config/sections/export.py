"""[Export] Which trial is kept, and in which form."""

from pathlib import Path
from typing import Annotated, Literal

from pydantic import ConfigDict, Field

from ..types import EmptyIsNone, ExportName, GgufType, InHome, Metavar, Name, Rule, Size
from .base import Section


class ExportSettings(Section):
    """Which trial is written, in which format and where."""

    model_config = ConfigDict(title="Export")

    trial: Rule | Annotated[int, Field(ge=0)] | None = Field(
        default=None,
        description="Trial to export without asking: its number, or a rule that picks it from the Pareto front.",
        examples=["knee"],
    )
    export: Literal[ExportName, "none"] | None = Field(
        default=None,
        description="Format to write: the whole model (merge), a LoRA adapter (adapter), a .gguf file for a model "
        "that is one (gguf), or nothing (none). Asked by default.",
        examples=["merge"],
    )
    gguf_type: GgufType = Field(
        default="same",
        description="Type of the edited tensors in a .gguf file: their own (same), or one that loses less and takes "
        "more space.",
    )
    output: Annotated[Path | None, EmptyIsNone, InHome, Metavar("DIR")] = Field(
        default=None,
        description="Directory to write to. Named after the model, in the working directory, by default.",
        examples=["path/to/edited-model"],
    )
    max_shard_size: Size = Field(default="5GB", description="Largest size of one file of weights.")
    upload: Name = Field(
        default=None,
        description="Hugging Face repository to upload the export to, new or existing.",
        examples=["OWNER/NAME"],
    )
    upload_public: bool = Field(
        default=False, description="Make a new repository public. An existing one keeps its visibility."
    )
