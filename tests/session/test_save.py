"""Formats that can write a model's trials, before a search."""

from dataclasses import replace
from pathlib import Path

from heretic.ablation.sites import Site
from heretic.session.save import formats_for, warn_of_unwritable
from tests.support.inline_actors import planted_session
from tests.support.recorders import Recorder

KEY = "model.layers.0.self_attn.o_proj.weight"


def test_a_model_that_no_format_can_write_is_named_before_the_search(planted_directory: Path) -> None:
    reporter = Recorder()
    session = replace(planted_session(planted_directory), reporter=reporter)
    site = Site(0, "attn.o_proj", "model.layers.0.self_attn.o_proj", KEY)
    warn_of_unwritable(session, [site])
    assert reporter.warnings == []
    elsewhere = replace(site, key="model.layers.0.text.o_proj.weight")
    assert formats_for(session.checkpoint, [elsewhere], "pre") == []
    warn_of_unwritable(session, [elsewhere])
    [warning] = reporter.warnings
    assert warning.startswith("No trial of this model can be saved")
    assert "holds no weight model.layers.0.text.o_proj" in warning
