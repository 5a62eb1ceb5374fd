"""Loki's queries over HTTP, as Grafana asks them."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import json
import weakref
from typing import Any
from urllib.parse import urlencode

import httpx
import pytest
import websockets
from hypothesis import given
from hypothesis import strategies as st
from tests.api.logs.conftest import NOW, sent

from vedette.errors import BadInput, LimitExceeded
from vedette.logs.logql import evaluate
from vedette.logs.logql.parser import parse
from vedette.logs.store import LogStore

pytest.importorskip("duckdb", reason="duckdb is not installed: pip install 'vedette[logs]'")

NO_OBJECT = "Value looks like object, but can't find closing '}' symbol"


# -- Loki's queries, as Grafana asks them ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("query", "messages"),
    [
        ('{service_name="database"}', ["Connection timeout"]),
        ('{service=~".+", level!="info"} |= ""', ["Connection timeout"]),
        ('{service!~"data.*"}', ["Request processed successfully"]),
        ('{level="error"} |= "timeout" != "retry" |~ "^Conn" !~ `\\d`', ["Connection timeout"]),
        ('{level="error"} |= "TIMEOUT"', []),
        ('{user_id="user_456"}', ["Request processed successfully"]),
        ("{}", ["Request processed successfully", "Connection timeout"]),
    ],
)
async def test_loki_query_range(client: httpx.AsyncClient, query: str, messages: list[str]) -> None:
    await sent(client)
    params = {"query": query, "start": str((NOW - 60) * 10**9), "end": str((NOW + 1) * 10**9), "limit": "10"}
    data = (await client.get("/loki/api/v1/query_range", params=params)).json()["data"]
    assert data["resultType"] == "streams"
    found = [(int(time), line) for stream in data["result"] for time, line in stream["values"]]
    assert [line for _, line in sorted(found, reverse=True)] == messages


async def test_loki_labels_volume_and_health(client: httpx.AsyncClient) -> None:
    await sent(client)
    stream = (await client.get("/loki/api/v1/query?query={service=%22database%22}")).json()["data"]["result"][0]["stream"]
    assert stream == {"service_name": "database", "level": "error", "timeout_ms": "5000"}
    assert (await client.get("/loki/api/v1/labels")).json()["data"] == ["level", "service", "service_name"]
    assert (await client.get("/loki/api/v1/label/service_name/values")).json()["data"] == ["database", "web_server"]
    assert (await client.get("/loki/api/v1/label/level/values")).json()["data"] == ["error", "info"]
    series = (await client.get("/loki/api/v1/series", params={"match[]": '{service="database"}'})).json()["data"]
    assert series == [{"service_name": "database", "level": "error"}]
    several = {"match[]": ['{service="database"}', '{level="info"}']}
    assert len((await client.get("/loki/api/v1/series", params=several)).json()["data"]) == 2
    volume = 'sum by (level, detected_level) (count_over_time({service=~".+"} |= `` [5s]))'
    params = {"query": volume, "start": str(NOW - 10), "end": str(NOW + 1)}
    data = (await client.get("/loki/api/v1/query_range", params=params)).json()["data"]
    last = {s["metric"]["level"]: (set(s["metric"].values()), [v for _, v in s["values"]]) for s in data["result"]}
    assert last == {"error": ({"error"}, ["1"] * 5), "info": ({"info"}, ["1"] * 2)}, (
        "one each second for five seconds, as far as they are past"
    )
    data = (await client.get("/loki/api/v1/query?query=vector(1)%2Bvector(1)")).json()["data"]
    assert data["result"][0]["value"][1] == "2"


@pytest.mark.parametrize(
    ("query", "value"),
    [
        ("1 / 0", "+Inf"),
        ("-1 / 0", "-Inf"),
        ("0 / 0", "NaN"),
        ("0 / vector(0)", "NaN"),
        ("5 % vector(0)", "NaN"),
        ("vector(3) / 0 > 1", "+Inf"),
    ],
)
async def test_a_division_by_zero_is_a_point_as_in_promql(client: httpx.AsyncClient, query: str, value: str) -> None:
    now = (await client.get("/loki/api/v1/query", params={"query": query})).json()["data"]
    assert (now["result"] if now["resultType"] == "scalar" else now["result"][0]["value"])[1] == value
    span = {"query": query, "start": str(NOW - 2), "end": str(NOW), "step": "1"}
    (series,) = (await client.get("/loki/api/v1/query_range", params=span)).json()["data"]["result"]
    assert [text for _, text in series["values"]] == [value] * 3


@pytest.mark.parametrize(
    ("query", "message"),
    [
        ("", "parse error at line 1, col 1: syntax error: unexpected $end, expecting a log query, a metric query or a number"),
        ('rate({a="b"})', "col 13: syntax error: unexpected ), expecting RANGE, such as [5m]"),
        ('rate({a="b"}[5m]', "col 17: syntax error: unexpected $end, expecting )"),
        ('rate({a="b"}[5q])', "col 14: syntax error: not a number, a duration or a size: '5q'"),
        ('rate({a="b"}[0s])', "a range that is not above zero"),
        ('topk({a="b"}[5m])', "col 6: syntax error: unexpected {, expecting NUMBER"),
        ('topk(0, rate({a="b"}[5m]))', "invalid parameter 0 for topk"),
        ('sum rate({a="b"}[5m])', "col 5: syntax error: unexpected IDENTIFIER 'rate', expecting ("),
        ('rate({a="b"}[5m]) >', "col 20: syntax error: unexpected $end"),
        ('rate({a="b"}[5m]) rate', "col 19: syntax error: unexpected IDENTIFIER 'rate'"),
        ('{a="b"}\n| line_format x', "line 2, col 15: syntax error: unexpected IDENTIFIER 'x', expecting STRING"),
        ("{a=b}", "col 4: syntax error: unexpected IDENTIFIER 'b', expecting STRING"),
        ('{a="b', "col 4: syntax error: literal not terminated"),
        ('{a="b"} | line_format "{{.x"', "line_format:1:"),
        ('{a="b"} | line_format "{{ nope .x }}"', "nope"),
        ('{a="b"} | regexp "(x)"', "at least one named capture"),
        ('{a="b"} | regexp "(?P<x>"', "bad regular expression"),
        ('{a="b"} | pattern "<_>"', "at least one capture"),
        ('{a="b"} | pattern "<a><b>"', "consecutive captures"),
        ('{a="b"} | pattern "<a> <a>"', "duplicate capture"),
        ('{a="b"} | json x="a..b"', "cannot parse expression"),
        ('{a="b"} | label_format x=y, x=z', "multiple label_format"),
        ('{a="b"} |= ip("10.0.0.0/99")', "invalid pattern"),
        ('{a="b"} | status > "5"', "col 20: syntax error: unexpected STRING, expecting NUMBER, DURATION, BYTES"),
        ('{a="b"} | status =~ 5', "expecting STRING"),
        ('{a=~"("}', "field a: bad regular expression"),
        ('{a="b"', "unexpected $end, expecting } or ,"),
        ('sum_over_time({a="b"}[5m])', "invalid aggregation sum_over_time without unwrap"),
        ('count_over_time({a="b"} | unwrap x [5m])', "invalid aggregation count_over_time with unwrap"),
        ('rate({a="b"}[5m]) by (x)', "grouping not allowed for rate"),
        ('quantile_over_time({a="b"} | unwrap x [5m])', "parameter required"),
        ('max_over_time({a="b"} | unwrap minutes(x) [5m])', "unknown conversion 'minutes'"),
        ('rate({a="b"}[5m]) and 5', "unexpected literal for logical/set"),
        ('rate({a="b"}[5m]) + bool 5', "bool is for comparisons"),
        ("sum(" * 40 + 'rate({a="b"}[5m])' + ")" * 40, "nested more than"),
    ],
)
async def test_loki_refusals_point(client: httpx.AsyncClient, query: str, message: str) -> None:
    answer = await client.get("/loki/api/v1/query_range", params={"query": query})
    assert answer.status_code == 400 and message in answer.text


LOGFMT = [
    (0, "info", "shop", 'level=info status=200 took=12 path="/cart items"'),
    (10, "error", "shop", "level=error status=500 took=340 path=/pay"),
    (20, "error", "shop", 'status=503 msg="no \\"answer\\"" took=5.5'),
    (30, "info", "jobs", '{"status": 200, "took": 7, "request": {"method": "GET", "ids": [1, 2]}}'),
    (40, "info", "jobs", "nothing to parse"),
]


async def walked(client: httpx.AsyncClient) -> None:
    for after, level, service, message in LOGFMT:
        row = {
            "timestamp": NOW - 60 + after,
            "level": level,
            "service": service,
            "message": message,
            "region": "eu" if after < 20 else "us",
        }
        await sent(client, json.dumps(row))


@pytest.mark.parametrize(
    ("query", "at"),
    [
        ("{} | logfmt | status >= 500", [10, 20]),
        ('{service="shop"} | logfmt | path="/cart items"', [0]),
        ('{} | logfmt | msg=`no "answer"`', [20]),
        ("{} | logfmt | took > 5 | took < 100 and status = 200", [0]),
        ("{} | logfmt | status != 200, level=`error`", [10, 20]),
        ('{} | json | request_method=~"G.T"', [30]),
        ("{} | json | status == 200", [0, 10, 20, 30, 40]),  # of the others it cannot be told: they stay, with an error
        ('{} | json | status == 200 | __error__=""', [30]),
        ('{} | region="us"', [20, 30, 40]),
        ('{} |= "status" != "503" or "340"', [0, 30]),
        ('{} |~ "no (answer|thing)" or "took=3.0"', [10]),
        ("{} |= `nothing` or `12` | drop __error__", [0, 40]),
        ('{} | logfmt | absent="" |= "nothing"', [40]),
    ],
)
@pytest.mark.parametrize("flushed", [False, True])
async def test_loki_parsers_and_label_filters(client: httpx.AsyncClient, store: LogStore, query: str, at: list[int], flushed: bool) -> None:
    await walked(client)
    if flushed:
        store.flush()
    params = {"query": query, "start": str(NOW - 100), "end": str(NOW + 1), "direction": "forward"}
    answer = await client.get("/loki/api/v1/query_range", params=params)
    assert answer.status_code == 200, answer.text
    found = sorted(int(time) for stream in answer.json()["data"]["result"] for time, _ in stream["values"])
    assert [time // 10**9 - NOW + 60 for time in found] == at


async def test_what_a_parser_finds_are_labels_of_the_line(client: httpx.AsyncClient) -> None:
    await walked(client)

    async def labels(query: str) -> dict[str, str]:
        params = {"query": query, "start": str(NOW - 100), "end": str(NOW + 1)}
        found: dict[str, str] = (await client.get("/loki/api/v1/query_range", params=params)).json()["data"]["result"][0]["stream"]
        return found

    own = {"service_name": "jobs", "level": "info", "region": "us"}
    assert await labels('{} | json | status="200"') == {**own, "status": "200", "took": "7", "request_method": "GET"}
    assert await labels('{} |= "nothing" | json') == {**own, "__error__": "JSONParserErr", "__error_details__": NO_OBJECT}
    assert (await labels('{} |= "cart" | logfmt'))["path"] == "/cart items"


def naive(times: list[int], start: int, end: int, step: int, span: int) -> list[list[Any]]:
    points = [[t, str(sum(t - span < at <= t for at in times))] for t in range(start, end + 1, step)]
    return [point for point in points if point[1] != "0"]


@pytest.mark.parametrize(("step", "span"), [(5, 10), (10, 10), (10, 30), (7, 20), (20, 7), (60, 1)])
async def test_loki_counts_are_the_naive_ones(client: httpx.AsyncClient, store: LogStore, step: int, span: int) -> None:
    await walked(client)
    store.flush()
    await walked(client)
    params = {"query": f"count_over_time({{}}[{span}s])", "start": str(NOW - 60), "end": str(NOW), "step": str(step)}
    data = (await client.get("/loki/api/v1/query_range", params=params)).json()["data"]
    assert data["resultType"] == "matrix"
    for one in data["result"]:
        times = [NOW - 60 + after for after, level, service, _ in LOGFMT * 2 if (level, service) == tuple(one["metric"].values())]
        assert one["values"] == naive(times, NOW - 60, NOW, step, span)
    assert {tuple(one["metric"].values()) for one in data["result"]} <= {("info", "shop"), ("error", "shop"), ("info", "jobs")}


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ("sum(count_over_time({}[2m]))", {"": "5"}),
        ("sum by (service_name) (count_over_time({}[2m]))", {"shop": "3", "jobs": "2"}),
        ("sum by (region) (count_over_time({}[2m]))", {"eu": "2", "us": "3"}),
        ("sum(count_over_time({}[2m])) by (level)", {"info": "3", "error": "2"}),
        ("sum without (level) (count_over_time({}[2m]))", {"shop": "3", "jobs": "2"}),
        ("sum by (status) (count_over_time({} | logfmt [2m]))", {"200": "1", "500": "1", "503": "1", "": "2"}),
        ("max(sum by (service_name) (count_over_time({}[2m])))", {"": "3"}),
        ("min(count_over_time({}[2m]))", {"": "1"}),
        ("avg(count_over_time({}[2m]))", {"": repr(5 / 3)}),
        ("count(count_over_time({}[2m]))", {"": "3"}),
        ("max by (region) (count_over_time({}[2m]))", {"eu": "1", "us": "2"}),
        ("count without (level) (count_over_time({}[2m]))", {"shop": "2", "jobs": "1"}),
        ("topk(1, sum by (service_name) (count_over_time({}[2m])))", {"shop": "3"}),
        ("bottomk(1, sum by (service_name) (count_over_time({}[2m])))", {"jobs": "2"}),
        ('sum(rate({service="shop"}[30s] offset 30s))', {"": repr(2 / 30)}),
        ('sum(bytes_over_time({service="jobs"} |= "nothing" [2m]))', {"": "16"}),
        ('sum(bytes_rate({} |= "nothing" [32s]))', {"": "0.5"}),
        ("sum(count_over_time({}[15s]))", {}),
    ],
)
async def test_loki_aggregations_at_a_time(client: httpx.AsyncClient, query: str, expected: dict[str, str]) -> None:
    await walked(client)
    answer = await client.get("/loki/api/v1/query", params={"query": query, "time": str(NOW)})
    assert answer.status_code == 200, answer.text
    data = answer.json()["data"]
    assert data["resultType"] == "vector"
    assert {"".join(one["metric"].values()): one["value"][1] for one in data["result"]} == expected
    assert all(one["value"][0] == NOW for one in data["result"])


async def test_loki_labels_in_what_is_no_range(client: httpx.AsyncClient) -> None:
    for params, said in (({"start": "never"}, "start"), ({"end": "never"}, "end"), ({"start": "20", "end": "10"}, "before")):
        answer = await client.get("/loki/api/v1/labels", params=params)
        assert answer.status_code == 400
        assert said in answer.text
    assert (await client.get("/loki/api/v1/labels")).json()["data"]


async def test_loki_steps_are_bounded(client: httpx.AsyncClient) -> None:
    def params(**more: str) -> dict[str, str]:
        return {"query": "count_over_time({}[1m])", "start": str(NOW - 86_400), "end": str(NOW), **more}

    for more, said in (({"step": "1"}, "86,401 points"), ({"step": "0"}, "above zero"), ({"step": "soon"}, "soon")):
        refused = await client.get("/loki/api/v1/query_range", params=params(**more))
        assert refused.status_code == 400 and said in refused.text
    odd = await client.get("/loki/api/v1/query_range", params=params(step="9.001"))
    assert odd.status_code == 200, "a step that no span divides is worked out line by line"
    assert (await client.get("/loki/api/v1/query_range", params=params())).status_code == 200


PIECES = [
    "{",
    "}",
    "(",
    ")",
    "[5m]",
    "[",
    "]",
    '"',
    "`",
    "|=",
    "|~",
    "!=",
    "| json",
    "| logfmt",
    "|",
    "rate",
    "sum",
    "by",
    "without",
    "topk",
    "3",
    ",",
]
PIECES += [
    'a="b"',
    "level",
    "=",
    ">",
    "offset",
    "-5m",
    "or",
    "and",
    "drop",
    " ",
    "\\",
    "é",
    "\x00",
    "[99999y]",
    "count_over_time",
    "status >= 5",
]


@given(st.lists(st.sampled_from(PIECES), max_size=14).map(" ".join) | st.text(max_size=40))
def test_whatever_is_asked_is_read_or_refused(text: str) -> None:
    with contextlib.suppress(BadInput):
        parse(text)


@pytest.mark.parametrize(
    "text", ["{" + "a" * 100_000, "sum(" * 50_000, '{a="' + "\\" * 99_999, "{} " + "| json " * 20_000, "{} " + '|= "x" ' * 5_000]
)
def test_long_queries_are_read_or_refused(text: str) -> None:
    with contextlib.suppress(BadInput):
        parse(text)


@pytest.mark.parametrize(
    "params",
    [
        {"query": "rate({}[99999y])"},
        {"query": "rate({}[5m] offset 99999y)"},
        {"query": "rate({}[5m])", "step": "9" * 400},
        {"query": "rate({}[5m])", "start": "-9e18", "end": "9e18"},
        {"query": "rate({}[5m])", "start": "1700000000", "end": "4611686018427387903", "step": "999999999"},
        {"query": "rate({}[5m])", "since": "99999y"},
    ],
)
async def test_times_beyond_all_bounds_are_refused(client: httpx.AsyncClient, params: dict[str, str]) -> None:
    answer = await client.get("/loki/api/v1/query_range", params={"start": str(NOW - 60), **params})
    assert answer.status_code in (200, 400), answer.text
    assert (await client.get("/loki/api/v1/index/stats", params={k: v for k, v in params.items() if k != "query"})).status_code in (
        200,
        400,
    )
    assert (await client.get("/loki/api/v1/index/volume", params={k: v for k, v in params.items() if k != "query"})).status_code in (
        200,
        400,
    )


async def test_what_grafana_asks_beside_queries(client: httpx.AsyncClient) -> None:
    await walked(client)
    times = {"start": str(NOW - 100), "end": str(NOW + 1)}
    stats = (await client.get("/loki/api/v1/index/stats", params={"query": '{service_name="jobs"}', **times})).json()
    assert (stats["streams"], stats["entries"], stats["bytes"]) == (1, 2, len(LOGFMT[3][3]) + len(LOGFMT[4][3]))
    volume = (await client.get("/loki/api/v1/index/volume", params={"query": "{}", "targetLabels": "service_name", **times})).json()["data"]
    assert [one["metric"] for one in volume["result"]] == [{"service_name": "shop"}, {"service_name": "jobs"}]
    assert (await client.get("/ready")).text == "ready\n"
    assert (await client.get("/loki/api/v1/status/buildinfo")).json()["version"]
    other = {"x-scope-orgid": "charlie"}
    assert (await client.get("/loki/api/v1/index/stats", params={"query": "{}", **times}, headers=other)).json()["entries"] == 0
    assert (await client.get("/loki/api/v1/query", params={"query": "count_over_time({}[2m])", "time": str(NOW)}, headers=other)).json()[
        "data"
    ]["result"] == []


# -- the live tail ------------------------------------------------------------------------------------------------------


async def test_the_tail_by_websocket(url: str, client: httpx.AsyncClient) -> None:
    await sent(client, '{"level":"error","service":"shop","message":"before a=1"}')
    address = url.replace("http", "ws") + "/loki/api/v1/tail"
    query = '{service_name="shop"} | logfmt | line_format "{{.a}}!"'
    params = {"query": query, "start": str(NOW - 100), "limit": "10"}
    async with websockets.connect(f"{address}?{urlencode(params)}") as socket:

        async def told() -> list[tuple[str, list[str]]]:
            message = json.loads(await asyncio.wait_for(socket.recv(), 20))
            assert message.keys() == {"streams", "dropped_entries"}
            return [(one["stream"]["level"], [line for _, line in one["values"]]) for one in message["streams"]]

        assert await told() == [("error", ["1!"])]
        await sent(client, '{"level":"info","service":"shop","message":"a=2"}\n{"service":"jobs","message":"a=9"}')
        assert await told() == [("info", ["2!"])]
        await sent(client, "\n".join(json.dumps({"level": "info", "service": "shop", "message": f"a={i}"}) for i in range(600)))
        message = json.loads(await asyncio.wait_for(socket.recv(), 20))
        lines = [line for one in message["streams"] for _, line in one["values"]]
        assert sorted(lines) == sorted(f"{i}!" for i in range(100, 600)), "the newest, and that there were more"
        assert len(message["dropped_entries"]) == 1
    other = {"x-scope-orgid": "charlie"}
    async with websockets.connect(f"{address}?{urlencode({'query': '{}', 'start': str(NOW - 100)})}", additional_headers=other) as socket:
        await sent(client, '{"message":"not for charlie"}')
        await sent(client, '{"message":"for charlie"}', **other)
        (stream,) = json.loads(await asyncio.wait_for(socket.recv(), 20))["streams"]
        assert [line for _, line in stream["values"]] == ["for charlie"]


@pytest.mark.parametrize(
    ("params", "said"),
    [
        ({"query": "{"}, "parse error at line 1, col 2"),
        ({"query": "rate({}[1m])"}, "only a log query"),
        ({"query": "{}", "start": "never"}, "not a time"),
        ({"query": "{}", "start": "0", "limit": "many"}, "expected 1 to 5,000"),
    ],
)
async def test_a_tail_of_nothing_is_closed_with_a_reason(url: str, params: dict[str, str], said: str) -> None:
    async with websockets.connect(f"{url.replace('http', 'ws')}/loki/api/v1/tail?{urlencode(params)}") as socket:
        with pytest.raises(websockets.ConnectionClosed) as closed:
            await asyncio.wait_for(socket.recv(), 20)
    assert closed.value.rcvd is not None
    assert closed.value.rcvd.code == 1008 and said in closed.value.rcvd.reason


# -- what Grafana's pages ask -----------------------------------------------------------------------------------------------


async def test_labels_and_fields_are_detected(client: httpx.AsyncClient) -> None:
    await walked(client)
    times = {"start": str(NOW - 100), "end": str(NOW + 1)}
    labels = (await client.get("/loki/api/v1/detected_labels", params=times)).json()
    assert labels == {"detectedLabels": [{"label": "level", "cardinality": 2}, {"label": "service_name", "cardinality": 2}]}
    params = {"query": '{service_name="shop"} | logfmt', **times}
    fields = (await client.get("/loki/api/v1/detected_fields", params=params)).json()["fields"]
    kinds = {one["label"]: (one["type"], one["cardinality"]) for one in fields}
    assert kinds["status"] == ("int", 3) and kinds["took"] == ("float", 3) and kinds["path"] == ("string", 2) and kinds["region"][1] == 2


async def test_a_query_is_spelt_plainly(client: httpx.AsyncClient) -> None:
    answer = await client.get("/loki/api/v1/format_query", params={"query": 'sum(rate({a="b"}[60s]))by(c)'})
    assert answer.json() == {"status": "success", "data": 'sum by (c) (rate({a="b"} [1m]))'}
    absent = await client.get("/loki/api/v1/patterns", params={"query": "{}"})
    assert absent.status_code == 404 and "patterns of lines are not kept" in absent.text


async def test_volume_over_time_and_scalars(client: httpx.AsyncClient) -> None:
    await walked(client)
    times = {"start": str(NOW - 60), "end": str(NOW), "step": "30"}
    params = {"query": '{service_name="jobs"}', "targetLabels": "service_name", **times}
    data = (await client.get("/loki/api/v1/index/volume_range", params=params)).json()["data"]
    assert data["resultType"] == "matrix"
    assert [(one["metric"], [v for _, v in one["values"]]) for one in data["result"]] == [
        ({"service_name": "jobs"}, [str(len(LOGFMT[3][3])), str(len(LOGFMT[4][3]))])
    ]
    scalar = (await client.get("/loki/api/v1/query", params={"query": "1 + 1", "time": str(NOW)})).json()["data"]
    assert (scalar["resultType"], scalar["result"]) == ("scalar", [NOW, "2"])
    matrix = (await client.get("/loki/api/v1/query_range", params={"query": "2", **times})).json()["data"]["result"]
    assert matrix == [{"metric": {}, "values": [[NOW - 60, "2"], [NOW - 30, "2"], [NOW, "2"]]}]
    ordered = "sort_desc(sum by (service_name) (count_over_time({}[2m])))"
    vector = (await client.get("/loki/api/v1/query", params={"query": ordered, "time": str(NOW)})).json()["data"]["result"]
    assert [one["metric"]["service_name"] for one in vector] == ["shop", "jobs"]
    refused = await client.get("/loki/api/v1/index/stats", params={"query": "{} | line_format `x`", **times})
    assert refused.status_code == 400 and "only matchers" in refused.text


async def test_a_query_that_fails_holds_nothing_any_longer(
    client: httpx.AsyncClient, store: LogStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    await sent(client)
    held: list[weakref.ref[Any]] = []

    class Held(dict[str, str]):
        """What a failing query has at hand."""

    def refuse(*_: object) -> None:
        labels = Held(a="1")
        held.append(weakref.ref(labels))
        raise LimitExceeded("too much")

    monkeypatch.setattr(evaluate, "run", refuse)
    queries = ("count_over_time({} | json | line_format `x`[1h])", "{} | json | line_format `x`")
    gc.collect()
    gc.disable()
    try:
        for query in queries:
            answer = await client.get("/loki/api/v1/query_range", params={"query": query, "start": f"{NOW - 60}", "end": f"{NOW + 1}"})
            assert (answer.status_code, answer.text.strip()) == (422, "too much")
            assert held
            async with asyncio.timeout(10):
                while any(one() is not None for one in held):
                    await asyncio.sleep(0.005)  # the thread lets go of it after it has answered
    finally:
        gc.enable()
