"""Models with templates in the shapes of families, through search, export, chat, evaluation and benchmark."""

from pathlib import Path

import pytest

pytest.importorskip("lm_eval")

from tests.support.chat_templates import SHAPES
from tests.support.shaped_models import whole_job


# Parts with a folded system prompt, and a date with a switch; `tools/template_shapes.py` runs all.
@pytest.mark.parametrize("name", ["LLaVA-NeXT", "SmolLM3, dated"])
def test_every_stage_reads_what_the_shape_states(name: str, tmp_path: Path) -> None:
    assert whole_job(tmp_path, SHAPES[name]) == []
