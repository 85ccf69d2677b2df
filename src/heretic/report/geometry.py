"""The geometry of good and bad residuals, layer by layer."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from ..ablation.directions import Directions


@dataclass(frozen=True, slots=True)
class LayerGeometry:
    """Good and bad residuals at one residual index; a cosine with a vector of length 0 is NaN."""

    good_norm: float
    bad_norm: float
    difference_norm: float
    cosine_means: float
    cosine_good: float
    cosine_bad: float
    silhouette: float


def geometry(
    good: Float[Tensor, "good residual d_model"], bad: Float[Tensor, "bad residual d_model"], directions: Directions
) -> list[LayerGeometry]:
    """One entry a residual index; `cosine_good` and `cosine_bad` are those of the means with the direction."""
    return [
        _layer(good[:, index].double(), bad[:, index].double(), direction.double())
        for index, direction in enumerate(directions.vectors)
    ]


def _layer(
    good: Float[Tensor, "good d_model"], bad: Float[Tensor, "bad d_model"], direction: Float[Tensor, " d_model"]
) -> LayerGeometry:
    good_mean, bad_mean = good.mean(dim=0), bad.mean(dim=0)
    return LayerGeometry(
        good_norm=float(good_mean.norm()),
        bad_norm=float(bad_mean.norm()),
        difference_norm=float((bad_mean - good_mean).norm()),
        cosine_means=_cosine(good_mean, bad_mean),
        cosine_good=_cosine(good_mean, direction),
        cosine_bad=_cosine(bad_mean, direction),
        silhouette=silhouette(good, bad),
    )


def _cosine(first: Float[Tensor, " d_model"], second: Float[Tensor, " d_model"]) -> float:
    # 0/0 is NaN here, as it must be: at the embeddings the direction may be 0.
    return float(first @ second / (first.norm() * second.norm()))


def silhouette(good: Float[Tensor, "good d_model"], bad: Float[Tensor, "bad d_model"]) -> float:
    """Mean silhouette coefficient of the two groups with Euclidean distance, in -1 .. 1.

    Of one residual: `(b - a) / max(a, b)`, a the mean distance from the others of its own group, b from the other
    group; 0 where both are 0, and for a group of one (Rousseeuw 1987, doi 10.1016/0377-0427(87)90125-7).
    """
    # Around a common centre the squares that `cdist` subtracts are small, and so is the rounding of their difference.
    both = torch.cat([good, bad]).double()
    both = both - both.mean(dim=0)
    distances = torch.cdist(both, both).fill_diagonal_(0.0)
    n_good, n_bad = len(good), len(bad)
    to_good, to_bad = distances[:, :n_good].sum(dim=1), distances[:, n_good:].sum(dim=1)
    within = torch.cat([to_good[:n_good] / max(n_good - 1, 1), to_bad[n_good:] / max(n_bad - 1, 1)])
    across = torch.cat([to_bad[:n_good] / n_bad, to_good[n_good:] / n_good])
    coefficients = ((across - within) / torch.maximum(within, across)).nan_to_num(0.0)
    alone = torch.cat([torch.full((n,), n == 1) for n in (n_good, n_bad)])
    return float(coefficients.masked_fill(alone, 0.0).mean())


GEOMETRY_TITLE = "Residuals of good and bad prompts (d: the direction; silhouette with Euclidean distance)"
GEOMETRY_COLUMNS = (
    "Layer",
    "|good|",
    "|bad|",
    "|bad - good|",
    "cos(good, bad)",
    "cos(good, d)",
    "cos(bad, d)",
    "Silhouette",
)


def geometry_rows(layers: Sequence[LayerGeometry]) -> list[list[str]]:
    """Rows of the table; layers count as `direction_index` does, the embeddings come first."""
    # `+ 0.0`: a cosine that rounds to -0 is 0.
    return [
        [
            "embeddings" if index == 0 else str(index - 1),
            *(f"{norm:.4g}" for norm in (layer.good_norm, layer.bad_norm, layer.difference_norm)),
            *(
                "-" if value != value else f"{round(value, 4) + 0.0:.4f}"
                for value in (layer.cosine_means, layer.cosine_good, layer.cosine_bad, layer.silhouette)
            ),
        ]
        for index, layer in enumerate(layers)
    ]
