"""The residual stream at the last token, before the first layer and after each."""

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

from torch import Tensor, nn

from ..model.layers import hidden, hooks


@contextmanager
def captured_residuals(layers: nn.ModuleList) -> Iterator[dict[int, Tensor]]:
    """A dict that each forward fills: at 0 the input of the first layer, at n the output of the n-th; the last position
    only, or all positions of a model with several streams.

    transformers' own `hidden_states` end with the output of the final norm, which is another space.
    """
    seen: dict[int, Tensor] = {}

    def before(_: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        seen[0] = _last_position(args[0] if args else kwargs["hidden_states"])

    def after(index: int, _: nn.Module, __: Any, output: Any) -> None:
        seen[index] = _last_position(hidden(output))

    first = partial(layers[0].register_forward_pre_hook, before, with_kwargs=True)
    others = [partial(layer.register_forward_hook, partial(after, n)) for n, layer in enumerate(layers, 1)]
    with hooks(first, *others):
        yield seen


def _last_position(state: Tensor) -> Tensor:
    """A copy: a layer may add to its input in place. Which dimension of several streams counts positions depends on the
    family, so that all of them are copied."""
    return state[:, -1:].clone() if state.dim() == 3 else state.clone()
