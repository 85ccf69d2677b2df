"""From prompts to directions, and the file that keeps them beside a study."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import torch
from safetensors import safe_open
from safetensors.torch import save
from torch import Tensor

from ..ablation.directions import DegenerateDirection, Directions, find_directions
from ..ablation.methods.registry import find_method
from ..ablation.methods.tensors import StudyTensors
from ..ablation.residuals import ResidualFitter, ResidualStats
from ..ablation.sites import FusedExpertsSite, Site
from ..ablation.weight_stats import WeightStats, stacked, weight_stats
from ..config import DirectionSettings
from ..engine.local import LocalEngine
from ..engine.protocol import Engine, Progress
from ..errors import ModelError, StudyError
from ..events import Reporter
from ..export.matching import match_sites
from ..export.readers.base import CheckpointReader
from ..files import write_atomically
from ..prompts.prompt import PromptSet
from .prompts import RunPrompts
from .site_measurements import SiteMeasurements

Keep = Callable[[str, Sequence[int], Tensor], None]
"""Given each batch of residuals as it comes: its side (good, bad), the indices of its prompts, the residuals."""

GAIN, METHOD = "gain.", "method."
"""Beginnings of names in the file: gains of post-norms, and what the study's method keeps."""


def write_tensors(path: Path, tensors: StudyTensors) -> None:
    """Writes what `read_tensors` reads."""
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
    except Exception as error:  # safetensors raises its own class, which is no subclass of OSError or ValueError
        raise StudyError(
            f"Expected the study's directions in {path}, could not read them ({error}). Restore the file, or start "
            "afresh with --resume restart."
        ) from error
    parts: dict[str, dict[str, Tensor]] = {
        prefix: {key.removeprefix(prefix): value for key, value in tensors.items() if key.startswith(prefix)}
        for prefix in (GAIN, METHOD)
    }
    return StudyTensors(Directions(tensors["directions"]), parts[GAIN], parts[METHOD])


def fit_tensors(
    engine: LocalEngine,
    prompts: RunPrompts,
    settings: DirectionSettings,
    reporter: Reporter,
    keep: Keep | None = None,
) -> StudyTensors:
    """Directions of the engine's model from the direction prompts, and what the method measures of it; `keep` sees all
    residuals.

    Raises:
        ModelError: good and bad prompts leave the same mean residual.
    """
    good = mean_residuals(engine, prompts.good, settings, "good", reporter, keep)
    bad = mean_residuals(engine, prompts.bad, settings, "bad", reporter, keep)
    try:
        directions = find_directions(good, bad, orthogonalize=settings.orthogonalize_direction)
    except DegenerateDirection as error:
        raise ModelError(
            f"Expected good and bad prompts that the model tells apart, but {error}. Use prompt sets that differ."
        ) from error
    gains = {site.module: gain for site in engine.sites if (gain := engine.gain(site)) is not None}
    measured = find_method(settings.method).fit(SiteMeasurements(engine, prompts, reporter))
    return StudyTensors(directions, {module: gain.cpu() for module, gain in gains.items()}, measured)


def stats_from_checkpoint(
    reader: CheckpointReader, sites: Sequence[Site], tensors: StudyTensors, progress: Progress
) -> Mapping[str, WeightStats]:
    """Statistics of every site's stored weight, by module name: for a model whose weights in memory are quantised."""
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


def mean_residuals(
    engine: Engine,
    prompts: PromptSet,
    settings: DirectionSettings,
    side: str,
    reporter: Reporter,
    keep: Keep | None = None,
) -> ResidualStats:
    fitter = ResidualFitter(settings.winsorization_quantile)
    with reporter.step(f"Residuals of {side} prompts", len(prompts)) as progress:
        for indices, residuals in engine.residuals(prompts.prompts, progress):
            fitter.update(residuals)
            if keep is not None:
                keep(side, indices, residuals)
    stats = fitter.fit()
    if not torch.isfinite(stats.mean).all():
        raise ModelError(
            f"Expected finite residuals, got NaN or inf in {engine.profile.dtype}. Load the model in another dtype "
            "(dtypes = bfloat16 or float32)."
        )
    return stats
