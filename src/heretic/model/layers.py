"""The decoder layers of a model, and their calls recorded so that each can be run again by itself."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from ..errors import ModelError


def text_config(model: Any) -> Any:
    """The configuration of the text decoder: multimodal models keep it one level down."""
    config = model.config
    return config.get_text_config(decoder=True) if hasattr(config, "get_text_config") else config


def width(model: nn.Module) -> int:
    """d_model, the number of features of the residual stream."""
    return int(text_config(model).hidden_size)


def decoder_layers(model: nn.Module) -> tuple[str, nn.ModuleList]:
    """Name and list of the decoder layers: the one ModuleList as long as the configuration says.

    Raises:
        ModelError: none or several lists fit; it shows all lists that were looked at.
    """
    expected = int(text_config(model).num_hidden_layers)
    lists = [(name, module) for name, module in model.named_modules() if isinstance(module, nn.ModuleList)]
    fitting = [(name, module) for name, module in lists if len(module) == expected and not _inside_encoder(name)]
    outermost = [(n, m) for n, m in fitting if not any(n.startswith(f"{other}.") for other, _ in fitting)]
    if len(outermost) == 1:
        return outermost[0]
    seen = "; ".join(f"{name} ({len(module)} of {type(module[0]).__name__})" for name, module in lists if len(module))
    raise ModelError(
        f"Expected one list of {expected} decoder layers in {type(model).__name__}, found {len(outermost)}. "
        f"Lists of modules seen: {seen or 'none'}. If this is a decoder model, please report it with this text."
    )


def _inside_encoder(name: str) -> bool:
    return any(part in name for part in ("vision", "visual", "audio", "encoder"))


@dataclass(frozen=True, slots=True)
class LayerCall:
    """How one decoder layer was called, and what it gave."""

    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    output: Tensor


def hidden(output: Any) -> Tensor:
    """The hidden state in a layer's output: some families return it inside a tuple."""
    return output[0] if isinstance(output, tuple) else output


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

    def keep(index: int) -> Any:
        def hook(_: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], output: Any) -> None:
            calls[index] = LayerCall(args, kwargs, hidden(output))

        return hook

    registrations = [
        (lambda i=i, layer=layer: layer.register_forward_hook(keep(i), with_kwargs=True))
        for i, layer in enumerate(layers)
    ]
    with hooks(*registrations):
        model(input_ids=input_ids, use_cache=False)
    if len(calls) != len(layers):
        missing = sorted(set(range(len(layers))) - set(calls))
        raise ModelError(f"Decoder layers {missing} of {type(model).__name__} never ran in a forward pass.")
    return [calls[index] for index in range(len(layers))]
