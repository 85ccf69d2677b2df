"""Gradients accumulated over groups of rows equal those of a single batch, also after running out of memory."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn.functional import softplus
from torch.testing import assert_close

from heretic.ablation.edit import SiteEdit
from heretic.engine.learning.path import LearningSettings, PathLearner
from heretic.engine.learning.step import GroupLoss, Part, StepRunner, add_group, groups_of, parts_of
from heretic.engine.learning.targets import Targets
from heretic.engine.protocol import NO_MEMORY
from heretic.errors import ModelError
from tests.support.families import tiny
from tests.support.learned import forward_of, layout_for, loaded_of, random_tensors, rows, scored

SETTINGS = LearningSettings(
    lambdas=(3.0,), first_steps=4, good_rows=4, bad_rows=3, refusal_rows=3, scored=3, answer_tokens=5, margin=12.0,
    later=0.7, bad=0.4, loops=0.6, loop_rows=2, loop_margin=9.0,
)  # fmt: skip
LOOPS = tuple(scored(rows(4, 6), (0, 1, 2)))
TARGETS = Targets(tuple(rows(8)), tuple(rows(4, 7)), tuple(scored(rows(6, 5), (1, 2, 3))), loops=LOOPS)
MEMORY = NO_MEMORY[0]


def runner_and_path(most: int | None = None, settings: LearningSettings = SETTINGS) -> tuple[StepRunner, PathLearner]:
    loaded = loaded_of(tiny("llama"))
    layout = layout_for(loaded)
    start = random_tensors(layout, loaded.d_model)
    path = PathLearner(layout, start, TARGETS, settings, torch.Generator().manual_seed(4), loaded.device)
    forward = forward_of(loaded)
    forward.prepare(TARGETS.answers, TARGETS.pieces)
    return StepRunner(forward, most), path


def gradients(most: int | None) -> tuple[list[Tensor], Any]:
    runner, path = runner_and_path(most)
    path.step = lambda: None  # type: ignore[method-assign]
    runner.take([path])
    return [each.grad for each in path.tensors.values() if each.grad is not None], path.losses[-1]


def naive() -> tuple[Tensor, list[float]]:
    """The formula of the loss, over all rows at once, and its terms."""
    runner, path = runner_and_path()
    good, bad, refusals, loops = path.batch()
    with torch.no_grad(), runner.forward.edited([path.edit()]) as edited:
        found, gone, _ = edited([*good, *bad], [*refusals, *loops], torch.zeros(12, dtype=torch.long))
    good_term = found[:4, 0].mean() + 0.7 * found[:4, 1:].mean()
    whole = gone.sum(1)
    unlikely = softplus(whole[:3] + 12.0).mean(), softplus(whole[3:] + 9.0).mean()
    terms = [float(each) for each in (good_term, found[4:].mean(), *unlikely)]
    return torch.tensor(terms) @ torch.tensor([1.0, 0.4, 3.0, 0.6]), terms


def test_the_loss_is_that_of_the_formula() -> None:
    _, losses = gradients(None)
    total, terms = naive()
    found = torch.tensor([losses.total, losses.good, losses.bad, losses.refusals, losses.loops])
    assert_close(found, torch.tensor([total, *terms]))
    assert min(terms) > 1e-3


@pytest.mark.parametrize("most", [1, 30, 50])
def test_groups_have_the_gradient_of_all_rows(most: int) -> None:
    whole, losses = gradients(None)
    grouped, same_losses = gradients(most)
    assert len(whole) == 2
    assert_close(grouped, whole, atol=1e-5, rtol=1e-4)
    assert same_losses.total == pytest.approx(losses.total, rel=1e-4)


def test_gradients_are_added_on_the_device_of_the_edits() -> None:
    """Those of an actor come from its device by way of the CPU. "meta" stands for another device here."""
    leaves = [{"site": SiteEdit(torch.zeros(3, 1, device="meta"), torch.zeros(3, 1, device="meta"))}]
    loss = GroupLoss(torch.tensor(1.0), torch.zeros(0), torch.zeros(0, dtype=torch.long))
    for _ in range(2):
        assert add_group(leaves, torch.zeros(1, 4), loss, [{"site": (torch.ones(3, 1), None)}])
    left, right = leaves[0]["site"].left, leaves[0]["site"].right
    assert left.grad is not None and (left.grad.device.type, left.grad.shape) == ("meta", (3, 1))
    assert right.grad is None


def test_rows_of_like_length_are_run_together() -> None:
    _, path = runner_and_path()
    parts = parts_of(path, 0)
    groups = list(groups_of(parts, 50))
    assert sorted(map(id, parts)) == sorted(id(part) for group in groups for part in group)
    assert all(len(group) * max(map(len, group)) <= 50 for group in groups)
    lengths = [len(part) for group in groups for part in group]
    assert lengths == sorted(lengths, reverse=True)
    assert list(map(len, groups_of(parts, None))) == [12]


def test_two_groups_at_least_and_of_like_size() -> None:
    """One would leave the second process idle."""
    _, path = runner_and_path()
    parts = parts_of(path, 0)
    groups = list(groups_of(parts, 10_000))
    assert len(groups) == 2
    sizes = [len(group) * max(map(len, group)) for group in groups]
    assert max(sizes) <= min(sizes) + 2 * max(map(len, parts))


def failing(runner: StepRunner, most: int) -> list[int]:
    """Makes groups of more than `most` rows run out of memory; returns the list of all groups' sizes."""
    sizes: list[int] = []
    states = runner.forward.states

    def limited(batch: Any, rows: Sequence[Any], *others: Any) -> Tensor:
        sizes.append(len(rows))
        if len(rows) > most:
            raise RuntimeError(MEMORY)
        return states(batch, rows, *others)

    runner.forward.states = limited  # type: ignore[method-assign]
    return sizes


def test_out_of_memory_halves_the_groups() -> None:
    """The step equals that of a run with enough memory, and later steps begin with small groups."""
    runner, path = runner_and_path()
    _, other = runner_and_path()
    enough, _ = runner_and_path()
    sizes = failing(runner, 3)
    runner.take([path])
    enough.take([other])
    assert_close(path.tensors["directions"], other.tensors["directions"], atol=1e-4, rtol=1e-3)
    assert len(path.losses) == 1
    assert sizes[0] == 12
    del sizes[:]
    runner.take([path])
    assert max(sizes) <= 3


def test_not_even_one_row_fits() -> None:
    runner, path = runner_and_path()
    failing(runner, 0)
    with pytest.raises(ModelError, match="row by row"):
        runner.take([path])


def test_other_errors_are_left_alone() -> None:
    runner, path = runner_and_path()

    def broken(*_: Any) -> Tensor:
        raise RuntimeError("a bug")

    runner.forward.states = broken  # type: ignore[method-assign]
    with pytest.raises(RuntimeError, match="a bug"):
        runner.take([path])


def test_a_loss_that_is_not_finite_moves_nothing() -> None:
    runner, path = runner_and_path(settings=replace(SETTINGS, lambdas=(float("inf"),)))
    before = path.tensors["strengths"].clone()
    runner.take([path])
    assert path.at_point
    assert torch.equal(path.tensors["strengths"], before)


def test_a_part_is_as_long_as_what_is_run() -> None:
    [row] = scored(rows(1), (0, 2))
    assert len(Part(0, "good", row, (0.5, 0.5))) == len(row.row.prompt) + 2
