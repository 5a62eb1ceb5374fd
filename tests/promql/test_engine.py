"""The engine's surface: result forms, errors, limits, and that it reads no more than it must."""

from __future__ import annotations

import json
import math
import threading
from collections.abc import Iterator

import numpy as np
import pytest

from vedette.clock import ManualClock, SystemClock
from vedette.errors import BadInput, LimitExceeded
from vedette.model.labels import Labels
from vedette.model.samples import STALE
from vedette.model.series import SeriesSet
from vedette.promql import binary, evaluate, functions, ordered
from vedette.promql.engine import Engine
from vedette.promql.errors import ExecutionError, ParseError, QueryCanceled, QueryTimeout, TooManySamples
from vedette.promql.memory import MemoryStorage
from vedette.promql.seriesnotation import parse_series
from vedette.promql.settings import PromqlSettings
from vedette.storage.interface import Matchers


class Watched(MemoryStorage):
    """Notes what is read."""

    def __init__(self) -> None:
        super().__init__()
        self.reads: list[tuple[list[str], int, int]] = []

    def select(self, tenant: str, matchers: Matchers, start: int, end: int) -> SeriesSet:
        self.reads.append(([str(m) for m in matchers], start, end))
        return super().select(tenant, matchers, start, end)


@pytest.fixture
def storage() -> Watched:
    storage = Watched()
    for host in ("b", "a"):
        labels = Labels.of({"__name__": "up", "host": host})
        for i in range(11):
            storage.add(labels, i * 30_000, float(i) if host == "a" else i / 10)
    return storage


@pytest.fixture
def engine(storage: Watched) -> Iterator[Engine]:
    engine = Engine(storage, PromqlSettings(), SystemClock())
    yield engine
    engine.close()


def data(raw: bytes) -> dict:
    return json.loads(raw)


def test_a_vector_as_json_in_order_of_the_storage(engine: Engine) -> None:
    result = engine.instant("t", "up", 90_500)
    assert result.type == "vector"
    assert result.json() == (
        b'{"resultType":"vector","result":[{"metric":{"__name__":"up","host":"b"},"value":[90.500,"0.3"]},'
        b'{"metric":{"__name__":"up","host":"a"},"value":[90.500,"3"]}]}'
    )
    assert data(result.json(limit=1))["result"][0]["metric"]["host"] == "b"


def test_a_matrix_is_sorted_by_labels(engine: Engine) -> None:
    result = engine.range("t", "up", 0, 60_000, 60_000)
    assert result.json() == (
        b'{"resultType":"matrix","result":[{"metric":{"__name__":"up","host":"a"},"values":[[0,"0"],[60,"2"]]},'
        b'{"metric":{"__name__":"up","host":"b"},"values":[[0,"0"],[60,"0.2"]]}]}'
    )


def test_scalars_strings_and_raw_windows(engine: Engine) -> None:
    assert engine.instant("t", "1 / 3", 1500).json() == b'{"resultType":"scalar","result":[1.500,"0.3333333333333333"]}'
    assert engine.instant("t", '"a\\"b"', 0).json() == b'{"resultType":"string","result":[0,"a\\"b"]}'
    window = data(engine.instant("t", 'up{host="a"}[1m]', 60_000).json())
    assert window == {"resultType": "matrix", "result": [{"metric": {"__name__": "up", "host": "a"}, "values": [[30, "1"], [60, "2"]]}]}
    assert data(engine.range("t", "-Inf", 0, 1000, 1000).json())["result"] == [{"metric": {}, "values": [[0, "-Inf"], [1, "-Inf"]]}]
    assert engine.instant("t", "nothing", 0).json() == b'{"resultType":"vector","result":[]}'


def test_columns_for_rules(engine: Engine) -> None:
    table, values, time = engine.instant("t", "up * 10", 60_000).vector()
    assert (list(table), values.tolist(), time) == ([Labels.of(host="b"), Labels.of(host="a")], [2.0, 20.0], 60_000)
    table, values, _ = engine.instant("t", "4", 60_000).vector()
    assert (list(table), values.tolist()) == ([Labels()], [4.0])


def test_stale_markers_are_absence_and_nan_is_a_value(engine: Engine, storage: Watched) -> None:
    storage.add(Labels.of({"__name__": "gone"}), 0, 1.0)
    storage.add(Labels.of({"__name__": "gone"}), 30_000, STALE)
    storage.add(Labels.of({"__name__": "odd"}), 0, math.nan)
    assert len(engine.instant("t", "gone", 29_999)) == 1
    assert len(engine.instant("t", "gone", 30_000)) == 0
    assert engine.instant("t", "count_over_time(gone[1m])", 30_000).rows()[0][2].tolist() == [1.0]
    assert data(engine.instant("t", "odd", 0).json())["result"][0]["value"] == [0, "NaN"]


def test_the_lookback_is_open_at_its_left_end(engine: Engine) -> None:
    assert len(engine.instant("t", "up", 300_000 + 299_999)) == 2
    assert len(engine.instant("t", "up", 300_000 + 300_000)) == 0
    assert len(engine.instant("t", "up", 300_000 + 10_000, lookback_ms=10_000)) == 0
    assert len(engine.instant("t", "up", 300_000 + 9_999, lookback_ms=10_000)) == 2


def test_equal_selectors_are_read_once(engine: Engine, storage: Watched) -> None:
    engine.range("t", 'up{host="a"} + rate(up{host="a"}[1m]) / up{host="a"} offset 1m', 60_000, 120_000, 30_000)
    assert storage.reads == [(['host="a"', '__name__="up"'], 60_000 - 60_000 - 299_999, 120_000)]


def test_selectors_far_apart_are_read_apart(engine: Engine, storage: Watched) -> None:
    engine.instant("t", "up - up offset 4w", 10_000_000_000)
    week4 = 4 * 7 * 86_400_000
    assert sorted((start, end) for _, start, end in storage.reads) == [
        (10_000_000_000 - week4 - 299_999, 10_000_000_000 - week4),
        (10_000_000_000 - 299_999, 10_000_000_000),
    ]


def test_what_does_not_depend_on_the_step_is_evaluated_once(engine: Engine, storage: Watched) -> None:
    result = engine.range("t", "sum(up @ 60) * 2", 0, 300_000, 30_000)
    assert storage.reads == [(['__name__="up"'], 60_000 - 299_999, 60_000)]
    assert {v for _, _, values in result.rows() for v in values.tolist()} == {4.4}


@pytest.mark.parametrize(
    ("start", "end", "step", "message"),
    [
        (10, 0, 1, "end timestamp must not be before start time"),
        (0, 10, 0, "zero or negative query resolution step widths are not accepted. Try a positive integer"),
        (0, 11_001, 1, "exceeded maximum resolution of 11,000 points per timeseries. Try decreasing the query resolution (?step=XX)"),
    ],
)
def test_bad_ranges(engine: Engine, start: int, end: int, step: int, message: str) -> None:
    with pytest.raises(BadInput) as caught:
        engine.range("t", "up", start, end, step)
    assert str(caught.value) == message


def test_a_range_query_wants_a_vector_or_a_scalar(engine: Engine) -> None:
    for expr, kind in (("up[5m]", "range vector"), ('"x"', "string")):
        with pytest.raises(ParseError) as caught:
            engine.range("t", expr, 0, 10, 1)
        assert str(caught.value) == f'invalid expression type "{kind}" for range query, must be Scalar or instant Vector'


def test_execution_errors_belong_to_bad_input(engine: Engine) -> None:
    with pytest.raises(ExecutionError) as caught:
        engine.instant("t", "1 + up * on() up", 0)
    assert str(caught.value) == (
        'found duplicate series for the match group {} on the right hand-side of the operation: [{__name__="up", host="a"}, '
        '{__name__="up", host="b"}];many-to-many matching not allowed: matching labels must be unique on one side'
    )
    with pytest.raises(ExecutionError, match="multiple matches for labels: many-to-one matching must be explicit"):
        engine.instant("t", "up * on() sum(up)", 0)
    with pytest.raises(ExecutionError, match="grouping labels must ensure unique matches"):
        engine.instant("t", "up * on() group_left(host) sum(up)", 0)
    with pytest.raises(ExecutionError, match="same labelset"):
        engine.instant("t", 'label_replace(up, "host", "x", "", "")', 0)


def test_too_many_samples(storage: Watched) -> None:
    engine = Engine(storage, PromqlSettings(max_samples=20), SystemClock())
    for expr in ("up[5m]", "sum_over_time(up[5m])", "sum(up * 2)"):
        with pytest.raises(TooManySamples, match="too many samples"):
            engine.range("t", f"count({expr})" if "[" not in expr else "count(sum_over_time(up[5m]))", 0, 300_000, 1000)
    assert issubclass(TooManySamples, LimitExceeded)
    engine.close()


def test_a_subquery_over_years_is_refused_before_it_is_evaluated(engine: Engine) -> None:
    with pytest.raises(TooManySamples):
        engine.instant("t", "max_over_time((up + 1)[50y:1s])", 2_000_000_000_000)


def test_timeout_and_cancellation(storage: Watched) -> None:
    clock = ManualClock()
    engine = Engine(storage, PromqlSettings(timeout_s=5), clock)

    class Slow(Watched):
        def select(self, tenant: str, matchers: Matchers, start: int, end: int) -> SeriesSet:
            clock._now += 6
            return super().select(tenant, matchers, start, end)

    slow = Engine(Slow(), PromqlSettings(timeout_s=5), clock)
    with pytest.raises(QueryTimeout, match="query timed out in expression evaluation"):
        slow.instant("t", "up", 0)
    canceled = threading.Event()
    canceled.set()
    with pytest.raises(QueryCanceled):
        engine.instant("t", "up", 0, cancel=canceled)
    engine.close()
    slow.close()


def test_parsed_queries_are_kept(engine: Engine) -> None:
    assert engine.parse("sum(up)") is engine.parse("sum(up)")


def test_annotations_point_into_the_query(engine: Engine) -> None:
    result = engine.instant("t", "1 +\n  rate(up[2m])", 120_000)
    name = '"up"'
    suffixes = "_total/_sum/_count/_bucket"
    assert result.infos == [f"PromQL info: metric might not be a counter, name does not end in {suffixes}: {name} (2:8)"]
    assert engine.range("t", "sort(up)", 0, 60_000, 30_000).warnings == [
        "PromQL warning: sort is ineffective for range queries since results are always ordered by labels (1:1)"
    ]
    assert engine.instant("t", "quantile(1.5, up)", 0).warnings == [
        "PromQL warning: quantile value should be between 0 and 1, got 1.5 (1:10)"
    ]


def test_a_storage_with_a_symbol_table_for_each_answer() -> None:
    class Strange(MemoryStorage):
        def select(self, tenant: str, matchers: Matchers, start: int, end: int) -> SeriesSet:
            from vedette.model.labeltable import LabelTable

            answer = super().select(tenant, matchers, start, end)
            return SeriesSet(LabelTable.from_labels(list(answer.labels)), answer.offsets, answer.timestamps, answer.values)

    storage = Strange()
    storage.add(Labels.of({"__name__": "a", "z": "1", "y": "q"}), 0, 6.0)
    storage.add(Labels.of({"__name__": "b", "x": "q", "z": "1", "y": "q"}), 0, 3.0)
    engine = Engine(storage, PromqlSettings(), SystemClock())
    assert engine.instant("t", "a / ignoring(x) b", 0).rows()[0][2].tolist() == [2.0]
    engine.close()


def test_read_only_columns_are_taken_too() -> None:
    class ReadOnly(MemoryStorage):
        def select(self, tenant: str, matchers: Matchers, start: int, end: int) -> SeriesSet:
            answer = super().select(tenant, matchers, start, end)
            for column in (answer.offsets, answer.timestamps, answer.values):
                column.setflags(write=False)
            return answer

    storage = ReadOnly()
    storage.add(Labels.of({"__name__": "a"}), 0, 6.0)
    engine = Engine(storage, PromqlSettings(), SystemClock())
    assert engine.instant("t", "sum(a)", 0).rows()[0][2].tolist() == [6.0]
    engine.close()


def test_many_series_on_two_threads_give_what_one_gives() -> None:
    storage = MemoryStorage()
    rng = np.random.default_rng(7)
    for i in range(3000):
        labels = Labels.of({"__name__": "m", "g": str(i % 7), "i": str(i)})
        for t in range(0, 60_000, 20_000):
            storage.add(labels, t, float(rng.normal()))
    engine = Engine(storage, PromqlSettings(), SystemClock())
    for op in ("sum", "avg", "min", "max", "count", "stddev"):
        fused = engine.range("t", f"{op} by (g) (m)", 0, 60_000, 100)
        whole = engine.range("t", f"{op} by (g) (m + 0)", 0, 60_000, 100)
        for (la, ta, va), (lb, tb, vb) in zip(fused.rows(), whole.rows(), strict=True):
            assert la == lb
            assert ta.tolist() == tb.tolist()
            np.testing.assert_allclose(va, vb, rtol=1e-12)
    engine.close()


def test_the_best_of_many_series_are_read_block_by_block(monkeypatch: pytest.MonkeyPatch) -> None:
    storage = MemoryStorage()
    values = np.random.default_rng(2).permutation(150).astype(np.float64)
    for i in range(150):
        for step in range(3):
            storage.add(Labels.of(__name__="m", i=str(i), half=str(i % 2)), 60_000 * step, values[(i + step) % 150])
    engine = Engine(storage, PromqlSettings(), ManualClock())
    # Blocks of 16 rows, two of them at a time.
    monkeypatch.setattr(ordered, "BLOCK_CELLS", 48)
    try:
        for expr, best in (("topk by (half) (4, m)", sorted), ("bottomk by (half) (4, m)", lambda v: sorted(v, reverse=True))):
            found = engine.range("t", expr, 0, 120_000, 60_000).rows()
            for step in range(3):
                for half in (0, 1):
                    got = [v for labels, times, row in found for t, v in zip(times, row, strict=True) if t == 60_000 * step
                           and labels.get("half") == str(half)]  # fmt: skip
                    assert best(got) == best([values[(i + step) % 150] for i in range(half, 150, 2)])[-4:]
        at_once = engine.instant("t", "topk(5, m)", 0).rows()
        assert [float(row[0]) for _, _, row in at_once] == [149.0, 148.0, 147.0, 146.0, 145.0]
        assert engine.instant("t", "topk(0, m)", 0).rows() == []
        assert engine.instant("t", "topk(5, nothing)", 0).rows() == []
    finally:
        engine.close()


def test_times_of_samples_do_not_take_the_place_of_their_values(engine: Engine) -> None:
    assert [v[0] for _, _, v in engine.instant("t", "timestamp(up) - up", 70_000).rows()] == [60 - 0.2, 60 - 2.0]
    pinned = engine.range("t", "timestamp((up{host='a'} @ 40))", 0, 60_000, 30_000)
    assert [values.tolist() for _, _, values in pinned.rows()] == [[30.0, 30.0, 30.0]]
    assert engine.instant("t", "timestamp(up + 0)", 70_000).rows()[0][2].tolist() == [70.0]


def test_delayed_name_removal_at_the_top_of_a_subquery(storage: Watched) -> None:
    engine = Engine(storage, PromqlSettings(delayed_name_removal=True), SystemClock())
    assert [labels for labels, _, _ in engine.instant("t", "(-up)[1m:30s]", 60_000).rows()] == [Labels.of(host="a"), Labels.of(host="b")]
    with pytest.raises(ExecutionError, match="same labelset"):
        engine.instant("t", 'label_replace(-up, "host", "x", "", "")[1m:30s]', 60_000)
    engine.close()


def test_columns_for_tables() -> None:
    storage = MemoryStorage()
    native = parse_series("m {{count:1 sum:1}}").items[0].histogram  # type: ignore[union-attr]
    for n, values in {"1": (1.0, math.nan, 3.0), "2": (4.0, native, 6.0), "3": (native, native, native)}.items():
        for k, value in enumerate(values):
            storage.add(Labels.of(__name__="m", n=n), k * 30_000, value)
    engine = Engine(storage, PromqlSettings(), SystemClock())
    found = engine.range("t", "m", 0, 60_000, 30_000).series()
    assert [dict(found.labels.row(i))["n"] for i in range(len(found))] == ["1", "2", "3"]
    assert found.offsets.tolist() == [0, 3, 5, 5]
    assert found.timestamps.tolist() == [0, 30_000, 60_000, 0, 60_000]
    assert found.values.view(np.int64).tolist()[1] == 0x7FF8000000000001
    first = engine.range("t", "m", 0, 60_000, 30_000).series(limit=1)
    assert (len(first), first.sample_count) == (1, 3)
    scalar = engine.instant("t", "1 + 1", 7000).series()
    assert (scalar.labels.row(0), scalar.timestamps.tolist(), scalar.values.tolist()) == (Labels(), [7000], [2.0])
    with pytest.raises(BadInput, match="a string is no table"):
        engine.instant("t", "'text'", 0).series()
    engine.close()


ONE_BY_ONE = [
    "abs(m)", "-m", "m * 2 - 1", "3 - m", "7 % m", "m > 0.1", "0.1 < m", "m >= bool 0.2", "0.5 != bool m", "clamp(m, -0.5, 0.5)",
    "clamp_max(m, 0)", "clamp_min(m, -Inf)", "clamp(m, 1, -1)", "round(m, 0.25)", "ceil(m) / 0", "sqrt(m)", "sgn(-abs(m) == 0)",
    'label_replace(-m * 3, "h", "x$1", "i", "(.)")', "hour(m * 1e5)", "2 * rate(m[1m])", "clamp_max(m, time() / 60)",
]  # fmt: skip


@pytest.mark.parametrize("expr", ONE_BY_ONE)
def test_samples_changed_one_by_one_are_the_same_in_blocks_as_in_a_matrix(expr: str, monkeypatch: pytest.MonkeyPatch) -> None:
    storage = MemoryStorage()
    rng = np.random.default_rng(3)
    special = [0.0, -0.0, math.inf, -math.inf, math.nan]
    for i in range(200):
        for t in range(0, 240_000, 20_000):
            if rng.random() < 0.8:
                storage.add(Labels.of(__name__="m", i=str(i), g=str(i % 3)), t, special[i % 5] if i < 30 and t % 3 else float(rng.normal()))
    engine = Engine(storage, PromqlSettings(), SystemClock())
    try:
        in_blocks = engine.range("t", expr, 60_000, 240_000, 20_000)
        maxima = engine.range("t", f"max by (g) ({expr})", 60_000, 240_000, 20_000)
        for module in (functions, binary, evaluate):
            monkeypatch.setattr(module, "changed", lambda *args, **kwargs: None)
        as_matrix = engine.range("t", expr, 60_000, 240_000, 20_000)
        streamed = [sum(cost.streamed for cost in result.statistics.operations) for result in (in_blocks, as_matrix)]
        assert streamed[0] > streamed[1]
        assert in_blocks.json() == as_matrix.json()
        assert maxima.json() == engine.range("t", f"max by (g) ({expr})", 60_000, 240_000, 20_000).json()
    finally:
        engine.close()


def test_series_that_differ_by_name_alone_are_not_changed_in_blocks() -> None:
    storage = MemoryStorage()
    for i, name in enumerate(("a", "b")):
        storage.add(Labels.of(__name__=name, x="1"), 60_000 * i * 10, float(i))
    engine = Engine(storage, PromqlSettings(), SystemClock())
    try:
        # At no step are both there: they make one series.
        found = engine.range("t", '{__name__=~"a|b"} * 2', 0, 600_000, 600_000).rows()
        assert [(labels.as_dict(), values.tolist()) for labels, _, values in found] == [({"x": "1"}, [0.0, 2.0])]
        assert len(engine.range("t", '{__name__=~"a|b"} >= 0', 0, 600_000, 600_000).rows()) == 2
    finally:
        engine.close()


def test_a_subquery_of_full_rows_is_what_it_is_beside_rows_with_gaps() -> None:
    storage = MemoryStorage()
    for t in range(0, 900_000, 15_000):
        storage.add(Labels.of(__name__="m", i="full"), t, float(t * 7919 % 1000))
        if t > 600_000:
            storage.add(Labels.of(__name__="m", i="late"), t, 1.0)
    engine = Engine(storage, PromqlSettings(), ManualClock())
    try:
        for function in ("max_over_time", "sum_over_time", "rate", "count_over_time"):
            alone, both = (
                engine.range("t", f"{function}(m{which}[2m:30s])", 300_000, 840_000, 60_000).rows() for which in ('{i="full"}', "")
            )
            assert [len(alone), len(both)] == [1, 2]
            assert alone[0][2].tolist() == both[0][2].tolist()
            assert alone[0][1].tolist() == list(range(300_000, 840_001, 60_000))
        sums = engine.range("t", "sum_over_time(m[2m:30s])", 300_000, 300_000, 60_000).rows()
        assert sums[0][2].tolist() == [float(sum(t * 7919 % 1000 for t in (210_000, 240_000, 270_000, 300_000)))]
        assert engine.range("t", "max_over_time(none[2m:30s])", 0, 60_000, 60_000).rows() == []
    finally:
        engine.close()
