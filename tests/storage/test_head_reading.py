"""Large reads of the head, which two threads share: the same samples as one thread finds, wherever they lie."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from numpy.typing import NDArray

from vedette.storage import head as module
from vedette.storage.head import Head

Columns = tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]
SERIES = 41


def append(head: Head, rng: np.random.Generator, count: int, *, since: int, late: bool) -> None:
    """Up to `count` samples of each series from `since` on; some of them late."""
    rows = [np.unique(since + rng.integers(0, 500, rng.integers(0, count))) for _ in range(SERIES)]
    if late:
        for row in rows[::3]:
            rng.shuffle(row)
    offsets = np.cumsum([0, *map(len, rows)], dtype=np.int64)
    times = np.concatenate(rows).astype(np.int64)
    values = np.round(rng.normal(0, 1000, len(times))) / rng.choice([1.0, 3.0], len(times))
    head.reserve(SERIES, len(times))
    head.append(np.arange(SERIES), offsets, times, values.view(np.int64), window=10_000, oldest=0, scope=0)


@pytest.fixture(scope="module")
def head() -> Head:
    """Two generations, series without samples, others with late ones."""
    rng, made = np.random.default_rng(4), Head()
    append(made, rng, 200, since=1_000, late=False)
    append(made, rng, 100, since=1_200, late=True)
    made.freeze()
    append(made, rng, 150, since=1_600, late=False)
    append(made, rng, 60, since=1_500, late=True)
    return made


def read(head: Head, ids: list[int], start: int, end: int) -> Columns:
    offsets, times, bits = head.gather(np.array(ids, dtype=np.int64), start, end)
    return offsets.copy(), times.copy(), bits.copy()


@pytest.mark.parametrize("ids", [list(range(SERIES)), [0, 1], [7], [], list(range(0, SERIES, 5)), [40, 3, 22, 9]])
@pytest.mark.parametrize(("start", "end"), [(0, 1 << 50), (1_100, 1_300), (1_650, 1_700), (1_499, 1_501), (5_000, 6_000)])
def test_two_threads_find_what_one_does(head: Head, ids: list[int], start: int, end: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "LARGE", 1 << 60)
    alone = read(head, ids, start, end)
    monkeypatch.setattr(module, "LARGE", 0)
    both = read(head, ids, start, end)
    for one, other in zip(alone, both, strict=True):
        assert one.tolist() == other.tolist()
    offsets, times, _ = both
    for lo, hi in itertools.pairwise(offsets.tolist()):
        assert (np.diff(times[lo:hi]) > 0).all()
        assert ((times[lo:hi] >= start) & (times[lo:hi] <= end)).all()


def test_the_samples_are_there(head: Head) -> None:
    """Lest the test above compare nothing with nothing."""
    offsets, _, _ = read(head, list(range(SERIES)), 0, 1 << 50)
    assert offsets[-1] > 2_000
