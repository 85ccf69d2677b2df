"""Tiny random models of any family that transformers has, made from its own default configuration.

Every size is made small by its name; lists with one entry per layer keep one layer of each kind. What a family needs
beyond that (sizes that must fit each other) is data: tiny_sizes.py.
"""

import copy
from typing import Any

import torch
from tiny_sizes import CHANGES, MISSING, SIZES, VOCABULARY
from torch import nn
from transformers import CONFIG_MAPPING, AutoModelForCausalLM, AutoModelForImageTextToText
from transformers.models.auto.modeling_auto import (
    MODEL_FOR_CAUSAL_LM_MAPPING_NAMES,
    MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING_NAMES,
)


def causal_families() -> list[str]:
    """Every model type that transformers' AutoModelForCausalLM knows."""
    return sorted(MODEL_FOR_CAUSAL_LM_MAPPING_NAMES)


def image_text_families() -> list[str]:
    """Every further model type that AutoModelForImageTextToText knows."""
    return sorted(set(MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING_NAMES) - set(MODEL_FOR_CAUSAL_LM_MAPPING_NAMES))


LAYER_COUNTS = ("num_hidden_layers", "n_layer", "num_layers", "n_layers", "layers", "num_blocks")
FEWEST_LAYERS, MOST_LAYERS = 2, 6


def tiny_config(family: str, **values: Any) -> Any:
    """The family's default configuration with small sizes, and a layer of each kind.

    Raises:
        Exception: whatever the family's configuration raises if sizes don't fit each other.
    """
    kind = CONFIG_MAPPING[family]
    changes = _changes(family)
    default = kind(**changes.get("first", {})).to_dict()
    small = shrink(default)
    merge(small, {key: value for key, value in changes.items() if key != "first"} | values)
    return kind.from_dict(small)


def _changes(kind: str) -> dict[str, Any]:
    # A copy: configurations write into the tables that they are given.
    return copy.deepcopy(CHANGES.get(kind, {}))


def shrink(values: dict[str, Any]) -> dict[str, Any]:
    """A configuration's values with every known size made small, in the configurations inside it too."""
    small = copy.deepcopy(values)
    chosen = _chosen_layers(values)
    for key, value in values.items():
        if isinstance(value, dict) and "model_type" in value:
            small[key] = shrink(value) | _changes(str(value["model_type"]))
        elif key in LAYER_COUNTS and isinstance(value, int):
            small[key] = len(chosen)
        elif isinstance(value, list) and len(value) == _n_layers(values) and len(value) > 1:
            small[key] = [value[index] for index in chosen]
        elif key == "per_layer_config" and isinstance(value, dict):
            small[key] = _chosen_overrides(value, chosen)
        elif isinstance(value, int) and not isinstance(value, bool):
            small[key] = _small(key, value)
        elif value is None and key in MISSING:
            small[key] = MISSING[key]
    if values.get("num_key_value_heads") == values.get("num_attention_heads", 0):
        small["num_key_value_heads"] = small["num_attention_heads"]
    return small


def _small(key: str, value: int) -> int:
    if key in SIZES and value > 0:
        return min(value, SIZES[key])
    named = key.endswith(("_token_id", "_token_index")) or key in ("eos_token_id", "bos_token_id", "pad_token_id")
    if named and value >= VOCABULARY:
        # Different from each other, and from the tokens of the tests.
        return VOCABULARY - 1 - sum(map(ord, key)) % 20
    return value


def _n_layers(values: dict[str, Any]) -> int:
    counts = [values[key] for key in LAYER_COUNTS if isinstance(values.get(key), int)]
    kinds = values.get("layers_block_type") or values.get("layer_types")
    return counts[0] if counts else len(kinds or ())


def _chosen_layers(values: dict[str, Any]) -> list[int]:
    """Indices of layers that cover each kind; a kind is the layer's entries in all lists with one entry per layer."""
    count = _n_layers(values)
    lists = [v for v in values.values() if isinstance(v, list) and len(v) == count and count > 1]
    overrides = values.get("per_layer_config") or {}
    seen: dict[str, int] = {}
    for index in range(count):
        override = next((v for k, v in overrides.items() if int(k) == index), None)
        seen.setdefault(repr([each[index] for each in lists] + [override]), index)
    chosen = sorted(seen.values())[:MOST_LAYERS]
    rest = [index for index in range(count) if index not in chosen]
    return sorted(chosen + rest[: max(0, FEWEST_LAYERS - len(chosen))])


def _chosen_overrides(value: dict[str, Any], chosen: list[int]) -> dict[str, Any]:
    by_index = {int(key): each for key, each in value.items()}
    return {
        str(new): {k: 2 * SIZES[k] if k in SIZES else v for k, v in by_index[old].items()}
        for new, old in enumerate(chosen)
        if old in by_index
    }


def merge(values: dict[str, Any], changes: dict[str, Any]) -> None:
    """Merges `changes` into `values`, nested tables too."""
    for key, value in changes.items():
        if isinstance(value, dict) and isinstance(values.get(key), dict) and "model_type" in values[key]:
            merge(values[key], value)
        else:
            values[key] = value


def auto_class(family: str) -> Any:
    return AutoModelForCausalLM if family in MODEL_FOR_CAUSAL_LM_MAPPING_NAMES else AutoModelForImageTextToText


def model_class(family: str) -> Any:
    """The class that transformers makes of the family's configuration."""
    return auto_class(family)._model_mapping[CONFIG_MAPPING[family]]


def tiny_model(family: str, seed: int = 0, **values: Any) -> Any:
    """A random model of the family, fp32, in eval mode; weights are large enough for layers to matter."""
    config = tiny_config(family, **values)
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        model = auto_class(family).from_config(config).float()
        randomize(model)
    model.requires_grad_(False)
    return model.eval()


def image_text_model(family: str, seed: int = 0) -> Any | None:
    """A random model of text and images of the family; None where it has no class for one."""
    if family not in MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING_NAMES:
        return None
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        model = AutoModelForImageTextToText.from_config(tiny_config(family)).float()
        randomize(model)
    model.requires_grad_(False)
    return model.eval()


@torch.no_grad()
def randomize(model: nn.Module) -> None:
    """Weights so large that each layer matters; vectors that begin as a constant (norms, biases) get noise."""
    for parameter in model.parameters():
        if not parameter.is_floating_point() or parameter.numel() == 0:
            continue
        if parameter.dim() >= 2:
            nn.init.normal_(parameter, std=0.2)
        elif parameter.numel() > 1 and float(parameter.std()) < 1e-6:
            parameter.add_(0.1 * torch.randn_like(parameter))
