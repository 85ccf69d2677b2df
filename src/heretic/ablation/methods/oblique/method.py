"""The method `oblique` for the registry."""

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from ...parameters import RowNormalization
from ..base import Method
from .parameters import ObliqueParameters
from .space import ObliqueSpace

if TYPE_CHECKING:
    from torch import Tensor

    from ...edit import SiteEdit
    from ...sites import Site
    from ...weight_stats import WeightStats
    from ..measurements import ModelMeasurements
    from ..tensors import StudyTensors
else:
    # Records and commands are read without torch; shapes are checked in compile.py.
    ModelMeasurements = SiteEdit = Site = StudyTensors = Tensor = WeightStats = Any


class ObliqueMethod(Method):
    """Each site's own mean difference, removed along the reader that changes good outputs least.

    It acts on what the site writes and was measured there, so that a norm after the site needs no gain, and rows are
    not normalised.
    """

    name = "oblique"
    parameters = ObliqueParameters
    needs_weights = False

    def space(self, components: tuple[str, ...], last_layer: int) -> ObliqueSpace:
        return ObliqueSpace(components, last_layer)

    def fit(self, model: ModelMeasurements) -> Mapping[str, Tensor]:
        from .compile import fit

        return fit(model)

    def compile_site(
        self,
        parameters: ObliqueParameters,
        site: Site,
        tensors: StudyTensors,
        weight: Callable[[], WeightStats],
        row_normalization: RowNormalization,
    ) -> SiteEdit | None:
        from .compile import compile_site

        return compile_site(parameters, site, tensors)
