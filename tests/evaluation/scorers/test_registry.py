"""Only a scorer's own module names its fields."""

import ast
from pathlib import Path

import pytest

from heretic.config import Settings
from heretic.evaluation.scorers.base import BaselineMeasurement
from heretic.evaluation.scorers.registry import SCORERS, build_scorers, objective_names
from heretic.study.schema import BaselineRecord
from tests.support.engines import PROMPTS

SOURCE = Path(__file__).parents[3] / "src" / "heretic"
NAMES = {scorer.name for scorer in SCORERS} | {"over_prompts", "refusal_tokens"}
ALLOWED = {
    # Readers of records of version 1, which had the metrics as fields.
    "study/version1.py",
    "evaluation/heldout/version1.py",
    # The refusals that learning makes unlikely are texts, not the metric of that name.
    "engine/learning/path.py",
    "engine/learning/step.py",
    "engine/learning/targets.py",
    "session/learning.py",
}


def named(path: Path) -> set[str]:
    """The names of metrics that a file uses as attributes, keywords, fields or whole strings."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        match node:
            case ast.Attribute(attr=name) | ast.keyword(arg=str(name)) | ast.Constant(value=str(name)):
                found.add(name)
            case ast.AnnAssign(target=ast.Name(id=name)):
                found.add(name)
    return found & NAMES


def test_no_other_module_names_a_metric() -> None:
    room = SOURCE / "evaluation" / "scorers"
    others = [path for path in SOURCE.rglob("*.py") if not path.is_relative_to(room)]
    naming = {str(path.relative_to(SOURCE)): names for path in others if (names := named(path))}
    assert set(naming) == ALLOWED, naming


@pytest.mark.parametrize("objective", ["markers", "log-odds", "both"])
def test_metrics_of_version_1_are_described_as_their_scorers_describe_them(objective: str) -> None:
    sets = {"good_evaluation_prompts": PROMPTS[:4], "bad_evaluation_prompts": PROMPTS[:6]}
    sets["over_refusal_evaluation_prompts"] = PROMPTS[:3]
    scorers = build_scorers(Settings.model_validate({"objective": objective}), sets)
    assert objective_names(scorers) == ["KL score", "refusals score", "over-refusals score"]
    recorded = BaselineRecord.model_validate({"refusals": 5, "prompts": 6, "over_refusals": 2, "over_prompts": 3})
    measured = {"refusals": 5, "kl_divergence": 0.0, "over_refusals": 2}
    for scorer in scorers:
        assert scorer.describe(BaselineMeasurement(measured[scorer.name])) == recorded.metrics[scorer.name]
