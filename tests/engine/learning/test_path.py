"""A path is repeatable by its seed, continues after a kill, and drops points that can't be used."""

import math
from collections.abc import Callable, Sequence
from dataclasses import replace

import pytest
import torch
from safetensors.torch import load, save
from torch import Tensor

from heretic.ablation.edit import ModelEdit
from heretic.engine.learning.forward import AnswerForward
from heretic.engine.learning.path import LearnedPoint, LearningSettings, Losses, PathLearner
from heretic.engine.learning.rows import ScoredRow
from heretic.engine.learning.step import StepRunner
from heretic.engine.learning.targets import Targets, as_tensors, from_tensors
from heretic.engine.learning.walk import learn_paths
from tests.support.families import tiny
from tests.support.learned import forward_of, layout_for, loaded_of, random_tensors, rows, scored

SETTINGS = LearningSettings(
    lambdas=(3.0, 1.0, 0.3), first_steps=4, steps=3, good_rows=4, bad_rows=2, refusal_rows=3, scored=3, answer_tokens=5
)
TARGETS = Targets(tuple(rows(8)), tuple(rows(4, 7)), tuple(scored(rows(6, 5), (1, 2, 3))))


def refresh(numbers: Sequence[int], edits: Sequence[ModelEdit]) -> list[Targets]:
    """Rows that depend on the point's edit."""
    seeds = [int(1e4 * float(next(iter(edit.values())).left.abs().sum())) for edit in edits]
    return [Targets((), tuple(rows(2, seed)), tuple(scored(rows(2, seed + 1), (0, 1, 2)))) for seed in seeds]


def new_path(settings: LearningSettings = SETTINGS) -> tuple[PathLearner, AnswerForward]:
    loaded = loaded_of(tiny("llama"))
    layout = layout_for(loaded)
    start = random_tensors(layout, loaded.d_model)
    draw = torch.Generator().manual_seed(4)
    return PathLearner(layout, start, TARGETS, settings, draw, loaded.device), forward_of(loaded)


def whole(settings: LearningSettings = SETTINGS, state: dict[str, Tensor] | None = None) -> list[LearnedPoint]:
    learner, forward = new_path(settings)
    if state is not None:
        learner.load(state)
    return [point for _, point in learn_paths(StepRunner(forward), [learner], refresh)]


def same(first: LearnedPoint, second: LearnedPoint) -> bool:
    pairs = zip(first.tensors.values(), second.tensors.values(), strict=True)
    return all(torch.equal(*pair) for pair in pairs) and first.losses == second.losses


def test_the_same_seed_gives_the_same_path() -> None:
    first, second = whole(), whole()
    assert [point.lam for point in first] == [3.0, 1.0, 0.3]
    assert all(same(*pair) for pair in zip(first, second, strict=True))
    assert not torch.equal(first[0].tensors["directions"], first[1].tensors["directions"])


@pytest.mark.parametrize(("done", "averaged"), [(1, 3), (2, 3), (2, 1)])
def test_a_path_goes_on_after_a_kill(done: int, averaged: int) -> None:
    """A path restored from a file of its state learns the points that would have followed."""
    settings = replace(SETTINGS, averaged=averaged)
    uninterrupted = whole(settings)
    learner, forward = new_path(settings)
    points = learn_paths(StepRunner(forward), [learner], refresh)
    before = [next(points)[1] for _ in range(done)]
    kept = load(save(learner.state()))
    assert all(same(*pair) for pair in zip(before + whole(settings, kept), uninterrupted, strict=True))


def test_a_point_has_the_mean_of_its_steps_but_the_first_has_its_last() -> None:
    for averaged, counted in ((0, 1), (1, SETTINGS.steps)):
        learner, forward = new_path(replace(SETTINGS, averaged=averaged))
        seen: list[Tensor] = []
        runner = StepRunner(forward)
        runner.after_step = lambda own=learner, into=seen: into.append(own.tensors["strengths"].detach().clone())
        first, second, *_ = [point for _, point in learn_paths(runner, [learner])]
        until = SETTINGS.first_steps
        assert torch.equal(first.tensors["strengths"], seen[until - 1])
        last = torch.stack(seen[: until + SETTINGS.steps][-counted:])
        assert torch.allclose(second.tensors["strengths"], last.mean(0))


def test_adam_forgets_the_first_point() -> None:
    """Its gradients are those of a far larger weight, after which later steps would be tiny."""
    learner, forward = new_path()
    points = learn_paths(StepRunner(forward), [learner])
    for taken in (0, SETTINGS.steps):
        next(points)
        state = learner.state()
        assert int(state["taken"]) == taken
        assert bool(state["second.strengths"].any()) == (taken > 0)


def asked(shares: Sequence[float | None]) -> Callable[..., list[Targets]]:
    """A refresh whose responses show the behaviour in these shares, one after the other."""
    left = list(shares)
    return lambda numbers, edits: [replace(each, shown=left.pop(0)) for each in refresh(numbers, edits)]


def test_the_weight_of_refusals_follows_the_responses() -> None:
    """Fewer refusals lower it further, many raise it; a point on the way has the planned one."""
    settings = replace(SETTINGS, lambdas=(9.0, 4.0, 2.0, 1.0, 0.5), first_steps=1, steps=1, warm_up=2)
    learner, forward = new_path(settings)
    points = learn_paths(StepRunner(forward), [learner], asked([0.9, 0.9, 0.0, 0.03]))
    weights = [point.lam for _, point in points]
    assert weights == pytest.approx([9.0, 4.0, 4.0 * 1.8, 4.0 * 1.8 * 0.42, 4.0 * 1.8 * 0.42 * 0.65])
    assert [settings.lambda_of(3, 2.0, share) for share in (None, 0.05)] == [1.0, 2.0]
    assert replace(settings, factors=()).lambda_of(3, 2.0, 0.5) == 1.0


def test_a_path_goes_on_with_its_weight() -> None:
    """Also where the point that follows is dropped: the targets of the last responses stay."""
    settings = replace(SETTINGS, lambdas=(9.0, 4.0, 2.0), first_steps=1, steps=1, warm_up=1)
    learner, forward = new_path(settings)
    next(learn_paths(StepRunner(forward), [learner], asked([0.9])))
    again, _ = new_path(settings)
    again.load(load(save(learner.state())))
    assert again.lam == learner.lam == 9.0 * 1.8
    before = learner.targets
    learner.losses = [Losses(math.inf, 0.0, 0.0, 0.0)]
    assert learner.finish().dropped == "the loss is not finite"
    assert learner.targets == replace(before, shown=None)


def test_learning_lowers_the_loss() -> None:
    settings = replace(SETTINGS, lambdas=(1.0,), first_steps=30, good_rows=8, refusal_rows=6, bad_rows=4)
    [point] = whole(settings)
    totals = [each.total for each in point.losses]
    assert sum(totals[-5:]) < 0.7 * sum(totals[:5])
    assert torch.allclose(point.tensors["directions"].norm(dim=1), torch.ones(()))


def test_a_point_that_diverges_is_dropped_and_the_path_goes_on() -> None:
    learner, forward = new_path(replace(SETTINGS, lambdas=(1.0, 1.0), first_steps=8, steps=3))
    taken = learn_paths(StepRunner(forward), [learner])
    with torch.no_grad():
        learner.tensors["strengths"].fill_(math.nan)
    _, point = next(taken)
    assert point.dropped == "a learned tensor is not finite"
    assert len(point.losses) == 1, "nothing is gained by going on"
    assert all(torch.isfinite(each).all() for each in point.tensors.values())
    _, later = next(taken)
    assert later.dropped is None


def test_a_rising_loss_is_named() -> None:
    learner, _ = new_path()
    rising = [Losses(0.1 * 2**n, 0.0, 0.0, 0.0) for n in range(8)]
    learner.losses = rising
    assert "diverges" in (learner.finish().dropped or "")


def test_targets_survive_a_file() -> None:
    loops = tuple(scored(rows(2, 3), (1, 2)))
    more = TARGETS.with_more(Targets((), tuple(rows(2, 9)), tuple(scored(rows(2, 8), (3, 4))), loops=loops))
    again = from_tensors(as_tensors(more))
    assert again.good == more.good
    assert again.bad == more.bad
    assert [each.tokens for each in again.remaining] == [each.tokens for each in more.remaining]
    assert [each.tokens for each in again.loops] == [each.tokens for each in more.loops]


def test_paths_side_by_side_are_each_what_it_is_alone() -> None:
    first, forward = new_path()
    second, _ = new_path(replace(SETTINGS, margin=2.0))
    together: dict[int, list[LearnedPoint]] = {0: [], 1: []}
    for number, point in learn_paths(StepRunner(forward), [first, second]):
        together[number].append(point)
    alone, other = new_path()
    [point, *_] = [point for _, point in learn_paths(StepRunner(other), [alone])]
    assert torch.allclose(point.tensors["directions"], together[0][0].tensors["directions"], atol=1e-3)
    assert not torch.allclose(point.tensors["strengths"], together[1][0].tensors["strengths"], atol=1e-3)


def test_answers_to_declined_prompts_are_scored_behind_their_beginning() -> None:
    """There the baseline wants to decline, which the loss must not keep."""
    declined = scored(rows(3, 5), (1, 2, 3))
    answers = [each.row for each in declined] + rows(2, 9)
    path, _ = new_path(replace(SETTINGS, bad_rows=5, skipped=2))
    path.targets = Targets(path.targets.good, tuple(answers), tuple(declined))
    _, bad, *_ = path.batch()
    first = {each.row: each.places[0] for each in bad}
    assert [first[row] >= 2 for row in answers] == [True, True, True, False, False]
    assert ScoredRow(answers[0], (0, 1)).behind(4).places == (1,)
