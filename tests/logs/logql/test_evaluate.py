"""Metric queries over a store, in segments and in memory: by hand, and the store's way beside the one line by line."""

from __future__ import annotations

import math
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import numpy as np
import orjson
import pytest

from vedette.clock import ManualClock
from vedette.errors import BadInput, LimitExceeded
from vedette.logs.logql import evaluate
from vedette.logs.logql.evaluate import Steps
from vedette.logs.logql.nodes import Pipeline
from vedette.logs.logql.parser import of_selector, parse
from vedette.logs.query import LogQuery
from vedette.logs.settings import LogSettings
from vedette.logs.store import LogStore
from vedette.model.logs import LEVELS, LogBuilder

pytest.importorskip("duckdb", reason="duckdb is not installed: pip install 'vedette[logs]'")

NOW = 1_705_312_800
S = 10**9
# (seconds before now, level, service, message, fields)
LINES: list[tuple[int, str, str, str, dict[str, Any]]] = [
    (90, "info", "shop", "path=/cart took=120ms status=200 size=2KB n=4", {"host": "a"}),
    (80, "info", "shop", "path=/cart took=1.5s status=200 size=10KB n=6", {"host": "b"}),
    (70, "error", "shop", 'path=/pay took=3s status=500 size=1B n=-2 msg="card \\"x\\""', {"host": "a"}),
    (60, "info", "jobs", '{"took": 7, "status": 200, "n": 1, "who": {"id": "k"}}', {"host": "a"}),
    (50, "info", "jobs", '{"took": 9, "status": 404, "n": 2, "who": {"id": "l"}}', {"host": "c"}),
    (40, "warn", "shop", "path=/cart took=80ms status=200 size=5KB n=10", {"host": "b"}),
    (30, "info", "jobs", "10.0.0.7 says no", {"host": "c"}),
]


def batch(rows: list[tuple[int, str, str, str, dict[str, Any]]]) -> Any:
    builder = LogBuilder(max_bytes=1 << 20)
    for before, level, service, message, fields in rows:
        builder.add((NOW - before) * S, LEVELS.index(level), service, message, orjson.dumps(fields))
    return builder.build()


@pytest.fixture(params=["memory", "segments", "both"])
async def store(tmp_path: Path, request: pytest.FixtureRequest) -> AsyncIterator[LogStore]:
    made = LogStore(tmp_path / "logs", LogSettings(), ManualClock(NOW))
    await made.start()
    await made.append("acme", batch(LINES[:4]))
    if request.param != "memory":
        made.flush()
    await made.append("acme", batch(LINES[4:]))
    if request.param == "segments":
        made.flush()
    await made.append("other", batch([(20, "info", "shop", "n=1000", {})]))
    yield made
    await made.close()


async def values(store: LogStore, query: str, *, steps: Steps | None = None) -> dict[str, float]:
    asked = parse(query)
    assert not isinstance(asked, Pipeline)
    found = await evaluate.evaluate(store, "acme", asked, steps or Steps(NOW * S, S, 1))
    if isinstance(found, float):
        return {"scalar": found}
    return {" ".join(f"{n}={v}" for n, v in key): float(row[0]) for key, row in found.items() if not math.isnan(row[0])}


METRICS: list[tuple[str, dict[str, float]]] = [
        ('sum(sum_over_time({service="shop"} | logfmt | unwrap n [2m]))', {"": 18}),
        ('sum by (path) (sum_over_time({service="shop"} | logfmt | unwrap n [2m]))', {"path=/cart": 20, "path=/pay": -2}),
        ('sum_over_time({service="shop"} | logfmt | unwrap n [45s])',
         {"level=warn path=/cart service_name=shop size=5KB status=200 took=80ms": 10}),
        ('avg_over_time({service="shop"} | logfmt | unwrap n [2m]) by (path)', {"path=/cart": 20 / 3, "path=/pay": -2}),
        ('max by (path) (max_over_time({service="shop"} | logfmt | unwrap n [2m]))', {"path=/cart": 10, "path=/pay": -2}),
        ('min_over_time({service="shop"} | logfmt | unwrap n [2m]) by (host)', {"host=a": -2, "host=b": 6}),
        ('first_over_time({service="shop"} | logfmt | unwrap n [2m]) by ()', {"": 4}),
        ('last_over_time({service="shop"} | logfmt | unwrap n [2m]) by (service)', {"service=shop": 10}),
        ('quantile_over_time(0.5, {service="shop"} | logfmt | unwrap n [2m]) by (path)', {"path=/cart": 6, "path=/pay": -2}),
        ('stddev_over_time({service="shop"} | logfmt | unwrap n [2m]) by (path)', {"path=/cart": 2.494438257849294, "path=/pay": 0}),
        ('stdvar_over_time({service="shop"} | logfmt | status="200" | unwrap n [2m]) by ()', {"": float(np.var([4, 6, 10]))}),
        ('sum(rate({service="shop"} | logfmt | unwrap n [90s]))', {"": (6 - 2 + 10) / 90}),
        ('max_over_time({service="shop"} | logfmt | unwrap duration(took) [2m]) by (path)', {"path=/cart": 1.5, "path=/pay": 3}),
        ('sum(sum_over_time({service="shop"} | logfmt | unwrap bytes(size) [2m]))', {"": 17_001}),
        ('sum(sum_over_time({service="jobs"} | json | unwrap took | __error__="" [2m]))', {"": 16}),
        ('sum(sum_over_time({service="jobs"} | json | unwrap took [2m]))', {"": 16}),
        ('sum by (who_id) (sum_over_time({service="jobs"} | json | unwrap n [2m]))', {"who_id=k": 1, "who_id=l": 2}),
        ('sum(sum_over_time({service="shop"} | pattern `<_> n=<n>` | n!~".* .*" | unwrap n [2m]))', {"": 20}),
        ('sum by (method) (count_over_time({service="shop"} | regexp "path=/(?P<method>\\\\w+)" [2m]))',
         {"method=cart": 3, "method=pay": 1}),
        ('sum by (slow) (count_over_time({service="shop"} | logfmt | label_format slow=`{{ gt (duration .took) 1.0 }}` [2m]))',
         {"slow=false": 2, "slow=true": 2}),
        ('count_over_time({} |= ip("10.0.0.0/8") [2m])', {"level=info service_name=jobs": 1}),
        ('sum(bytes_over_time({} |= ip("10.0.0.0/8") | line_format `four` [2m]))', {"": 4}),
        ("sum by (host) (count_over_time({}[2m]))", {"host=a": 3, "host=b": 2, "host=c": 2}),
        ('sum(count_over_time({service="shop"} | logfmt | took > 1s or status=`500` [2m]))', {"": 2}),
        ('sum(count_over_time({service="shop"} | logfmt | took > 100ms and size < 5KB [2m]))', {"": 2}),
        ('sum(count_over_time({service="shop"} | logfmt | msg=`card "x"` [2m]))', {"": 1}),
        ("count_over_time({service=\"shop\"} | drop level [2m])", {"service_name=shop": 4}),
        ('absent_over_time({service="nope", level=~".+"}[2m])', {"service=nope": 1}),
        ('absent_over_time({service="shop"}[2m])', {}),
        ("sum(rate({level=`error`}[2m])) / sum(rate({}[2m])) * 100", {"": 100 / 7}),
        ("sum by (service_name) (count_over_time({level=`error`}[2m])) / sum by (service_name) (count_over_time({}[2m]))",
         {"service_name=shop": 0.25}),
        ("sum by (service_name) (count_over_time({}[2m])) > 3", {"service_name=shop": 4}),
        ("sum by (service_name) (count_over_time({}[2m])) > bool 3", {"service_name=shop": 1, "service_name=jobs": 0}),
        ("sum by (service_name) (count_over_time({level=`fatal`}[2m])) or vector(0)", {"": 0}),
        ("count_over_time({}[2m]) unless count_over_time({level=`info`}[2m])",
         {"level=error service_name=shop": 1, "level=warn service_name=shop": 1}),
        ("2 * 3 + 4 ^ 0.5", {"scalar": 8}),
        ("vector(1) + vector(1)", {"": 2}),
        ("sum(count_over_time({}[30s] offset 55s))", {"": 3}),
        ('label_replace(sum by (service_name) (count_over_time({}[2m])), "svc", "s-$1", "service_name", "(.).*")',
         {"service_name=shop svc=s-s": 4, "service_name=jobs svc=s-j": 3}),
        ("sort_desc(sum by (service_name) (count_over_time({}[2m])))", {"service_name=shop": 4, "service_name=jobs": 3}),
        ("stddev(sum by (service_name) (count_over_time({}[2m])))", {"": 0.5}),
        ('sum(count_over_time({service="unknown_service"}[2m]))', {}),
        ('sum(count_over_time({service="jobs"} | json [2m]))', {"": 3}),
        ('sum(count_over_time({service="jobs"} | json | __error__="" [2m]))', {"": 2}),
        ("approx_topk(1, sum by (service_name) (count_over_time({}[2m])))", {"service_name=shop": 4}),
]  # fmt: skip


async def test_metrics(store: LogStore) -> None:
    for query, expected in METRICS:
        assert await values(store, query) == pytest.approx(expected), query


@pytest.mark.parametrize(
    "query",
    [
        "sum by (host) (sum_over_time({} | logfmt SLOW | unwrap n [RANGE]))",
        "sum by (path, level) (rate({} | logfmt SLOW | status >= 200 | unwrap n [RANGE]))",
        'max_over_time({service="shop"} | logfmt SLOW | status >= 200 | unwrap n [RANGE]) by (path, level)',
        "last_over_time({} | logfmt SLOW | unwrap n [RANGE]) by (host)",
        "stddev_over_time({} | logfmt SLOW | unwrap n [RANGE]) by ()",
        'sum by (host) (rate_counter({service="shop"} | logfmt SLOW | unwrap n [RANGE]))',
    ],
)
async def test_both_ways_agree(store: LogStore, query: str) -> None:
    steps = Steps((NOW - 90) * S, 7 * S, 14)
    for span in ("10s", "35s", "2m"):
        asked = [parse(query.replace("RANGE", span).replace("SLOW", slow)) for slow in ("", "| line_format `{{__line__}}`")]
        fast, slow = [await evaluate.evaluate(store, "acme", one, steps) for one in asked]  # type: ignore[arg-type]
        assert isinstance(fast, dict) and isinstance(slow, dict)
        assert fast.keys() == slow.keys()
        for key, row in fast.items():
            np.testing.assert_allclose(row, slow[key], rtol=1e-9, atol=1e-9)


async def test_counts_agree_where_spans_are_too_many(store: LogStore) -> None:
    asked = parse("sum by (level) (rate({}[30s]))")
    steps = Steps((NOW - 90) * S, 7 * S, 14)
    odd = Steps((NOW - 90) * S, 7 * S + 1, 14)
    whole = await evaluate.evaluate(store, "acme", asked, steps)  # type: ignore[arg-type]
    other = await evaluate.evaluate(store, "acme", asked, odd)  # type: ignore[arg-type]
    assert isinstance(whole, dict) and isinstance(other, dict)
    for key, row in whole.items():
        np.testing.assert_allclose(row, other[key])


@pytest.mark.parametrize(
    "query", ["sum(sum_over_time({} | logfmt | unwrap path [2m]))", "sum_over_time({} | logfmt | unwrap duration(path) [2m])"]
)
async def test_what_is_no_number_is_told(store: LogStore, query: str) -> None:
    with pytest.raises(BadInput, match=r"SampleExtractionErr.*label path is not a .*'/(cart|pay)'"):
        await values(store, query)


async def test_a_number_is_no_vector(store: LogStore) -> None:
    with pytest.raises(BadInput, match="a number has no series"):
        await values(store, "sum(5)")
    with pytest.raises(BadInput, match="duplicate series"):
        await values(store, "count_over_time({}[2m]) + on (service_name) count_over_time({}[2m])")
    with pytest.raises(BadInput, match="ten years"):
        await values(store, "sum(count_over_time({}[99y]))")


async def texts(store: LogStore, query: str, **more: Any) -> list[str]:
    asked = LogQuery(start=(NOW - 100) * S, end=NOW * S, **more)
    return [line.text for line in await evaluate.lines(store, "acme", of_selector(query), asked)]


async def test_lines_in_order_up_to_the_limit(store: LogStore) -> None:
    query = '{} | line_format "{{.service_name}} {{.host}}" |= "shop"'
    assert await texts(store, query) == ["shop b", "shop a", "shop b", "shop a"]
    assert await texts(store, query, limit=2) == ["shop b", "shop a"]
    assert await texts(store, query, limit=3, newest_first=False) == ["shop a", "shop b", "shop a"]
    assert await texts(store, "{} |= `path` | logfmt | status=~`5..`") == [LINES[2][3]]
    assert await texts(store, "{} | logfmt | n > 5 or host=`c`", limit=100) == [LINES[i][3] for i in (6, 5, 4, 1)]


async def test_a_walk_has_its_time(store: LogStore) -> None:
    store._database.timeout_s = -1.0
    with pytest.raises(LimitExceeded, match="took longer"):
        await texts(store, "{} | line_format `x`")


async def test_many_lines_are_walked_a_part_at_a_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("vedette.logs.database._AT_ONCE", 3)
    made = LogStore(tmp_path / "logs", LogSettings(), ManualClock(NOW))
    await made.start()
    try:
        for part in range(8):
            # Times overlap between segments, and two lines have each.
            rows = [(90 - 5 * part - i // 2, "info", "s", f"{part}.{i}", {}) for i in range(12)]
            await made.append("acme", batch(rows))
            if part % 3:
                made.flush()
        sizes: list[int] = []

        def work(batches: Any) -> list[tuple[int, int]]:
            parts = list(batches)
            sizes.extend(map(len, parts))
            return [(row.time, row.seq) for part in parts for row in part]

        for newest_first in (True, False):
            found = await made.lines_through("acme", LogQuery(newest_first=newest_first), work)
            assert found == sorted(set(found), reverse=newest_first) and len(found) == 96
        assert len(sizes) > 6
        everything = [f"{part}.{i}" for part in range(8) for i in range(12)]
        assert sorted(await texts(made, "{} | line_format `{{__line__}}`", limit=1000)) == sorted(everything)
    finally:
        await made.close()


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ('{service="jobs"} | json | status >= 300', [("404", ""), ("", "JSONParserErr")]),
        ('{service="jobs"} | json | status >= 300 | __error__=""', [("404", "")]),
        ('{service="jobs"} | json | status >= 300 | drop __error__, __error_details__', [("404", ""), ("", "")]),
        ('{service="jobs"} | json | status >= 300 | n > 5', [("", "JSONParserErr")]),
        ('{service="jobs"} | json | n > 5 | status >= 300', [("", "JSONParserErr")]),
        ('{service="jobs"} | json | status="404" | n > 1', [("404", "")]),
        ('{service="shop"} | logfmt | took > 1 | status > 400',
         [(s, "LabelFilterErr") for s in ("200", "200", "500", "200")]),
        ('{service="shop"} | logfmt | status > 400 | took > 1', [("500", "LabelFilterErr")]),
        ('{service="shop"} | logfmt | status > 400', [("500", "")]),
        ('{service="shop"} | logfmt | nope > 400', []),
        ('{service="shop"} | logfmt | line_format `{{ div 1 0 }}` | status > 400',
         [(s, "TemplateFormatErr") for s in ("200", "200", "500", "200")]),
    ],
)  # fmt: skip
async def test_lines_of_which_a_condition_cannot_be_told_stay_and_say_so(
    store: LogStore, query: str, expected: list[tuple[str, str]]
) -> None:
    asked = parse(query)
    assert isinstance(asked, Pipeline)
    for limit in (1, 100):
        found = await evaluate.lines(store, "acme", asked, LogQuery(limit=limit, newest_first=False))
        assert [(line.get("status"), line.get("__error__")) for line in found] == expected[:limit]


async def test_of_such_lines_a_metric_counts_none(store: LogStore) -> None:
    for stages, count in (("| status >= 300", 1), ("| status >= 300 | n > 0", 1), ("| label_format x=status | x >= 300", 1)):
        assert await values(store, f'sum(count_over_time({{service="jobs"}} | json {stages} [2m]))') == {"": count}, stages
