"""The method `learned` for the registry."""

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from ...parameters import RowNormalization
from ..base import Method
from .parameters import LearnedParameters
from .space import LearnedSpace

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


class LearnedMethod(Method):
    """Directions and strengths found by gradient through the frozen model.

    The edit acts on a site's output; rows are not normalised.
    """

    name = "learned"
    parameters = LearnedParameters
    needs_weights = False

    def space(self, components: tuple[str, ...], last_layer: int) -> LearnedSpace:
        return LearnedSpace(components, last_layer)

    def fit(self, model: ModelMeasurements) -> Mapping[str, Tensor]:
        return {}

    def compile_site(
        self,
        parameters: LearnedParameters,
        site: Site,
        tensors: StudyTensors,
        weight: Callable[[], WeightStats],
        row_normalization: RowNormalization,
    ) -> SiteEdit | None:
        from .compile import compile_site

        return compile_site(parameters, site, tensors)
