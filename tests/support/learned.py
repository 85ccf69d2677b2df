"""A tiny model with rows to learn from."""

from pathlib import Path
from typing import Any

import torch

from heretic.ablation.methods.learned.layout import Layout, layout_of
from heretic.ablation.sites import PostNorm
from heretic.engine.forward import Forward
from heretic.engine.learning.forward import AnswerForward
from heretic.engine.learning.rows import Row, ScoredRow
from heretic.model.loading.checkpoint import Checkpoint
from heretic.model.loading.load import LoadedModel
from heretic.model.sites.feature_gain import measured_gain
from heretic.model.sites.find import find_sites

PREFIX = (5, 9, 11, 7, 6)


def loaded_of(model: Any) -> LoadedModel:
    model.requires_grad_(False)
    return LoadedModel(Checkpoint("tiny", Path()), model, None, tuple(find_sites(model)))


def forward_of(loaded: LoadedModel, first_layer: int = 1, **options: Any) -> AnswerForward:
    return AnswerForward(loaded, Forward(loaded.model), 0, first_layer, **options)


def layout_for(loaded: LoadedModel, first_layer: int = 1, **options: Any) -> Layout:
    gains = {
        site.module: measured_gain(loaded.model.get_submodule(site.downstream.name), loaded.d_model)
        if isinstance(site.downstream, PostNorm)
        else None
        if site.downstream is None
        else site.downstream.gain
        for site in loaded.sites
    }
    return layout_of(loaded.sites, gains, first_layer, **options)


def rows(count: int, seed: int = 0, answer: int = 6, prefix: tuple[int, ...] = PREFIX) -> list[Row]:
    """Rows of several lengths that begin alike."""
    draw = torch.Generator().manual_seed(seed)

    def tokens(count: int) -> tuple[int, ...]:
        return tuple(torch.randint(3, 90, (count,), generator=draw).tolist())

    return [Row((*prefix, *tokens(3 + number % 4)), tokens(answer - number % 2)) for number in range(count)]


def scored(rows: list[Row], places: tuple[int, ...] = (0, 2, 3)) -> list[ScoredRow]:
    return [ScoredRow(row, places) for row in rows]


def random_tensors(layout: Layout, d_model: int, rank: int = 1, readers: bool = False) -> dict[str, torch.Tensor]:
    draw = torch.Generator().manual_seed(1)
    found = {
        "directions": torch.randn(layout.n_groups, d_model, rank, generator=draw),
        "strengths": torch.rand(len(layout.sites), rank, generator=draw) + 0.2,
    }
    if readers:
        found["readers"] = 0.3 * torch.randn(layout.n_groups, d_model, rank, generator=draw)
    return found
