"""Which stored tensor is the weight of which site."""

import difflib
from collections.abc import Sequence

from ..ablation.sites import Site
from ..errors import ExportError
from .tensors import EDITABLE, TensorInfo


def match_sites(sites: Sequence[Site], tensors: Sequence[TensorInfo]) -> dict[str, Site]:
    """The owner of each stored key that is some site's weight.

    A site is named as in the running model; a checkpoint may lack the prefix or have another one (`h.0.…` for
    `transformer.h.0.…`). So: the same name, else the key with the longest common dotted ending that reaches back to
    the layer's number, and of equals the one that shares most words of its prefix.

    Raises:
        ExportError: a site has no such key or several, two sites have the same, or the tensor there is quantised.
    """
    infos = {info.key: info for info in tensors}
    owners: dict[str, Site] = {}
    for site in sites:
        key = site.key if site.key in infos else _nearest(site, list(infos))
        if key in owners:
            raise ExportError(
                f"both {owners[key].key} and {site.key} of the model seem to be stored as {key}: the checkpoint does "
                "not fit the model, use the one that it was loaded from"
            )
        _check_editable(site, infos[key])
        owners[key] = site
    return owners


def _nearest(site: Site, keys: Sequence[str]) -> str:
    ranks = {key: rank for key in keys if (rank := _likeness(site, key)) is not None}
    best = max(ranks.values(), default=None)
    found = [key for key, rank in ranks.items() if rank == best]
    if len(found) == 1:
        return found[0]
    if found:
        raise ExportError(
            f"the weight {site.key} could be any of {', '.join(found[:3])} in the checkpoint, and which one can't be "
            "told: use the checkpoint that the model was loaded from"
        )
    close = difflib.get_close_matches(site.key, keys, n=3, cutoff=0.0)
    raise ExportError(
        f"the checkpoint holds no weight {site.key}; the nearest names in it are {', '.join(close) or 'none'}: use the "
        "full-precision checkpoint that the model was loaded from"
    )


def _likeness(site: Site, key: str) -> tuple[int, int] | None:
    """Length of the common ending and number of prefix words in common, or None if the ending lacks the layer."""
    ours, theirs = site.key.split("."), key.split(".")
    common = 0
    while common < min(len(ours), len(theirs)) and ours[-1 - common] == theirs[-1 - common]:
        common += 1
    layer = str(site.layer)
    # The first such number is the layer's: a later one may count experts.
    if layer not in ours or common < len(ours) - ours.index(layer):
        return None
    return common, len(set(ours[:-common]) & set(theirs[:-common]))


def _check_editable(site: Site, info: TensorInfo) -> None:
    if info.dtype not in EDITABLE:
        raise ExportError(
            f"{info.key} is stored quantised ({info.dtype}) and an edit would be lost in its rounding: "
            "give the full-precision checkpoint of this model (float32, float16 or bfloat16)"
        )
    if len(info.shape) != 2:
        raise ExportError(
            f"{info.key}, the weight of {site.module}, should be a matrix and has the shape {info.shape}: "
            "models that store several matrices as one tensor (fused experts) can't be exported yet"
        )
