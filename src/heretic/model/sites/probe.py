"""One decoder layer, run again by itself with some of its modules held, perturbed or silenced."""

from collections.abc import Callable, Collection, Mapping
from contextlib import nullcontext
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from ..layers import LayerCall, hidden, hooks, streams
from ..loading.quantization import is_packed
from .matmul_tracer import MatmulTracer, Product

Change = Callable[[Tensor], Tensor]


@dataclass(slots=True)
class Observation:
    """One run of the layer: its output, fp32, and by module name the outputs of all calls, the first tensor given, and
    the products with bare parameters."""

    output: Float[Tensor, "position stream d_model"]
    outputs: dict[str, list[Any]] = field(default_factory=dict)
    inputs: dict[str, Tensor] = field(default_factory=dict)
    products: dict[str, Product] = field(default_factory=dict)


@dataclass(slots=True)
class _Run:
    """The hooks of one run, which fill `seen`."""

    seen: Observation
    change: Mapping[str, Change]
    held: Mapping[str, list[Any]]
    n_calls: dict[str, int] = field(default_factory=dict)

    def after(self, name: str, _: nn.Module, __: Any, output: Any) -> Any:
        if name in self.held:
            number = self.n_calls.get(name, 0)
            self.n_calls[name] = number + 1
            return copied(self.held[name][min(number, len(self.held[name]) - 1)])
        # A copy: some layers (Falcon) add to a module's output in place.
        self.seen.outputs.setdefault(name, []).append(copied(output))
        return self.change[name](output) if name in self.change else output

    def before(self, name: str, _: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        value = next((each for each in (*args, *kwargs.values()) if isinstance(each, Tensor)), None)
        if value is not None and value.is_floating_point():
            self.seen.inputs[name] = value.clone()

    def on_product(self, product: Product, result: Tensor) -> Tensor:
        self.seen.products[product.name] = _joined(self.seen.products.get(product.name), product)
        return self.change[product.name](result) if product.name in self.change else result


class LayerProbe:
    """A layer with a recorded call.

    `linear` are its modules of one matrix product each, and `bare_parameters` its other parameters of two or more
    dimensions, by name.
    """

    def __init__(self, layer: nn.Module, call: LayerCall, d_model: int) -> None:
        self.layer = layer
        self.call = call
        self.d_model = d_model
        self.rows, self.positions = call.output.shape[:2] if call.output.dim() == 3 else _rows(call)
        self.modules = {name: module for name, module in layer.named_modules() if name}
        self.linear = {name: module for name, module in self.modules.items() if is_linear(module)}
        self.bare_parameters = dict(_bare_parameters(layer))
        self.given = self._flat(call.given)
        self._last_inputs: dict[str, Tensor] = {}
        self._products: set[str] = set()

    def run(
        self,
        change: Mapping[str, Change] | None = None,
        held: Mapping[str, list[Any]] | None = None,
        silenced: Mapping[str, Tensor] | None = None,
        empty: bool = False,
    ) -> Observation:
        """Runs the layer.

        `change` maps a module or bare parameter to a function of its output; `held` maps a module to outputs that
        replace those of its calls; `silenced` parameters count as zero; `empty` replaces the hidden state by zeros.
        """
        seen = Observation(torch.empty(0, 0, 0))
        run = _Run(seen, change or {}, held or {})
        registrations = [partial(m.register_forward_hook, partial(run.after, n)) for n, m in self.modules.items()]
        registrations += [
            partial(m.register_forward_pre_hook, partial(run.before, n), with_kwargs=True)
            for n, m in self.modules.items()
        ]
        bare = self.bare_parameters
        tracer = MatmulTracer(bare, self.d_model, run.on_product, silenced) if bare else nullcontext()
        with hooks(*registrations), tracer:
            seen.output = self._flat(hidden(self._call(empty)))
        self._last_inputs = seen.inputs
        self._products |= set(seen.products)
        return seen

    def other_blocks(self, paths: Collection[str]) -> list[str]:
        """The largest modules that contain a matrix, and neither contain nor belong to any at `paths`."""
        found: list[str] = []
        for name, module in self.modules.items():
            inside = any(name.startswith(f"{other}.") for other in found)
            if (
                not _related(name, paths)
                and not inside
                and any(parameter.dim() >= 2 for parameter in module.parameters())
            ):
                found.append(name)
        return found

    def other_matrices(self, paths: Collection[str]) -> list[str]:
        """The modules with a matrix of their own that neither contain nor belong to any at `paths`."""
        owners = [name for name, module in self.modules.items() if any(p.dim() >= 2 for p in module.parameters(False))]
        return [name for name in owners if not _related(name, paths)]

    def observed_input(self, name: str) -> Tensor | None:
        """The first tensor given to the module in the last run."""
        return self._last_inputs.get(name)

    def biases_of(self, bare: Collection[str]) -> dict[str, Tensor]:
        """Possible biases of bare parameters: parameters of the modules around them, d_model wide, that no product
        used."""
        found: dict[str, Tensor] = {}
        for key in bare:
            parts = key.split(".")
            for end in range(1, len(parts)):
                around = self.modules[".".join(parts[:end])]
                for name, parameter in around.named_parameters(recurse=False):
                    path = f"{'.'.join(parts[:end])}.{name}"
                    if path not in self._products and parameter.dim() <= 2 and parameter.shape[-1] == self.d_model:
                        found[path] = parameter
        return found

    def _call(self, empty: bool) -> Any:
        # The layer may add to its input in place.
        args = [each.clone() if isinstance(each, Tensor) else each for each in self.call.args]
        kwargs = dict(self.call.kwargs)
        if empty and args:
            args[0] = torch.zeros_like(args[0])
        elif empty:
            kwargs["hidden_states"] = torch.zeros_like(kwargs["hidden_states"])
        return self.layer(*args, **kwargs)

    def _flat(self, value: Tensor) -> Float[Tensor, "position stream d_model"]:
        return streams(value, self.rows, self.positions, self.d_model).flatten(0, 1).float()


def copied(output: Any) -> Any:
    """A module's output with all tensors copied."""
    if isinstance(output, Tensor):
        return output.clone()
    if type(output) in (tuple, list):
        return type(output)(copied(each) for each in output)
    return output


def _related(name: str, paths: Collection[str]) -> bool:
    """Whether the module is at one of `paths`, contains it or belongs to it."""
    return any(path == name or path.startswith(f"{name}.") or name.startswith(f"{path}.") for path in paths)


def is_linear(module: nn.Module) -> bool:
    """Whether the module is one matrix product: a Linear, its quantised relatives, or GPT-2's Conv1D."""
    return is_packed(module) or (
        hasattr(module, "weight") and (hasattr(module, "out_features") or is_transposed(module))
    )


def is_transposed(module: nn.Module) -> bool:
    """Whether the weight is stored (d_in, d_model): transformers' Conv1D."""
    return type(module).__name__ == "Conv1D"


def output_width(module: nn.Module) -> int:
    return int(module.nf) if is_transposed(module) else int(module.out_features)  # type: ignore[arg-type]


def _bare_parameters(layer: nn.Module) -> Collection[tuple[str, Tensor]]:
    """Parameters of two or three dimensions that belong to no module of a known kind."""
    found = []
    for prefix, module in layer.named_modules():
        if is_linear(module) or isinstance(module, (nn.Embedding, nn.modules.conv._ConvNd)):
            continue
        for name, parameter in module.named_parameters(recurse=False):
            if parameter.dim() in (2, 3) and parameter.numel():
                found.append((f"{prefix}.{name}" if prefix else name, parameter))
    return found


def _joined(before: Product | None, now: Product) -> Product:
    """All products with a parameter as one: the matrices that any of them used."""
    used = [each.matrices for each in (before, now) if each is not None]
    numbers = sorted({n for each in used for n in ([each] if isinstance(each, int) else each.tolist())})
    return Product(now.name, now.count, torch.tensor(numbers), now.transposed)


def _rows(call: LayerCall) -> tuple[int, int]:
    """Rows and positions of a layer with several streams, which come first or after the streams: the probe runs one
    row."""
    first, second, third = call.output.shape[:3]
    return (first, second) if first == 1 else (second, third)
