"""Readers of a site for every shrink and every place of d, from a few solves.

With M = E[y yᵀ] over good prompts and μ = tr(M) / d_model, the reader of d at shrink s is

    r = (M + s μ I)⁻¹ d / (d · (M + s μ I)⁻¹ d).

Of all r with r · d = 1 it minimises rᵀ (M + s μ I) r, that is, for s = 0, the mean square of what y -> y - w d (r · y)
changes on good prompts (least-squares erasure: Belrose et al. 2023, arXiv 2306.03819, for a rank-1 concept).

M itself is too large to keep. The solutions at a few shrinks, for either place of d, span a small space, in which the
minimum is found for any shrink between: a rational Krylov space (Ruhe 1984). At the nodes it is exact.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

NODES = (0.01, 0.03, 0.1, 0.3, 1.0, 3.0, 10.0)
"""Shrinks that are solved exactly; half a decade apart, those between are off by less than 1e-3 of their minimum."""


@dataclass(frozen=True, slots=True)
class SiteReaders:
    """What compiling needs of one site.

    `differences` are d at the last prompt tokens and at the first answer tokens. In the basis (orthonormal, k of them),
    M / μ is diagonal with `values`.
    """

    differences: Float[Tensor, "2 d_model"]
    basis: Float[Tensor, "k d_model"]
    values: Float[Tensor, " k"]

    def difference(self, answer_share: float) -> Float[Tensor, " d_model"]:
        """d, fp32."""
        prompt, answer = self.differences
        return torch.lerp(prompt, answer, answer_share)

    def reader(self, shrink: float, answer_share: float) -> Float[Tensor, " d_model"]:
        """r, fp32; 0 where d is."""
        projected = self.basis.double() @ self.difference(answer_share).double()
        solved = projected / (self.values.double() + shrink)
        along = projected @ solved
        # No difference, nothing to remove.
        scale = 1.0 / along if along > 0 else torch.zeros(())
        return (scale * (solved @ self.basis.double())).float()

    def tensors(self) -> dict[str, Tensor]:
        return {"differences": self.differences, "basis": self.basis, "values": self.values}

    @classmethod
    def from_tensors(cls, tensors: Mapping[str, Tensor], module: str) -> "SiteReaders":
        """Raises:
        KeyError: nothing was kept of the module.
        """
        return cls(*(tensors[f"{module}.{name}"] for name in ("differences", "basis", "values")))


def fit_readers(
    factor: Float[Tensor, "row d_model"], count: int, differences: Float[Tensor, "2 d_model"]
) -> SiteReaders:
    """Readers from M = factorᵀ factor / count; fp64 inside, fp32 in what is returned.

    One Cholesky factorisation a node, of the smaller of M and its dual: O(min(row, d_model)³) each.
    """
    scaled = factor.double() / count**0.5
    mean_diagonal = scaled.square().sum() / scaled.shape[1]
    if mean_diagonal == 0:
        return SiteReaders(differences.float(), torch.zeros(1, scaled.shape[1]), torch.ones(1))
    # In units of the mean diagonal, shrinks are numbers.
    scaled = scaled / mean_diagonal.sqrt()
    targets = differences.double().mT
    solutions = [_solve(scaled, gram, node, targets) for gram in [_smaller_gram(scaled)] for node in NODES]
    # Columns of equal length, so that nearly dependent columns differ from merely short ones.
    columns = torch.nn.functional.normalize(torch.cat(solutions, dim=1), dim=0)
    u, sizes, _ = torch.linalg.svd(columns, full_matrices=False)
    basis = u[:, sizes > 1e-10 * sizes.max()]
    values, turn = torch.linalg.eigh((scaled @ basis).mT @ (scaled @ basis))
    return SiteReaders(differences.float(), (basis @ turn).mT.float().contiguous(), values.clamp_min(0).float())


def _smaller_gram(scaled: Float[Tensor, "row d_model"]) -> Float[Tensor, "n n"]:
    rows, features = scaled.shape
    return scaled @ scaled.mT if rows < features else scaled.mT @ scaled


def _solve(
    scaled: Float[Tensor, "row d_model"],
    gram: Float[Tensor, "n n"],
    shrink: float,
    targets: Float[Tensor, "d_model place"],
) -> Float[Tensor, "d_model place"]:
    """(M + shrink I)⁻¹ targets; with fewer rows than features by the Woodbury identity."""
    shifted = torch.linalg.cholesky(gram + shrink * torch.eye(len(gram), dtype=gram.dtype))
    if len(scaled) >= scaled.shape[1]:
        return torch.cholesky_solve(targets, shifted)
    return (targets - scaled.mT @ torch.cholesky_solve(scaled @ targets, shifted)) / shrink
