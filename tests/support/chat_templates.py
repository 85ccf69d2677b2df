"""Chat templates in the shapes of families of models, short, each with the prompt that it must give."""

from tests.support.plain_templates import PLAIN
from tests.support.template_shape import Shape
from tests.support.thinking_templates import THINKING

__all__ = ["SHAPES", "Shape"]

SHAPES = {**PLAIN, **THINKING}
