"""An edited weight back in the blocks of a GGUF type, with the edit still in it.

Dequantised values are on the grid of their blocks. An edit moves most values by less than half a step, so rounding
each to the nearest code puts most of them back where they were: about half of a rank-1 edit is lost in 4 bits. What the
edit took out of a direction is a sum over many values, though, and that sum can be kept: the part of the rounding error
that lies in the edit's own directions is taken off the target, and the target is rounded again, until little is left.
"""

from collections.abc import Callable

import gguf
import numpy as np
import torch
from gguf import GGMLQuantizationType
from torch import Tensor

from .ggml.blocks import FLOATS, quantize, writable

MOST_PASSES = 8
ENOUGH = 0.02
"""Share of the edit that may be lost without another pass."""


def type_for(kind: GGMLQuantizationType, width: int, wanted: str = "same") -> GGMLQuantizationType:
    """The type that an edited tensor of rows of `width` is written as: its own, else Q8_0, else F16.

    With another type `wanted` (Q8_0, F16, Q6_K), a quantised one becomes that.
    """
    if wanted != "same" and kind not in FLOATS:
        kind = GGMLQuantizationType[wanted]
    if writable(kind) and width % gguf.GGML_QUANT_SIZES[kind][0] == 0:
        return kind
    block, _ = gguf.GGML_QUANT_SIZES[GGMLQuantizationType.Q8_0]
    return GGMLQuantizationType.Q8_0 if width % block == 0 else GGMLQuantizationType.F16


def requantize(original: Tensor, edited: Tensor, directions: Tensor, pack: "Pack") -> np.ndarray:
    """The blocks of `edited`, ([experts,] d_model, d_in), fp32, whose sums along `directions` are nearly its own.

    `original` is the weight before the edit; `directions` need not be orthogonal.
    """
    basis = torch.linalg.qr(directions).Q
    moved = float((basis.mT @ (edited - original)).norm())
    target = edited
    best, least = pack.blocks(edited), float("inf")
    for _ in range(MOST_PASSES):
        blocks = pack.blocks(target)
        error = basis.mT @ (pack.weight(blocks) - edited)
        size = float(error.norm())
        if size < least:
            best, least = blocks, size
        if size <= ENOUGH * moved or not np.isfinite(size):
            break
        target = target - basis @ error
    return best


class Pack:
    """From a weight, (…, d_model, d_in), to the file's blocks and back; `stored` and `loaded` undo each other."""

    def __init__(
        self,
        kind: GGMLQuantizationType,
        stored: Callable[[Tensor], Tensor] = lambda weight: weight,
        loaded: Callable[[Tensor], Tensor] = lambda tensor: tensor,
        importance: np.ndarray | None = None,
    ) -> None:
        self.kind = kind
        self._importance = importance
        self._stored = stored
        self._loaded = loaded

    def blocks(self, weight: Tensor) -> np.ndarray:
        return quantize(self._stored(weight).contiguous().numpy(), self.kind, self._importance)

    def weight(self, blocks: np.ndarray) -> Tensor:
        return self._loaded(torch.from_numpy(gguf.dequantize(blocks, self.kind)))
