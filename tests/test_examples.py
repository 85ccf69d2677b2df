"""The examples load without a warning, hold all that a run needs, and keep their parts apart."""

from pathlib import Path

import pytest

from heretic.config import load_settings
from heretic.prompts.partition import SIMILAR, similarities
from heretic.session.prompts import load_heldout_prompts, load_run_prompts

EXAMPLES = sorted((Path(__file__).parents[1] / "examples").glob("*.toml"))


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_an_example_needs_nothing_but_its_file(path: Path) -> None:
    settings, warnings = load_settings({}, path)
    assert warnings == []
    prompts = load_run_prompts(settings, settings.over_refusal_objective)
    part = load_heldout_prompts(settings, settings, settings.is_about_refusals, prompts)
    assert part is not None
    assert part.over_refusal is None  # it is not about refusing
    sets = {**prompts.sets(), **part.sets()}
    for side in ("good", "bad"):
        own = [(name, prompt.text) for name, each in sets.items() if name.startswith(side) for prompt in each]
        alike = similarities([text for _, text in own])
        for i, (one, _) in enumerate(own):
            for j, (other, _) in enumerate(own):
                assert one == other or alike[i, j] <= SIMILAR, (own[i], own[j])


def test_there_are_examples() -> None:
    assert EXAMPLES
