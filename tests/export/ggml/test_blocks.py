"""ggml's quantiser and the gguf package's agree where both can write a type; importances weigh the errors."""

import gguf
import numpy as np
import pytest
from gguf import GGMLQuantizationType as Type

from heretic.errors import ExportError
from heretic.export.ggml.blocks import BY_GGML, needs_importance, quantize, writable
from heretic.export.ggml.library import find_ggml

ROWS = np.random.default_rng(5).standard_normal((6, 512)).astype(np.float32)
FAST = sorted(BY_GGML - {Type.IQ1_S, Type.IQ1_M, Type.IQ2_XXS, Type.IQ2_XS, Type.IQ2_S})


@pytest.mark.parametrize("kind", [Type.Q4_0, Type.Q4_1, Type.Q5_0, Type.Q5_1, Type.Q8_0])
def test_ggml_writes_the_bytes_of_the_gguf_package(kind: Type) -> None:
    ggml = find_ggml()
    assert ggml is not None
    assert ggml.quantize(ROWS, kind, None).tobytes() == gguf.quantize(ROWS, kind).tobytes()


@pytest.mark.parametrize("kind", FAST)
def test_what_ggml_writes_is_read_as_nearly_the_same(kind: Type) -> None:
    assert writable(kind)
    blocks = quantize(ROWS.reshape(2, 3, 512), kind)
    read = gguf.dequantize(blocks, kind).reshape(ROWS.shape)
    bits = blocks.size * 8 / ROWS.size
    assert np.linalg.norm(read - ROWS) / np.linalg.norm(ROWS) < 2.0 ** (1 - bits)


@pytest.mark.parametrize("kind", [Type.Q4_0, Type.Q4_K, Type.IQ4_XS])
def test_important_columns_are_kept_more_precisely(kind: Type) -> None:
    importance = np.ones(512, dtype=np.float32)
    importance[::4] = 100
    plain, weighted = (gguf.dequantize(quantize(ROWS, kind, given), kind) for given in (None, importance))
    assert np.linalg.norm((weighted - ROWS)[:, ::4]) < 0.9 * np.linalg.norm((plain - ROWS)[:, ::4])


def test_each_matrix_has_importances_of_its_own() -> None:
    values, importance = ROWS.reshape(2, 3, 512), np.random.default_rng(6).random((2, 512), dtype=np.float32)
    one, other = (quantize(values[number], Type.Q4_K, importance[number]) for number in (0, 1))
    assert quantize(values, Type.Q4_K, importance).tobytes() == one.tobytes() + other.tobytes()


def test_two_bits_are_written_without_importances_too() -> None:
    assert needs_importance(Type.IQ2_XXS)
    read = gguf.dequantize(quantize(ROWS[:1], Type.IQ2_XXS), Type.IQ2_XXS)
    assert np.linalg.norm(read - ROWS[:1]) < 0.5 * np.linalg.norm(ROWS[:1])


def test_what_to_install_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("heretic.export.ggml.blocks.find_ggml", lambda: None)
    assert not writable(Type.Q4_K)
    with pytest.raises(ExportError, match="pywhispercpp"):
        quantize(ROWS, Type.Q4_K)
