"""Tiny models of families, and which families count."""

import inspect
from typing import Any

import torch
from tiny_models import model_class, tiny_config, tiny_model
from torch import Tensor, nn

ROWS, POSITIONS = 3, 12


class Excluded(Exception):
    """The family is no causal decoder of text, by one of the stated rules."""


class Unbuildable(Exception):
    """No tiny model of the family can be made and run here."""


def build(family: str) -> Any:
    """A tiny model of the family that runs on tokens alone and is causal.

    Raises:
        Excluded: by rule.
        Unbuildable: the configuration or the model raises.
    """
    try:
        config = tiny_config(family)
    except Exception as error:
        raise Unbuildable(line(error)) from error
    if config.is_encoder_decoder:
        raise Excluded("encoder-decoder: its configuration says so")
    if "shared_kv_states" in inspect.signature(model_class(family).forward).parameters:
        raise Excluded("draft model of speculative decoding: it reads another model's states")
    try:
        model = tiny_model(family)
    except Exception as error:
        raise Unbuildable(line(error)) from error
    if any(name.endswith("encoder_attn") for name, _ in model.named_modules()):
        raise Excluded("decoder of an encoder-decoder: its layers attend to an encoder")
    try:
        _check_causal(model)
    except Excluded:
        raise
    except Exception as error:
        raise Unbuildable(f"it does not run on tokens alone: {line(error)}") from error
    return model


@torch.inference_mode()
def _check_causal(model: nn.Module) -> None:
    tokens = ids()
    before = logits(model, tokens)
    if before.shape[:2] != tokens.shape:
        raise Excluded(f"no language model: logits of shape {tuple(before.shape)} for {tuple(tokens.shape)} tokens")
    if not torch.isfinite(before).all():
        raise ValueError("the tiny model's logits are not finite")
    tokens[:, -1] = 50
    if not torch.allclose(before[:, :-1], logits(model, tokens)[:, :-1], atol=1e-4):
        raise Excluded("encoder: earlier positions change with a later token")


def ids() -> Tensor:
    return torch.arange(POSITIONS)[None].repeat(ROWS, 1) + torch.arange(ROWS)[:, None] + 5


def logits(model: Any, tokens: Tensor) -> Tensor:
    result: Tensor = model(input_ids=tokens, use_cache=False).logits
    return result.float()


def line(error: BaseException) -> str:
    return f"{type(error).__name__}: {' '.join(str(error).split())[:400]}"
