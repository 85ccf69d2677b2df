"""The decoder layers of a model, and their calls recorded so that each can be run again by itself."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn

from ..errors import ModelError
from .placement import input_device

# Layers that were found by running a model: it may be asked for them again in the middle of another run.
_FOUND: WeakKeyDictionary[nn.Module, tuple[str, nn.ModuleList]] = WeakKeyDictionary()


def text_config(model: Any) -> Any:
    """The configuration of the text decoder: multimodal models keep it one level down."""
    config = model.config
    return config.get_text_config(decoder=True) if hasattr(config, "get_text_config") else config


def width(model: nn.Module) -> int:
    """d_model, the number of features of the residual stream.

    Raises:
        ModelError: the configuration of the text decoder names no such number.
    """
    config = text_config(model)
    if not hasattr(config, "hidden_size"):
        raise ModelError(
            f"Expected a decoder with one residual stream, whose width its configuration calls hidden_size; "
            f"{type(config).__name__} has none, so {type(model).__name__} is built otherwise and can't be edited here."
        )
    return int(config.hidden_size)


def decoder_layers(model: nn.Module) -> tuple[str, nn.ModuleList]:
    """Name and list of the decoder layers: the one ModuleList as long as the configuration says, else the one that
    runs on text.

    Raises:
        ModelError: none or several lists fit; it shows all lists that were looked at.
    """
    expected = int(getattr(text_config(model), "num_hidden_layers", 0))
    lists = [(name, module) for name, module in model.named_modules() if isinstance(module, nn.ModuleList)]
    fitting = [(name, module) for name, module in lists if len(module) == expected and not _inside_encoder(name)]
    outermost = _outermost(fitting)
    if len(outermost) != 1 and model in _FOUND:
        return _FOUND[model]
    if len(outermost) != 1:
        outermost = _outermost([(name, module) for name, module in lists if _runs_on_text(model, module)])
        if len(outermost) == 1:
            _FOUND[model] = outermost[0]
    if len(outermost) == 1:
        return outermost[0]
    seen = "; ".join(f"{name} ({len(module)} of {type(module[0]).__name__})" for name, module in lists if len(module))
    raise ModelError(
        f"Expected one list of {expected} decoder layers in {type(model).__name__}, found {len(outermost)}. "
        f"Lists of modules seen: {seen or 'none'}. If this is a decoder model, please report it with this text."
    )


def _outermost(lists: list[tuple[str, nn.ModuleList]]) -> list[tuple[str, nn.ModuleList]]:
    return [(n, m) for n, m in lists if not any(n.startswith(f"{other}.") for other, _ in lists)]


def _inside_encoder(name: str) -> bool:
    return any(part in name for part in ("vision", "visual", "audio", "encoder"))


@torch.inference_mode()
def _runs_on_text(model: nn.Module, layers: nn.ModuleList) -> bool:
    """Whether all of `layers` run, once each, when the model is given tokens alone, and give what is d_model wide."""
    if len(layers) == 0:
        return False
    widths: list[int] = []

    def keep(_: nn.Module, __: Any, output: Any) -> None:
        value = hidden(output)
        widths.append(value.shape[-1] if isinstance(value, Tensor) else 0)

    with hooks(*(partial(layer.register_forward_hook, keep) for layer in layers)):
        model(input_ids=probe_tokens(model), use_cache=False)
    return len(widths) == len(layers) and set(widths) == {width(model)}


def probe_tokens(model: Any, count: int = 8) -> Tensor:
    """Token ids, (1, count), for forwards that look how a model is built."""
    n_tokens = model.get_input_embeddings().weight.shape[0]
    return torch.arange(3, 3 + count, device=input_device(model))[None] % n_tokens


@dataclass(frozen=True, slots=True)
class LayerCall:
    """How one decoder layer was called, and what it gave."""

    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    output: Tensor

    @property
    def given(self) -> Tensor:
        """The hidden state that went in."""
        value: Tensor = self.args[0] if self.args else self.kwargs["hidden_states"]
        return value


def hidden(output: Any) -> Tensor:
    """The hidden state in a layer's output: some families return it as the first of several."""
    return output[0] if isinstance(output, (tuple, list)) else output


def streams(value: Tensor, rows: int, positions: int, d_model: int) -> Tensor:
    """A hidden state as (rows, positions, streams, d_model): most models have one stream, those with
    hyper-connections several, as (rows, positions, streams, d_model), (streams, rows, positions, d_model) or side by
    side, (rows, positions, streams * d_model)."""
    if value.dim() == 3:
        return value.unflatten(-1, (-1, d_model))
    if value.shape[:2] == (rows, positions):
        return value
    return value.permute(1, 2, 0, 3)


def residual(value: Tensor, rows: int, positions: int, d_model: int) -> Tensor:
    """The residual stream, (rows, positions, d_model): the mean of several streams where there are several."""
    return (
        value
        if value.shape[-1] == d_model and value.dim() == 3
        else (streams(value, rows, positions, d_model).mean(dim=2))
    )


@contextmanager
def hooks(*handles_of: Any) -> Iterator[None]:
    """Removes the hooks that the given callables register, whatever happens."""
    handles: list[Any] = []
    try:
        handles.extend(register() for register in handles_of)
        yield
    finally:
        for handle in handles:
            handle.remove()


@torch.inference_mode()
def record_calls(model: nn.Module, layers: nn.ModuleList, input_ids: Tensor) -> list[LayerCall]:
    """One forward without a cache, with every layer's arguments and output kept."""
    calls: dict[int, LayerCall] = {}

    def keep(index: int, _: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], output: Any) -> None:
        # A copy: the next layer may add to it in place.
        calls[index] = LayerCall(args, kwargs, hidden(output).clone())

    with hooks(
        *(partial(each.register_forward_hook, partial(keep, i), with_kwargs=True) for i, each in enumerate(layers))
    ):
        model(input_ids=input_ids, use_cache=False)
    if len(calls) != len(layers):
        missing = sorted(set(range(len(layers))) - set(calls))
        raise ModelError(f"Decoder layers {missing} of {type(model).__name__} never ran in a forward pass.")
    return [calls[index] for index in range(len(layers))]
