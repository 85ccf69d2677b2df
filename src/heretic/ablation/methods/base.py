"""What a way of editing is: its parameters, where candidates come from, how one becomes an edit.

Nothing here needs torch, so that records are read and commands are parsed without it.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

from ..parameters import AblationParameters, RowNormalization

if TYPE_CHECKING:
    from torch import Tensor

    from ..edit import SiteEdit
    from ..sites import Site
    from ..weight_stats import WeightStats
    from .measurements import ModelMeasurements
    from .tensors import StudyTensors
else:
    # Shapes are checked where tensors are computed.
    ModelMeasurements = SiteEdit = Site = StudyTensors = Tensor = WeightStats = Any


@runtime_checkable
class Suggests(Protocol):
    """The part of an Optuna trial that a space uses."""

    def suggest_float(self, name: str, low: float, high: float, *, log: bool = False) -> float: ...

    def suggest_categorical(self, name: str, choices: Any) -> Any: ...


@runtime_checkable
class SearchSpace(Protocol):
    """What the sampler may suggest for one model, the same for every trial."""

    def suggest(self, trial: Suggests) -> AblationParameters:
        """Draws a candidate."""
        ...

    def encode(self, parameters: AblationParameters) -> dict[str, Any]:
        """What `suggest` would have drawn for `parameters`, moved into the ranges where they lie outside."""
        ...

    def literature(self) -> Sequence[AblationParameters]:
        """Candidates that are tried before the sampler chooses any: settings that others have published."""
        ...

    def adopt(self, parameters: AblationParameters, last_layer: int) -> AblationParameters:
        """Parameters of a model whose last layer is `last_layer`, at the same relative depths of this one.

        Raises:
            ValueError: they are another method's, or have no kernel for a component of this space.
        """
        ...

    def on_bounds(self, trials: Iterable[AblationParameters]) -> list[str]:
        """Where trials lie at an end of the space beyond which there may be better ones, as `name at value`."""
        ...

    def describe(self) -> dict[str, Any]:
        """The ranges as JSON, `last_layer` among them: two studies agree if these do."""
        ...


@runtime_checkable
class Method(Protocol):
    """One way of editing.

    Attributes:
        name: the value of the setting `method`.
        parameters: the type of a candidate.
        needs_weights: whether compiling needs statistics of the edited weights.
    """

    name: str
    parameters: type[AblationParameters]
    needs_weights: bool

    def space(self, components: tuple[str, ...], last_layer: int) -> SearchSpace:
        """The search space of a model that writes by these components and whose last decoder layer is `last_layer`."""
        ...

    def fit(self, model: ModelMeasurements) -> Mapping[str, Tensor]:
        """What is measured once a study and stored next to its journal, besides directions and gains."""
        return {}

    def compile_site(
        self,
        parameters: Any,
        site: Site,
        tensors: StudyTensors,
        weight: Callable[[], WeightStats],
        row_normalization: RowNormalization,
    ) -> SiteEdit | None:
        """The edit of one site, or None where it stays as it is; `weight` gives the statistics of the site's weight.

        Raises:
            ValueError: the parameters do not fit the site.
        """
        ...
