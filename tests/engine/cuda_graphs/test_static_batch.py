"""A batch at fixed addresses: its sizes, and its rows."""

import torch

from heretic.engine.cuda_graphs.static_batch import BatchCapacity, StaticBatch, StaticBatchView
from tests.support.engines import engine_for


def test_sizes_fall_from_all_rows_to_a_sixteenth() -> None:
    capacity = BatchCapacity(rows=800, positions=150, tokens=100, candidates=8, rank=1)
    assert capacity.graph_sizes == [800, 600, 400, 300, 200, 150, 100, 50]
    assert capacity.padded_positions == 160
    assert capacity.covers(BatchCapacity(100, 150, 100, 1, 1)) and not capacity.covers(
        BatchCapacity(100, 151, 100, 1, 1)
    )
    assert BatchCapacity(1, 8, 4, 1, 1).graph_sizes == [1]


def test_rows_of_a_batch_are_views_of_it() -> None:
    plain = engine_for("llama", 8)
    with torch.inference_mode():
        [start] = plain.prefill.batches([[5, 6, 7], [8, 9, 3]], 8, plain.plan([{}], lambda _: None, 4))
        batch = StaticBatch(start, BatchCapacity(4, 8, 4, 1, 1))
        batch.load(start, torch.tensor([1, 2]))
        rows = StaticBatchView(batch, 2)
        assert rows.mask.data_ptr() == batch.mask.data_ptr()
        assert torch.equal(batch.keys[0][:2, :, :3], start.cache.layers[0].keys)
        batch.compact(torch.tensor([1]))
        assert torch.equal(batch.keys[0][0, :, :3], start.cache.layers[0].keys[1])
        assert int(rows.ids[0, 0]) == 2
