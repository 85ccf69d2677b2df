"""How transformers renames and regroups the tensors of a checkpoint when it loads them.

Its own tables are read, so that a weight is found wherever loading finds it: the experts of a mixture, say, which are
one parameter in memory and a tensor each on the hub.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..errors import ExportError
from .readers.tensors import TensorInfo


@dataclass(frozen=True, slots=True)
class StoredPart:
    """A stored tensor that is loaded into a parameter: all of it, or the matrix of one expert (`expert`).

    `swapped` tells that its last two dimensions change places on loading.
    """

    key: str
    expert: int | None = None
    swapped: bool = False


def stored_parts(directory: Path, tensors: Sequence[TensorInfo]) -> dict[str, list[StoredPart]]:
    """By the name of each parameter of the model in `directory`, the stored tensors that it is loaded from.

    Parameters whose loading does more to them than to gather, stack or transpose are left out.

    Raises:
        ExportError: transformers can't make a model from the configuration there.
    """
    from transformers.conversion_mapping import get_model_conversion_mapping
    from transformers.core_model_loading import WeightConverter, WeightRenaming, dot_natural_key, rename_source_key

    model = _empty_model(directory)
    transforms = get_model_conversion_mapping(model)
    renamings = [each for each in transforms if isinstance(each, WeightRenaming)]
    converters = [each for each in transforms if isinstance(each, WeightConverter)]
    of_pattern = {pattern: each for each in converters for pattern in each.source_patterns}
    state = model.state_dict()
    found: dict[str, list[tuple[TensorInfo, Any]]] = {}
    for info in sorted(tensors, key=lambda info: dot_natural_key(info.key)):
        name, pattern = rename_source_key(info.key, renamings, converters, model.base_model_prefix, state)
        if name not in state and info.key in state:
            name, pattern = info.key, None
        found.setdefault(name, []).append((info, of_pattern.get(pattern or "")))
    parts = {name: _parts(sources, tuple(state[name].shape)) for name, sources in found.items() if name in state}
    return {name: each for name, each in parts.items() if each is not None}


def _parts(sources: Sequence[tuple[TensorInfo, Any]], shape: tuple[int, ...]) -> list[StoredPart] | None:
    """None: loading does something else to these tensors."""
    stacked, swapped, converter = False, False, sources[0][1]
    for operation in getattr(converter, "operations", []):
        kind = type(operation).__name__
        if kind == "MergeModulelist" and operation.dim == 0:
            stacked = True
        elif kind == "ErnieFuseAndSplitTextVisionExperts" and len(converter.source_patterns) == 1:
            # The first experts are those of text, the parameter here; those of images follow.
            stacked, sources = True, sources[: math.ceil(len(sources) / len(converter.target_patterns))]
        elif kind == "Transpose" and not (operation.check_dims and sources[0][0].shape == shape):
            swapped = not swapped
        elif "Dequantize" in kind and len(sources) == 1:
            # Without a scale, it is not quantised.
            continue
        elif kind not in ("Transpose", "_IdentityOp"):
            return None
    if not stacked and len(sources) > 1:
        return None
    return [StoredPart(info.key, number if stacked else None, swapped) for number, (info, _) in enumerate(sources)]


def _empty_model(directory: Path) -> Any:
    """The model of the configuration in `directory`, without weights."""
    import torch
    from transformers import AutoConfig

    from ..model.loading.load import auto_class

    try:
        config = AutoConfig.from_pretrained(str(directory))
        with torch.device("meta"):
            return auto_class(config).from_config(config)
    except (ValueError, KeyError, OSError, ImportError) as error:
        raise ExportError(
            f"transformers can't make a model from the configuration in {directory} ({error}), so that it is not known "
            "how its weights are stored: use the checkpoint that the model was loaded from"
        ) from error
