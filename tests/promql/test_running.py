"""Queries under way: listed, cancelled, and held to their common memory; what one cost."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from vedette.clock import ManualClock, SystemClock
from vedette.errors import LimitExceeded, NotFound
from vedette.kernels.queryable import queryable
from vedette.model.labels import Labels
from vedette.model.samples import STALE, is_stale
from vedette.model.series import SeriesSet
from vedette.promql.engine import Engine
from vedette.promql.errors import QueryCanceled
from vedette.promql.memory import MemoryStorage
from vedette.promql.running import Call, Running
from vedette.promql.settings import PromqlSettings
from vedette.storage.interface import Matchers


class Slow(MemoryStorage):
    """Stops within a read until it is let go."""

    def __init__(self) -> None:
        super().__init__()
        self.reached, self.go = threading.Event(), threading.Event()

    def select(self, tenant: str, matchers: Matchers, start: int, end: int) -> SeriesSet:
        self.reached.set()
        assert self.go.wait(60)
        return super().select(tenant, matchers, start, end)


def fill(storage: MemoryStorage, *, series: int = 3, samples: int = 11) -> None:
    for i in range(series):
        for k in range(samples):
            storage.add(Labels.of(__name__="m", i=str(i)), k * 60_000, float(k))


@pytest.fixture
def slow() -> Iterator[tuple[Slow, Engine]]:
    storage = Slow()
    fill(storage)
    engine = Engine(storage, PromqlSettings(), SystemClock())
    yield storage, engine
    storage.go.set()
    engine.close()


def test_a_running_query_is_listed_and_cancelled(slow: tuple[Slow, Engine]) -> None:
    storage, engine = slow
    failures: list[Exception] = []

    def ask() -> None:
        try:
            engine.range("t", "sum(m)", 0, 600_000, 60_000)
        except QueryCanceled as error:
            failures.append(error)

    thread = threading.Thread(target=ask)
    thread.start()
    assert storage.reached.wait(60)
    (found,) = engine.running.list("t")
    assert (found.expr, found.start, found.end, found.step, found.samples) == ("sum(m)", 0, 600_000, 60_000, 0)
    assert engine.running.list("another") == []
    for tenant, id_ in (("another", found.id), ("t", found.id + 1)):
        with pytest.raises(NotFound, match="no query"):
            engine.running.cancel(tenant, id_)
    engine.running.cancel("t", found.id)
    storage.go.set()
    thread.join(60)
    assert [str(f) for f in failures] == ["query was canceled in expression evaluation"]
    assert engine.running.list("t") == []


def test_queries_share_their_memory() -> None:
    running = Running(ManualClock(), max_bytes=100)
    with running.entered("t", "a", (0, 0, 0), None) as one, running.entered("t", "b", (0, 0, 0), None) as other:
        one.hold(6, 60)
        other.hold(4, 40)
        with pytest.raises(LimitExceeded, match=r"promql\.max_memory") as caught:
            other.hold(4, 41)
        assert caught.value.retry_after == 1.0
        other.hold(0, 0)
        one.hold(10, 100)
        assert [(q.samples, q.bytes) for q in running.list("t")] == [(10, 100), (0, 0)]
        with pytest.raises(LimitExceeded) as caught:
            other.hold(10, 101)
        assert caught.value.retry_after is None
    with running.entered("t", "c", (0, 0, 0), None) as again:
        again.hold(10, 100)


def test_large_answers_count_as_long_as_somebody_holds_them() -> None:
    class Held:
        """An answer."""

    running, answers = Running(ManualClock(), max_bytes=100), [Held(), Held()]
    for answer in answers:
        running.keep(answer, 40)
    with pytest.raises(LimitExceeded, match="hold all the memory") as refused:
        running.keep(Held(), 21)
    assert refused.value.retry_after == 1.0
    with running.entered("t", "a", (0, 0, 0), None) as ticket:
        ticket.hold(1, 20)
        assert not running.room(1)
        with pytest.raises(LimitExceeded):
            ticket.hold(1, 21)
        del answer, answers[0]
        ticket.hold(1, 60)
    del answers[:]
    assert running.room(100)
    running.keep(kept := Held(), 100)
    with pytest.raises(LimitExceeded) as never:
        running.keep(Held(), 101)
    assert never.value.retry_after is None, "it would not fit alone"
    assert kept is not None
    Running(ManualClock(), max_bytes=0).keep(kept, 1 << 60)


def test_memory_is_given_back_by_queries_that_fail() -> None:
    storage = MemoryStorage()
    fill(storage)
    engine = Engine(storage, PromqlSettings(max_memory=700), SystemClock())
    try:
        for _ in range(3):
            with pytest.raises(LimitExceeded, match=r"promql\.max_memory"):
                engine.range("t", "m + m", 0, 600_000, 10_000)
            assert len(engine.instant("t", "sum(m)", 600_000)) == 1
    finally:
        engine.close()


@pytest.fixture
def engine() -> Iterator[Engine]:
    storage = MemoryStorage()
    fill(storage)
    storage.add(Labels.of(__name__="gone"), 0, 1.0)
    storage.add(Labels.of(__name__="gone"), 120_000, STALE)
    engine = Engine(storage, PromqlSettings(), SystemClock())
    yield engine
    engine.close()


@pytest.mark.parametrize(
    ("expr", "per_step"),
    [
        ("m", [3, 3, 3]),
        ("sum(m)", [3, 3, 3]),
        ("m + m", [3, 3, 3]),
        ("m + m offset 1m", [6, 6, 6]),
        ("rate(m[3m])", [9, 9, 9]),
        ("gone", [1, 0, 0]),
        ("vector(1)", [0, 0, 0]),
        ("m @ 0", [0, 0, 3]),
        ("max_over_time(m[2m:1m])", [0, 0, 18]),
    ],
)
def test_queryable_samples(engine: Engine, expr: str, per_step: list[int]) -> None:
    # Steps at 3, 5 and 7 m (1, 3 and 5 m for what ends). What is evaluated on steps of its own counts for the last.
    start = 60_000 if expr == "gone" else 180_000
    found = engine.range("t", expr, start, start + 240_000, 120_000, queryable=True).statistics
    assert found.per_step is not None
    assert found.per_step.tolist() == per_step
    assert engine.range("t", expr, start, start + 240_000, 120_000).statistics.per_step is None


samples = st.lists(st.tuples(st.integers(0, 40), st.sampled_from([1.0, STALE])), max_size=20, unique_by=lambda s: s[0])


@given(st.lists(samples, max_size=4), st.integers(-5, 20), st.integers(0, 10), st.integers(1, 5), st.integers(1, 20), st.booleans())
def test_the_kernel_beside_its_twin(rows: list[list[tuple[int, float]]], first: int, step: int, n: int, range_: int, instant: bool) -> None:
    rows = [sorted(row) for row in rows]
    offsets = np.cumsum([0, *(len(r) for r in rows)], dtype=np.int64)
    times = np.array([t for row in rows for t, _ in row], dtype=np.int64)
    values = np.array([v for row in rows for _, v in row], dtype=np.float64)
    out = np.zeros(n, dtype=np.int64)
    queryable(offsets, times, values, first, step, n, range_, instant, out)
    wanted = []
    for k in range(n):
        t = first + k * step
        inside = [[s for s in row if t - range_ < s[0] <= t] for row in rows]
        last = [row[-1][1] for row in inside if row]
        wanted.append(sum(not is_stale(np.array([v]))[0] for v in last) if instant else sum(map(len, inside)))
    assert out.tolist() == wanted


def test_explained(engine: Engine) -> None:
    result = engine.range("t", "sum by (i) (rate(m[5m])) / ignoring (i) group_left count(m) + 2 * 3", 300_000, 600_000, 60_000)
    found = result.statistics.explained()
    operations = found["operations"]
    named = {o["operation"]: o for o in operations}
    assert set(named) == {"+", "/", "*", "2", "3", "sum by (i)", "count", "rate()", "m[5m]", "m", "the same at every step"}
    assert operations[found["result"]]["operation"] == "+"
    assert (named["sum by (i)"]["rows"], named["sum by (i)"]["steps"], named["sum by (i)"]["bytes"]) == (3, 6, 3 * 6 * 9)
    assert [named["rate()"][k] for k in ("rows", "streamed", "bytes")] == [3, True, 0]
    assert named["m[5m]"]["read"] == named["m"]["read"] == 0
    assert found["reads"][0]["series"] == 3
    assert found["reads"][0]["samples"] == 30
    for operation in operations:
        assert all(i < operation["id"] for i in operation["inputs"])
    assert result.statistics.peak >= 30
    assert result.statistics.samples_read == 30


async def test_what_waits_is_listed_after_what_runs_and_holds_no_place() -> None:
    clock = ManualClock(1000.0)
    running = Running(clock, max_bytes=0)
    left: list[str] = []
    one, two = Call(), Call()
    one.leave = lambda: left.append("w1")
    with running.waiting("a", "w1", (1, 2, 3), one), running.waiting("b", "w2", (1, 1, 0), two):
        await clock.advance(5)
        with running.entered("a", "r", (4, 5, 6), None):
            await clock.advance(2)
            first, second = running.list("a")
            assert (first.expr, first.waits, first.running_s) == ("r", False, 2.0)
            assert (second.expr, second.waits, second.running_s, second.began) == ("w1", True, 7.0, 1000.0)
            assert (second.start, second.end, second.step, second.samples, second.bytes) == (1, 2, 3, 0, 0)
            assert len(running) == 1
        with pytest.raises(NotFound):
            running.cancel("b", second.id)
        running.cancel("a", second.id)
        assert (left, one.is_set(), two.is_set()) == (["w1"], True, False)
        (waits,) = running.list("b")
        with running.entered("b", "w2", (1, 1, 0), two):
            (runs,) = running.list("b")
            assert (waits.id, waits.waits, runs.id, runs.waits) == (two.id, True, two.id, False), "it keeps its number"
        running.cancel("b", two.id)
        assert two.is_set()
    assert running.list("a") == running.list("b") == []
    with pytest.raises(NotFound):
        running.cancel("a", second.id)
