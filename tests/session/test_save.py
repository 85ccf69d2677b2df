"""Formats that can write a model's trials, before a search; the comparison of a written model with its trial."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from heretic.ablation.sites import FusedExpertsSite, Site
from heretic.config.changes import changed
from heretic.errors import ExportError
from heretic.evaluation.evaluator import Evaluation
from heretic.evaluation.scorers.base import Measurement
from heretic.export.formats.adapter import Adapter
from heretic.export.formats.base import Tolerance
from heretic.session import save
from heretic.session.save import check_sites, compare, formats_for, warn_of_unwritable
from tests.support.inline_actors import planted_session
from tests.support.recorders import Recorder
from tests.support.study_toys import BASELINE, trial

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


def test_the_layout_of_a_model_that_is_dequantised_is_checked_before_the_search(
    planted_directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    session = planted_session(planted_directory)
    session = replace(session, settings=changed(session.settings, {"row_normalization": "full"}))
    # Its files hold codes, and its original is not given.
    monkeypatch.setattr(save, "full_precision_of", lambda *_: None)
    site = FusedExpertsSite(0, "mlp.experts.down_proj", "model.layers.0.mlp.experts", KEY, n_experts=4, block="")
    with pytest.raises(ExportError, match="an adapter can't rescale"):
        check_sites(session, Adapter(), [site])


EXACT = Tolerance(0.02, 0.01, 0.0, "in float32")


@pytest.mark.parametrize(
    ("pruned", "refusals", "kl_divergence", "equal"),
    [
        (False, 12, 0.105, True),
        (False, 13, 0.1, False),
        (False, 7, 0.1, False),
        # Of a pruned trial, 10 is a lower bound.
        (True, 40, 0.1, True),
        (True, 8, 0.1, True),
        (True, 7, 0.1, False),
        (True, 40, 0.2, False),
    ],
)
def test_a_written_model_has_the_metrics_of_its_trial(
    pruned: bool, refusals: int, kl_divergence: float, equal: bool
) -> None:
    rows: list[Any] = []
    reporter = Recorder()
    reporter.table = lambda title, columns, shown: rows.extend(shown)  # type: ignore[method-assign]
    written = Evaluation({"refusals": Measurement(refusals), "kl_divergence": Measurement(kl_divergence)})
    searched = trial(5, 10, 0.1, pruned=pruned)
    if equal:
        compare(searched, written, BASELINE, EXACT, reporter)
    else:
        with pytest.raises(ExportError, match="Expected the metrics of the written model"):
            compare(searched, written, BASELINE, EXACT, reporter)
    assert rows[0][1] == (">=10/100" if pruned else "10/100")
