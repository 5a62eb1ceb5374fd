"""Expressions that are asked together answer as each does alone, and read what they share once."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from vedette.clock import ManualClock
from vedette.errors import BadInput, LimitExceeded
from vedette.model import matchers
from vedette.model.histograms import NO_BUCKETS, Histogram, Layout
from vedette.model.labels import Labels
from vedette.model.matchers import Matcher, by_metric
from vedette.model.samples import STALE, SampleBatch, canonical
from vedette.model.series import SeriesSet
from vedette.promql.engine import Engine
from vedette.promql.errors import ParseError, TooManySamples
from vedette.promql.memory import MemoryStorage
from vedette.promql.nodes import Node
from vedette.promql.parse import parse
from vedette.promql.result import QueryResult
from vedette.promql.settings import PromqlSettings
from vedette.promql.standing import Source, Standing, Threshold
from vedette.storage.engine import Engine as Storage
from vedette.storage.settings import StorageSettings

T = 1_700_000_000_000


class Counted:
    """A storage whose reads are written down."""

    def __init__(self, inner: Any) -> None:
        self.inner, self.reads = inner, []  # type: ignore[var-annotated]
        self.refuse: Callable[[Sequence[Matcher]], bool] = lambda _matchers: False

    def select(self, tenant: str, matchers: Sequence[Matcher], start: int, end: int) -> SeriesSet:
        self.reads.append(" ".join(map(str, matchers)))
        if self.refuse(matchers):
            raise LimitExceeded("too much for one read")
        found: SeriesSet = self.inner.select(tenant, matchers, start, end)
        return found

    def estimate(self, *given: Any) -> Any:
        return self.inner.estimate(*given)


@pytest.fixture
async def storage(tmp_path: Path) -> Any:
    store = Storage(StorageSettings(data=tmp_path), ManualClock(T / 1000))
    await store.start()
    series = [
        Labels.of(__name__=name, host=f"h{i}", zone="ab"[i % 2], **({"disk": "sda"} if i % 3 else {}))
        for name in ("free", "used")
        for i in range(30)
    ]
    # Every fifth is not a number at last, every seventh has ended.
    for at in range(0, 300_000, 30_000):
        values = np.array([(i * 7 + at // 30_000) % 50 for i in range(len(series))], dtype=np.float64)
        if at == 270_000:
            values[::5], values[::7] = np.nan, STALE
        await store.append(SampleBatch.of(canonical("default"), series, np.full(len(series), T + at), values))
    yield Counted(store)
    await store.close()


@pytest.fixture
def engine(storage: Counted) -> Iterator[Engine]:
    made = Engine(storage, PromqlSettings(), ManualClock(T / 1000))  # type: ignore[arg-type]  # the read half suffices
    yield made
    made.close()


def shown(result: QueryResult) -> Any:
    if result.type == "scalar":
        return result.json()
    return sorted((str(labels), repr(v.tolist()), t.tolist()) for labels, t, v in result.rows())


def asked(engine: Engine, *exprs: str, at: int = T + 280_000) -> list[Any]:
    return engine.instants("default", [Standing(e) for e in exprs], at)


EXPRESSIONS = (
    *(f'free{{host="h{i}"}} > 20' for i in range(12)),
    *(f'free{{host="h{i}"}} {op} 10' for i, op in enumerate(("==", "!=", "<", ">=", "<="))),
    '10 < free{zone="a"}',
    '(10) >= (free{zone="b", disk=""})',
    'free{zone="a", disk!=""} > 3',
    'free{host=~"h[1-5]", zone="b"} > 3',
    'free{host!~"h.", zone="b"} > 3',
    'free{nosuch=""} > 40',
    'free{nosuch="x"} > 0',
    'free{host="nobody"} > 0',
    "free != free",
    "free > 20",
    "free > bool 20",
    'free{host="h1"} offset 1m > 3',
    'free{host="h1"} @ 1700000100 > 3',
    'rate(free{host="h4"}[2m]) > 0',
    'rate(free{host="h5"}[2m]) > 0',
    'rate(free{host="h6"}[2m]) * 60 > 0',
    'avg_over_time(free{zone="a"}[3m:30s]) > 3',
    'free{host="h2"} / used{host="h2"} > 0.5',
    'free{host="h3"} / on(host) used{host="h3"} > 0.5',
    "sum by (zone) (free) > 100",
    'absent(free{host="nobody"})',
    "free > -5",
    'free{host="h8"} > NaN',
    '{host="h8"} > 1',
    '{__name__=~"free|used", host="h9"} > 1',
    "vector(3) > 2",
    "7",
    "time() > bool 5",
)


async def test_asked_together_they_answer_as_alone(engine: Engine, storage: Counted) -> None:
    for at in (T - 10, T + 100_000, T + 280_000, T + 500_000, T + 5_000_000):
        together = asked(engine, *EXPRESSIONS, at=at)
        for expr, answer in zip(EXPRESSIONS, together, strict=True):
            assert shown(answer.result()) == shown(engine.instant("default", expr, at)), (expr, at)
            assert answer.result().type == engine.instant("default", expr, at).type
            assert answer.seconds >= 0


async def test_what_several_read_of_one_metric_is_read_once(engine: Engine, storage: Counted) -> None:
    asked(engine, *(f'free{{host="h{i}"}} > 20' for i in range(30)), *(f'used{{host="h{i}"}} > 20' for i in range(30)))
    assert storage.reads == ['__name__="free"', '__name__="used"']
    storage.reads.clear()
    asked(engine, *(f'rate(free{{host="h{i}"}}[2m]) > 20' for i in range(30)), "free > 3")
    # Of another stretch of time, a read of its own.
    assert storage.reads == ['__name__="free"', '__name__="free"']


async def test_equal_expressions_are_read_once_also_where_nobody_tells_how_much(storage: Counted) -> None:
    class Plain:
        def __init__(self) -> None:
            self.select = storage.select

    engine = Engine(Plain(), PromqlSettings(), ManualClock(T / 1000))  # type: ignore[arg-type]  # the read half suffices
    first, second, other = asked(engine, "free > 20", "free > 30", 'free{host="h1"} > 1')
    assert storage.reads == ['__name__="free"', 'host="h1" __name__="free"']
    assert len(first.result()) > len(second.result()) > 0
    assert len(other.result()) == 1
    engine.close()


async def test_a_metric_too_large_for_a_few_parts_of_it_is_not_read_whole(
    engine: Engine, storage: Counted, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("vedette.promql.standing.SERIES_FOR_A_READ", 10)
    asked(engine, 'free{host="h1"} > 1', 'free{host="h2"} > 1')
    assert storage.reads == ['host="h1" __name__="free"', 'host="h2" __name__="free"']


async def test_where_the_whole_is_refused_each_reads_its_own(engine: Engine, storage: Counted) -> None:
    storage.refuse = lambda matchers: len(matchers) == 1
    one, two, whole = asked(engine, 'free{host="h1"} > 1', 'free{host="h2"} > 1', "free > 1")
    assert len(one.result()) == len(two.result()) == 1
    with pytest.raises(LimitExceeded, match="too much for one read"):
        whole.result()


async def test_an_error_of_one_is_its_own(engine: Engine, storage: Counted) -> None:
    wrong, right, many = asked(engine, "free >", 'free{host="h1"} > 1', "free / on(zone) used")
    with pytest.raises(ParseError, match="unexpected end of input"):
        wrong.result()
    with pytest.raises(BadInput, match="many-to-many"):
        many.result()
    assert len(right.result()) == 1


async def test_nothing_asked_is_nothing_answered(engine: Engine, storage: Counted) -> None:
    assert asked(engine) == []
    assert storage.reads == []


async def test_an_expression_is_parsed_once_and_is_not_lost_from_a_cache(storage: Counted) -> None:
    engine = Engine(storage, PromqlSettings(parse_cache=1), ManualClock(T / 1000))  # type: ignore[arg-type]  # the read half suffices
    standing = [Standing(f'free{{host="h{i}"}} > 1') for i in range(5)]
    engine.instants("default", standing, T)
    known = [s.prepared for s in standing]
    engine.instants("default", standing, T + 30_000)
    assert all(s.prepared is k and k is not None for s, k in zip(standing, known, strict=True))
    engine.close()


async def test_a_batch_is_one_running_query_and_can_be_cancelled(engine: Engine, storage: Counted) -> None:
    seen: list[str] = []

    def cancelling(matchers: Sequence[Matcher]) -> bool:
        if not seen:
            (query,) = engine.running.list("default")
            seen.append(query.expr)
            engine.running.cancel("default", query.id)
        return False

    storage.refuse = cancelling
    first, second = asked(engine, "free > 1", "used > 1")
    assert seen == ["free > 1 (and 1 more)"]
    assert len(first.result()) > 0
    with pytest.raises(LimitExceeded, match="canceled"):
        second.result()
    assert engine.running.list("default") == []


async def test_limits_hold_for_each(storage: Counted) -> None:
    engine = Engine(storage, PromqlSettings(max_samples=40), ManualClock(T / 1000))  # type: ignore[arg-type]  # the read half suffices
    whole, part = asked(engine, "sum(count_over_time(free[5m])) > 0", 'sum(count_over_time(free{host="h1"}[5m])) > 0')
    with pytest.raises(TooManySamples):
        whole.result()
    assert len(part.result()) == 1
    engine.close()


def test_native_histograms_take_the_long_way() -> None:
    memory = MemoryStorage()
    memory.add(Labels.of(__name__="size", host="a"), T, 5.0)
    layout = Layout(0, 0.0, (), np.array([1, 2], dtype=np.int32), NO_BUCKETS)
    memory.add(Labels.of(__name__="size", host="b"), T, Histogram(layout, np.array([3.0, 2.5, 0.0, 2.0, 1.0])))
    engine = Engine(memory, PromqlSettings(), ManualClock(T / 1000))  # type: ignore[arg-type]  # the read half suffices
    (answer, again) = asked(engine, "size > 4", "size > 4", at=T)
    assert shown(answer.result()) == shown(again.result()) == shown(engine.instant("default", "size > 4", T))
    engine.close()


@pytest.mark.parametrize(
    ("expr", "op", "number"),
    [("a > 1", ">", 1), ("1 > a", "<", 1), ("((a)) == (2)", "==", 2), ('2 >= a{b="c"}', "<=", 2), ("a != 3", "!=", 3)],
)
def test_a_comparison_of_a_plain_selector_is_told(expr: str, op: str, number: float) -> None:
    found = Threshold.of(parse(expr))
    assert found is not None
    assert (found.op, found.number) == (op, number)


@pytest.mark.parametrize(
    "expr", ["a", "a > bool 1", "a > b", "1 > bool 2", "a offset 1m > 1", "a @ 3 > 1", "a + 1", "-a > 1", "rate(a[1m]) > 1", "a > 1 + 1"]
)
def test_anything_else_is_not(expr: str) -> None:
    root: Node = parse(expr)
    assert Threshold.of(root) is None


def test_a_source_gives_rows_in_order() -> None:
    memory = MemoryStorage()
    for i in (3, 1, 2, 0):
        memory.add(Labels.of(__name__="m", n=str(i), odd="yes" if i % 2 else ""), T, float(i))
    source = Source(memory.select("", (), T, T))
    everything = [labels.get("n") for labels in source.found.labels]
    assert everything == ["3", "1", "2", "0"]

    def rows(*matchers: tuple[str, Any, str]) -> list[int]:
        return [int(r) for r in source.rows([Matcher(*m) for m in matchers])]

    assert rows() == [0, 1, 2, 3]
    assert rows(("odd", "=", "yes")) == [0, 1]
    assert rows(("odd", "=", "")) == [2, 3]
    assert rows(("odd", "!=", "")) == [0, 1]
    assert rows(("odd", "=", "no")) == []
    assert rows(("n", "=~", "[12]"), ("odd", "=", "")) == [2]
    assert rows(("n", "!~", "[12]"), ("n", "=~", ".*")) == [0, 3]
    part = source.part(np.array([2, 0]))
    assert [labels.get("n") for labels in part.labels] == ["2", "3"]
    assert part.values.tolist() == [2.0, 3.0]


def test_an_expression_that_takes_long_is_refused_here_too(monkeypatch: pytest.MonkeyPatch) -> None:
    storage = MemoryStorage()
    for i in range(300):
        storage.add(Labels.of({"__name__": "a", "i": str(i)}), 0, 1.0)
    source = Source(storage.select("t", (by_metric("a"),), 0, 0))
    monkeypatch.setattr(matchers, "monotonic", iter([0.0, 9.0]).__next__)
    with pytest.raises(BadInput, match=r"the regular expression '1\.\*7' of label \"i\" has looked at 256 values for 9 s"):
        source.rows((by_metric("a"), Matcher("i", "=~", "1.*7")))
