"""A picture shows its points in their colours, in the style and with the words that were asked for."""

import io

import pytest
import torch

from heretic.report.plots import PlotStyle, animate, draw

pytest.importorskip("matplotlib")
Image = pytest.importorskip("PIL.Image")

STYLE = PlotStyle("A $title_{1$", "dark_background", ("fine $", "_not"), ("#00ff00", "red"))
GREEN, RED = (0, 255, 0), (255, 0, 0)


def pixels(picture: bytes) -> torch.Tensor:
    image = Image.open(io.BytesIO(picture)).convert("RGB")
    return torch.tensor(list(image.tobytes())).view(image.height, image.width, 3)


def places(picture: torch.Tensor, color: tuple[int, int, int]) -> torch.Tensor:
    """Rows and columns of pixels that are nearly of a colour, seen through the points' transparency."""
    return ((picture - torch.tensor(color)).abs().sum(dim=-1) < 120).nonzero()


def test_points_are_where_they_are_and_fill_the_picture() -> None:
    points = torch.tensor([[-100.0, 100.0], [-90.0, 100.0], [100.0, -100.0]])
    picture = pixels(draw(points, 2, "after layer 3", STYLE))
    height, width = picture.shape[:2]
    # The legend stands below the picture.
    green, red = (places(picture, color) for color in (GREEN, RED))
    green, red = (found[found[:, 0] < 0.94 * height] for found in (green, red))
    assert green[:, 0].max() < 0.2 * height and green[:, 1].max() < 0.3 * width
    assert red[:, 0].min() > 0.8 * height and red[:, 1].min() > 0.8 * width


def test_the_style_sheet_is_used_and_put_back() -> None:
    points = torch.randn(6, 2, generator=torch.Generator().manual_seed(0))
    light = PlotStyle("title", "default", STYLE.labels, STYLE.colors)
    corners = [pixels(draw(points, 3, "", style))[0, 0].tolist() for style in (STYLE, light)]
    assert corners == [[0, 0, 0], [255, 255, 255]]


def test_points_that_are_all_one_have_a_picture() -> None:
    assert draw(torch.zeros(4, 2), 2, "", STYLE).startswith(b"\x89PNG")


def test_the_animation_shows_all_pictures_in_turn() -> None:
    planes = [torch.tensor([[0.0, 0.0], [1.0, y]]) for y in (0.0, 1.0, 2.0)]
    animation = Image.open(io.BytesIO(animate([draw(plane, 1, "", STYLE) for plane in planes])))
    assert animation.n_frames == 3 and animation.info["loop"] == 0
