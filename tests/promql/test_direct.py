"""The short way gives what the long way gives, to the byte, or leaves it to that."""

from __future__ import annotations

import math
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vedette.clock import ManualClock, SystemClock
from vedette.errors import VedetteError
from vedette.model.histograms import NO_BUCKETS, Histogram, Layout
from vedette.model.labels import Labels
from vedette.model.matchers import Matcher
from vedette.model.samples import STALE
from vedette.model.series import SeriesSet
from vedette.promql.direct import MOST_CELLS
from vedette.promql.engine import Engine
from vedette.promql.errors import ParseError
from vedette.promql.memory import MemoryStorage
from vedette.promql.result import QueryResult
from vedette.promql.settings import PromqlSettings
from vedette.storage.interface import Coarse

sys.path.insert(0, str(Path(__file__).parent))
from test_differential import storages, vectors

T, MIN = "t", 60_000
WINDOWS = ["rate", "increase", "delta", "irate", "idelta", "changes", "resets", "deriv", "sum_over_time", "avg_over_time"]
WINDOWS += [
    "min_over_time",
    "max_over_time",
    "count_over_time",
    "last_over_time",
    "first_over_time",
    "stddev_over_time",
    "present_over_time",
]


class Handy(MemoryStorage):
    """Has all of it at hand."""

    taken = 0

    def look(self, tenant: str, matchers: tuple[Matcher, ...], *, few: int | None = None) -> bool:
        self.looked = [*getattr(self, "looked", []), (tenant, matchers)]
        return few is None or all(m.op == "=" for m in matchers) or few >= len(self.samples)

    def at_hand(self, tenant: str, matchers: tuple[Matcher, ...], start: int, end: int, most: int) -> SeriesSet | None:
        found = self.select(tenant, matchers, start, end)
        if found.sample_count > most:
            return None
        self.taken += 1
        return found


def handy(samples: dict[Labels, dict[int, Any]]) -> Handy:
    made = Handy()
    made.samples = samples
    return made


def shown(result: QueryResult) -> tuple[Any, ...]:
    rows = [(labels, times.tolist(), values.tobytes()) for labels, times, values in result.rows()]
    return result.type, result.json(), result.json(1), result.warnings, result.infos, rows, len(result), result.points


def both(engine: Engine, expr: str, start: int, end: int, step: int) -> tuple[QueryResult | None, QueryResult]:
    """The short way's answer (None where it leaves it) and the long way's; a step of 0 is an instant query."""
    long = engine.range(T, expr, start, end, step) if step else engine.instant(T, expr, start)
    return engine.at_hand(T, expr, start, end, step), long


@pytest.fixture
def storage() -> Handy:
    made = Handy()
    for a, b in (("x", "2"), ("x", "1"), ("y", "1"), ('\u00e9"\\', "1")):
        for i in range(60):
            made.add(Labels.of(__name__="m_total", a=a, b=b), i * 15_000, float(i * len(b)) if i % 7 else 0.25 * i)
    for i in range(20):
        made.add(Labels.of(__name__="m_total", a="x", b="gone"), i * 15_000, STALE if i == 19 else 1e-9 * i)
    return made


@pytest.fixture
def engine(storage: Handy) -> Iterator[Engine]:
    made = Engine(storage, PromqlSettings(), ManualClock())
    yield made
    made.close()


@settings(max_examples=150)
@given(storages(), vectors(), st.sampled_from([(600_000, 825_000, 45_000), (900_000, 900_000, 0), (0, 1_500_000, 7_000)]))
def test_any_query_of_any_data(found: MemoryStorage, expr: str, span: tuple[int, int, int]) -> None:
    engine = Engine(handy(found.samples), PromqlSettings(), ManualClock())
    try:
        for _ in range(2):
            short, long = both(engine, expr, *span)
            assert short is None or shown(short) == shown(long)
    except VedetteError:
        assert engine.at_hand(T, expr, *span) is None, "an error is the long way's to tell"
    finally:
        engine.close()


@settings(max_examples=60)
@given(
    storages(),
    st.sampled_from(WINDOWS),
    st.sampled_from(["", "sum", "avg by (a)", "min without (b)", "count by (b, none)", "group", "max"]),
    st.data(),
)
def test_the_shapes_that_it_is_for(found: MemoryStorage, function: str, summing: str, data: st.DataObject) -> None:
    matchers = data.draw(st.sampled_from(["", '{a="x"}', '{b=~"1|2"}']))
    window = data.draw(
        st.sampled_from([f"{function}(m_total{matchers}[2m])", f"{function}(other{matchers}[1m] offset 1m)", f"(m_total{matchers})"])
    )
    expr = f"{summing} ({window})" if summing else window
    engine = Engine(handy(found.samples), PromqlSettings(), ManualClock())
    short, long = both(engine, expr, *data.draw(st.sampled_from([(600_000, 900_000, 30_000), (800_000, 800_000, 0)])))
    engine.close()
    if short is not None:
        assert shown(short) == shown(long)
    else:
        # Nothing was read at all, or a sum that no float holds is to be averaged.
        assert not len(long) or any(math.isinf(v) for _, _, values in long.rows() for v in values) or summing.startswith("avg")


OPERATORS = ["+", "-", "*", "/", "%", "^", "atan2", "==", "!=", ">", "<", ">=", "<=", "== bool", "> bool"]
NUMBERS = ["2", "-1.5", "0", "NaN", "Inf", "time()", "(2 ^ 0.5)", "(1 > bool 2)", "-time()"]


@st.composite
def made(draw: st.DrawFn, depth: int = 3) -> str:
    """What is made of selectors, functions of windows, sums and numbers."""
    kind = draw(st.integers(0, 10)) if depth else 0
    if kind in (0, 1):
        source = draw(
            st.sampled_from(["m_total", "other", 'm_total{a="x"}', 'none{a="x"}', "other offset 1m", 'm_total{b=~"1|2"} offset -30s'])
        )
        name, _, moved = source.partition(" ")
        function = draw(st.sampled_from(["", "", *WINDOWS]))
        return f"{function}({name}[2m] {moved})" if function else source
    below = draw(made(depth - 1))
    if kind == 2:
        return f"{draw(st.sampled_from(['sum', 'avg by (a)', 'min without (b)', 'count by (b, none)', 'group', 'max']))} ({below})"
    if kind == 3:
        return f"{draw(st.sampled_from('-+'))}({below})"
    if kind in (4, 5):
        how = draw(st.sampled_from(["", "", "on (a)", "on (a, b)", "ignoring (b)", "on ()"]))
        return f"(({below}) {draw(st.sampled_from(OPERATORS))} {how} ({draw(made(depth - 1))}))"
    if kind in (8, 9):
        how = draw(st.sampled_from(["", "", "on (a)", "on (a, b)", "ignoring (b)", "on ()"]))
        other = f"vector({draw(st.sampled_from(NUMBERS))})" if draw(st.booleans()) else draw(made(depth - 1))
        return f"(({below}) {draw(st.sampled_from(['or', 'or', 'and', 'unless']))} {how} ({other}))"
    if kind == 10:
        return f"absent({below})"
    sides = [f"({below})", draw(st.sampled_from(NUMBERS))]
    if draw(st.booleans()):
        sides.reverse()
    return f" {draw(st.sampled_from(OPERATORS))} ".join(sides)


SPANS = [(600_000, 900_000, 30_000), (800_000, 800_000, 0), (1_150_000, 1_210_000, 20_000), (1_150_000, 1_150_000, 0)]


@st.composite
def bucketed(draw: st.DrawFn) -> Handy:
    """Classic histograms, of which some lack a bucket, a sample or a bound, come late, go early, or do not rise."""
    storage, rises = Handy(), draw(st.sampled_from([True, True, False]))
    bounds = draw(
        st.sampled_from([["0.1", "1", "2.5", "+Inf"], ["1", "+Inf"], ["-1", "0", "1e1", "+Inf"], ["1", "1.0", "Inf"], ["1", "2"]])
    )
    bounds = bounds + draw(st.sampled_from([[], [], [], [""], ["x"]]))
    for name in ("m_bucket", "other_bucket"):
        for a in draw(st.lists(st.sampled_from(["x", "y", "z"]), unique=True, min_size=1, max_size=3)):
            first, last = draw(st.integers(0, 25)), draw(st.integers(26, 50))
            level = [0.0] * len(bounds)
            skipped = draw(st.integers(0, 9))
            for i in range(first, last):
                more = 0.0
                for place, le in enumerate(bounds):
                    more = (more if rises else 0.0) + draw(st.integers(0, 3))
                    level[place] += more
                    if (i + place) % 10 != skipped or place % 2:
                        storage.add(Labels.of({"__name__": name, "a": a, "le": le}), i * 30_000, level[place])
    return storage


@st.composite
def quantiles(draw: st.DrawFn) -> str:
    inner = draw(st.sampled_from(["m_bucket", "rate(m_bucket[2m])", "increase(other_bucket[1m])", 'rate(m_bucket{a!="y"}[1m] offset 30s)']))
    how = draw(st.sampled_from(["", "", "sum by (le)", "sum by (le, a)", "sum without (a)", "max by (a)", "avg by (le)"]))
    whole = f"histogram_quantile({draw(st.sampled_from(['0.5', '0.99', '0', '1', '1.5', '-1', 'NaN', '(0.9)']))}, {how} ({inner}))"
    return draw(st.sampled_from([whole, whole, f"{whole} * 1000", f"max({whole})", f"{whole} / on (a) {whole}", f"{whole} > 0.3"]))


@settings(max_examples=80)
@given(bucketed(), quantiles(), st.sampled_from([*SPANS, (30_000, 1_500_000, 90_000)]))
def test_quantiles_of_any_buckets(storage: Handy, expr: str, span: tuple[int, int, int]) -> None:
    engine = Engine(storage, PromqlSettings(), ManualClock())
    try:
        for _ in range(2):
            short, long = both(engine, expr, *span)
            assert short is None or shown(short) == shown(long)
    except VedetteError:
        assert engine.at_hand(T, expr, *span) is None, "an error is the long way's to tell"
    finally:
        engine.close()


@settings(max_examples=150)
@given(storages(), made(), st.sampled_from(SPANS))
def test_whatever_is_made_of_them(found: MemoryStorage, expr: str, span: tuple[int, int, int]) -> None:
    engine = Engine(handy(found.samples), PromqlSettings(), ManualClock())
    try:
        for _ in range(2):
            short, long = both(engine, expr, *span)
            assert short is None or shown(short) == shown(long)
    except VedetteError:
        assert engine.at_hand(T, expr, *span) is None, "an error is the long way's to tell"
    finally:
        engine.close()


@pytest.mark.parametrize("step", [0, 30_000])
@pytest.mark.parametrize(
    "expr",
    [
        "m_total",
        "((m_total))",
        'm_total{a="x"} offset 1m',
        'm_total{b="gone"}',
        "rate(m_total[2m])",
        "last_over_time(m_total[1m])",
        "sum(m_total)",
        "avg by (a) (rate(m_total[2m]))",
        "max without (a) (max_over_time(m_total[2m]))",
        "m_total * 8",
        "-m_total",
        "+(m_total)",
        "m_total > 30",
        "30 >= m_total",
        "m_total == bool 0.25",
        "rate(m_total[2m]) * (60 * 60)",
        "100 * (1 - avg by (a) (rate(m_total[2m])))",
        "sum(m_total * 8) / 1024 ^ 2",
        "count(m_total ^ 2 > 9)",
        "min(-sum by (b) (m_total) + 1)",
        "time() - m_total",
        "sum by (a) (rate(m_total[2m])) % -0.3",
        "-1 atan2 m_total",
        "m_total - m_total offset 1m",
        "m_total >= m_total offset 15s",
        "sum by (a) (m_total) >= bool max by (a) (m_total)",
        "sum by (a) (rate(m_total[2m])) / sum by (a) (rate(m_total[1m]))",
        "sum(rate(m_total[2m])) / on () count(m_total)",
        "100 * (1 - max without (b) (m_total) / ignoring (b) sum by (a) (m_total))",
        " + ".join(["m_total"] * 8),
        "sum(rate(m_total[2m])) or vector(0)",
        "absent(m_total)",
        'absent(m_total{a="x"} > 1e9)',
        'absent(m_total{a="x", b!="1", a="x"} offset 1h)',
        "count(m_total > 1e9) or vector(0)",
        "m_total or m_total offset 15s",
        "m_total and m_total > 1",
        "m_total unless on (a) m_total > 14",
        "-m_total or on (a) vector(1)",
        'sum(absent(m_total{b="gone"}) or vector(2))',
    ],
)
def test_dashboards_queries_take_it(engine: Engine, storage: Handy, expr: str, step: int) -> None:
    assert engine.at_hand(T, expr, 4 * MIN, 10 * MIN, step) is None, "it was never asked before"
    for _ in range(2):
        short, long = both(engine, expr, 4 * MIN, 10 * MIN, step)
        assert short is not None
        assert shown(short) == shown(long)
    assert storage.taken == 2


@pytest.mark.parametrize("step", [0, MIN])
@pytest.mark.parametrize(
    "expr",
    [
        "none",
        'm_total{a="none"}',
        "sum by (a) (rate(none[5m]))",
        "-none * 2 + time()",
        "sum(none) / sum(rate(nor[5m]))",
        "histogram_quantile(0.9, rate(none_bucket[5m]))",
        "avg_over_time(none[1m]) > bool 1",
        "none or nor",
        "none and m_total",
        "m_total and none",
        "m_total / none",
        "none unless m_total",
        "absent(m_total)",
        "vector(1) and none",
        "sum(m_total and on () none)",
        "histogram_quantile(0.9, none_bucket and vector(1))",
        "-(m_total * on (a) none)",
    ],
)
def test_nothing_is_at_hand_too(engine: Engine, expr: str, step: int) -> None:
    short, long = both(engine, expr, 4 * MIN, 10 * MIN, step)
    assert short is not None and not len(long)
    assert shown(short) == shown(long)


@pytest.mark.parametrize("expr", ["rate(m[5m]) / rate(none[5m])", "rate(none[5m]) or rate(m[5m])", "absent(rate(m[5m]))"])
def test_where_one_side_is_nothing_the_other_may_have_something_to_tell(engine: Engine, storage: Handy, expr: str) -> None:
    for i in range(60):
        storage.add(Labels.of(__name__="m"), i * 15_000, float(i))
    short, long = both(engine, expr, 4 * MIN, 10 * MIN, MIN)
    assert short is not None and short.infos
    assert shown(short) == shown(long)


@pytest.mark.parametrize("step", [0, MIN])
@pytest.mark.parametrize(
    ("expr", "told"),
    [
        ("absent(none)", {}),
        ('absent(none{a="x", b=~"1|2", c="3"})', {"a": "x", "c": "3"}),
        ('absent(none{a="x", b="1", b="2"})', {"a": "x"}),
        ('absent(sum(none{a="x"}))', {}),
        ('absent(rate(none{a="x"}[5m]))', {}),
        ('absent(none{new="to everyone"}) * 1', {"new": "to everyone"}),
        ("none or vector(1)", {}),
        ("sum(none) or vector(1)", {}),
        ("vector(1) unless none", {}),
        ("absent(none) and vector(7)", {}),
    ],
)
def test_something_comes_of_nothing(engine: Engine, storage: Handy, expr: str, told: dict[str, str], step: int) -> None:
    for _ in range(2):
        short, long = both(engine, expr, 4 * MIN, 10 * MIN, step)
        assert short is not None
        assert shown(short) == shown(long)
        assert [(labels.as_dict(), set(values.tolist())) for labels, _, values in short.rows()] == [(told, {1.0})]
    found = storage.select(T, (Matcher("__name__", "=", "m_total"),), 0, 10 * MIN)
    assert found.labels.symbols.find("to everyone") < 0, "what a query says leaves no trace in symbols that all have"


def test_the_labels_of_what_is_absent_are_those_of_its_own_text(engine: Engine) -> None:
    for host in ("a", "b", "one more"):
        expr = f'absent(none{{host="{host}"}}) or vector(0)'
        found = engine.glance(T, expr, 4 * MIN, 10 * MIN, MIN)
        assert found is not None
        assert shown(found) == shown(engine.range(T, expr, 4 * MIN, 10 * MIN, MIN))
        assert f'"host":"{host}"'.encode() in found.json()


def test_rows_of_one_time_come_in_the_order_of_the_long_way(engine: Engine, storage: Handy) -> None:
    for a, at in (("first", 90), ("second", 400), ("third", 400)):
        storage.add(Labels.of(__name__="late", a=a), at * 1000, 1.0)
        storage.add(Labels.of(__name__="always", a=a), 400_000, 2.0)
    # The first has its value from the right side: the long way has it last.
    expr = "(late * 1) or (always * 1)"
    for when, taken in ((410_000, False), (100_000, False)):
        short, long = both(engine, expr, when, when, 0)
        assert (short is not None) is taken
        assert len(long) == (3 if when > 400_000 else 1)
    short, long = both(engine, expr, 100_000, 500_000, 100_000)
    assert short is not None
    assert shown(short) == shown(long)


def test_a_glance_is_for_what_was_never_asked(engine: Engine, storage: Handy) -> None:
    found = engine.glance(T, "sum(m_total)", 4 * MIN, 10 * MIN, MIN)
    assert found is not None
    assert shown(found) == shown(engine.range(T, "sum(m_total)", 4 * MIN, 10 * MIN, MIN))
    assert storage.looked == [(T, (Matcher("__name__", "=", "m_total"),))]
    assert engine.glance(T, "sum(m_total)", 4 * MIN, 4 * MIN, 0) is not None
    assert len(storage.looked) == 1, "once is enough"
    assert engine.glance(T, "abs(m_total)", 4 * MIN, 4 * MIN, 0) is None
    with pytest.raises(ParseError):
        engine.glance(T, "m_total{", 4 * MIN, 4 * MIN, 0)


@pytest.mark.parametrize(
    "expr",
    [
        "m_total @ 300",
        "m_total @ end()",
        "max_over_time(rate(m_total[1m])[3m:1m])",
        "quantile_over_time(0.5, m_total[1m])",
        "topk(1, m_total)",
        "stddev(m_total)",
        "abs(m_total)",
        "1",
        "1 + time()",
        "m_total + hour()",
        "m_total * scalar(m_total{a='y'})",
        "m_total * (2 + minute())",
        "m_total </ 3",
        "-(" * 64 + "m_total" + ")" * 64,
        "m_total * (" + "+ ".join(["1"] * 33) + ")",
        " + ".join(["m_total"] * 9),
        "m_total * on (a, b) group_left () m_total",
        "m_total + fill (0) m_total",
        "m_total and abs(m_total)",
        "absent_over_time(m_total[1m])",
        "vector(scalar(m_total))  or m_total",
        "sum by (a) (m_total) / sum by (b) (m_total)",
        'rate({a="x"}[1m] offset 5m)',
    ],
)
def test_others_do_not(storage: Handy, expr: str) -> None:
    storage.add(Labels.of(__name__="another", a="x", b="1"), 60_000, 1.0)
    engine = Engine(storage, PromqlSettings(binop_fill_modifiers=True), ManualClock())
    if expr.startswith("rate({"):
        assert engine.at_hand(T, expr, 7 * MIN, 7 * MIN, 0) is None
    else:
        short, _ = both(engine, expr, 4 * MIN, 5 * MIN, 30_000)
        assert short is None
    engine.close()


def test_rows_without_a_value_are_no_part_of_it(engine: Engine) -> None:
    # Of the series that ended only the first steps see anything, and of a later span none.
    for span in ((4 * MIN, 12 * MIN, MIN), (9 * MIN, 12 * MIN, MIN), (9 * MIN, 9 * MIN, 0)):
        short, long = both(engine, "m_total", *span)
        assert short is not None
        assert shown(short) == shown(long)
    assert len(long) == 4


def test_a_doubtful_counter_is_told_of_where_there_is_a_value(engine: Engine, storage: Handy) -> None:
    for i in range(20):
        storage.add(Labels.of(__name__="level", a="x"), i * 15_000, float(i))
    short, long = both(engine, "rate(level[1m])", 4 * MIN, 5 * MIN, MIN)
    assert short is not None
    assert short.infos == long.infos
    assert "level" in short.infos[0]
    short, long = both(engine, "sum by (a) (rate(level[10s]))", 4 * MIN, 5 * MIN, MIN)
    assert short is not None
    assert short.infos == long.infos == []


def test_doubts_are_told_as_often_and_from_where_the_long_way_tells_them(engine: Engine, storage: Handy) -> None:
    for i in range(20):
        storage.add(Labels.of(__name__="level", a="x"), i * 15_000, float(i))
    short, long = both(engine, "100 * sum(rate(level[1m])) > 1e9", 4 * MIN, 5 * MIN, MIN)
    assert short is not None
    assert len(short) == 0, "it is told of where there was a value to compare"
    assert short.infos == long.infos
    assert len(short.infos) == 1
    assert shown(short) == shown(long)


def test_rows_that_are_nowhere_and_the_order_of_groups(engine: Engine, storage: Handy) -> None:
    # What is summed first has gone: its group is not there, or comes where another of its series stands.
    storage.add(Labels.of(__name__="gone_total", a="x", b="1"), 0, 5.0)
    for a, b in (("y", "1"), ("x", "2")):
        storage.add(Labels.of(__name__="gone_total", a=a, b=b), 9 * MIN, 7.0)
    for expr in (
        "sum by (a) (gone_total)",
        "sum by (a) (-gone_total)",
        "sum by (a) (gone_total ^ 2)",
        "count by (a) (max by (a, b) (gone_total) > 6)",
    ):
        for span in ((9 * MIN, 9 * MIN, 0), (9 * MIN, 10 * MIN, MIN)):
            short, long = both(engine, expr, *span)
            assert short is None or shown(short) == shown(long), expr
        assert short is not None, "the rows of a range are sorted"


@pytest.fixture
def buckets(storage: Handy) -> Handy:
    for a in ("x", "y"):
        for le, times in (("0.1", 1), ("1", 3), ("10", 8), ("+Inf", 9)):
            for i in range(60):
                storage.add(Labels.of(__name__="took_seconds_bucket", a=a, le=le), i * 15_000, float(i * times))
    return storage


@pytest.mark.parametrize("step", [0, 30_000])
@pytest.mark.parametrize(
    "expr",
    [
        "histogram_quantile(0.9, sum by (le) (rate(took_seconds_bucket[2m])))",
        "histogram_quantile(0.9, sum by (le, a) (rate(took_seconds_bucket[2m])))",
        "histogram_quantile(0.5, took_seconds_bucket)",
        "1000 * histogram_quantile((1), rate(took_seconds_bucket[2m]))",
    ],
)
def test_quantiles_of_classic_histograms_take_it(engine: Engine, buckets: Handy, expr: str, step: int) -> None:
    for _ in range(2):
        short, long = both(engine, expr, 4 * MIN, 10 * MIN, step)
        assert short is not None
        assert shown(short) == shown(long)
        assert len(short) >= 1
    assert buckets.taken == 2


@pytest.mark.parametrize(
    ("expr", "told"),
    [
        ("histogram_quantile(1.5, took_seconds_bucket)", "quantile value should be between 0 and 1"),
        ("histogram_quantile(NaN, took_seconds_bucket)", "quantile value should be between 0 and 1"),
        ("histogram_quantile(0.5, m_total)", 'bucket label "le" is missing'),
        ("histogram_quantile(0.5, sum by (a) (took_seconds_bucket))", 'bucket label "le" is missing'),
        ("histogram_quantile(0.5, -took_seconds_bucket)", "needed to be fixed for monotonicity"),
    ],
)
def test_what_is_told_of_buckets_is_the_long_ways_to_tell(engine: Engine, buckets: Handy, expr: str, told: str) -> None:
    short, long = both(engine, expr, 4 * MIN, 5 * MIN, MIN)
    assert short is None
    assert any(told in text for text in (*long.warnings, *long.infos))


def test_what_does_not_go_together_one_by_one_is_the_long_ways_to_refuse(engine: Engine) -> None:
    for expr in (
        "m_total / on (a) m_total",
        "sum by (a) (m_total) / on (b) sum by (a) (m_total)",
        "m_total * ignoring (b) sum by (a) (m_total)",
        "max(m_total) - on () m_total",
    ):
        for span in ((4 * MIN, 4 * MIN, 0), (4 * MIN, 5 * MIN, MIN)):
            with pytest.raises(VedetteError, match=r"many-to-many matching not allowed|many-to-one matching must be explicit"):
                both(engine, expr, *span)
            assert engine.at_hand(T, expr, *span) is None


def test_sides_that_lie_apart_in_time_or_in_tables(engine: Engine, storage: Handy) -> None:
    # Days apart they are two reads, with tables and symbols of their own; near one another one.
    for i in range(20):
        storage.add(Labels.of(__name__="m_total", a="new", b="1"), 6000 * MIN + i * 15_000, float(i))
        storage.add(Labels.of(__name__="m_total", b="1", a="x"), 6000 * MIN + i * 15_000, float(i * i))
    for moved, reads in (("6000m", 2), ("1m", 1)):
        expr, taken = f"rate(m_total[1m]) / on (a, b) rate(m_total[2m] offset {moved})", storage.taken
        for span in ((6004 * MIN, 6004 * MIN, 0), (6002 * MIN, 6004 * MIN, MIN)):
            short, long = both(engine, expr, *span)
            assert short is not None
            assert shown(short) == shown(long)
            assert len(short) == (1 if reads == 2 else 2)
        assert storage.taken == taken + 2 * reads


def test_what_is_large_together_is_left_to_the_long_way(engine: Engine) -> None:
    expr, most = "sum(m_total) - sum(m_total)", MOST_CELLS // 10
    both(engine, expr, 0, 10 * MIN, 1000)
    assert engine.at_hand(T, expr, 0, 1000 * (most - 1), 1000) is not None
    assert engine.at_hand(T, expr, 0, 1000 * (most + 1), 1000) is None
    expr = "m_total + m_total offset 1d"
    short, long = both(engine, expr, 0, 10 * MIN, MIN)
    assert short is None or shown(short) == shown(long)
    assert not len(long), "there was nothing a day before"


def test_names_that_make_the_difference_are_left_to_the_long_way(engine: Engine, storage: Handy) -> None:
    storage.add(Labels.of(__name__="twin_total", a="x", b="1"), 4 * MIN, 1.0)
    for expr, taken in (('{a="x",b="1"}', True), ('{a="x",b="1"} > 0', True), ('{a="x",b="1"} > bool 0', False), ('-{a="x",b="1"}', False)):
        try:
            short, long = both(engine, expr, 4 * MIN, 4 * MIN, 0)
        except VedetteError:
            short = engine.at_hand(T, expr, 4 * MIN, 4 * MIN, 0)
        assert (short is not None) is taken, expr
        assert short is None or shown(short) == shown(long)


def test_series_that_come_and_change(engine: Engine, storage: Handy) -> None:
    expr, span = 'sum by (a) (m_total{b="1"})', (10 * MIN, 12 * MIN, MIN)
    shown(both(engine, expr, *span)[1])
    for number in range(12):
        # More tables than are kept, each as it is.
        storage.add(Labels.of(__name__="m_total", a=f"new{number}", b="1"), 10 * MIN, 1.0)
        short, long = both(engine, expr, *span)
        assert short is not None
        assert shown(short) == shown(long)
        assert len(short) == 4 + number


def test_native_histograms_and_collisions_are_left_to_the_long_way(engine: Engine, storage: Handy) -> None:
    both(engine, "m_total", 4 * MIN, 5 * MIN, MIN)
    layout = Layout(0, 0.001, (), np.array([0, 1], dtype=np.int32), NO_BUCKETS)
    storage.add(Labels.of(__name__="m_total", a="h"), 4 * MIN, Histogram(layout, np.array([4.0, 5.0, 1.0, 1.0, 2.0])))
    assert engine.at_hand(T, "m_total", 4 * MIN, 5 * MIN, MIN) is None
    expr = 'rate({a="x",b="1"}[1m])'
    both(engine, expr, 4 * MIN, 5 * MIN, MIN)
    assert engine.at_hand(T, expr, 4 * MIN, 5 * MIN, MIN) is not None
    storage.add(Labels.of(__name__="twin_total", a="x", b="1"), 4 * MIN, 1.0)
    assert engine.at_hand(T, expr, 4 * MIN, 5 * MIN, MIN) is None


def test_what_is_large_is_left_to_the_long_way(engine: Engine) -> None:
    both(engine, "m_total", 0, 10 * MIN, 1000)
    assert engine.at_hand(T, "m_total", 0, 1000 * (MOST_CELLS // 5 - 1), 1000) is not None
    assert engine.at_hand(T, "m_total", 0, 1000 * (MOST_CELLS // 5 + 1), 1000) is None
    both(engine, "stddev_over_time(m_total[10m])", 0, 10 * MIN, 1000)
    assert engine.at_hand(T, "stddev_over_time(m_total[10m])", 0, 10 * MIN, 10_000) is not None
    assert engine.at_hand(T, "stddev_over_time(m_total[10m])", 0, 10 * MIN, 400) is None
    assert engine.at_hand(T, "m_total", 5 * MIN, 0, 1000) is None, "an error is the long way's to tell"
    assert engine.at_hand(T, "m_total", 0, 5 * MIN, -1000) is None


@pytest.mark.parametrize(
    "changed",
    [
        {"delayed_name_removal": True},
        {"type_and_unit_labels": True},
        {"use_start_timestamps": True},
        {"max_samples": 1000},
        {"max_query_memory": 1000},
        {"max_memory": 1000},
        {"timeout_s": 0.01},
    ],
)
def test_settings_that_make_a_difference_turn_it_off(storage: Handy, changed: dict[str, Any]) -> None:
    engine = Engine(storage, PromqlSettings(**changed), SystemClock())
    engine.parse("m_total")
    assert engine.at_hand(T, "m_total", 4 * MIN, 5 * MIN, MIN) is None
    engine.close()


def test_it_takes_nobodys_place(storage: Handy) -> None:
    engine = Engine(storage, PromqlSettings(max_concurrency=2, max_memory=8 << 20), ManualClock())
    assert both(engine, "m_total", 4 * MIN, 5 * MIN, MIN)[0] is not None
    with engine.running.entered(T, "another", (0, 0, 0), None) as ticket:
        ticket.hold(1, 6 << 20)
        assert engine.at_hand(T, "m_total", 4 * MIN, 5 * MIN, MIN) is None, "the others hold the memory"
    assert engine.at_hand(T, "m_total", 4 * MIN, 5 * MIN, MIN) is not None
    with engine.running.entered(T, "another", (0, 0, 0), None), engine.running.entered(T, "a third", (0, 0, 0), None):
        assert engine.at_hand(T, "m_total", 4 * MIN, 5 * MIN, MIN) is None, "as many run as may"
    assert engine.at_hand(T, "m_total", 4 * MIN, 5 * MIN, MIN) is not None
    engine.close()


def test_rollups_are_left_to_the_long_way(storage: Handy) -> None:
    class RolledUp(Handy):
        def rolled_up(self, start: int, end: int) -> bool:
            return start < 5 * MIN

        def coarse_select(self, tenant: str, matchers: Any, start: int, end: int, coarse: Coarse) -> None:
            return None

    made = RolledUp()
    made.samples = storage.samples
    engine = Engine(made, PromqlSettings(), ManualClock())
    both(engine, "rate(m_total[1m])", 7 * MIN, 8 * MIN, MIN)
    assert engine.at_hand(T, "rate(m_total[1m])", 7 * MIN, 8 * MIN, MIN) is not None
    assert engine.at_hand(T, "rate(m_total[1m])", 5 * MIN, 8 * MIN, MIN) is None
    engine.close()


def test_what_is_no_longer_kept_is_asked_the_long_way(storage: Handy) -> None:
    engine = Engine(storage, PromqlSettings(parse_cache=2), ManualClock())
    for expr in ("m_total", "sum(m_total)", "m_total"):
        engine.parse(expr)
    assert engine.at_hand(T, "sum(m_total)", 4 * MIN, 5 * MIN, MIN) is not None
    # The one that was asked last stays.
    engine.parse("max(m_total)")
    assert engine.at_hand(T, "m_total", 4 * MIN, 5 * MIN, MIN) is None
    assert engine.at_hand(T, "sum(m_total)", 4 * MIN, 5 * MIN, MIN) is not None
    engine.close()
