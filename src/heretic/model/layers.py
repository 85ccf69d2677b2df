"""The decoder layers of a model, their hidden states, and their calls, recorded so that each can run by itself."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any
from weakref import WeakKeyDictionary

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from ..errors import ModelError
from .placement import input_device

# Layers found by running a model: they may be asked for again during another forward.
_FOUND: WeakKeyDictionary[nn.Module, tuple[str, nn.ModuleList]] = WeakKeyDictionary()


def text_config(model: Any) -> Any:
    """The configuration of the text decoder, which multimodal models keep one level down."""
    config = model.config
    return config.get_text_config(decoder=True) if hasattr(config, "get_text_config") else config


def width(model: nn.Module) -> int:
    """d_model, the number of features of the residual stream.

    Raises:
        ModelError: the configuration of the text decoder has no `hidden_size`.
    """
    config = text_config(model)
    if not hasattr(config, "hidden_size"):
        raise ModelError(
            f"Expected a decoder whose configuration has the width of its residual stream as hidden_size; "
            f"{type(config).__name__} has none, so {type(model).__name__} can't be edited."
        )
    return int(config.hidden_size)


def decoder_layers(model: nn.Module) -> tuple[str, nn.ModuleList]:
    """Name and list of the decoder layers: the only ModuleList of `num_hidden_layers` modules, else the only one whose
    modules run on text.

    Raises:
        ModelError: none or several lists fit; it names all lists.
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
    """Whether each of `layers` runs once when the model is given tokens alone, with an output d_model wide."""
    if len(layers) == 0:
        return False
    widths: list[int] = []

    def keep(_: nn.Module, __: Any, output: Any) -> None:
        value = hidden(output)
        widths.append(value.shape[-1] if isinstance(value, Tensor) else 0)

    with hooks(*(partial(layer.register_forward_hook, keep) for layer in layers)):
        model(input_ids=probe_tokens(model), use_cache=False)
    return len(widths) == len(layers) and set(widths) == {width(model)}


def probe_tokens(model: Any, count: int = 8) -> Int[Tensor, "1 {count}"]:
    """Token ids for forwards that examine a model. The first few, special tokens of most models, are left out."""
    n_tokens = model.get_input_embeddings().weight.shape[0]
    return torch.arange(3, 3 + count, device=input_device(model))[None] % n_tokens


@dataclass(frozen=True, slots=True)
class LayerCall:
    """The arguments of one decoder layer's call, and the hidden state that it returned."""

    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    output: Tensor

    @property
    def given(self) -> Tensor:
        """The hidden state among the arguments."""
        value: Tensor = self.args[0] if self.args else self.kwargs["hidden_states"]
        return value


def hidden(output: Any) -> Tensor:
    """The hidden state in a layer's output, which some families return as the first of several."""
    return output[0] if isinstance(output, (tuple, list)) else output


def streams(
    value: Float[Tensor, "..."], rows: int, positions: int, d_model: int
) -> Float[Tensor, "{rows} position stream {d_model}"]:
    """A hidden state with its streams as a dimension. Most models have one stream; those with hyper-connections store
    several as (rows, positions, streams, d_model), (streams, rows, positions, d_model) or (rows, positions, streams *
    d_model)."""
    if value.dim() == 3:
        return value.unflatten(-1, (-1, d_model))
    if value.shape[:2] == (rows, positions):
        return value
    return value.permute(1, 2, 0, 3)


def residual(
    value: Float[Tensor, "..."], rows: int, positions: int, d_model: int
) -> Float[Tensor, "{rows} position {d_model}"]:
    """The residual stream; the mean of several streams."""
    if value.dim() == 3 and value.shape[-1] == d_model:
        return value
    return streams(value, rows, positions, d_model).mean(dim=2)


@contextmanager
def hooks(*registrations: Callable[[], Any]) -> Iterator[None]:
    """Calls each of `registrations`, which register a hook, and removes the hooks at the end, whatever happens."""
    handles: list[Any] = []
    try:
        handles.extend(register() for register in registrations)
        yield
    finally:
        for handle in handles:
            handle.remove()


@torch.inference_mode()
def record_calls(model: nn.Module, layers: nn.ModuleList, input_ids: Int[Tensor, "1 position"]) -> list[LayerCall]:
    """The calls of all layers in one forward without a cache.

    Raises:
        ModelError: some layer did not run.
    """
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
