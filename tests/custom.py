"""A tiny model whose code comes with it, and leaves a mark when it runs."""

import json
from pathlib import Path

from families import tiny

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
    (directory / "configuration_odd.py").write_text(CONFIGURATION)
    (directory / "modeling_odd.py").write_text(MODELING)
    (directory / "pieces_odd.py").write_text(f"MARK = {str(directory / 'ran')!r}\n")
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
