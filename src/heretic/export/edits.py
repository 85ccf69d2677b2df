"""The edit of one trial for an export, weight by weight."""

from torch import Tensor

from ..ablation.edit import SiteEdit
from ..ablation.methods.registry import find_method
from ..ablation.methods.tensors import StudyTensors
from ..ablation.parameters import AblationParameters, RowNormalization
from ..ablation.sites import PostNorm, Site
from ..ablation.weight_stats import WeightStats, weight_stats
from ..errors import ExportError
from .formats.base import EditOf


def edit_from(
    parameters: AblationParameters, tensors: StudyTensors, row_normalization: RowNormalization = "full"
) -> EditOf:
    """A function that compiles a candidate's edit of each site from its weight.

    Raises, when called:
        ExportError: there is a norm between a site and the stream, and its gain is needed but missing.
    """
    method = find_method(parameters.method)

    def edit_of(site: Site, weight: Tensor) -> SiteEdit | None:
        def stats() -> WeightStats:
            if site.downstream is not None and site.module not in tensors.gains:
                norm = f"the post-norm {site.downstream.name}" if isinstance(site.downstream, PostNorm) else "a norm"
                raise ExportError(
                    f"between {site.module} and the residual stream is {norm}, whose gain is needed and was not given: "
                    "read the gains from the running model"
                )
            return weight_stats(weight, tensors.directions.vectors, tensors.gains.get(site.module))

        return method.compile_site(parameters, site, tensors, stats, row_normalization)

    return edit_of
