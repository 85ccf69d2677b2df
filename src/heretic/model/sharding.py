"""One model over several processes, by transformers' tensor parallelism.

Each process of torch's process group is a rank, and holds a part of each large matrix. All ranks run the same forwards:
transformers adds up the ranks' products of attention and MLP outputs inside those modules' forwards, before any hook
sees them, so hooks and edits see what one process would. A decision that depends on a clock or on free memory must be
the same on all ranks: see `agreed`.
"""

import os
from pathlib import Path
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor

from .accelerator import accelerator

Value = TypeVar("Value")

PLAIN_STYLES = {"colwise", "rowwise", "colwise_gather_output", "embedding_rowwise", "replicated_with_grad_allreduce"}
"""Styles of a plan under which every linear module's input or output is whole. Others split the matrices of experts,
whose edits need each expert's own output."""
BACKENDS = {"cuda": "nccl", "xpu": "xccl"}


def join_ranks(rank: int, count: int, meeting: Path) -> None:
    """Makes this process one of `count` that hold a model together; they find each other by the file at `meeting`."""
    kind = accelerator()
    # transformers reads the number of its device there.
    os.environ["LOCAL_RANK"] = str(rank)
    if kind in BACKENDS:
        torch.accelerator.set_device_index(rank)
    dist.init_process_group(BACKENDS.get(kind or "", "gloo"), init_method=meeting.as_uri(), rank=rank, world_size=count)


def leave_ranks() -> None:
    if dist.is_initialized():
        dist.destroy_process_group()


def ranks() -> int:
    """The number of processes that hold the model together; 1 for a model in one process."""
    return dist.get_world_size() if dist.is_available() and dist.is_initialized() else 1


def agreed(value: Value) -> Value:
    """The first rank's value, on all ranks."""
    if ranks() == 1:
        return value
    sent = [value]
    dist.broadcast_object_list(sent, src=0)
    return sent[0]


def whole(tensor: Tensor) -> Tensor:
    """A tensor with all its parts; all ranks must ask for it."""
    if ranks() == 1:
        return tensor
    from torch.distributed.tensor import DTensor

    return tensor.full_tensor() if isinstance(tensor, DTensor) else tensor


def can_be_sharded(config: Any, count: int) -> bool:
    """Whether transformers has a plan for models of this (text) configuration that splits them over `count` ranks and
    leaves the output of each linear module whole."""
    plan = getattr(config, "base_model_tp_plan", None) or {}
    heads = (getattr(config, name, None) for name in ("num_attention_heads", "num_key_value_heads"))
    return (
        "rowwise" in plan.values()
        and set(plan.values()) <= PLAIN_STYLES
        and all(isinstance(each, int) and each % count == 0 for each in heads)
        and getattr(config, "quantization_config", None) is None
    )


def sharding_arguments(count: int) -> dict[str, Any]:
    """Arguments of `from_pretrained` for a model over all ranks."""
    from transformers.distributed.configuration_utils import DistributedConfig

    return {"distributed_config": DistributedConfig(tp_size=count)}
