"""GPU kernels agree with the plain path: here in Triton's interpreter if Triton is installed, and with fakes."""

import os
import sys
from types import SimpleNamespace
from typing import get_args

import pytest
import torch
from torch import Tensor

from heretic.ablation.edit import SiteEdit
from heretic.engine.options import PLAIN
from heretic.engine.protocol import no_progress
from heretic.model.hooks.edits import EditHooks
from heretic.model.kernels.decode_attention import GPU_NAME
from heretic.model.kernels.gpu_kernels import NO_KERNELS, Activation, GpuKernels, KernelShape, gpu_kernels, kernel_shape
from tests.support.captured_engines import answers, captured, edits_of
from tests.support.engines import PROMPTS, engine_for
from tests.support.plain_kernels import attended, edited, gated, rotated

CPU = torch.device("cpu")


@pytest.fixture
def interpreted(monkeypatch: pytest.MonkeyPatch) -> None:
    """Triton interprets kernels on a CPU. The mode must be set before it is imported."""
    if "triton" in sys.modules and os.environ.get("TRITON_INTERPRET") != "1":
        pytest.skip("Triton was imported to compile for a GPU")
    monkeypatch.setenv("TRITON_INTERPRET", "1")
    pytest.importorskip("triton")


@pytest.mark.usefixtures("interpreted")
@pytest.mark.filterwarnings("ignore::UserWarning:triton")
def test_the_kernels_agree_with_the_plain_path() -> None:
    """Not in bfloat16, in which the interpreter has no matrix product."""
    for dtype in (torch.float32, torch.float16):
        compare_in(dtype)


def compare_in(dtype: torch.dtype) -> None:
    kernels = gpu_kernels.__wrapped__(CPU, dtype, KernelShape(48, 4, 4, 12))
    assert kernels.edit is not None and kernels.attention is not None
    draw = torch.Generator().manual_seed(4)
    for rank, has_scale, has_bias in ((1, False, False), (3, True, True), (2, False, True)):
        left, right = (torch.randn(3, 96, rank, generator=draw) / 10 for _ in range(2))
        edit = SiteEdit(left.mT.contiguous().mT, right, torch.rand(3, 96, generator=draw) if has_scale else None)
        candidates = torch.tensor([0, 2, 2, 1, 0])
        output = torch.randn(5, 2, 96, generator=draw).to(dtype)
        bias = torch.randn(96, generator=draw).to(dtype) if has_bias else None
        close(kernels.edit(edit, candidates, output, bias), edited(edit, candidates, output, bias), dtype)
    query = torch.randn(3, 8, 1, 20, generator=draw).to(dtype)
    key, value = (torch.randn(3, 2, 100, 20, generator=draw).to(dtype) for _ in range(2))
    mask = torch.full((3, 1, 1, 100), torch.finfo(dtype).min, dtype=dtype)
    mask[0, ..., 40:45], mask[1, ..., 0], mask[2] = 0, 0, 0
    # What the mask excludes is not read: a block of leftovers may hold anything.
    key[1, :, 64:], value[1, :, 64:] = float("nan"), float("nan")
    found = kernels.attention(query, key, value, mask, 0.3)
    key[1, :, 64:], value[1, :, 64:] = 0, 0
    close(found, attended(query, key, value, mask, 0.3), dtype)

    compare_rotation(kernels, draw, dtype)
    for activation in get_args(Activation):
        # Not a multiple of a program's numbers.
        gate, up = (torch.randn(5, 1, 300, generator=draw).to(dtype) for _ in range(2))
        assert kernels.gated is not None
        close(kernels.gated(gate, up, activation), gated(gate, up, activation), dtype)


def compare_rotation(kernels: GpuKernels, draw: torch.Generator, dtype: torch.dtype) -> None:
    """Queries and keys as the library has them, with heads and positions exchanged."""
    assert kernels.rotated is not None
    for rows in (3, 1):
        query, key = (torch.randn(3, 1, n, 24, generator=draw).to(dtype).transpose(1, 2) for n in (6, 2))
        cos, sin = (torch.randn(rows, 1, 24, generator=draw).to(dtype) for _ in range(2))
        found = kernels.rotated(query, key, cos, sin)
        # To the last bit in 16 bits: both round at the same places. In fp32 a compiler may fuse product and sum.
        for each, expected in zip(found, rotated(query, key, cos, sin), strict=True):
            close(each, expected, dtype)
            assert dtype == torch.float32 or torch.equal(each, expected)


def close(found: Tensor, expected: Tensor, dtype: torch.dtype) -> None:
    assert found.dtype == dtype and found.shape == expected.shape
    tolerance = 1e-5 if dtype == torch.float32 else 1e-2
    assert (found.float() - expected.float()).abs().max() <= tolerance * expected.float().abs().max()


@pytest.mark.parametrize(("family", "expected"), [("llama", (32, 4, 2, 8)), ("gpt2", (32, 4, 4, 8))])
def test_kernels_are_checked_at_the_sizes_of_the_model(family: str, expected: tuple[int, ...]) -> None:
    assert kernel_shape(engine_for(family, 4, PLAIN).loaded.model) == KernelShape(*expected)


def test_a_model_without_such_sizes_has_the_default_shape() -> None:
    """Neither heads, nor one number of groups for all layers."""
    for sizes in ({"hidden_size": 32}, {"hidden_size": 32, "num_attention_heads": 4, "num_key_value_heads": [2, 4]}):
        text = SimpleNamespace(**sizes)
        model = SimpleNamespace(config=SimpleNamespace(get_text_config=lambda decoder, text=text: text))
        assert kernel_shape(model) == KernelShape()
    assert kernel_shape(engine_for("gemma4_text", 4, PLAIN).loaded.model) == KernelShape()


@pytest.mark.gpu
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
def test_a_gpu_runs_the_kernels(dtype: torch.dtype) -> None:
    pytest.importorskip("triton")
    kernels = gpu_kernels(torch.device("cuda:0"), dtype)
    assert kernels.edit is not None and kernels.attention is not None


def test_a_cpu_and_a_kernel_that_is_wrong_keep_the_plain_path(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("TRITON_INTERPRET", raising=False)
    assert gpu_kernels.__wrapped__(CPU, torch.float32) is NO_KERNELS
    monkeypatch.setattr("heretic.model.kernels.gpu_kernels._agrees", lambda *_: False)
    # No such device here: an error of the driver counts as a kernel that can't be used.
    monkeypatch.setattr("importlib.util.find_spec", lambda name: True)
    assert gpu_kernels.__wrapped__(torch.device("cuda:0"), torch.float32) == GpuKernels()


def test_the_kernel_is_left_to_forwards_without_gradients(monkeypatch: pytest.MonkeyPatch) -> None:
    """Learning differentiates through the edits: hooks take the kernel only when they are asked to."""
    monkeypatch.setattr("heretic.model.hooks.edits.gpu_kernels", lambda *_: GpuKernels(edited))
    plain = engine_for("llama", 4, PLAIN)
    edits = edits_of(plain, 3, 2)
    model, sites = plain.loaded.model, plain.sites
    kernels = [EditHooks(model, edits, sites, fused)._kernel for fused in (True, False)]
    assert kernels == [edited, None]
    assert EditHooks(model, edits, sites)._kernel is None and not plain.fused


@pytest.mark.parametrize("family", ["llama", "gpt2", "opt"])
def test_models_use_the_kernels_with_the_same_responses(family: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Several candidates of several ranks; GPT-2 has biases at the sites, OPT flattens rows and positions. Plain and
    recorded steps."""
    plain = engine_for(family, 64)
    wanted = [edits_of(plain, 3, 4, 2), edits_of(plain, 5, 1)]
    expected = [answers(plain, edits) for edits in wanted]
    logits = plain.first_token_log_probabilities(PROMPTS, wanted[0], no_progress)
    calls: list[str] = []

    def edit(*arguments: Tensor) -> Tensor:
        calls.append("edit")
        return edited(*arguments)  # type: ignore[arg-type]

    def attention(*arguments: Tensor) -> Tensor:
        calls.append("attention")
        return attended(*arguments)  # type: ignore[arg-type]

    for module in ("model.hooks.edits", "model.kernels.decode_attention"):
        monkeypatch.setattr(f"heretic.{module}.gpu_kernels", lambda *_: GpuKernels(edit, attention))
    fast = captured(plain)
    assert fast.loaded.model.config._attn_implementation == GPU_NAME
    assert [answers(fast, edits) for edits in wanted] == expected
    assert fast.uses_cuda_graphs and {"edit", "attention"} <= set(calls)
    found = fast.first_token_log_probabilities(PROMPTS, wanted[0], no_progress)
    assert torch.allclose(found, logits, atol=1e-5)
