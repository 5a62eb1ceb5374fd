"""Decoded pages are kept while there is room, those of histograms as those of samples, and a merge leaves what queries keep."""

from __future__ import annotations

import numpy as np

from vedette.model.histograms import Histogram
from vedette.storage.page_cache import PageCache

from .test_histograms import EXPONENTIAL, NOW, A, append, read, same, sample


def test_the_least_recently_used_goes_first() -> None:
    cache = PageCache(100)
    cache.put((1, 0), "a", 40)
    cache.put((1, 1), "b", 40)
    assert cache.get((1, 0)) == "a"
    cache.put((2, 0), "c", 40)
    assert [cache.get(key) for key in ((1, 0), (1, 1), (2, 0))] == ["a", None, "c"]
    assert (cache.nbytes, cache.hits, cache.misses) == (80, 3, 1)


def test_a_page_that_is_put_again_is_counted_once() -> None:
    cache = PageCache(100)
    cache.put((1, 0), "a", 40)
    cache.put((1, 0), "b", 60)
    assert (cache.get((1, 0)), cache.nbytes) == ("b", 60)


def test_what_is_larger_than_the_cache_is_not_held() -> None:
    cache = PageCache(100)
    cache.put((1, 0), "a", 60)
    cache.put((1, 1), "huge", 101)
    assert cache.get((1, 0)) == "a" and cache.get((1, 1)) is None


def test_what_is_asked_for_a_second_time_is_remembered() -> None:
    cache = PageCache(100)
    assert [cache.asked((1, 0)) for _ in range(4)] == [False, True, False, True]
    assert not cache.asked((2, 0))
    for number in range(5000):
        cache.asked((3, number))
    assert not cache.asked((2, 0)), "but not for ever"
    assert cache.asked((3, 4999))


def test_what_is_looked_for_stays_longer_and_is_no_miss_where_it_is_not_there() -> None:
    cache = PageCache(100)
    cache.put((1, 0), "a", 40)
    cache.put((1, 1), "b", 40)
    assert cache.peek((1, 0)) == "a" and cache.peek((9, 9)) is None
    cache.put((2, 0), "c", 40)
    assert (cache.peek((1, 0)), cache.peek((1, 1))) == ("a", None)
    assert (cache.hits, cache.misses) == (2, 0)


async def test_pages_of_histograms_are_decoded_once(open_engine) -> None:
    engine = await open_engine()
    stored = [(A, 1000 * i, sample(float(i))) for i in range(50)]
    await append(engine, *stored)
    await engine.flush()
    engine._flusher.release()
    wanted = {A: [(NOW + t, h) for _, t, h in stored]}
    assert same(read(engine), wanted)
    misses, held = engine._blocks.cache.misses, engine._blocks.cache.nbytes
    assert same(read(engine), wanted), "what is shared has not changed"
    assert same(read(engine, start=NOW + 5000, end=NOW + 9000), {A: wanted[A][5:10]})
    assert engine._blocks.cache.misses == misses and engine._blocks.cache.hits >= 2
    cells = 50 * EXPONENTIAL.width * 8
    assert held > cells, "they count as what they take"


async def test_a_merge_does_not_drive_out_what_queries_read(open_engine) -> None:
    engine = await open_engine()
    for day in range(2):
        await append(engine, *((A, 1000 * (10 * day + i), sample(float(i))) for i in range(10)))
        await engine.flush()
        engine._flusher.release()
    before = engine._blocks.cache.nbytes
    await engine.compact(clean=True)
    assert engine._blocks.cache.nbytes == before
    found = engine.select("default", [], NOW, NOW + 60_000).histograms
    assert found is not None and len(found) == 20 and isinstance(found.sample(0), Histogram)
    assert np.array_equal(found.at, np.arange(20))
