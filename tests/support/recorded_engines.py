"""Engines that decode by recorded steps, candidates for them, and what both sides answer."""

from typing import Any

import pytest
import torch

from heretic.ablation.edit import ModelEdit, SiteEdit
from heretic.engine.local import LocalEngine
from heretic.engine.protocol import Response, no_progress
from tests.support.engines import PROMPTS

LENGTH = 22


def static(plain: LocalEngine, said: list[str] | None = None, **shortcuts: Any) -> LocalEngine:
    """An engine of the same model that decodes by recorded steps; what it says is an error, or is kept in `said`."""

    def warn(text: str) -> None:
        assert said is not None, text
        said.append(text)

    return LocalEngine(plain.loaded, plain.chat, plain.batch_size, static_decode="on", warn=warn, **shortcuts)


def edits_of(engine: LocalEngine, seed: int, count: int, rank: int = 1) -> list[ModelEdit]:
    """Candidates that edit different sites, with a scale or without; the last one is the baseline."""
    draw = torch.Generator().manual_seed(seed)
    edits: list[ModelEdit] = []
    for number in range(count - 1):
        right = torch.nn.functional.normalize(torch.randn(32, rank, generator=draw), dim=0)
        scale = 1 + 0.2 * torch.randn(32, generator=draw) if number % 2 else None
        sites = engine.sites[number % 2 :: 2] if number else engine.sites
        edits.append({site.module: SiteEdit(1.2 * right, right, scale) for site in sites})
    return [*edits, {}]


def decided(text: str) -> bool:
    return "word1" in text


def answers(engine: LocalEngine, edits: list[ModelEdit], length: int = LENGTH) -> list[list[Response]]:
    return engine.generate(PROMPTS, edits, length, decided, no_progress)


def count_calls(monkeypatch: pytest.MonkeyPatch, owner: type, name: str) -> list[tuple[Any, ...]]:
    original, calls = getattr(owner, name), []

    def counted(self: Any, *args: Any) -> Any:
        calls.append(args)
        return original(self, *args)

    monkeypatch.setattr(owner, name, counted)
    return calls
