"""The reader of a difference changes good outputs least of all that read it as 1, at any shrink."""

import pytest
import torch
from torch import Tensor
from torch.testing import assert_close

from heretic.ablation.methods.oblique.readers import NODES, SiteReaders, fit_readers

WIDTH = 24


def outputs(count: int, seed: int = 0) -> Tensor:
    """Vectors that a site might write: features of very different sizes, turned, with a mean; fp64."""
    generator = torch.Generator().manual_seed(seed)
    turn = torch.linalg.qr(torch.randn(WIDTH, WIDTH, generator=generator, dtype=torch.float64))[0]
    sizes = torch.logspace(-2, 1, WIDTH, dtype=torch.float64)
    return torch.randn(count, WIDTH, generator=generator, dtype=torch.float64) * sizes @ turn + 0.3


def differences(seed: int = 1) -> Tensor:
    return torch.randn(2, WIDTH, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def shrunk(written: Tensor, shrink: float) -> Tensor:
    moment = written.mT @ written / len(written)
    return moment + shrink * moment.diagonal().mean() * torch.eye(WIDTH, dtype=torch.float64)


def fitted(written: Tensor) -> SiteReaders:
    return fit_readers(written, len(written), differences())


@pytest.mark.parametrize("count", [10, 400])
@pytest.mark.parametrize("shrink", [0.01, 0.05, 0.3, 1.7, 10.0])
@pytest.mark.parametrize("share", [0.0, 0.4, 1.0])
def test_it_is_the_least_change_of_all_that_read_the_difference_as_one(count: int, shrink: float, share: float) -> None:
    """With fewer vectors than features as with more; at nodes and between them."""
    written = outputs(count)
    readers = fitted(written)
    reader, d = readers.reader(shrink, share).double(), readers.difference(share).double()
    assert_close(reader @ d, torch.ones((), dtype=torch.float64), atol=1e-5, rtol=0)
    moment = shrunk(written, shrink)
    exact = torch.linalg.solve(moment, d)
    least = 1 / (d @ exact)
    change = reader @ moment @ reader / (reader @ d) ** 2
    assert change == pytest.approx(float(least), rel=1e-4 if shrink in NODES else 1e-3)
    others = torch.randn(200, WIDTH, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    others = others + ((1 - others @ d) / (d @ d))[:, None] * d
    assert ((others @ moment) * others).sum(-1).min() >= change * (1 - 1e-6)


def test_good_outputs_change_less_than_by_the_orthogonal_edit() -> None:
    written = outputs(400)
    readers = fitted(written)
    d = readers.difference(0.5).double()
    oblique = (written @ readers.reader(0.01, 0.5).double()).square().mean()
    orthogonal = (written @ (d / (d @ d))).square().mean()
    assert oblique < orthogonal / 10


def test_a_large_shrink_gives_the_orthogonal_edit() -> None:
    readers = fitted(outputs(400))
    d = readers.difference(0.3)
    limit = readers.reader(1e6, 0.3)
    # In the span of the nodes' solutions, of which the largest is nearly d itself.
    assert torch.nn.functional.cosine_similarity(limit, d, dim=0) > 0.99


def test_what_is_kept_is_small_and_read_back_as_it_was() -> None:
    readers = fitted(outputs(400))
    kept = {f"m.{name}": tensor for name, tensor in readers.tensors().items()}
    assert sum(tensor.numel() for tensor in kept.values()) <= (2 * len(NODES) + 3) * WIDTH
    again = SiteReaders.from_tensors(kept, "m")
    assert torch.equal(again.reader(0.2, 0.5), readers.reader(0.2, 0.5))


def test_without_a_difference_nothing_is_read() -> None:
    readers = fit_readers(outputs(50), 50, torch.zeros(2, WIDTH, dtype=torch.float64))
    assert torch.equal(readers.reader(0.1, 0.5), torch.zeros(WIDTH))


def test_a_site_that_writes_nothing_is_read_as_nothing() -> None:
    readers = fit_readers(torch.zeros(50, WIDTH), 50, differences())
    assert torch.isfinite(readers.reader(0.1, 0.5)).all()
