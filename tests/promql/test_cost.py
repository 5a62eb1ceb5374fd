"""What a query will cost is told before anything is read, and one that costs too much is refused without reading."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from vedette.clock import SystemClock
from vedette.model.labels import Labels
from vedette.model.series import SeriesSet
from vedette.promql.cost import expected, work
from vedette.promql.engine import Engine
from vedette.promql.errors import ParseError, TooManySamples, TooMuchMemory
from vedette.promql.memory import MemoryStorage
from vedette.promql.parse import parse
from vedette.promql.plan import Bounds, Prepared, make_plan
from vedette.promql.settings import Features, PromqlSettings
from vedette.promql.values import Grid
from vedette.storage.interface import Estimate, Estimating, Matchers

STEPS = 10


@pytest.mark.parametrize(
    ("expr", "cells"),
    [
        ("m", 1000),
        ("sum(m)", 0),
        ("sum(rate(m[5m]))", 0),
        ("rate(m[5m])", 1000),
        ("sum(abs(m))", 0),
        ("topk(1, m)", 0),
        ("count(m > 5)", 0),
        ("sum(-round(m / 3) * 2)", 0),
        ("2 * m", 1000),
        ("sum(2 ^ m)", 1000),
        ("quantile(0.9, abs(m))", 1000),
        ("sum(m) / count(m)", 0),
        ("count(m and m)", 1000),
        ("max_over_time(m[1h:1m])", 6900),
        ("sum(max_over_time(sum(m)[1h:1m]))", 0),
        ("absent(m)", 1000),
        ("vector(1)", 0),
        ("m @ 0", 1000),
        ("histogram_quantile(0.9, m)", 1000),
    ],
)
def test_cells_that_are_certain(expr: str, cells: int) -> None:
    grid = Grid(3_600_000, 60_000, STEPS)
    plan = make_plan(Prepared.of(parse(expr, Features())), grid, Bounds(grid.start, grid.last, 300_000, 60_000, grid.step))
    cost = expected(plan, [Estimate(100, 7000) for _ in plan.fetches])
    assert cost.cells == cells
    assert (cost.series, cost.samples) == (100 * len(plan.fetches), 7000 * len(plan.fetches))


@pytest.mark.parametrize(
    ("expr", "done"),
    [
        ("m", 7000 + 1000),
        ("sum(rate(m[5m]))", 7000 + 1000 + 1000),
        ("sum(m) + sum(m)", 7000 + 1000),
        ("sum(m @ 0)", 7000 + 100),
        ("sum(max_over_time(m[1h:1m]))", 7000 + 6900 + 1000 + 1000),
        ("vector(1)", 0),
    ],
)
def test_work_counts_what_is_streamed_too(expr: str, done: int) -> None:
    grid = Grid(3_600_000, 60_000, STEPS)
    plan = make_plan(Prepared.of(parse(expr, Features())), grid, Bounds(grid.start, grid.last, 300_000, 60_000, grid.step))
    assert work(plan, [Estimate(100, 7000) for _ in plan.fetches]) == done


class Sized(MemoryStorage):
    """Says how large an answer would be, and counts what is read."""

    def __init__(self) -> None:
        super().__init__()
        self.reads = 0
        for i in range(50):
            for k in range(10):
                self.add(Labels.of(__name__="m", i=str(i)), k * 60_000, float(k))

    def estimate(self, tenant: str, matchers: Matchers | None, start: int, end: int, coarse: object = None) -> Estimate:
        if matchers is None:
            return Estimate(50, 500)
        found = super().select(tenant, matchers, start, end)
        return Estimate(len(found.labels), found.sample_count)

    def select(self, tenant: str, matchers: Matchers, start: int, end: int) -> SeriesSet:
        self.reads += 1
        return super().select(tenant, matchers, start, end)


@pytest.fixture
def sized() -> Iterator[tuple[Sized, Engine]]:
    storage = Sized()
    engine = Engine(storage, PromqlSettings(max_samples=520), SystemClock())
    yield storage, engine
    engine.close()


@pytest.mark.parametrize("expr", ["m", "abs(m)", "count_values('v', m)", "sum(m or m)"])
def test_refused_before_reading(sized: tuple[Sized, Engine], expr: str) -> None:
    storage, engine = sized
    assert isinstance(storage, Estimating)
    with pytest.raises(TooManySamples, match=r"too many samples into memory in query execution: it selects about 50 series.*550 values"):
        engine.range("t", expr, 0, 600_000, 60_000)
    assert storage.reads == 0


def test_what_fits_is_run(sized: tuple[Sized, Engine]) -> None:
    storage, engine = sized
    result = engine.range("t", 'm{i=~"1.?"}', 0, 600_000, 60_000)
    assert len(result) == 11
    assert storage.reads == 1
    assert result.statistics.estimate is not None
    assert result.statistics.estimate.cells == 11 * 11
    # Of so few steps nothing can be too much, whatever it selects: nothing is estimated.
    assert engine.instant("t", "m", 540_000).statistics.estimate is None


def test_bytes_are_a_limit_of_their_own() -> None:
    engine = Engine(Sized(), PromqlSettings(max_query_memory=20_000), SystemClock())
    try:
        with pytest.raises(TooMuchMemory, match=r"promql\.max_query_memory"):
            engine.range("t", "m", 0, 540_000, 5_000)
        found = engine.range("t", "sum(m)", 0, 540_000, 60_000).statistics
        assert 500 * 16 < found.peak_bytes < 20_000
        assert engine.running.list("t") == []
    finally:
        engine.close()


def test_what_is_large_is_told_without_reading(sized: tuple[Sized, Engine], monkeypatch: pytest.MonkeyPatch) -> None:
    storage, engine = sized
    monkeypatch.setattr("vedette.promql.engine._LARGE", 2000)
    assert engine.large("t", "sum(m)", 0, 3_000_000, 60_000)
    assert not engine.large("t", "sum(m)", 540_000, 540_000, 0)
    assert not engine.large("t", 'sum(m{i="1"})', 0, 3_000_000, 60_000), "all there is would be large, what is selected is not"
    assert not engine.large("t", "vector(1)", 0, 3_000_000, 60_000)
    assert engine.large("t", "1 " + "+ 1" * 10_000, 0, 0, 0), "to read the text alone takes long"
    with pytest.raises(ParseError):
        engine.large("t", "sum(", 0, 0, 0)
    assert storage.reads == 0
