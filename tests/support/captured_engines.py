"""Engines that decode by captured steps on a CPU, candidates for them, and the responses of both sides."""

from typing import Any

import pytest
import torch

from heretic.ablation.edit import ModelEdit, SiteEdit
from heretic.engine.cuda_graphs.capture import GraphCapturer
from heretic.engine.local import LocalEngine
from heretic.engine.options import DEFAULT, EngineOptions
from heretic.engine.protocol import Response, no_progress
from tests.support.engines import PROMPTS
from tests.support.op_replay import OpReplay

LENGTH = 22


def captured(
    plain: LocalEngine,
    said: list[str] | None = None,
    options: EngineOptions = DEFAULT,
    capturer: GraphCapturer | None = None,
) -> LocalEngine:
    """An engine of the same model that decodes by captured steps; its warnings fail the test, or are kept in `said`."""

    def warn(text: str) -> None:
        assert said is not None, text
        said.append(text)

    return LocalEngine(plain.loaded, plain.chat, plain.batch_size, options, warn, capturer or OpReplay())


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


def is_settled(text: str) -> bool:
    return "word1" in text


def answers(engine: LocalEngine, edits: list[ModelEdit], length: int = LENGTH) -> list[list[Response]]:
    return engine.generate(PROMPTS, edits, length, is_settled, no_progress)


def count_calls(monkeypatch: pytest.MonkeyPatch, owner: type, name: str) -> list[tuple[Any, ...]]:
    original, calls = getattr(owner, name), []

    def counted(self: Any, *args: Any) -> Any:
        calls.append(args)
        return original(self, *args)

    monkeypatch.setattr(owner, name, counted)
    return calls
