"""A journal that was edited by hand is read as it is, or refused in one paragraph."""

import copy
import json
import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from heretic.errors import StudyError, UserError
from heretic.study.history import failures, hypervolumes, seconds_by_trial
from heretic.study.pareto import pareto_front
from heretic.study.reader import RecordedStudy, has_record
from tests.support.study_toys import GOLDEN, open_study

LINES = (GOLDEN / "study-2.jsonl").read_text().splitlines()
ODD: tuple[Any, ...] = (
    None,
    True,
    -1,
    10**400,
    1e308,
    float("nan"),
    "",
    "x" * 9999,
    "§\x1b[31m",
    [],
    [[]],
    {},
    {"a": 1},
)
NESTED = ("[" * 100_000, '{"a":' * 100_000, "[" * 100_000 + "]" * 100_000)


def parts(value: Any, at: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """The path to each part of a JSON value, at any depth."""
    yield at
    for key in value if isinstance(value, dict) else range(min(2, len(value))) if isinstance(value, list) else ():
        yield from parts(value[key], (*at, key))


def edited(line: str, draw: random.Random) -> str:
    """The line with one part removed, or replaced by something odd."""
    value = json.loads(line)
    at = draw.choice(list(parts(value))[1:])
    within = copy.deepcopy(value)
    holder = within
    for key in at[:-1]:
        holder = holder[key]
    if draw.random() < 0.3:
        del holder[at[-1]]
    else:
        holder[at[-1]] = draw.choice(ODD)
    return json.dumps(within)


def damaged(draw: random.Random) -> list[str]:
    """The journal with one line edited, doubled, missing, exchanged with another, or nested too deeply."""
    lines, place = list(LINES), draw.randrange(len(LINES))
    kind = draw.choice(["edited"] * 6 + ["doubled", "missing", "exchanged", "nested"])
    if kind == "edited":
        lines[place] = edited(lines[place], draw)
    elif kind == "doubled":
        lines.insert(place, lines[place])
    elif kind == "missing":
        del lines[place]
    elif kind == "exchanged":
        other = draw.randrange(len(LINES))
        lines[place], lines[other] = lines[other], lines[place]
    else:
        lines[place] = draw.choice(NESTED)
    return lines


def read(path: Path) -> None:
    """Reads everything of a study that needs no model."""
    assert has_record(path) in (True, False)
    study = RecordedStudy(path)
    trials = study.trials
    assert (study.runs, study.count_by_state()) is not None
    pareto_front(trials, study.baseline)
    hypervolumes(trials, study.baseline)
    assert (seconds_by_trial(study), failures(study)) is not None


def resume(path: Path) -> None:
    with open_study(path) as study:
        assert (study.record, study.trials, study.n_finished(), study.n_waiting()) is not None
        study.take_back_running()
        study.ask(2)


@pytest.mark.parametrize("seed", range(40))
def test_no_edit_of_a_journal_is_a_traceback(seed: int, tmp_path: Path) -> None:
    path = tmp_path / "m.jsonl"
    content = "\n".join(damaged(random.Random(seed))) + "\n"
    for use in (read, resume):
        path.write_text(content)
        try:
            use(path)
        except UserError as error:
            assert "\n" not in str(error)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ('"last_layer": 11', '"last_layer": 1000000000000'),
        ('"last_layer": 11', '"last": 11'),
        ('"scale": 80.0', '"scale": 0'),
        ('"value": 80', '"value": 1e999'),
        ('"heretic": {"version": 2', '"heretic": {"version": 7'),
    ],
)
def test_numbers_that_nobody_measured_are_refused(old: str, new: str, tmp_path: Path) -> None:
    text = "\n".join(LINES) + "\n"
    assert old in text
    (tmp_path / "m.jsonl").write_text(text.replace(old, new))
    with pytest.raises(StudyError, match="estore the file"):
        RecordedStudy(tmp_path / "m.jsonl")
