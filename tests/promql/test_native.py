"""Native histograms in queries: what functions make of them, and how answers show them."""

from __future__ import annotations

import json
import math
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from vedette.clock import SystemClock
from vedette.errors import BadInput
from vedette.model.buckets import all_buckets
from vedette.model.histogram_arithmetic import added
from vedette.model.histograms import CUSTOM_SCHEMA, GAUGE, NO_BUCKETS, NOT_RESET, UNKNOWN, Histogram, Layout
from vedette.model.labels import Labels
from vedette.model.samples import STALE
from vedette.promql.engine import Engine
from vedette.promql.format import go_g, json_float
from vedette.promql.memory import MemoryStorage
from vedette.promql.native_pool import Natives
from vedette.promql.native_quantiles import fraction, quantile, variance
from vedette.promql.native_render import JsonHistograms, text
from vedette.promql.native_render import literal as written
from vedette.promql.nhcb import converted
from vedette.promql.seriesnotation import HistogramLiteral, parse_histogram, parse_items, parse_series, parse_starts
from vedette.promql.settings import PromqlSettings
from vedette.promql.testscript import same_histogram

sys.path.insert(0, str(Path(__file__).parents[1] / "model"))
sys.path.insert(0, str(Path(__file__).parent))
from histogram_observations import observed, observed_custom
from trim_twin import trimmed

VALUES = st.lists(st.floats(-100, 100).filter(lambda v: v == 0 or abs(v) > 1e-3), min_size=1, max_size=12)
OBSERVED = st.builds(observed, VALUES, st.integers(-4, 8), st.just(2.0**-16))
CUSTOM = st.builds(observed_custom, VALUES, st.lists(st.integers(-20, 20).map(float), min_size=1, max_size=6, unique=True).map(sorted))


@pytest.fixture
def engine() -> Iterator[Engine]:
    storage = MemoryStorage()
    for line in (
        'h{a="x"} {{schema:0 sum:5 count:4 buckets:[1 2 1]}}x3',
        'h{a="y"} {{schema:0 sum:3 count:2 buckets:[2]}}+{{schema:0 sum:3 count:2 buckets:[2]}}x3',
        'mixed{a="x"} 1 2 {{schema:0 sum:5 count:4 buckets:[1 2 1]}} 3',
        'floats{a="x"} 1 2 3 4',
        "gone {{schema:0 sum:5 count:4 buckets:[1 2 1]}} stale",
        "custom {{schema:-53 sum:5 count:4 custom_values:[5 10] buckets:[1 2 1]}}x3",
    ):
        row = parse_series(line)
        for i, item in enumerate(row.items):
            assert item is not None
            storage.add(row.labels, i * 60_000, item.histogram if isinstance(item, HistogramLiteral) else item)
    engine = Engine(storage, PromqlSettings(experimental_functions=True), SystemClock())
    yield engine
    engine.close()


def floats(engine: Engine, expr: str, at: int = 180_000) -> dict[str, list[float]]:
    return {str(labels): values.tolist() for labels, _, values in engine.instant("t", expr, at).rows()}


def histograms(engine: Engine, expr: str, at: int = 180_000) -> dict[str, list[Histogram]]:
    return {str(labels): found for labels, _, found in engine.instant("t", expr, at).histogram_rows()}


def literal(written: str) -> HistogramLiteral:
    return parse_histogram(written)


# --- answers ---------------------------------------------------------------------------------------------------------


def test_json_of_a_vector(engine: Engine) -> None:
    answer = json.loads(engine.instant("t", 'h{a="x"} or floats', 0).json())
    assert (
        answer["result"]
        == [
            {
                "metric": {"__name__": "h", "a": "x"},
                "histogram": [0, {"count": "4", "sum": "5", "buckets": [[0, "0.5", "1", "1"], [0, "1", "2", "2"], [0, "2", "4", "1"]]}],
            }
        ]
        + [{"metric": {"__name__": "floats", "a": "x"}, "value": [0, "1"]}] * 0
    )
    answer = json.loads(engine.instant("t", '{a="x"}', 0).json())
    assert [sorted(row) for row in answer["result"]] == [["histogram", "metric"], ["metric", "value"], ["metric", "value"]]


def test_json_of_a_matrix_has_floats_and_histograms_apart(engine: Engine) -> None:
    for answer in (engine.range("t", "mixed", 0, 180_000, 60_000), engine.instant("t", "mixed[1h]", 180_000)):
        (row,) = json.loads(answer.json())["result"]
        assert row["values"] == [[0, "1"], [60, "2"], [180, "3"]]
        assert [(time, h["count"]) for time, h in row["histograms"]] == [(120, "4")]
        assert list(row) == ["metric", "values", "histograms"]
    assert json.loads(engine.range("t", "mixed", 0, 180_000, 60_000).json(limit=1))["result"]


def as_json(h: Histogram) -> dict:
    """One histogram as JSON has it."""
    pool = Natives.of(np.array([h], dtype=object)).pool
    text, ends = JsonHistograms(pool).points(np.zeros(1, dtype=np.int64), np.array([1500]))
    assert bytes(text[-1:]) == b"," and ends.tolist() == [len(text)]
    time, found = json.loads(bytes(text[:-1]))
    assert time == 1.5
    return found


def plainly(h: Histogram) -> str:
    """The same, written without haste."""
    every = all_buckets(h)
    heads = f'{{"count":"{json_float(h.count)}","sum":"{json_float(h.sum)}"'
    parts = []
    for low, high, count in zip(*(column.tolist() for column in every), strict=True):
        ends = (low == -math.inf, True) if h.layout.custom else (low < 0, high > 0)
        rule = {(False, True): 0, (True, False): 1, (False, False): 2, (True, True): 3}[ends]
        if count != 0:
            parts.append(f'[{rule},"{json_float(low)}","{json_float(high)}","{json_float(count)}"]')
    return heads + (f',"buckets":[{",".join(parts)}]}}' if parts else "}")


@pytest.mark.parametrize("seed", range(4))
def test_json_of_many_is_that_of_each(seed: int) -> None:
    rng = np.random.default_rng(seed)
    edges = (0.0, 1e-300, 5e-324, 1.25, 3.0, 0.1 + 0.2, 1e6, 1e21, -1e-7, 123456789.0625, 2.0**60, math.inf, -math.inf, math.nan, -0.0)
    found = []
    for schema, threshold in ((0, 0.5), (8, 1e-9), (-4, 0.0), (3, 2.0)):
        layout = Layout(schema, threshold, (), np.array([-3, 0, 1, 40], dtype=np.int32), np.array([2, 9], dtype=np.int32))
        found += [Histogram(layout, rng.choice(edges, layout.width)) for _ in range(30)]
    custom = Layout(CUSTOM_SCHEMA, 0.0, (-1.0, 0.25, 1e30), np.arange(4, dtype=np.int32), NO_BUCKETS)
    found += [Histogram(custom, np.where(np.arange(7) == 2, 0.0, rng.choice(edges, 7))) for _ in range(30)]
    natives = Natives.of(np.array(found, dtype=object))
    items = rng.permutation(len(found))
    times = rng.integers(-(10**12), 10**12, len(found))
    text, ends = JsonHistograms(natives.pool).points(items, times)
    begin = 0
    for item, time, end in zip(items.tolist(), times.tolist(), ends.tolist(), strict=True):
        stamp = f"{time / 1000:.3f}".removesuffix("000").removesuffix(".") if time % 1000 == 0 else f"{time / 1000:.3f}"
        assert bytes(text[begin:end]).decode() == f"[{stamp},{plainly(found[item])}],"
        begin = end
    assert begin == len(text)


def test_json_says_which_bounds_belong_to_a_bucket() -> None:
    h = added(observed([3, -3, 0], 0, 0.5), observed([5e-7], 0)).histogram
    found = as_json(h)
    assert found["buckets"] == [[1, "-4", "-2", "1"], [3, "-0.5", "0.5", "2"], [0, "2", "4", "1"]]
    custom = as_json(observed_custom([1, 7, 99], [5, 10]))
    assert custom["buckets"] == [[3, "-Inf", "5", "1"], [0, "5", "10", "1"], [0, "10", "+Inf", "1"]]
    assert "buckets" not in as_json(observed([], 0))


def test_columns_of_rules_have_no_histograms(engine: Engine) -> None:
    labels, values, _ = engine.instant("t", '{a="x"}', 0).vector()
    assert [(row.metric, v) for row, v in zip(labels, values.tolist(), strict=True)] == [("mixed", 1.0), ("floats", 1.0)]
    assert floats(engine, "h") == {} and set(histograms(engine, "h")) == {'h{a="x"}', 'h{a="y"}'}


def test_text() -> None:
    h = observed([1.5, -3, 0], 0, 0.001)
    assert text(h) == "{count:3, sum:-1.5, [-4,-2):1, [-0.001,0.001]:1, (1,2]:1}"
    assert text(observed_custom([1, 7], [5])) == "{count:2, sum:8, [-Inf,5]:1, (5,+Inf]:1}"


@pytest.mark.parametrize(
    ("value", "g", "js"),
    [
        (0.0, "0", "0"), (-0.5, "-0.5", "-0.5"), (1e6, "1e+06", "1000000"), (123456.5, "123456.5", "123456.5"),
        (1e-5, "1e-05", "0.00001"),
        (1.5e-7, "1.5e-07", "1.5e-07"), (2.5e21, "2.5e+21", "2.5e+21"), (1e20, "1e+20", "100000000000000000000"),
        (math.inf, "+Inf", "+Inf"),
        (math.nan, "NaN", "NaN"), (0.0001, "0.0001", "0.0001"), (-1234567.0, "-1.234567e+06", "-1234567"),
    ],
)  # fmt: skip
def test_numbers_as_go_prints_them(value: float, g: str, js: str) -> None:
    assert (go_g(value), json_float(value)) == (g, js)


# --- functions -------------------------------------------------------------------------------------------------------


@given(st.one_of(OBSERVED, CUSTOM), st.floats(-200, 200))
def test_trimming_keeps_the_fraction_that_there_is(h: Histogram, value: float) -> None:
    below, above = trimmed(h, value, upper=True), trimmed(h, value, upper=False)
    if not h.layout.custom:
        assert below.count == pytest.approx(fraction(-math.inf, value, h, "")[0] * h.count, rel=1e-9, abs=1e-9)
        assert below.count + above.count == pytest.approx(h.count)
    assert below.count <= h.count + 1e-9 and above.count <= h.count + 1e-9
    assert trimmed(h, math.inf, upper=True) is h and trimmed(h, -math.inf, upper=False) is h
    assert trimmed(h, -math.inf, upper=True).count == 0 == trimmed(h, math.inf, upper=False).count


def test_trimming_at_what_is_no_number() -> None:
    for width in (0.0, 0.5):
        for upper in (True, False):
            cut = trimmed(observed([0, 0, 3, -3], 0, width), math.nan, upper=upper)
            assert math.isnan(cut.zero_count) and math.isnan(cut.count) and not len(cut.positive)


@given(OBSERVED, st.floats(0.01, 0.99))
def test_a_quantile_is_where_the_fraction_says(h: Histogram, q: float) -> None:
    value, info = quantile(q, h, "")
    assert not info and fraction(-math.inf, value, h, "")[0] == pytest.approx(q, abs=1e-6)


@given(VALUES, st.integers(2, 8))
def test_quantiles_lie_in_the_bucket_of_the_observation(values: list[float], schema: int) -> None:
    h, ordered = observed(values, schema), sorted(values)
    for i, v in enumerate(ordered):
        got, _ = quantile((i + 0.5) / len(ordered), h, "")
        assert got == pytest.approx(v, rel=2.0 ** (2.0**-schema) - 1 + 1e-9, abs=1e-9)
    assert variance(h) >= 0


def test_observations_that_are_not_numbers() -> None:
    h = literal("schema:0 count:5 sum:NaN buckets:[1 2 1]").histogram
    value, info = quantile(0.9, h, "m")
    assert math.isnan(value) and info == 'input to histogram_quantile has NaN observations, result is NaN for metric name "m"'
    value, info = quantile(0.4, h, "")
    assert value == pytest.approx(2**0.5) and info == "input to histogram_quantile has NaN observations, result is skewed higher"
    assert fraction(-math.inf, math.inf, h, "") == (
        0.8,
        "input to histogram_fraction has NaN observations, which are excluded from all fractions",
    )


def test_functions_of_samples(engine: Engine) -> None:
    assert floats(engine, "histogram_count(h)") == {'{a="x"}': [4], '{a="y"}': [8]}
    assert floats(engine, "histogram_sum(h) / histogram_count(h) - histogram_avg(h)") == {'{a="x"}': [0], '{a="y"}': [0]}
    assert floats(engine, "histogram_count(floats)") == {}
    assert floats(engine, "abs(mixed)", 120_000) == {} == floats(engine, "clamp_max(mixed, 1)", 120_000)
    assert floats(engine, "timestamp(h)") == {'{a="x"}': [180], '{a="y"}': [180]}
    assert floats(engine, "absent(h)") == {} and floats(engine, "count(h)") == {"{}": [2]}
    assert floats(engine, "scalar(h)") == {"{}": [pytest.approx(math.nan, nan_ok=True)]}
    assert set(histograms(engine, 'label_replace(h, "b", "$1", "a", "(.*)")')) == {'h{a="x", b="x"}', 'h{a="y", b="y"}'}
    assert floats(engine, 'count_values("v", h{a="x"})') == {'{v="{count:4, sum:5, (0.5,1]:1, (1,2]:2, (2,4]:1}"}': [1]}


def test_functions_of_windows(engine: Engine) -> None:
    (rate,) = histograms(engine, 'rate(h{a="y"}[2m])').values()
    assert rate[0].hint == GAUGE and rate[0].count == pytest.approx(2 / 60)
    assert floats(engine, "count_over_time(mixed[10m])") == {'{a="x"}': [4]}
    assert floats(engine, "changes(mixed[10m])") == {'{a="x"}': [3]} and floats(engine, "resets(mixed[10m])") == {'{a="x"}': [2]}
    assert same_histogram(literal("sum:20 count:16 buckets:[4 8 4]"), histograms(engine, 'sum_over_time(h{a="x"}[10m])')['{a="x"}'][0])
    assert set(histograms(engine, "last_over_time(mixed[2m])", 120_000)) == {'mixed{a="x"}'}
    assert set(histograms(engine, "first_over_time(h[10m:1m])")) == {'h{a="x"}', 'h{a="y"}'}


@pytest.mark.parametrize(
    ("expr", "warnings", "infos"),
    [
        ("rate(mixed[10m])", ['encountered a mix of histograms and floats for metric name "mixed" (1:6)'], None),
        ("avg_over_time(mixed[10m])", ['encountered a mix of histograms and floats for metric name "mixed" (1:15)'], []),
        (
            "max_over_time(mixed[10m])",
            [],
            ['ignored histograms in a range containing both floats and histograms for metric name "mixed" (1:15)'],
        ),
        ("delta(h[10m])", ['this native histogram metric is not a gauge: "h" (1:7)'], []),
        ("sum({a='x'})", ["encountered a mix of histograms and floats for aggregation (1:5)"], []),
        ("stddev(h)", [], ["ignored histogram in stddev aggregation (1:8)"]),
        ("topk(1, h)", [], ["ignored histogram in topk aggregation (1:1)"]),
        ("h + 1", [], ['incompatible sample types encountered for binary operator "+": histogram + float (1:1)']),
        ("2 / h", [], ['incompatible sample types encountered for binary operator "/": float / histogram (1:1)']),
        ("h > h", [], ['incompatible sample types encountered for binary operator ">": histogram > histogram (1:1)']),
        ("floats </ 1", [], ['incompatible sample types encountered for binary operator "</": float </ float (1:1)']),
        ("sum(h) + sum(custom)", ["incompatible bucket layout encountered for binary operator + (1:1)"], []),
        (
            "sum({__name__=~'h|custom'})",
            ['vector contains a mix of histograms with exponential and custom buckets schemas for metric name "custom" (1:5)'],
            [],
        ),
    ],
)  # fmt: skip
def test_what_is_said(engine: Engine, expr: str, warnings: Sequence[str], infos: Sequence[str] | None) -> None:
    result = engine.instant("t", expr, 180_000)
    assert result.warnings == [f"PromQL warning: {w}" for w in warnings]
    if infos is not None:
        assert result.infos == [f"PromQL info: {i}" for i in infos]


def test_operators(engine: Engine) -> None:
    assert same_histogram(literal("sum:10 count:8 buckets:[2 4 2]"), histograms(engine, 'h{a="x"} + h{a="x"}')['{a="x"}'][0])
    difference = histograms(engine, 'h{a="x"} - h{a="x"}')['{a="x"}'][0]
    assert difference.hint == GAUGE and not difference.cells.any()
    assert histograms(engine, '-h{a="x"}')['{a="x"}'][0].positive.tolist() == [-1, -2, -1]
    assert floats(engine, "h == bool h") == {'{a="x"}': [1], '{a="y"}': [1]} and floats(engine, "h != bool h") == {
        '{a="x"}': [0],
        '{a="y"}': [0],
    }
    assert set(histograms(engine, "h == h")) == {'h{a="x"}', 'h{a="y"}'} and not histograms(engine, "h != h")
    assert set(histograms(engine, "h and floats")) == {'h{a="x"}'} and set(histograms(engine, "h unless floats")) == {'h{a="y"}'}
    assert set(histograms(engine, "floats or h")) == {'h{a="y"}'}
    assert set(histograms(engine, "h >/ 1")) == {'h{a="x"}', 'h{a="y"}'}
    assert histograms(engine, "sum(h @ 0)")["{}"][0].positive.tolist() == [3, 2, 1]
    assert len(engine.range("t", "sum(h @ 0)", 0, 60_000, 60_000).histogram_rows()[0][2]) == 2


def test_a_stale_marker_ends_histograms(engine: Engine) -> None:
    assert set(histograms(engine, "gone", 30_000)) == {"gone{}".removesuffix("{}")}
    assert not histograms(engine, "gone", 60_000) and floats(engine, "count_over_time(gone[5m])", 60_000) == {"{}": [1]}
    stale = observed([1], 0)
    stale.cells[1] = STALE
    storage = MemoryStorage()
    for time, h in ((0, observed([1], 0)), (60_000, stale)):
        storage.add(Labels.of({"__name__": "m"}), time, h)
    one = Engine(storage, PromqlSettings(), SystemClock())
    assert [len(one.instant("t", "m", t).histogram_rows()) for t in (0, 60_000)] == [1, 0]
    assert floats(one, "count_over_time(m[5m])", 60_000) == {"{}": [1]}
    one.close()


# --- what test scripts need ------------------------------------------------------------------------------------------


def test_stored_hints() -> None:
    storage = MemoryStorage()
    name = Labels.of({"__name__": "m"})
    given_ = [
        observed([1], 0), observed([1, 1], 0), observed([1], 0), observed([1, 1], 1), observed([1, 1, 1], 1), observed([1], 1, hint=GAUGE),
        observed([1, 1], 1, hint=GAUGE), observed([1, 1], 1),
    ]  # fmt: skip
    for i, h in enumerate(given_):
        storage.add(name, i, h)
    storage.add(name, len(given_), 7.0)
    storage.add(name, len(given_) + 1, observed([1], 1))
    answer = storage.select("t", (), 0, 100)
    assert answer.histograms is not None
    assert answer.histograms.hints.tolist() == [UNKNOWN, NOT_RESET, UNKNOWN, UNKNOWN, NOT_RESET, GAUGE, GAUGE, UNKNOWN, UNKNOWN]
    assert answer.histograms.at.tolist() == [0, 1, 2, 3, 4, 5, 6, 7, 9] and answer.values[8] == 7.0
    part = storage.select("t", (), 1, 3).histograms
    assert part is not None and part.hints.tolist() == [NOT_RESET, UNKNOWN, UNKNOWN]
    assert storage.select("t", (), 8, 8).histograms is None


def test_literals() -> None:
    full = literal(
        "schema:1 sum:-2.5 count:12 z_bucket:2 z_bucket_w:0.001 offset:-1 buckets:[1 2 0] n_offset:2 n_buckets:[3] counter_reset_hint:gauge"
    )
    h = full.histogram
    assert (full.hinted, h.hint, h.count, h.sum, h.zero_count) == (True, GAUGE, 12, -2.5, 2)
    assert (h.layout.positive.tolist(), h.positive.tolist()) == ([-1, 0, 1], [1, 2, 0])
    assert (h.layout.negative.tolist(), h.negative.tolist(), h.layout.threshold) == ([2], [3], 0.001)
    items = parse_items("{{count:1}}x1 {{count:1}}-{{count:3 counter_reset_hint:gauge}}x2 _ 5")
    found = [item.histogram.count if isinstance(item, HistogramLiteral) else item for item in items]
    assert found == [1, 1, 1, -2, -5, None, 5.0]
    assert [item.hinted for item in items if isinstance(item, HistogramLiteral)] == [False, False, True, True, True]


@pytest.mark.parametrize(
    "line",
    [
        "{{count}}", "{{count:1 count:2}}", "{{size:1}}", "{{count:x}}", "{{schema:9}}", "{{schema:1.5}}", "{{counter_reset_hint:maybe}}",
        "{{count:1}}+{{count:1}}", "{{schema:1}}+{{schema:0}}x2", "{{schema:-53}}+{{}}x1", "{{count:1",
    ],
)  # fmt: skip
def test_broken_literals_are_refused(line: str) -> None:
    with pytest.raises(BadInput):
        parse_items(line)


def test_start_timestamps_tell_resets_only_where_they_are_asked() -> None:
    storage = MemoryStorage()
    name = Labels.of({"__name__": "m_total"})
    for i in range(5):
        # Deltas: each sample counts from the one before it.
        storage.add(name, i * 60_000, 10.0, start=(i - 1) * 60_000 + 1)
        storage.add(Labels.of({"__name__": "plain_total"}), i * 60_000, 10.0 * i)
    answers = []
    for used in (False, True):
        engine = Engine(storage, PromqlSettings(use_start_timestamps=used), SystemClock())
        answers.append([floats(engine, f"{expr}(m_total[3m])", 240_000) for expr in ("increase", "resets", "irate", "delta")])
        assert floats(engine, "increase(plain_total[3m])", 240_000) == {"{}": [pytest.approx(30.0)]}
        engine.close()
    assert answers[0] == [{"{}": [0]}, {"{}": [0]}, {"{}": [0]}, {"{}": [0]}]
    assert answers[1] == [{"{}": [pytest.approx(30.0, rel=1e-3)]}, {"{}": [2]}, {"{}": [pytest.approx(1 / 6)]}, {"{}": [0]}]


def test_start_timestamps_of_scripts() -> None:
    assert parse_starts("_ -1m 0x1 _x2 -30s-1mx2 +1ms 0s") == [None, -60_000, 0, 0, None, None, -30_000, -90_000, -150_000, 1, 0]
    for broken in ("5", "-1m+", "x3", "1m30s"):
        with pytest.raises(BadInput, match="start timestamp"):
            parse_starts(broken)


def test_classic_histograms_become_native_ones() -> None:
    def sample(name: str, value: float, le: str = "", time: int = 0) -> tuple[Labels, int, float]:
        return Labels.of({"__name__": name, "job": "a", "le": le}), time, value

    rows = [
        sample("x_bucket", 3, "2"),
        sample("x_bucket", 1, "1"),
        sample("x_bucket", 9, "bad"),
        sample("x_count", 5),
        sample("x_sum", 7.5),
    ]
    ((labels, time, h),) = converted(rows)
    assert (labels, time) == (Labels.of({"__name__": "x", "job": "a"}), 0)
    assert (h.layout.bounds, h.positive.tolist(), h.count, h.sum) == ((1.0, 2.0), [1, 2, 2], 5, 7.5)
    ((_, _, bare),) = converted([sample("x_bucket", 1, "1"), sample("x_bucket", 4, "+Inf")])
    assert (bare.count, bare.sum, bare.positive.tolist()) == (4, 0, [1, 3])
    for broken in (
        [sample("x_bucket", 3, "1"), sample("x_bucket", 2, "2")],
        [sample("x_bucket", 3, "1"), sample("x_bucket", 4, "+Inf"), sample("x_count", 5)],
    ):
        with pytest.raises(BadInput, match="not cumulative"):
            list(converted(broken))


def test_layouts_are_shared_where_they_are_equal() -> None:
    labels = Labels.of({"__name__": "x_bucket", "le": "1"})
    first, second = (h for _, _, h in converted([(labels, t, 1.0) for t in (0, 1)]))
    assert first.layout is second.layout and np.array_equal(first.cells, second.cells)


@given(st.one_of(OBSERVED, CUSTOM), st.sampled_from([UNKNOWN, NOT_RESET, GAUGE]))
def test_a_histogram_is_written_as_it_is_read(h: Histogram, hint: int) -> None:
    rounded = literal(written(h.hinted(hint)).removeprefix("{{").removesuffix("}}"))
    assert rounded.hinted == (hint != UNKNOWN) and rounded.histogram.hint == hint
    assert same_histogram(rounded, h.hinted(hint)) and written(rounded.histogram) == written(h.hinted(hint))


def test_written_form() -> None:
    assert written(literal("buckets:[0 2 0 1 0] offset:3 count:3 counter_reset_hint:gauge").histogram) == (
        "{{count:3 counter_reset_hint:gauge offset:4 buckets:[2 0 1]}}"
    )
    assert written(literal("schema:-53 sum:1e6 custom_values:[1 2.5] buckets:[0 4]").histogram) == (
        "{{schema:-53 sum:1e+06 custom_values:[1 2.5] offset:1 buckets:[4]}}"
    )
    assert written(literal("").histogram) == "{{}}"


def test_numbers_of_histograms_keep_their_type_and_unit_where_names_are_dropped_at_once() -> None:
    storage = MemoryStorage()
    row = parse_series("h {{schema:0 sum:5 count:4 buckets:[1 2 1]}}")
    (item,) = row.items
    assert isinstance(item, HistogramLiteral)
    for name in ("h", "g"):
        storage.add(Labels.of({"__name__": name, "__type__": "histogram", "__unit__": "s"}), 0, item.histogram)
    engine = Engine(storage, PromqlSettings(), SystemClock())
    late = Engine(storage, PromqlSettings(delayed_name_removal=True), SystemClock())
    for call in ("histogram_count(%s)", "histogram_sum(%s)", "histogram_avg(%s)", "histogram_stddev(%s)", "histogram_stdvar(%s)"):
        assert list(floats(engine, call % "h")) == ['{__type__="histogram", __unit__="s"}']
        assert list(floats(late, call % "h")) == ["{}"]
        with pytest.raises(BadInput, match="vector cannot contain metrics with the same labelset"):
            engine.instant("t", call % '{__name__=~"."}', 0)
    # Others drop all three.
    assert list(floats(engine, "histogram_quantile(0.5, h)")) == ["{}"]
    for each in (engine, late):
        each.close()


@pytest.mark.parametrize("late", [False, True])
def test_what_has_no_bound_is_named_as_it_was_given(late: bool) -> None:
    storage = MemoryStorage()
    storage.add(Labels.of(__name__="x"), 0, 1.0)
    storage.add(Labels.of(__name__="y", le="wide"), 0, 1.0)
    engine = Engine(storage, PromqlSettings(delayed_name_removal=late), SystemClock())
    told = 'PromQL warning: bucket label "le" is missing or has a malformed value of'
    for query, name in (("x", ' for metric name "x"'), ("-x", ' for metric name "x"' if late else "")):
        assert engine.instant("t", f"histogram_quantile(0.5, {query})", 0).warnings == [f'{told} ""{name} (1:25)']
    assert engine.instant("t", "histogram_fraction(0, 1, y)", 0).warnings == [f'{told} "wide" for metric name "y" (1:26)']
    engine.close()
