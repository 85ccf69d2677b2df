"""A batch whose tensors stay where they are: its sizes, and its rows."""

import torch

from heretic.engine.cuda_graphs.static_batch import BatchCapacity, FixedBatch, StaticBatchView
from tests.support.engines import engine_for


def test_sizes_fall_from_all_rows_to_a_sixteenth() -> None:
    need = BatchCapacity(rows=800, positions=150, tokens=100, candidates=8, rank=1)
    assert need.sizes == [800, 600, 400, 300, 200, 150, 100, 50]
    assert need.capacity == 160
    assert need.covers(BatchCapacity(100, 150, 100, 1, 1)) and not need.covers(BatchCapacity(100, 151, 100, 1, 1))
    assert BatchCapacity(1, 8, 4, 1, 1).sizes == [1]


def test_rows_of_a_batch_are_views_of_it() -> None:
    plain = engine_for("llama", 8)
    with torch.inference_mode():
        [start] = plain._prefill.batches([[5, 6, 7], [8, 9, 3]], 8, plain._work([{}], lambda _: None, 4))
        batch = FixedBatch(start, BatchCapacity(4, 8, 4, 1, 1))
        batch.load(start, torch.tensor([1, 2]))
        rows = StaticBatchView(batch, 2)
        assert rows.mask.data_ptr() == batch.mask.data_ptr()
        assert torch.equal(batch.keys[0][:2, :, :3], start.cache.layers[0].keys)
        batch.keep(torch.tensor([1]))
        assert torch.equal(batch.keys[0][0, :, :3], start.cache.layers[0].keys[1])
        assert int(rows.ids[0, 0]) == 2
