"""Rows that two threads compute are taken in order, each once, whichever thread is faster; what goes wrong ends both."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

import numpy as np
import pytest

from vedette.model.labels import Labels
from vedette.model.labeltable import LabelTable
from vedette.promql import ordered
from vedette.promql.ordered import in_order
from vedette.promql.values import Bools, Floats, Matrix, Rows

STEPS = 3


@dataclass
class Run:
    """What a computation has of its evaluation: a pool, and whether to go on."""

    pool: ThreadPoolExecutor
    checks: int = 0
    cancelled: threading.Event = field(default_factory=threading.Event)

    def check(self) -> None:
        self.checks += 1
        if self.cancelled.is_set():
            raise KeyError("canceled")


@pytest.fixture
def run() -> Iterator[Run]:
    with ThreadPoolExecutor(2) as pool:
        yield Run(pool)


class Taken:
    """Rows as they were taken: their numbers, and whether two threads ever took at a time."""

    def __init__(self) -> None:
        self.rows: list[int] = []
        self.values: list[float] = []
        self.inside = threading.Lock()
        self.threads: set[int] = set()

    def __call__(self, first: int, values: Floats, present: Bools) -> None:
        assert self.inside.acquire(blocking=False), "two threads take at a time"
        try:
            assert values.shape == present.shape
            self.rows += range(first, first + len(values))
            self.values += values[:, 0].tolist()
            self.threads.add(threading.get_ident())
        finally:
            self.inside.release()


def rows_of(count: int, fill: object = None, *, samples: int = 0) -> Rows:
    """Rows whose values are their numbers."""

    def numbers(lo: int, hi: int, values: Floats, present: Bools) -> None:
        values[: hi - lo] = np.arange(lo, hi, dtype=np.float64)[:, None]
        present[: hi - lo] = True

    table = LabelTable.from_labels([Labels.of(__name__="m", i=str(i)) for i in range(count)])
    return Rows(table, STEPS, fill or numbers, samples=samples)  # type: ignore[arg-type]


@pytest.mark.parametrize("count", [0, 1, 15, 16, 17, 32, 33, 160, 1001])
def test_each_row_is_taken_once_in_order(run: Run, monkeypatch: pytest.MonkeyPatch, count: int) -> None:
    monkeypatch.setattr(ordered, "BLOCK_CELLS", 16 * STEPS)
    for _ in range(20):
        taken = Taken()
        in_order(run, rows_of(count), taken)  # type: ignore[arg-type]
        assert taken.rows == list(range(count))
        assert taken.values == [float(i) for i in range(count)]


def test_a_matrix_is_taken_as_it_is(run: Run) -> None:
    values = np.asfortranarray(np.arange(12, dtype=np.float64).reshape(4, 3))
    seen = []
    table = LabelTable.from_labels([Labels.of(i=str(i)) for i in range(4)])
    in_order(run, Matrix(table, values, np.ones((4, 3), dtype=np.bool_)), lambda lo, v, p: seen.append((lo, v, p)))  # type: ignore[arg-type]
    assert [lo for lo, _, _ in seen] == [0]
    assert seen[0][1].flags.c_contiguous
    assert seen[0][2].all()
    assert np.array_equal(seen[0][1], values)


def test_a_block_has_no_more_rows_than_a_slab_has_samples_of(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ordered, "SLAB", 20 * 50)
    sizes: list[int] = []
    in_order(run, rows_of(100, samples=100 * 50), lambda lo, v, p: sizes.append(len(v)))  # type: ignore[arg-type]
    assert sizes == [20] * 5


def test_the_first_block_being_late_holds_up_no_more_than_there_is_room_for(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ordered, "BLOCK_CELLS", 16 * STEPS)
    begun: list[int] = []
    go_on = threading.Event()

    def fill(lo: int, hi: int, values: Floats, present: Bools) -> None:
        begun.append(lo)
        if lo == 0:
            # The others are made meanwhile, until no room is left.
            assert go_on.wait(30)
        elif len(begun) == ordered._ROOMS:
            go_on.set()
        values[: hi - lo] = np.arange(lo, hi)[:, None]

    taken = Taken()
    in_order(run, rows_of(320, fill), taken)  # type: ignore[arg-type]
    assert taken.rows == list(range(320))
    assert sorted(begun[: ordered._ROOMS]) == [0, 16, 32, 48]


def test_where_no_thread_is_free_one_does_all_of_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ordered, "BLOCK_CELLS", 16 * STEPS)
    with ThreadPoolExecutor(1) as pool:
        busy = threading.Event()
        pool.submit(busy.wait, 30)
        taken = Taken()
        in_order(Run(pool), rows_of(200), taken)  # type: ignore[arg-type]
        assert taken.rows == list(range(200))
        assert taken.threads == {threading.get_ident()}
        busy.set()


@pytest.mark.parametrize("where", ["fill", "take"])
@pytest.mark.parametrize("at", [0, 160, 304])
def test_what_goes_wrong_is_told_and_ends_both_threads(run: Run, monkeypatch: pytest.MonkeyPatch, where: str, at: int) -> None:
    monkeypatch.setattr(ordered, "BLOCK_CELLS", 16 * STEPS)

    def broken(lo: int, *_: object) -> None:
        if lo == at:
            raise ZeroDivisionError(where)

    rows = rows_of(320, broken if where == "fill" else None)
    with pytest.raises(ZeroDivisionError, match=where):
        in_order(run, rows, broken if where == "take" else Taken())  # type: ignore[arg-type]
    # The pool is free again: nobody waits for a turn that never comes.
    assert run.pool.submit(lambda: 7).result(30) == 7


def test_a_cancelled_query_begins_no_more_blocks(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ordered, "BLOCK_CELLS", 16 * STEPS)
    taken = Taken()

    def take(first: int, values: Floats, present: Bools) -> None:
        taken(first, values, present)
        run.cancelled.set()

    with pytest.raises(KeyError, match="canceled"):
        in_order(run, rows_of(1600, None), take)  # type: ignore[arg-type]
    assert len(taken.rows) <= 16 * (ordered._ROOMS + 1)
    assert taken.rows == list(range(len(taken.rows)))
