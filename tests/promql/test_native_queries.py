"""Made-up queries over series of floats and native histograms: they answer or refuse, the same in a range and at one time."""

from __future__ import annotations

import random

from hypothesis import given, note, settings
from hypothesis import strategies as st

from vedette.clock import SystemClock
from vedette.errors import VedetteError
from vedette.model.histograms import Histogram
from vedette.promql.engine import Engine
from vedette.promql.errors import ParseError
from vedette.promql.memory import MemoryStorage
from vedette.promql.result import QueryResult
from vedette.promql.seriesnotation import HistogramLiteral, parse_series
from vedette.promql.settings import PromqlSettings
from vedette.promql.testscript import almost_equal, same_histogram

MINUTE = 60_000


def words(text: str) -> tuple[str, ...]:
    return tuple(text.split())


WINDOWS = words(
    "rate increase delta irate idelta sum_over_time avg_over_time min_over_time changes resets last_over_time first_over_time "
    "count_over_time stddev_over_time deriv ts_of_max_over_time mad_over_time present_over_time absent_over_time"
)
OF_VECTOR = words(
    "histogram_count histogram_sum histogram_avg histogram_stddev histogram_stdvar abs - timestamp absent sgn sum avg max count stddev"
)
WRAPPED = (
    "vector(scalar(%s))", "sum by (s) (%s)", "avg without (s) (%s)", "quantile(0.5, %s)", 'count_values("v", %s)', "limit_ratio(0.5, %s)",
    "histogram_quantile(0.5, %s)", "histogram_quantile(NaN, %s)", "histogram_fraction(-Inf, 2.5, %s)", "clamp(%s, 0, 1)",
    'histogram_quantiles(%s, "q", 0.1, 0.9)', 'label_replace(%s, "s", "1", "s", ".*")',
)  # fmt: skip
OPERATORS = words("+ - * / % ^ == != > ==bool >bool </ >/ atan2")
SELECTORS = ("m", 'm{s="1"}', '{s=~"."}', "m offset 1m", "m smoothed", "x", "m @ 120")


class Maker:
    """Literals and queries, by chance."""

    def __init__(self, seed: int) -> None:
        self.random = random.Random(seed)

    def counts(self, most: int) -> str:
        return " ".join(str(self.random.randint(0, 4)) for _ in range(self.random.randint(0, most)))

    def histogram(self) -> str:
        pick, whole = self.random.choice, self.random.randint
        if self.random.random() < 0.4:
            bounds = " ".join(map(str, sorted(self.random.sample(range(-5, 20), whole(0, 4)))))
            parts = f"schema:-53 sum:{pick(('1', 'NaN', 'Inf'))} custom_values:[{bounds}] buckets:[{self.counts(1)}]"
        else:
            parts = (
                f"schema:{whole(-4, 8)} sum:{pick(('1', 'NaN', '-Inf'))} z_bucket:{whole(0, 2)} z_bucket_w:{pick((0, 1, 3))} "
                f"offset:{whole(-3, 3)} buckets:[{self.counts(4)}] n_offset:{whole(-3, 3)} n_buckets:[{self.counts(3)}] "
                f"counter_reset_hint:{pick(('unknown', 'gauge', 'reset', 'not_reset'))}"
            )
        return "{{" + f"count:{whole(0, 9)} {parts}" + "}}"

    def storage(self) -> MemoryStorage:
        storage = MemoryStorage()
        for series in ('m{s="1"}', 'm{s="2"}', 'm{s="3"}', 'x{s="1"}'):
            items = (self.random.choice((self.histogram(), self.histogram(), "3", "_", "stale", "NaN")) for _ in range(8))
            row = parse_series(f"{series} {' '.join(items)}")
            for i, item in enumerate(row.items):
                if item is not None:
                    value = item.histogram if isinstance(item, HistogramLiteral) else item
                    storage.add(row.labels, i * MINUTE, value, start=self.random.choice((0, i * MINUTE - 30_000)))
        return storage

    def query(self, depth: int) -> str:
        pick, chance = self.random.choice, self.random.random()
        if depth == 0 or chance < 0.1:
            return pick(SELECTORS)
        if chance < 0.35:
            return f"{pick(WINDOWS)}({pick(('m', 'x', SELECTORS[2]))}[{pick(('3m', '90s'))}]{pick(('', '', ' anchored', ' smoothed'))})"
        if chance < 0.45:
            return f"{pick(WINDOWS)}(({self.query(depth - 1)})[4m:1m])"
        if chance < 0.6:
            return f"{pick(OF_VECTOR)}({self.query(depth - 1)})"
        if chance < 0.75:
            return pick(WRAPPED) % self.query(depth - 1)
        if chance < 0.85:
            return f"({self.query(depth - 1)}) {pick(OPERATORS)} {pick(('2', '0', '-1', 'NaN', 'Inf'))}"
        matching = pick(("", "ignoring(s) group_left()"))
        return f"({self.query(depth - 1)}) {pick(OPERATORS)} {matching} ({self.query(depth - 1)})"


def at(result: QueryResult, time: int) -> dict[str, float | Histogram]:
    found: dict[str, float | Histogram] = {
        str(row): float(v) for row, ts, vs in result.rows() for t, v in zip(ts, vs, strict=True) if t == time
    }
    return found | {str(row): h for row, ts, hs in result.histogram_rows() for t, h in zip(ts.tolist(), hs, strict=True) if t == time}


def same(a: float | Histogram, b: float | Histogram) -> bool:
    if isinstance(a, Histogram) or isinstance(b, Histogram):
        return isinstance(a, Histogram) and isinstance(b, Histogram) and same_histogram(HistogramLiteral(a, True), b)
    return almost_equal(a, b)


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 1 << 32), st.booleans())
def test_queries_answer_or_refuse(seed: int, starts: bool) -> None:
    maker = Maker(seed)
    flags = PromqlSettings(experimental_functions=True, extended_range_selectors=True, use_start_timestamps=starts)
    engine = Engine(maker.storage(), flags, SystemClock())
    try:
        for _ in range(8):
            query = maker.query(3)
            note(query)
            try:
                ranged, instant = engine.range("t", query, 0, 8 * MINUTE, 2 * MINUTE), engine.instant("t", query, 4 * MINUTE)
            except ParseError as error:
                raise AssertionError("the maker writes PromQL") from error
            except VedetteError:
                continue
            assert ranged.json() and instant.json()
            wanted, got = at(ranged, 4 * MINUTE), at(instant, 4 * MINUTE)
            assert wanted.keys() == got.keys()
            assert all(same(wanted[series], got[series]) for series in got)
    finally:
        engine.close()


def test_where_nothing_lies_between_two_samples_there_is_nothing_to_divide() -> None:
    engine = Engine(Maker(0).storage(), PromqlSettings(experimental_functions=True, extended_range_selectors=True), SystemClock())
    try:
        for query in ("m smoothed", "(m smoothed) / 2", "(m smoothed) * 0"):
            assert not at(engine.instant("t", query, 4 * MINUTE), 4 * MINUTE)
            assert not at(engine.range("t", query, 0, 8 * MINUTE, 2 * MINUTE), 4 * MINUTE)
    finally:
        engine.close()
