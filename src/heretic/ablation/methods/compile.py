"""Compiles one candidate's parameters to its edit, for every method."""

from collections.abc import Mapping, Sequence
from functools import partial

from ..edit import ModelEdit
from ..parameters import AblationParameters, RowNormalization
from ..sites import Site
from ..weight_stats import WeightStats
from .registry import find_method
from .tensors import StudyTensors


def compile_candidate(
    parameters: AblationParameters,
    tensors: StudyTensors,
    sites: Sequence[Site],
    stats: Mapping[str, WeightStats],
    row_normalization: RowNormalization,
) -> ModelEdit:
    """The edit of every site that the candidate changes; `stats` of the weights by module name.

    Raises:
        ValueError: the parameters do not fit the sites.
    """
    method = find_method(parameters.method)
    edits = {}
    for site in sites:
        edit = method.compile_site(parameters, site, tensors, partial(_stats_of, stats, site), row_normalization)
        if edit is not None:
            edits[site.module] = edit
    return edits


def _stats_of(stats: Mapping[str, WeightStats], site: Site) -> WeightStats:
    return stats[site.module]
