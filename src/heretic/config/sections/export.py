"""[Export] Which trial is kept, and in which form."""

import re
from pathlib import Path
from typing import Annotated, Literal

from pydantic import AfterValidator, ConfigDict, Field

from ..types import EmptyIsNone, ExportName, GgufType, InHome, Metavar, Name, Rule, Size
from .base import Section

_REPOSITORY = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*")


def check_repository(value: str | None) -> str | None:
    """The id of a repository.

    Raises:
        ValueError: the text is none.
    """
    if value is not None and _REPOSITORY.fullmatch(value) is None:
        raise ValueError("expected the id of a Hugging Face repository, OWNER/NAME")
    return value


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
        description="Format to write: the whole model (merge), a LoRA adapter (adapter), a .gguf file for "
        "llama.cpp (gguf), or nothing (none). Asked by default; without a terminal merge where output or upload is "
        "given, else none.",
        examples=["merge"],
    )
    gguf_type: GgufType = Field(
        default="same",
        description="Type of a .gguf file, such as Q8_0, Q5_K_M, Q4_K_M or IQ4_XS: of the whole file, or of the edited "
        "tensors where the model is a quantised .gguf file. That of the model by default (same).",
    )
    imatrix: Annotated[Path | None, EmptyIsNone, InHome, Metavar("FILE")] = Field(
        default=None,
        description="Importance matrix of the model (.dat or .gguf, from llama-imatrix) for what is quantised in a "
        ".gguf file.",
        examples=["path/to/imatrix.gguf"],
    )
    output: Annotated[Path | None, EmptyIsNone, InHome, Metavar("DIR")] = Field(
        default=None,
        description="Directory to write to. Named after the model, in the working directory, by default.",
        examples=["path/to/edited-model"],
    )
    max_shard_size: Size = Field(default="5GB", description="Largest size of one file of weights.")
    base_model: Annotated[str | None, EmptyIsNone, AfterValidator(check_repository), Metavar("OWNER/NAME")] = Field(
        default=None,
        description="Hugging Face repository that the model comes from, for the card, heretic.json and the metadata "
        "of an export. Set it for local files, whose origin can't be known.",
        examples=["OWNER/NAME"],
    )
    upload: Annotated[Name, Metavar("OWNER/NAME")] = Field(
        default=None,
        description="Hugging Face repository to upload the export to, new or existing.",
        examples=["OWNER/NAME"],
    )
    upload_public: bool = Field(
        default=False, description="Make a new repository public. An existing one keeps its visibility."
    )

    @property
    def wanted(self) -> ExportName | None:
        """The format that a run without questions writes: the whole model if only a place is named; None for none."""
        if self.export is None:
            return None if self.output is None and self.upload is None else "merge"
        return None if self.export == "none" else self.export
