"""Residuals on a plane: PaCMAP, a layer at a time, each picture turned like the one before."""

import logging
from collections.abc import Callable, Iterator

import torch
from jaxtyping import Float
from torch import Tensor

LEAST_POINTS = 40
"""PaCMAP draws 10 neighbours, 5 mid-near and 20 further points for each; below this it has too few to choose from."""

Projection = Callable[[Tensor, Tensor | None], Tensor]


def project_layers(
    residuals: Float[Tensor, "prompt layer d_model"], principal: bool = False
) -> Iterator[Float[Tensor, "prompt 2"]]:
    """Each layer on a plane, begun from the layer before and turned to lie as it does.

    PaCMAP (Wang et al. 2021, arXiv 2012.04456); the two `principal` components where these are wanted, or where there
    are too few prompts for it.
    """
    principal = principal or len(residuals) < LEAST_POINTS
    project: Projection = (lambda points, _: principal_components(points)) if principal else pacmap
    before: Tensor | None = None
    for layer in residuals.unbind(dim=1):
        points = project(layer, before)
        points = points - points.mean(dim=0)
        before = points if before is None else turned_like(before, points)
        yield before


def pacmap(points: Float[Tensor, "prompt d_model"], begin: Float[Tensor, "prompt 2"] | None) -> Tensor:
    """The plane that PaCMAP finds from `begin`, by default from the principal components; always the same one."""
    import pacmap as library

    # It announces that the seed it was given is fixed.
    logging.getLogger("pacmap").setLevel(logging.ERROR)
    reducer = library.PaCMAP(n_components=2, random_state=0)
    begun = "pca" if begin is None else begin.numpy()
    return torch.from_numpy(reducer.fit_transform(points.numpy(), init=begun)).float()


def principal_components(points: Float[Tensor, "prompt d_model"]) -> Float[Tensor, "prompt 2"]:
    centred = points - points.mean(dim=0)
    axes = torch.linalg.svd(centred, full_matrices=False).Vh[:2]
    return centred @ axes.T


def turned_like(reference: Float[Tensor, "prompt 2"], points: Float[Tensor, "prompt 2"]) -> Float[Tensor, "prompt 2"]:
    """Centred `points`, rotated or mirrored to lie as near to `reference` as they can (orthogonal Procrustes)."""
    u, _, vh = torch.linalg.svd(points.T @ reference)
    return points @ (u @ vh)
