"""Tiny models whose code comes with them: one leaves a mark when it runs, one has a module for each expert."""

import json
from pathlib import Path
from typing import Any

import torch

from tests.support.families import GATED, tiny

MODELING = """
from pathlib import Path

from transformers import LlamaForCausalLM

from .configuration_odd import OddConfig
from .pieces_odd import MARK

Path(MARK).touch()


class OddForCausalLM(LlamaForCausalLM):
    config_class = OddConfig
"""
CONFIGURATION = """
from transformers import LlamaConfig


class OddConfig(LlamaConfig):
    model_type = "odd"
"""


def write_custom(directory: Path) -> None:
    """Writes the model; when its code runs, `directory`/ran appears."""
    tiny("llama").save_pretrained(directory)
    add_code(directory)


def add_code(directory: Path) -> None:
    """Gives the Llama in `directory` code of its own; when the code runs, `directory`/ran appears."""
    (directory / "configuration_odd.py").write_text(CONFIGURATION)
    (directory / "modeling_odd.py").write_text(MODELING)
    (directory / "pieces_odd.py").write_text(f"MARK = {str(directory / 'ran')!r}\n")
    _name_code(directory)


def _name_code(directory: Path) -> None:
    config = json.loads((directory / "config.json").read_text())
    config |= {
        "model_type": "odd",
        "architectures": ["OddForCausalLM"],
        "auto_map": {
            "AutoConfig": "configuration_odd.OddConfig",
            "AutoModelForCausalLM": "modeling_odd.OddForCausalLM",
        },
    }
    (directory / "config.json").write_text(json.dumps(config))


EXPERTS_MODELING = """
import torch
from torch import nn
from transformers import LlamaForCausalLM
from transformers.models.llama.modeling_llama import LlamaMLP

from .configuration_odd import OddConfig


class Mixture(nn.Module):
    def __init__(self, config):
        super().__init__()
        self.experts = nn.ModuleList(LlamaMLP(config) for _ in range(4))
        self.gate = nn.Linear(config.hidden_size, 4, bias=False)

    def forward(self, hidden):
        flat = hidden.reshape(-1, hidden.shape[-1])
        weights, chosen = self.gate(flat).softmax(dim=-1).topk(2, dim=-1)
        out = torch.zeros_like(flat)
        for number, expert in enumerate(self.experts):
            rows, place = (chosen == number).nonzero(as_tuple=True)
            if len(rows):
                out[rows] += weights[rows, place, None] * expert(flat[rows])
        return out.view(hidden.shape)


class OddForCausalLM(LlamaForCausalLM):
    config_class = OddConfig

    def __init__(self, config):
        super().__init__(config)
        for layer in self.model.layers:
            layer.mlp = Mixture(config)
        self.post_init()
"""


@torch.no_grad()
def write_custom_experts(directory: Path) -> None:
    """Writes a model of which each layer has a module for each of four experts, and a router."""
    from transformers import AutoConfig, AutoModelForCausalLM, LlamaConfig

    directory.mkdir()
    (directory / "configuration_odd.py").write_text(CONFIGURATION)
    (directory / "modeling_odd.py").write_text(EXPERTS_MODELING)
    LlamaConfig(**GATED).save_pretrained(directory)
    _name_code(directory)
    config = AutoConfig.from_pretrained(directory, trust_remote_code=True)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model: Any = AutoModelForCausalLM.from_config(config, trust_remote_code=True)
        for parameter in model.parameters():
            if parameter.dim() == 2:
                parameter.normal_(std=0.2)
    code = {path: path.read_text() for path in directory.iterdir()}
    model.save_pretrained(directory)
    for path, text in code.items():
        path.write_text(text)
