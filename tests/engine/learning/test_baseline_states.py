"""Baseline states of rows, where memory runs out."""

import pytest
from torch import Tensor
from torch.testing import assert_close

from heretic.engine.learning.forward import AnswerForward
from heretic.engine.protocol import NO_MEMORY
from heretic.errors import NoMemoryError
from tests.support.families import tiny
from tests.support.learned import forward_of, loaded_of, rows, scored


def limited(forward: AnswerForward, most: int) -> None:
    """Makes forwards of more than `most` rows run out of memory."""
    forward_of_ids = forward.parts.forward.last_logits

    def last_logits(ids: Tensor, *others: object) -> Tensor:
        if len(ids) > most:
            raise RuntimeError(NO_MEMORY[0])
        return forward_of_ids(ids, *others)  # type: ignore[arg-type]

    forward.parts.forward.last_logits = last_logits  # type: ignore[method-assign]


def test_fewer_rows_share_a_forward_where_memory_runs_out() -> None:
    loaded, kept, pieces = loaded_of(tiny("llama")), rows(9), rows(5, 7)
    enough, little, none = (forward_of(loaded) for _ in range(3))
    limited(little, 4)
    limited(none, 0)
    for forward in (enough, little):
        forward.prepare(kept, pieces)
    assert_close(little.baseline_states(scored(kept), 3), enough.baseline_states(scored(kept), 3))
    with pytest.raises(NoMemoryError):
        none.prepare(kept)
