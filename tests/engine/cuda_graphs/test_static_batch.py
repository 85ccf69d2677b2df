"""A batch at fixed addresses: its sizes, and its rows."""

import torch

from heretic.engine.cuda_graphs.static_batch import BatchCapacity, StaticBatch, StaticBatchView
from tests.support.engines import engine_for


def test_a_few_sizes_from_all_rows_to_an_eighth() -> None:
    capacity = BatchCapacity(rows=800, positions=150, candidates=8, rank=1)
    assert capacity.graph_sizes == [800, 600, 400, 200, 100]
    assert capacity.padded_positions == 160
    assert capacity.covers(BatchCapacity(100, 150, 1, 1)) and not capacity.covers(BatchCapacity(100, 151, 1, 1))
    assert BatchCapacity(1, 8, 1, 1).graph_sizes == [1]


def test_rows_of_a_batch_are_views_of_it() -> None:
    plain = engine_for("llama", 8)
    with torch.inference_mode():
        [start] = plain.prefill.batches([[5, 6, 7], [8, 9, 3]], 8, plain.plan([{}], lambda _: None, 4))
        batch = StaticBatch(start, BatchCapacity(6, 8, 1, 1))
        batch.load(start, torch.tensor([1, 2]), [4, 1], in_place=False)
        rows = StaticBatchView(batch, 2)
        assert rows.mask.data_ptr() == batch.mask.data_ptr()
        keys = start.cache.layers[0].keys
        assert torch.equal(batch.keys[0][[4, 1], :, :3], keys)
        assert batch.positions.tolist() == [0, 3, 0, 0, 3, 0]
        batch.compact([1, 4])
        assert torch.equal(batch.keys[0][:2, :, :3], keys.flip(0))
        assert rows.ids[:, 0].tolist() == [2, 1]


def test_a_prefill_writes_to_the_rows_that_are_decoded() -> None:
    plain = engine_for("llama", 8)
    prompts, plan = [[5, 6, 7], [8, 9, 3]], plain.plan([{}], lambda _: None, 4)
    with torch.inference_mode():
        [start] = plain.prefill.batches(prompts, 8, plan)
        batch = StaticBatch(start, BatchCapacity(6, 8, 1, 1))
        for each in (*batch.keys, *batch.values):
            each.fill_(float("nan"))
        [again] = plain.prefill.slices(prompts, [0, 1], plan, row_cache=lambda count: batch.cache_over(3, count))
        batch.load(again, torch.tensor([1, 2]), [3, 4], in_place=True)
    assert again.cache.layers[0].keys.data_ptr() == batch.keys[0][3].data_ptr()
    for keys, layer in zip(batch.keys, start.cache.layers, strict=True):
        assert torch.equal(keys[3:5, :, :3], layer.keys)
        # What earlier rows left is gone from these rows and from no others.
        assert keys[3:5].isfinite().all() and keys[5].isnan().all()
