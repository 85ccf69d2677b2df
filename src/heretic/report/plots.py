"""Pictures of residuals on a plane."""

import io
from collections.abc import Sequence
from dataclasses import dataclass

from jaxtyping import Float
from torch import Tensor

FRAME_MS = 500
LAST_FRAME_MS = 2000


@dataclass(frozen=True, slots=True)
class PlotStyle:
    """The common style of a run's pictures; labels and colours are those of good and bad."""

    title: str
    sheet: str
    labels: tuple[str, str]
    colors: tuple[str, str]


def draw(points: Float[Tensor, "prompt 2"], n_good: int, caption: str, style: PlotStyle) -> bytes:
    """A PNG of one layer, the first `n_good` points good.

    It fills the picture: distances on a PaCMAP plane mean nothing from one plane to another.
    """
    import matplotlib.style
    from matplotlib.figure import Figure

    with matplotlib.style.context(style.sheet):
        figure = Figure(figsize=(8, 7.2), dpi=100, layout="constrained")
        axes = figure.add_subplot()
        # A "$" in a user's text begins no formula.
        figure.suptitle(style.title, fontsize=14, parse_math=False)
        axes.set_title(caption, fontsize=11)
        for group, color in zip((points[:n_good], points[n_good:]), style.colors, strict=True):
            axes.scatter(group[:, 0].numpy(), group[:, 1].numpy(), s=26, color=color, alpha=0.75, linewidths=0)
        legend = figure.legend(axes.collections, style.labels, loc="outside lower center", ncols=2, frameon=False)
        for text in legend.get_texts():
            text.set_parse_math(False)
        (left, right), (bottom, top) = _square(points)
        axes.set(xlim=(left, right), ylim=(bottom, top), aspect="equal", xticks=[], yticks=[])
        buffer = io.BytesIO()
        figure.savefig(buffer, format="png")
    return buffer.getvalue()


def _square(points: Float[Tensor, "prompt 2"]) -> list[tuple[float, float]]:
    """The limits of both axes of the smallest square around all points, with a margin."""
    low, high = points.amin(dim=0), points.amax(dim=0)
    # A plane on which all points are one still needs an extent.
    half = 0.54 * float((high - low).max()) or 1.0
    return [(float(middle) - half, float(middle) + half) for middle in (low + high) / 2]


def animate(pictures: Sequence[bytes]) -> bytes:
    """The pictures one after the other as a GIF that goes round."""
    from PIL import Image

    frames = [Image.open(io.BytesIO(picture)).convert("RGB").quantize(64) for picture in pictures]
    times = [FRAME_MS] * (len(frames) - 1) + [LAST_FRAME_MS]
    buffer = io.BytesIO()
    frames[0].save(buffer, "GIF", save_all=True, append_images=frames[1:], duration=times, loop=0)
    return buffer.getvalue()
