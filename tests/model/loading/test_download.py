"""Downloads from the hub as a step that counts megabytes."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from heretic.model.loading import download
from heretic.model.loading.download import bytes_in, cache_of, shown_download
from heretic.model.loading.size import ModelSize


class Steps:
    """A reporter of steps alone: titles, totals, and the units done."""

    def __init__(self) -> None:
        self.seen: list[tuple[str, int | None]] = []
        self.done = 0

    @contextmanager
    def step(self, title: str, total: int | None = None) -> Iterator[Callable[[int], None]]:
        self.seen.append((title, total))
        yield self._advance

    def _advance(self, count: int) -> None:
        self.done += count


def test_megabytes_that_arrive_in_the_cache_are_counted(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr("heretic.model.loading.size.model_size", lambda *_: ModelSize("a/b", 0, 0, True, 30_000_000))
    monkeypatch.setattr(download, "SECONDS_BETWEEN", 0.001)
    blobs = cache_of("a/b") / "blobs"
    blobs.mkdir(parents=True)
    (blobs / "earlier").write_bytes(b"x" * 5_000_000)
    reporter = Steps()
    with shown_download("a/b", "a/b", None, reporter):  # type: ignore[arg-type]
        (blobs / "new.incomplete").write_bytes(b"x" * 12_000_000)
        (blobs / "link").symlink_to(blobs / "earlier")
        while reporter.done < 12:
            pass
    assert (reporter.seen, reporter.done) == ([("Fetching a/b (MB)", 30)], 12)
    assert bytes_in(tmp_path) == 17_000_000


@pytest.mark.parametrize("size", [None, ModelSize("a/b", 0, 0, True, 1000)])
def test_what_is_cached_or_small_is_no_step(monkeypatch: pytest.MonkeyPatch, size: ModelSize | None) -> None:
    monkeypatch.setattr("heretic.model.loading.size.model_size", lambda *_: size)
    reporter = Steps()
    with shown_download("a/b", "a/b", None, reporter):  # type: ignore[arg-type]
        pass
    assert reporter.seen == []
