"""An edit survives requantisation, although most of its changes are smaller than half a quantisation step."""

import gguf
import pytest
import torch
from gguf import GGMLQuantizationType as Type
from torch import Tensor

from heretic.export.ggml.blocks import quantize
from heretic.export.requantize import Pack, requantize, type_for

WIDTH, D_IN = 256, 256


def on_the_grid(kind: Type) -> Tensor:
    """A random weight as it comes out of a file of this type."""
    weight = torch.randn(WIDTH, D_IN, generator=torch.Generator().manual_seed(3))
    return torch.from_numpy(gguf.dequantize(quantize(weight.numpy(), kind), kind))


def left_of(kind: Type, passes: int, monkeypatch: pytest.MonkeyPatch) -> tuple[float, float]:
    """Share of the removed component that is back, and relative error of the whole weight."""
    monkeypatch.setattr("heretic.export.requantize.MOST_PASSES", passes)
    weight = on_the_grid(kind)
    v = torch.nn.functional.normalize(torch.randn(WIDTH, 1, generator=torch.Generator().manual_seed(4)), dim=0)
    edited = weight - v @ (v.mT @ weight)
    pack = Pack(kind)
    written = pack.weight(requantize(weight, edited, v, pack))
    return float((v.mT @ written).norm() / (v.mT @ weight).norm()), float((written - edited).norm() / edited.norm())


@pytest.mark.parametrize(
    ("kind", "lost", "kept", "error"),
    [
        (Type.Q4_0, 0.3, 0.12, 0.07),
        (Type.Q4_1, 0.2, 0.06, 0.07),
        (Type.Q5_0, 0.1, 0.06, 0.04),
        (Type.Q4_K, 0.25, 0.2, 0.07),
    ],
)
def test_rounding_alone_would_lose_much_of_the_edit(
    kind: Type, lost: float, kept: float, error: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    plain, _ = left_of(kind, 1, monkeypatch)
    assert plain > lost
    again, noise = left_of(kind, 8, monkeypatch)
    assert again < kept
    assert noise < error


def test_eight_bits_need_one_pass(monkeypatch: pytest.MonkeyPatch) -> None:
    assert left_of(Type.Q8_0, 1, monkeypatch)[0] < 0.02


def test_a_weight_that_nothing_edits_keeps_its_codes() -> None:
    weight = on_the_grid(Type.Q4_0)
    pack = Pack(Type.Q4_0)
    blocks = requantize(weight, weight, torch.zeros(WIDTH, 1), pack)
    assert torch.equal(pack.weight(blocks), weight)


@pytest.mark.parametrize("kind", [Type.F32, Type.F16, Type.Q4_0, Type.Q8_0, Type.Q4_K, Type.Q6_K, Type.IQ4_XS])
def test_what_can_be_written_keeps_its_type(kind: Type) -> None:
    assert type_for(kind, 256) == kind


@pytest.mark.parametrize("kind", [Type.Q2_K, Type.Q4_K, Type.Q6_K, Type.IQ4_XS])
def test_without_ggml_its_own_types_become_q8_0(kind: Type, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("heretic.export.ggml.blocks.find_ggml", lambda: None)
    assert type_for(kind, 256) == Type.Q8_0
    # A row that is no multiple of Q8_0's block.
    assert type_for(kind, 40) == Type.F16
