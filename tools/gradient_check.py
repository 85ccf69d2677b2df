"""Gradients of learned edits against finite differences, on a tiny random model.

`python tools/gradient_check.py llama mamba` prints a line a family; `deviation(model)` is for other tools.
"""

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from tiny_models import tiny_model
from torch import Tensor
from torch.nn.functional import normalize

from heretic.ablation.methods.learned.layout import Layout, compile_learned, layout_of
from heretic.ablation.sites import PostNorm, Site
from heretic.engine.forward import Forward
from heretic.engine.learning.forward import AnswerForward
from heretic.engine.learning.rows import Row, ScoredRow
from heretic.errors import ModelError
from heretic.model.loading.checkpoint import Checkpoint
from heretic.model.loading.load import LoadedModel
from heretic.model.sites.feature_gain import measured_gain
from heretic.model.sites.find import find_sites

SIZES = (1e-2, 5e-3, 2e-3)
"""How far the tensors are moved to either side, until one agrees: small moves are lost in rounding, large ones bend,
and a router that chooses another expert within a move jumps. A wrong gradient agrees with none."""
PREFIX = (5, 9, 11, 7, 6)
"""The beginning of all rows, which runs once."""
AGREES = 0.05
"""A deviation below this is rounding; a wrong gradient deviates by about 1."""


def deviation(model: Any, sites: Sequence[Site] | None = None, first_layer: int | None = None) -> float:
    """The largest deviation of a directional derivative from its finite difference, as a share of the larger one.

    The loss is the KL divergence at three tokens of some rows, and the log-probability of three of others. Two
    directions a layer and their strengths are moved, along a random way each, and the best of some step sizes counts.
    Layers from `first_layer` on are edited; by default from the second on, so that the first one is skipped.

    Raises:
        ModelError: no gradient reaches the edits.
    """
    model.requires_grad_(False)
    loaded = LoadedModel(Checkpoint("tiny", Path()), model, None, tuple(find_sites(model) if sites is None else sites))
    if first_layer is None:
        first_layer = min(1, max(site.layer for site in loaded.sites))
    gains = {site.module: _gain(loaded, site) for site in loaded.sites}
    layout = layout_of(loaded.sites, gains, first_layer)
    forward = AnswerForward(loaded, Forward(model), 0, first_layer)
    kept, gone = _rows(4, 0, model), _rows(3, 5, model)
    forward.prepare([each.row for each in kept], [each.row for each in gone])
    start = _tensors(layout, loaded.d_model)
    tensors = {name: each.clone().requires_grad_(True) for name, each in start.items()}
    with torch.enable_grad():
        _loss(forward, layout, tensors, kept, gone).backward()
    draw, worst = torch.Generator().manual_seed(3), 0.0
    for name, tensor in tensors.items():
        way = normalize(torch.randn(tensor.shape, generator=draw).flatten(), dim=0).view_as(tensor)
        assert tensor.grad is not None, f"no gradient reaches the {name}"
        found, best = float((tensor.grad * way).sum()), float("inf")
        for size in SIZES:
            with torch.no_grad():
                moved = [start | {name: start[name] + side * size * way} for side in (1, -1)]
                above, below = (float(_loss(forward, layout, each, kept, gone)) for each in moved)
            expected = (above - below) / (2 * size)
            best = min(best, abs(found - expected) / max(abs(found), abs(expected), 1e-2))
            if best < AGREES / 10:
                break
        worst = max(worst, best)
    return worst


def _loss(
    forward: AnswerForward,
    layout: Layout,
    tensors: dict[str, Tensor],
    kept: Sequence[ScoredRow],
    gone: Sequence[ScoredRow],
) -> Tensor:
    candidates = torch.zeros(len(kept) + len(gone), dtype=torch.long)
    with forward.edited([compile_learned(tensors, layout)]) as edited:
        divergences, found, _ = edited(kept, gone, candidates)
    return divergences.sum() + 0.1 * found.sum()


def _rows(count: int, seed: int, model: Any) -> list[ScoredRow]:
    """Rows of several lengths."""
    vocabulary = min(90, len(model.get_input_embeddings().weight))
    draw = torch.Generator().manual_seed(seed)

    def tokens(length: int) -> tuple[int, ...]:
        return tuple(torch.randint(3, vocabulary, (length,), generator=draw).tolist())

    return [ScoredRow(Row((*PREFIX, *tokens(3 + number % 4)), tokens(5)), (0, 2, 3)) for number in range(count)]


def _tensors(layout: Layout, d_model: int) -> dict[str, Tensor]:
    draw = torch.Generator().manual_seed(1)
    directions = torch.randn(layout.n_groups, d_model, 2, generator=draw)
    return {"directions": directions, "strengths": torch.rand(len(layout.sites), 2, generator=draw) + 0.2}


def _gain(loaded: LoadedModel, site: Site) -> Tensor | None:
    if isinstance(site.downstream, PostNorm):
        return measured_gain(loaded.model.get_submodule(site.downstream.name), loaded.d_model)
    return None if site.downstream is None else site.downstream.gain


def main() -> int:
    worst = 0
    for family in sys.argv[1:]:
        try:
            found = deviation(tiny_model(family))
            outcome = f"{found:.1e}, {'agrees' if found < AGREES else 'DEVIATES'}"
            worst |= found >= AGREES
        except ModelError as error:
            outcome = str(error)
        print(f"{family}: {outcome}", flush=True)
    return worst


if __name__ == "__main__":
    sys.exit(main())
