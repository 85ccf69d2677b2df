"""Tiny checkpoints on disk, their sites, and a candidate to export."""

from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from transformers.modeling_utils import PreTrainedModel

from heretic.ablation.directions import Directions
from heretic.ablation.methods.kernel.parameters import KernelParameters
from heretic.ablation.parameters import AblationParameters, WeightKernel
from heretic.ablation.sites import Site
from tests.support.families import tiny

WIDTH = 32
LAYERS = 3
MODES = ("none", "pre", "full")

LLAMA_SITES = tuple(
    Site(layer, component, f"model.layers.{layer}.{module}", f"model.layers.{layer}.{module}.weight")
    for layer in range(LAYERS)
    for component, module in (("attn.o_proj", "self_attn.o_proj"), ("mlp.down_proj", "mlp.down_proj"))
)
GPT2_SITES = tuple(
    Site(layer, component, f"transformer.h.{layer}.{module}", f"transformer.h.{layer}.{module}.weight", transposed=True)
    for layer in range(LAYERS)
    for component, module in (("attn.o_proj", "attn.c_proj"), ("mlp.down_proj", "mlp.c_proj"))
)
SITES = {"llama": LLAMA_SITES, "gpt2": GPT2_SITES}


def saved(
    family: str, directory: Path, dtype: torch.dtype = torch.float32, shard: str = "5GB", **changes: Any
) -> PreTrainedModel:
    """The model as it is after saving it to `directory`."""
    model = tiny(family, **changes).to(dtype)
    model.save_pretrained(directory, max_shard_size=shard)
    return model


def candidate(strength: float = 1.2) -> AblationParameters:
    """Edits layers 1 and 2 with the full strength and leaves layer 0 alone."""
    kernel = WeightKernel(max_weight=strength, max_weight_position=2.0, min_weight=strength, min_weight_distance=1.5)
    return KernelParameters(
        direction_scope="per layer", direction_index=1.0, kernels={"attn.o_proj": kernel, "mlp.down_proj": kernel}
    )


def directions(seed: int = 1) -> Directions:
    noise = torch.randn(LAYERS + 1, WIDTH, generator=torch.Generator().manual_seed(seed))
    return Directions(torch.nn.functional.normalize(noise, dim=-1))


def site_weight(tensor: Tensor, site: Site) -> Tensor:
    """A stored tensor as the site's weight, (d_model, d_in), fp32."""
    return (tensor.mT if site.transposed else tensor).float()


def direction_of(site: Site) -> Tensor:
    """The unit direction that `candidate` takes from a site: its layer's own."""
    return directions().vectors[site.layer + 1]


def bytes_of(tensor: Tensor) -> bytes:
    return tensor.detach().contiguous().reshape(-1).view(torch.uint8).numpy().tobytes()


def logits(model: Any) -> Tensor:
    ids = torch.arange(2, 20)[None]
    with torch.no_grad():
        result: Tensor = model(input_ids=ids).logits
    return result
