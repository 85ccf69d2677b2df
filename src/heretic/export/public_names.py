"""Names that a model and its prompts are published under: without the folders of this machine.

Whether a name is the hub's is known from how it was found. `owner/name` may be a local directory, and somebody else's
repository may have the same name.
"""

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..study.schema import PromptRecord, StudyRecord

CACHED = re.compile(r"/models--([\w.-]+?)--([\w.-]+)/snapshots/")
"""Where the hub's own cache keeps a repository."""


@dataclass(frozen=True, slots=True)
class PublicModel:
    """A base model as others know it: by `name`, and by `repository` and `revision` where it is on the hub."""

    name: str
    repository: str | None
    revision: str | None


def public_model(record: StudyRecord, base_model: str | None = None) -> PublicModel:
    """The study's model, or the hub repository `base_model` that the user says it comes from."""
    if base_model is None or base_model == hub_id(record):
        return PublicModel(model_name(record), hub_id(record), record.model_revision)
    # The recorded commit is one of another repository.
    return PublicModel(base_model, base_model, None)


def hub_id(record: StudyRecord) -> str | None:
    """The repository that the study's model was downloaded from; None for local files."""
    # Only a download has a commit.
    return "/".join(record.model.split("/")[:2]) if record.model_revision is not None else _cached(record.model_path)


def _cached(path: str) -> str | None:
    """The repository whose copy in the hub's cache this is, if it is one."""
    match = CACHED.search(path.replace("\\", "/"))
    return match and f"{match[1]}/{match[2]}"


def model_name(record: StudyRecord) -> str:
    """The study's model as others know it: as it was asked of the hub, or the last part of a local path."""
    if record.model_revision is not None:
        return record.model
    cached = _cached(record.model_path)
    if cached is not None:
        return cached
    name = Path(record.model).name
    return name if name not in ("", "..") else Path(record.model_path).name


def prompt_source(prompts: PromptRecord) -> dict[str, Any]:
    """Where the prompts came from."""
    return prompts.source | {"dataset": dataset_name(prompts)}


def dataset_name(prompts: PromptRecord) -> str:
    """The data set's id on the hub, or the last part of a local path."""
    dataset = str(prompts.source["dataset"])
    public = prompts.public
    if public is None:
        # Records of older versions don't say how the prompts were found.
        public = not (dataset.startswith((".", "/", "~")) or dataset.count("/") > 1 or "\\" in dataset)
    # A Windows path may be read on another system.
    return dataset if public else Path(dataset.replace("\\", "/")).name
