"""Residual geometry and projections of one study: metrics, and their form on disk (`NAME.residuals.json`)."""

import math
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor

from ..ablation.directions import Directions
from ..evaluation.heldout.schema import StoredValue
from .geometry import geometry
from .projection import LEAST_POINTS, project_layers


class LayerMetrics(StoredValue):
    """Good and bad residuals at one residual index (0 is the embeddings, l + 1 comes after layer l).

    Norms are those of means; `auc` is the probability that a bad residual lies farther along the direction than a good
    one; `silhouette` that of the two groups. A cosine with a vector of length 0 is None.
    """

    good_norm: float
    bad_norm: float
    difference_norm: float
    cosine_means: float | None
    cosine_good: float | None
    cosine_bad: float | None
    silhouette: float
    auc: float


class ResidualMetrics(StoredValue):
    """Residuals of the direction prompts, layer by layer.

    `points`: by residual index from 1 on, the plane of each prompt, good ones first, in thousandths of the plane's own
    half width: distances on it mean nothing across planes.
    """

    version: Literal[1] = 1
    model_digest: str
    prompt_digests: tuple[str, str]
    n_good: int
    n_bad: int
    layers: list[LayerMetrics]
    method: Literal["PaCMAP", "principal components"]
    points: list[list[tuple[int, int]]]


def residual_metrics(
    good: Float[Tensor, "good residual d_model"],
    bad: Float[Tensor, "bad residual d_model"],
    directions: Directions,
    model_digest: str,
    prompt_digests: tuple[str, str],
) -> ResidualMetrics:
    """All metrics of the residuals of good and bad prompts; PaCMAP where it is installed and has points enough."""
    layers = [
        LayerMetrics(
            good_norm=each.good_norm,
            bad_norm=each.bad_norm,
            difference_norm=each.difference_norm,
            cosine_means=_finite(each.cosine_means),
            cosine_good=_finite(each.cosine_good),
            cosine_bad=_finite(each.cosine_bad),
            silhouette=each.silhouette,
            auc=auc(good[:, index] @ direction, bad[:, index] @ direction),
        )
        for index, (each, direction) in enumerate(zip(geometry(good, bad, directions), directions.vectors, strict=True))
    ]
    residuals = torch.cat([good, bad])[:, 1:]
    enough = len(residuals) >= LEAST_POINTS and pacmap_installed()
    projected = project_layers(residuals) if enough else project_layers(residuals, principal=True)
    return ResidualMetrics(
        model_digest=model_digest,
        prompt_digests=prompt_digests,
        n_good=len(good),
        n_bad=len(bad),
        layers=layers,
        method="PaCMAP" if enough else "principal components",
        points=[_thousandths(points) for points in projected],
    )


def auc(good: Float[Tensor, " good"], bad: Float[Tensor, " bad"]) -> float:
    """The share of (good, bad) pairs in which the bad value is the larger; ties count half (Mann-Whitney's U)."""
    from scipy.stats import mannwhitneyu

    return float(mannwhitneyu(bad.double().numpy(), good.double().numpy()).statistic) / (len(good) * len(bad))


def pacmap_installed() -> bool:
    import importlib.util

    return importlib.util.find_spec("pacmap") is not None


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None


def _thousandths(points: Float[Tensor, "prompt 2"]) -> list[tuple[int, int]]:
    half = float(points.abs().max()) or 1.0
    return [(int(x), int(y)) for x, y in (points / half * 1000).round().tolist()]
