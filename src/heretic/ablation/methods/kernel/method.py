"""The method `kernel` for the registry."""

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from ...parameters import RowNormalization
from ..base import Method
from .parameters import KernelParameters
from .space import KernelSpace

if TYPE_CHECKING:
    from torch import Tensor

    from ...edit import SiteEdit
    from ...sites import Site
    from ...weight_stats import WeightStats
    from ..base import ModelMeasurements
    from ..tensors import StudyTensors
else:
    # Records and commands are read without torch; shapes are checked in compile.py.
    ModelMeasurements = SiteEdit = Site = StudyTensors = Tensor = WeightStats = Any


class KernelMethod(Method):
    """The difference of means, ablated with strengths by kernels over layers and components."""

    name = "kernel"
    parameters = KernelParameters
    needs_weights = True

    def space(self, components: tuple[str, ...], last_layer: int) -> KernelSpace:
        return KernelSpace(components, last_layer)

    def fit(self, model: ModelMeasurements) -> Mapping[str, Tensor]:
        return {}

    def compile_site(
        self,
        parameters: KernelParameters,
        site: Site,
        tensors: StudyTensors,
        weight: Callable[[], WeightStats],
        row_normalization: RowNormalization,
    ) -> SiteEdit | None:
        from .compile import compile_site

        kernel = parameters.kernels.get(site.component)
        # The statistics of a weight cost more than its edit: those of an untouched layer would be for nothing.
        if kernel is not None and kernel.weight(site.layer) == 0.0:
            return None
        return compile_site(parameters, tensors.directions, site, weight(), row_normalization)
