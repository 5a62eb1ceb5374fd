"""Parts of an operation that threads take in turns."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace

import pytest

from vedette.promql.evaluation import Evaluation, coarser

PARTS = [(i, i + 1) for i in range(50)]


@pytest.fixture
def pool():
    with ThreadPoolExecutor(max_workers=1) as made:
        yield made


def in_turns(pool: ThreadPoolExecutor, fill) -> None:
    Evaluation.in_turns(SimpleNamespace(pool=pool), fill, PARTS)  # type: ignore[arg-type]


def test_each_part_is_taken_once_by_both_threads(pool: ThreadPoolExecutor) -> None:
    done: list[tuple[int, int]] = []
    threads: set[int] = set()
    both = threading.Barrier(2, timeout=30)

    def fill(part: tuple[int, int]) -> None:
        if threading.get_ident() not in threads:
            threads.add(threading.get_ident())
            both.wait()  # neither takes all
        done.append(part)

    in_turns(pool, fill)
    assert sorted(done) == PARTS and len(threads) == 2


def test_where_the_pool_has_other_work_it_is_not_waited_for(pool: ThreadPoolExecutor) -> None:
    end, done = threading.Event(), []
    other = pool.submit(end.wait, 60)
    in_turns(pool, done.append)
    assert done == PARTS and not other.done(), "all on this thread, in order"
    end.set()


@pytest.mark.parametrize("fails_on_this_thread", [True, False])
def test_a_failure_ends_both(pool: ThreadPoolExecutor, fails_on_this_thread: bool) -> None:
    here, done = threading.get_ident(), []
    both = threading.Barrier(2, timeout=30)
    met: set[int] = set()

    def fill(part: tuple[int, int]) -> None:
        me = threading.get_ident()
        if me not in met:
            met.add(me)
            both.wait()
        if (me == here) == fails_on_this_thread:
            raise ZeroDivisionError(part)
        done.append(part)

    with pytest.raises(ZeroDivisionError):
        in_turns(pool, fill)
    assert len(done) < len(PARTS)
    assert pool.submit(lambda: 7).result() == 7, "the thread of the pool is free again"


@pytest.mark.parametrize("count", [0, 1, 2, 3, 10, 64])
def test_few_long_rows_are_taken_in_few_parts_the_last_of_which_are_short(count: int) -> None:
    parts = [(3 * i, 3 * i + 3) for i in range(count)]
    found = coarser(parts)
    assert [row for lo, hi in found for row in range(lo, hi)] == list(range(3 * count)), "each row once, in order"
    assert {lo for lo, _ in found} <= {lo for lo, _ in parts}, "cut where they were before"
    sizes = [(hi - lo) // 3 for lo, hi in found]
    assert sizes == sorted(sizes, reverse=True)
    assert all(size <= -(-(count - sum(sizes[:i])) // 3) for i, size in enumerate(sizes)), "no thread is left with more than a third"
    assert sizes[-2:] == [1, 1][: len(sizes)], "so that nobody waits for the other for long"
    if count > 3:
        assert len(found) < count
