"""[Directions] How directions are computed and how weights are edited along them."""

from pydantic import ConfigDict, Field

from ...ablation.parameters import RowNormalization
from ..types import MethodChoice
from .base import Section


class DirectionSettings(Section):
    """How directions are computed and how weights are edited along them."""

    model_config = ConfigDict(title="Directions")

    method: MethodChoice = Field(
        default="auto",
        description="How edits are found: by gradient (learned), or by a sampler as kernels over the layers (kernel) "
        "or along each weight's own difference (oblique). auto: learned, but kernel where a model can't learn or a "
        "setting of kernels or samplers is given.",
    )
    learned_rank: int = Field(
        default=1,
        ge=1,
        le=4,
        description="Directions that the method learned removes at each layer. Use 2 where one direction leaves too "
        "much of the behaviour.",
    )
    filter_direction_prompts: bool = Field(
        default=False,
        description="Compute the directions only from bad prompts that the model declines and good prompts that it "
        "answers. Use it with prompts of your own that the model does not treat uniformly.",
    )
    orthogonalize_direction: bool = Field(
        default=True,
        description="Remove from each direction its component along the mean of the good prompts, so that the edit "
        "spares what good prompts use.",
    )
    winsorization_quantile: float = Field(
        default=1.0,
        gt=0,
        le=1,
        description="Clamp each residual to this quantile of its own magnitudes; 1 turns it off. Try 0.95 for models "
        "with few extremely large activations.",
    )
    row_normalization: RowNormalization = Field(
        default="full",
        description="How the method kernel treats the rows of a weight: as they are (none), normalised first (pre), or "
        "normalised first and restored to their norm (full). The other methods edit them as they are.",
    )
