"""Fits the directions of a study to its prompts, and keeps them in a file next to its journal."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Literal

import torch
from safetensors import safe_open
from safetensors.torch import save
from torch import Tensor

from ..ablation.directions import DegenerateDirection, Directions, find_directions
from ..ablation.methods.registry import find_method
from ..ablation.methods.tensors import StudyTensors
from ..ablation.residuals import ResidualFitter, ResidualStats, winsorize
from ..ablation.sites import FusedExpertsSite, Site
from ..ablation.weight_stats import WeightStats, stacked, weight_stats
from ..engine.local import LocalEngine
from ..engine.protocol import Progress
from ..errors import ModelError, StudyError
from ..export.matching import match_sites
from ..export.readers.base import CheckpointReader
from ..files import write_atomically
from .context import Session
from .prompts import RunPrompts
from .site_measurements import SiteMeasurements
from .tensor_store import TensorStore

Side = Literal["good", "bad"]

SIDES: tuple[Side, ...] = ("good", "bad")

GAIN, METHOD = "gain.", "method."
"""Prefixes of names in the file: gains of post-norms, and tensors of the study's method."""


class ResidualCollector:
    """Keeps the residuals of the direction prompts, clamped to the quantile `winsorization` as the directions see
    them."""

    def __init__(self, winsorization: float) -> None:
        self._quantile = winsorization
        self._rows: dict[Side, dict[int, Tensor]] = {"good": {}, "bad": {}}

    def add(self, side: Side, indices: Sequence[int], residuals: Tensor) -> None:
        """Keeps the residuals of the prompts `indices`, (prompt, residual, d_model)."""
        self._rows[side] |= dict(zip(indices, winsorize(residuals.float().cpu(), self._quantile), strict=True))

    def residuals(self, side: Side) -> Tensor:
        """The residuals of all prompts of one side in order, (prompt, residual, d_model), in float32."""
        rows = self._rows[side]
        return torch.stack([rows[index] for index in sorted(rows)])


def write_tensors(path: Path, tensors: StudyTensors) -> None:
    """Writes the file that `read_tensors` reads."""
    content = {"directions": tensors.directions.vectors.contiguous()}
    content |= {f"{GAIN}{module}": gain.contiguous() for module, gain in tensors.gains.items()}
    content |= {f"{METHOD}{name}": each.contiguous() for name, each in tensors.method.items()}
    write_atomically(path, save(content))


def read_tensors(path: Path) -> StudyTensors:
    """Raises:
    StudyError: the file is missing or damaged.
    """
    try:
        with safe_open(str(path), framework="pt") as file:
            tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118
        if tensors["directions"].dim() != 2:
            raise ValueError(f"directions of shape {tuple(tensors['directions'].shape)}")
    except Exception as error:  # safetensors raises its own class, which is no subclass of OSError or ValueError
        raise StudyError(
            f"Expected the study's directions in {path}, could not read them ({error}). Restore the file, or start a "
            "new study with --resume restart."
        ) from error
    parts: dict[str, dict[str, Tensor]] = {
        prefix: {key.removeprefix(prefix): value for key, value in tensors.items() if key.startswith(prefix)}
        for prefix in (GAIN, METHOD)
    }
    return StudyTensors(Directions(tensors["directions"]), parts[GAIN], parts[METHOD], TensorStore(path))


def fit_tensors(
    session: Session, engine: LocalEngine, prompts: RunPrompts, collector: ResidualCollector | None = None
) -> StudyTensors:
    """The model's directions from the direction prompts of `prompts`, and the tensors that the method measures; the
    `collector` receives all residuals.

    Raises:
        ModelError: good and bad prompts have the same mean residual, or a residual is not finite.
    """
    settings = session.settings
    good, bad = (mean_residuals(session, engine, prompts, side, collector) for side in SIDES)
    try:
        directions = find_directions(good, bad, orthogonalize=settings.orthogonalize_direction)
    except DegenerateDirection as error:
        raise ModelError(
            f"Expected good and bad prompts with different mean residuals, but {error}. Use prompt sets that differ."
        ) from error
    gains = {site.module: gain for site in engine.sites if (gain := engine.gain(site)) is not None}
    measured = find_method(settings.method).fit(SiteMeasurements(engine, prompts, session.reporter))
    return StudyTensors(directions, {module: gain.cpu() for module, gain in gains.items()}, measured)


def stats_from_checkpoint(
    reader: CheckpointReader, sites: Sequence[Site], tensors: StudyTensors, progress: Progress
) -> Mapping[str, WeightStats]:
    """Statistics of every site's stored weight, by module name, for a model whose weights in memory are quantised."""
    parts: dict[str, list[WeightStats]] = {}
    for key, owner in match_sites(sites, reader.tensors(), reader.directory).items():
        weight, module = owner.matrices(reader.read(key)), owner.site.module
        stats = weight_stats(weight, tensors.directions.vectors, tensors.gains.get(module))
        parts.setdefault(module, []).append(stats)
    found = {}
    for site in sites:
        found[site.module] = (
            stacked(parts[site.module]) if isinstance(site, FusedExpertsSite) else parts[site.module][0]
        )
        progress(1)
    return found


def collect_residuals(session: Session, engine: LocalEngine, prompts: RunPrompts) -> ResidualCollector:
    """The residuals of the direction prompts of `prompts`, in a pass of their own.

    Raises:
        ModelError: a residual is not finite.
    """
    collector = ResidualCollector(session.settings.winsorization_quantile)
    for side in SIDES:
        mean_residuals(session, engine, prompts, side, collector)
    return collector


def mean_residuals(
    session: Session, engine: LocalEngine, prompts: RunPrompts, side: Side, collector: ResidualCollector | None = None
) -> ResidualStats:
    """Raises:
    ModelError: a residual is not finite.
    """
    chosen = (prompts.good if side == "good" else prompts.bad).prompts
    fitter = ResidualFitter(session.settings.winsorization_quantile)
    with session.reporter.step(f"Residuals of {side} prompts", len(chosen)) as progress:
        for indices, residuals in engine.residuals(chosen, progress):
            fitter.update(residuals)
            if collector is not None:
                collector.add(side, indices, residuals)
    stats = fitter.fit()
    if not torch.isfinite(stats.mean).all():
        raise ModelError(
            f"Expected finite residuals, got NaN or inf in {engine.profile.dtype}. Load the model in another dtype "
            "(dtypes = bfloat16 or float32)."
        )
    return stats
