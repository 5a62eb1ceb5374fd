"""Small queries give at once what the long way gives, to the byte, or leave it to that."""

from __future__ import annotations

import math
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vedette.clock import ManualClock
from vedette.errors import VedetteError
from vedette.model.histograms import NO_BUCKETS, Histogram, Layout
from vedette.model.labels import Labels
from vedette.model.samples import STALE
from vedette.promql import engine as engine_module
from vedette.promql import small
from vedette.promql.engine import Engine
from vedette.promql.errors import ExecutionError
from vedette.promql.memory import MemoryStorage
from vedette.promql.parse import parse
from vedette.promql.plan import Prepared
from vedette.promql.result import QueryResult
from vedette.promql.settings import PromqlSettings
from vedette.promql.small import Small
from vedette.storage.interface import Coarse

sys.path.insert(0, str(Path(__file__).parent))
from test_differential import storages, vectors
from test_direct import MIN, Handy, T, handy, shown

SPANS = [
    (600_000, 900_000, 30_000),
    (800_000, 800_000, 0),
    (1_150_000, 1_210_000, 20_000),
    (1_150_000, 1_150_000, 0),
    (0, 1_500_000, 70_000),
]


def long_way(engine: Engine, expr: str, start: int, end: int, step: int) -> QueryResult:
    return engine.range(T, expr, start, end, step) if step else engine.instant(T, expr, start)


def told(engine: Engine, expr: str, *span: int) -> Any:
    """What the long way says: an answer, or an error."""
    try:
        return shown(long_way(engine, expr, *span))
    except VedetteError as error:
        return str(error)


@pytest.fixture
def storage() -> Handy:
    made = Handy()
    for a, b in (("x", "2"), ("x", "1"), ("y", "1"), ('\u00e9"\\', "1")):
        for i in range(60):
            made.add(Labels.of(__name__="m_total", a=a, b=b), i * 15_000, float(i * len(b)) if i % 7 else 0.25 * i)
            made.add(Labels.of(__name__="level", a=a, b=b), i * 15_000, math.sin(i) * 100)
    for i in range(20):
        made.add(Labels.of(__name__="m_total", a="x", b="gone"), i * 15_000, STALE if i == 19 else 1e-9 * i)
    for le, times in (("0.1", 1), ("1", 3), ("10", 8), ("+Inf", 9)):
        for i in range(60):
            made.add(Labels.of(__name__="took_bucket", a="x", le=le), i * 15_000, float(i * times))
    return made


@pytest.fixture
def engine(storage: Handy) -> Iterator[Engine]:
    made = Engine(storage, PromqlSettings(), ManualClock())
    yield made
    made.close()


FORMS = [
    "{}",
    "({}) or vector(0)",
    "topk(2, {})",
    "bottomk by (a) (1, {})",
    "quantile(0.3, {})",
    "absent({})",
    "sort_desc({})",
    'label_replace({}, "c", "$1-", "a", "(.).*")',
    'label_join({}, "a", "/", "b", "none")',
    "scalar({})",
    "round({}, 0.3)",
    "clamp({}, -1, 5)",
    'count_values("v", {})',
    "time() - timestamp({})",
    "avg_over_time(({})[3m:45s])",
    "sgn({}) ^ 2",
    "({}) * on (a, b) group_left () sum by (a, b) (m_total)",
    "limitk(2, {})",
    "stddev by (b) ({})",
    "histogram_quantile(0.5, {})",
    'sort_by_label({}, "b")',
    "absent_over_time(({})[2m:30s])",
    "hour({})",
    "vector(scalar({})) - ({})",
]


@st.composite
def queries(draw: st.DrawFn) -> str:
    """Any query, and what stands around it on dashboards."""
    below = draw(vectors())
    form = draw(st.sampled_from(FORMS))
    return form.replace("{}", below)


@settings(max_examples=60)
@given(storages(), queries(), st.lists(st.sampled_from(SPANS), min_size=1, max_size=3))
def test_any_query_of_any_data(found: MemoryStorage, expr: str, spans: list[tuple[int, int, int]]) -> None:
    engine = Engine(handy(found.samples), PromqlSettings(), ManualClock())
    try:
        # What was kept of the labels at one time serves at another, where other rows may be there.
        for span in (*spans, spans[0]):
            long = told(engine, expr, *span)
            short = engine.small(T, expr, *span)
            assert short is None or shown(short) == long
    finally:
        engine.close()


DASHBOARD = [
    "m_total / on (a) group_left () sum by (a) (m_total)",
    "sum by (a) (m_total) / on (a) group_right () m_total",
    "m_total * on (a, b) group_left (c) label_replace(level, 'c', 'new', '', '')",
    "sum(rate(m_total[2m])) or vector(0)",
    "sum(rate(no_such_total[2m])) or vector(0)",
    "m_total and on (a) level > 50",
    "m_total unless level > 50",
    "m_total or level",
    *(f"{name}(level)" for name in ("abs", "ceil", "sqrt", "ln", "sort", "sort_desc", "absent", "scalar", "year", "stddev", "timestamp")),
    "clamp_min(level, 3)",
    "clamp(level, 3, 9)",
    "round(level, 0.1)",
    'absent(level{a="nobody"})',
    "absent_over_time(level[2m])",
    'label_replace(level, "short", "$1", "a", "(.).*")',
    'label_join(level, "both", "-", "a", "b")',
    "topk(2, level)",
    "bottomk by (a) (1, level)",
    "time() - timestamp(level)",
    'count_values("v", ceil(level / 10))',
    "quantile(0.9, level)",
    "histogram_quantile(0.9, sum by (le) (rate(took_bucket[2m]))) or vector(1)",
    "no_such_metric",
    "level @ end()",
    "level - level offset 5m @ 400",
    "max_over_time(rate(m_total[1m])[3m:1m])",
    "quantile_over_time(0.9, level[2m])",
    "predict_linear(level[2m], 3600)",
    "level / scalar(sum(level))",
    "1 + 1",
    "vector(1)",
    "time()",
    "hour()",
    "count(level > 50) or vector(0)",
    'label_replace(sum(level), "k", "a", "", "") or label_replace(sum(m_total), "k", "b", "", "")',
    "min(m_total) > bool 3",
]


@pytest.mark.parametrize("step", [0, 30_000])
@pytest.mark.parametrize("expr", DASHBOARD)
def test_dashboards_queries_take_it(engine: Engine, expr: str, step: int) -> None:
    assert engine.small(T, expr, 4 * MIN, 10 * MIN, step) is None, "it was never asked before"
    for end in (10 * MIN, 11 * MIN, 10 * MIN):
        start = 4 * MIN if step else end
        long, found = long_way(engine, expr, start, end, step), engine.small(T, expr, start, end, step)
        assert found is not None
        assert shown(found) == shown(long)


def test_strings_and_ranges_of_samples_at_one_time_alone(engine: Engine) -> None:
    for expr in ('"text"', "m_total[1m]"):
        long, found = told(engine, expr, 5 * MIN, 5 * MIN, 0), engine.small(T, expr, 5 * MIN, 5 * MIN, 0)
        assert found is not None
        assert shown(found) == long
        assert "invalid expression type" in told(engine, expr, 5 * MIN, 6 * MIN, MIN)
        assert engine.small(T, expr, 5 * MIN, 6 * MIN, MIN) is None


def test_only_what_has_its_kernels_at_hand(engine: Engine) -> None:
    engine.parse("topk(1, level)")
    assert engine.small(T, "topk(1, level)", 5 * MIN, 5 * MIN, 0) is None
    engine.instant(T, "topk(3, m_total)", 5 * MIN)
    assert engine.small(T, "topk(1, level)", 5 * MIN, 5 * MIN, 0) is not None
    assert engine.small(T, "topk(1, level)", 5 * MIN, 6 * MIN, MIN) is None, "over a range other kernels run"


def test_what_was_never_asked_where_its_like_was(engine: Engine, storage: Handy) -> None:
    new, span = 'abs(level{a="x",b=~"1|2"})', (5 * MIN, 5 * MIN, 0)
    assert engine.first_glance(T, new, *span) is None, "there may be kernels to load"
    engine.instant(T, "abs(level)", 5 * MIN)
    for expr in ('abs(level{a="y"})', 'level{a="x"} - abs(level{a="x",b=~"1|2"})'):
        engine.instant(T, "level - abs(level)", 5 * MIN)
        found = engine.first_glance(T, expr, *span)
        assert found is not None
        assert shown(found) == shown(long_way(engine, expr, *span))
        assert engine.first_glance(T, expr, *span) is None, "it was asked before"
        assert engine.small(T, expr, *span) is not None
    assert engine.first_glance(T, 'abs(level{a="y"}) + 0', 4 * MIN, 5 * MIN, MIN) is None, "over a range other kernels run"
    assert engine.first_glance(T, 'abs({__name__="level",b=~"1|2"})', *span) is not None
    assert engine.first_glance(T, 'abs({a=~"x"})', *span) is None, "all series would be looked through"
    assert engine.first_glance(T, f'abs(level{{a="{"1" * 500}"}})', *span) is None, "it is long"


@pytest.mark.parametrize(
    "expr",
    [
        " or ".join(f"m_{i}" for i in range(9)),
        "m_total anchored",
        "rate(m_total[1m] smoothed)",
        "rate(m_total[1m + 1m])",
        "info(m_total)",
        f'label_replace(level, "c", "$1", "a", "{"(.*)" * 16}")',
        "-(" * 64 + "m_total" + ")" * 64,
    ],
)
def test_what_may_never_be_small(expr: str) -> None:
    features = PromqlSettings(extended_range_selectors=True, experimental_functions=True).features
    assert Small.of(expr, Prepared.of(parse(expr, features))) is None
    assert Small.of("abs(level)", Prepared.of(parse("abs(level)", features))) is not None


def test_what_is_too_much_is_left_to_the_long_way(engine: Engine, storage: Handy) -> None:
    cells, visits, read = "abs(m_total)", "stdvar_over_time(m_total[10m])", "vector(1)"
    for expr in (cells, visits, read):
        told(engine, expr, 0, 10 * MIN, MIN)
        assert engine.small(T, expr, 0, 10 * MIN, MIN) is not None
    assert engine.small(T, cells, 0, 6000, 1) is not None
    assert engine.small(T, cells, 0, 8000, 1) is None, "many values are made"
    assert engine.small(T, visits, 0, 15 * MIN, 100) is None, "many samples are looked at"
    assert engine.small(T, read, 0, 10_000, 1) is None, "many steps"
    assert engine.small(T, read, 0, 1000, 1) is not None
    for i in range(33_000):
        storage.add(Labels.of(__name__="long"), i * 10, float(i))
    for expr in ("abs(max_over_time(long[320s]))", "abs(max_over_time(long[330s]))"):
        told(engine, expr, 330_000, 330_000, 0)
        assert (engine.small(T, expr, 330_000, 330_000, 0) is None) == ("330s" in expr), "many samples are read"


def test_errors_are_the_long_ways_to_tell(engine: Engine) -> None:
    twice = "m_total + on (a) level"
    with pytest.raises(ExecutionError, match="many-to-many"):
        engine.instant(T, twice, 5 * MIN)
    engine.instant(T, "m_total + level", 5 * MIN)
    assert engine.small(T, twice, 5 * MIN, 5 * MIN, 0) is None
    many = 'count_values("v", level + time())'
    told(engine, many, 0, 10 * MIN, MIN)
    assert engine.small(T, many, 0, 10 * MIN, MIN) is not None
    assert engine.small(T, many, 0, 10 * MIN, 500) is None, "it would hold more than a small query may"
    assert isinstance(told(engine, many, 0, 10 * MIN, 500), tuple)


def test_what_takes_long_to_match_is_left_to_the_long_way(engine: Engine, storage: Handy) -> None:
    for i in range(20):
        storage.add(Labels.of(__name__="long", path=f"{'/a' * 500}/{i}"), 5 * MIN, 1.0)
    for pattern, soon in (("(.*)/[0-9]+", True), ("(.*)" * 15, False)):
        expr = f'label_replace(long, "short", "$1", "path", "{pattern}")'
        long, found = told(engine, expr, 5 * MIN, 5 * MIN, 0), engine.small(T, expr, 5 * MIN, 5 * MIN, 0)
        assert (found is not None) == soon
        assert found is None or shown(found) == long
        assert isinstance(long, tuple)


def test_warnings_are_told_each_time(engine: Engine) -> None:
    for expr, word in (("quantile(1.5, level)", "quantile value"), ("sort(level)", "sort is ineffective"), ("rate(level[1m])", "counter")):
        for _ in range(2):
            long, found = long_way(engine, expr, 4 * MIN, 5 * MIN, MIN), engine.small(T, expr, 4 * MIN, 5 * MIN, MIN)
            assert found is not None
            assert word in "".join(found.warnings + found.infos)
            assert shown(found) == shown(long)


def test_native_histograms_are_left_to_the_long_way(engine: Engine, storage: Handy) -> None:
    layout = Layout(0, 0.001, (), np.array([0, 1], dtype=np.int32), NO_BUCKETS)
    storage.add(Labels.of(__name__="native"), 5 * MIN, Histogram(layout, np.array([4.0, 5.0, 1.0, 1.0, 2.0])))
    told(engine, "abs(native) or native", 5 * MIN, 5 * MIN, 0)
    assert engine.small(T, "abs(native) or native", 5 * MIN, 5 * MIN, 0) is None


def test_what_is_kept_of_labels_does_not_grow(engine: Engine, storage: Handy) -> None:
    # Each second there are other values, which are labels here, and other rows are the top ones.
    for i in range(600):
        for a in range(4):
            storage.add(Labels.of(__name__="wild", a=str(a)), i * 1000, math.sin(i * (a + 1)))
    for expr in ('count_values("v", wild)', "topk(2, wild) or vector(0)"):
        for at in range(300_000, 590_000, 3000):
            long, found = long_way(engine, expr, at, at, 0), engine.small(T, expr, at, at, 0)
            assert found is not None
            assert shown(found) == shown(long)
            kept = list(engine._small[expr]._known.values())
            assert all(len(known.symbols) + len(known.symbols.memory or ()) < 2 * small._MOST_KEPT for known in kept)
    for i in range(3 * small._TABLES_KEPT):
        storage.add(Labels.of(__name__="wild", a=f"new-{i}"), 599_000, 1.0)
        assert shown(long_way(engine, "-wild", 599_000, 599_000, 0)) == shown(
            engine.small(T, "-wild", 599_000, 599_000, 0) or pytest.fail()
        )
        assert len(engine._small["-wild"]._known) <= small._TABLES_KEPT


def test_what_was_asked_of_late_keeps_what_it_made(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engine_module, "_REMEMBERED", 2)
    for expr in ("abs(level)", "-level", "abs(level)", "ceil(level)"):
        engine.instant(T, expr, 5 * MIN)
        assert engine.small(T, expr, 5 * MIN, 5 * MIN, 0) is not None
    assert [bool(engine._small[expr]._known) for expr in ("abs(level)", "-level", "ceil(level)")] == [True, False, True]
    assert engine.small(T, "-level", 5 * MIN, 5 * MIN, 0) is not None


def test_two_threads_do_not_share_what_is_kept(engine: Engine) -> None:
    expr = 'label_replace(level, "c", "$1-", "a", "(.).*")'
    long = shown(long_way(engine, expr, 5 * MIN, 5 * MIN, 0))
    assert engine.small(T, expr, 5 * MIN, 5 * MIN, 0) is not None
    (known,) = engine._small[expr]._known.values()
    with known.free:
        assert engine.small(T, expr, 5 * MIN, 5 * MIN, 0) is None
    answers: list[Any] = []

    def ask() -> None:
        for _ in range(50):
            found = engine.small(T, expr, 5 * MIN, 5 * MIN, 0)
            answers.append(long if found is None else shown(found))

    threads = [threading.Thread(target=ask) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert answers == [long] * 150


def test_what_takes_long_again_and_again_is_not_small(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    engine.instant(T, "abs(level)", 5 * MIN)
    monkeypatch.setattr(small, "_TOO_LONG_S", -1.0)
    for _ in range(small._SLOW):
        assert engine.small(T, "abs(level)", 5 * MIN, 5 * MIN, 0) is not None
    assert engine.small(T, "abs(level)", 5 * MIN, 5 * MIN, 0) is None
    monkeypatch.undo()
    assert engine.small(T, "-level", 5 * MIN, 5 * MIN, 0) is None, "another text counts for itself, and was not asked yet"
    engine.instant(T, "-level", 5 * MIN)
    assert engine.small(T, "-level", 5 * MIN, 5 * MIN, 0) is not None


def test_it_takes_nobodys_place(storage: Handy) -> None:
    engine = Engine(storage, PromqlSettings(max_concurrency=1, max_memory=8 << 20), ManualClock())
    engine.instant(T, "abs(level)", 5 * MIN)
    with engine.running.entered(T, "another", (0, 0, 0), None) as ticket:
        ticket.hold(1, 6 << 20)
        assert engine.small(T, "abs(level)", 5 * MIN, 5 * MIN, 0) is None
    assert engine.small(T, "abs(level)", 5 * MIN, 5 * MIN, 0) is not None
    assert len(engine.running) == 0
    engine.close()


@pytest.mark.parametrize(
    "changed", [{"delayed_name_removal": True}, {"type_and_unit_labels": True}, {"max_samples": 1000}, {"timeout_s": 0.01}]
)
def test_settings_that_make_a_difference_turn_it_off(storage: Handy, changed: dict[str, Any]) -> None:
    engine = Engine(storage, PromqlSettings(**changed), ManualClock())
    engine.instant(T, "abs(level)", 5 * MIN)
    assert engine.small(T, "abs(level)", 5 * MIN, 5 * MIN, 0) is None
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
    expr = "abs(sum_over_time(level[5m]))"
    for start in (10 * MIN, 5 * MIN):
        engine.range(T, expr, start, 15 * MIN, 5 * MIN)
    assert engine.small(T, expr, 10 * MIN, 15 * MIN, 5 * MIN) is not None
    assert engine.small(T, expr, 5 * MIN, 15 * MIN, 5 * MIN) is None
    engine.close()


def test_what_is_no_longer_kept_is_asked_the_long_way(storage: Handy) -> None:
    engine = Engine(storage, PromqlSettings(parse_cache=2), ManualClock())
    for expr in ("abs(level)", "-level"):
        engine.instant(T, expr, 5 * MIN)
    assert engine.small(T, "abs(level)", 5 * MIN, 5 * MIN, 0) is not None
    engine.parse("max(m_total)")
    assert engine.small(T, "-level", 5 * MIN, 5 * MIN, 0) is None
    assert engine.small(T, "abs(level)", 5 * MIN, 5 * MIN, 0) is not None
    engine.close()
