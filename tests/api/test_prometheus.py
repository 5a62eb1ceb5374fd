"""The Prometheus API over the real engine and a naive storage: shapes, statuses, wording."""

from __future__ import annotations

import asyncio
import gzip
import json
import threading
from collections.abc import Callable
from typing import Any

import httpx
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from jsonschema import Draft202012Validator

from vedette.api import prometheus, remote_read
from vedette.api.endpoint import Endpoint
from vedette.api.prometheus import READING_POSTS, PrometheusApiSettings, Sources
from vedette.api.status import Reloaded, StatusInfo
from vedette.clock import ManualClock
from vedette.errors import Corrupt, LimitExceeded, NotFound, Undeliverable
from vedette.model.labels import Labels
from vedette.promql.engine import Engine
from vedette.promql.running import Running
from vedette.promql.settings import PromqlSettings

NOW = 1_700_000_000
NOW_MS = NOW * 1000


@pytest.fixture
def engine(storage: Any, clock: ManualClock) -> Any:
    made = Engine(storage, PromqlSettings(), clock)
    yield made
    made.close()


Build = Callable[..., list[Endpoint]]


@pytest.fixture
def build(engine: Engine, storage: Any, clock: ManualClock, run: Any) -> Build:
    def made(**changes: Any) -> list[Endpoint]:
        info = StatusInfo(
            version="1.2.3",
            started=NOW - 60,
            config=lambda: "global: {}\n",
            flags=lambda: {"storage.retention": "30d"},
            reloaded=lambda: Reloaded(True, NOW - 30),
            retention=lambda: "30d",
            corruptions=lambda: 0,
            revision="abc",
        )
        sources = Sources(targets=list, dropped=list, dropped_counts=dict, groups=lambda _request: [])
        given: dict[str, Any] = {"run": run, "clock": clock, "info": info, "tenant_of": lambda request: "default", **changes}
        return prometheus.endpoints(given.pop("engine", engine), storage, sources, **given)

    return made


@pytest.fixture
def client(build: Build, storage: Any, serve: Any) -> httpx.AsyncClient:
    for i in range(61):
        for n, job in enumerate(("api", "web")):
            storage.put(Labels.of(__name__="hits_total", job=job), (NOW_MS - 900_000 + i * 15_000, float(i * (n + 1))))
            storage.put(Labels.of(__name__="up", job=job), (NOW_MS - 900_000 + i * 15_000, 1.0))
    storage.put(Labels.of({"__name__": "http.server", "http.status": "200"}), (NOW_MS, 1.5))
    storage.about("hits_total", "counter", "Hits.")
    storage.about("up", "gauge", "Up.", "")
    made: httpx.AsyncClient = serve(prometheus.routes(build()))
    return made


async def ask(client: httpx.AsyncClient, path: str, **params: Any) -> Any:
    answer = await client.get(f"/api/v1/{path}", params=params)
    assert answer.status_code == 200, answer.text
    assert answer.headers["content-type"] == "application/json"
    return answer.json()


async def refused(client: httpx.AsyncClient, path: str, **params: Any) -> tuple[int, str, str]:
    answer = await client.get(f"/api/v1/{path}", params=params)
    body = answer.json()
    assert (set(body), body["status"]) == ({"status", "errorType", "error"}, "error")
    return answer.status_code, body["errorType"], body["error"]


class TestQuery:
    async def test_a_vector(self, client: httpx.AsyncClient) -> None:
        got = await ask(client, "query", query='hits_total{job="web"}', time=NOW)
        metric = {"__name__": "hits_total", "job": "web"}
        assert got == {"status": "success", "data": {"resultType": "vector", "result": [{"metric": metric, "value": [NOW, "120"]}]}}

    async def test_now_is_the_default(self, client: httpx.AsyncClient) -> None:
        assert (await ask(client, "query", query="1.5"))["data"] == {"resultType": "scalar", "result": [NOW, "1.5"]}
        assert (await ask(client, "query", query='"text"'))["data"] == {"resultType": "string", "result": [NOW, "text"]}

    async def test_other_times(self, client: httpx.AsyncClient) -> None:
        for time in ("1699999100.001", "2023-11-14T21:58:20.001Z", "2023-11-14T22:58:20.001+01:00"):
            assert (await ask(client, "query", query="vector(1)", time=time))["data"]["result"][0]["value"] == [1699999100.001, "1"]

    async def test_a_post_of_a_form(self, client: httpx.AsyncClient) -> None:
        answer = await client.post("/api/v1/query", data={"query": "up + 1", "time": str(NOW)})
        assert [r["value"] for r in answer.json()["data"]["result"]] == [[NOW, "2"], [NOW, "2"]]

    async def test_a_limit_cuts_and_says_so(self, client: httpx.AsyncClient) -> None:
        got = await ask(client, "query", query="up", limit=1)
        assert len(got["data"]["result"]) == 1
        assert got["warnings"] == ["results truncated due to limit"]
        assert "warnings" not in await ask(client, "query", query="up", limit=2)
        assert len((await ask(client, "query", query="up", limit=0))["data"]["result"]) == 2

    async def test_annotations_travel(self, client: httpx.AsyncClient) -> None:
        got = await ask(client, "query", query="quantile(2, up)")
        assert got["warnings"][0].startswith("PromQL warning: quantile value should be between 0 and 1, got 2")
        got = await ask(client, "query", query="rate(up[5m])")
        assert got["infos"][0].startswith("PromQL info: metric might not be a counter")

    async def test_stats_when_asked(self, client: httpx.AsyncClient) -> None:
        assert "stats" not in (await ask(client, "query", query="up"))["data"]
        stats = (await ask(client, "query", query="up", stats="true"))["data"]["stats"]
        assert set(stats["timings"]) == {
            "execQueueTime", "execTotalTime", "evalTotalTime", "resultSortTime", "queryPreparationTime", "innerEvalTime",
        }  # fmt: skip
        assert stats["samples"] == {"totalQueryableSamples": 2, "peakSamples": 42, "samplesRead": 40}
        stats = (await ask(client, "query_range", query="up", start=NOW - 60, end=NOW, step=30, stats="all"))["data"]["stats"]
        per_step = stats["samples"]["totalQueryableSamplesPerStep"]
        assert [t for t, _ in per_step] == [NOW - 60, NOW - 30, NOW]
        assert sum(n for _, n in per_step) == stats["samples"]["totalQueryableSamples"]

    async def test_stats_of_another_value_are_given_with_a_warning(self, client: httpx.AsyncClient) -> None:
        got = await ask(client, "query", query="up", stats="foo")
        assert "stats" in got["data"]
        assert got["warnings"] == [
            'value "foo" for parameter "stats" is deprecated and will be rejected in the next major release, use "true" or "all"'
        ]
        assert "warnings" not in await ask(client, "query", query="up", stats="all")

    async def test_explained_when_asked(self, client: httpx.AsyncClient) -> None:
        assert "explain" not in (await ask(client, "query", query="up", explain="false"))["data"]
        explained = (await ask(client, "query", query="sum(up)", explain="true"))["data"]["explain"]
        assert [(o["operation"], o["inputs"], o["rows"]) for o in explained["operations"]] == [("up", [], 2), ("sum", [0], 1)]
        assert explained["result"] == 1
        assert explained["reads"][0]["samples"] == 40
        refused = await client.get("/api/v1/query", params={"query": "up", "explain": "perhaps"})
        assert refused.status_code == 400

    async def test_running_queries_are_listed_and_ended(self, client: httpx.AsyncClient, engine: Engine, storage: Any) -> None:
        reached, go = threading.Event(), threading.Event()
        select = storage.select

        def slow(*args: Any) -> Any:
            reached.set()
            assert go.wait(60)
            return select(*args)

        storage.select = slow
        assert (await ask(client, "status/queries"))["data"] == []
        asking = asyncio.ensure_future(client.get("/api/v1/query", params={"query": "sum(up)", "time": NOW}))
        assert await asyncio.to_thread(reached.wait, 60)
        (running,) = (await ask(client, "status/queries"))["data"]
        assert {k: running[k] for k in ("tenant", "state", "query", "start", "end", "step", "samples")} == {
            "tenant": "default", "state": "running", "query": "sum(up)", "start": NOW, "end": NOW, "step": 0, "samples": 0,
        }  # fmt: skip
        for unknown in ("0", "x", "9" * 30, "%2E"):
            assert (await client.delete(f"/api/v1/status/queries/{unknown}")).status_code == 404
        assert (await client.delete(f"/api/v1/status/queries/{running['id']}")).status_code == 200
        go.set()
        answer = await asking
        assert (answer.status_code, answer.json()["errorType"]) == (503, "canceled")
        assert (await ask(client, "status/queries"))["data"] == []

    async def test_a_lookback_of_its_own(self, client: httpx.AsyncClient) -> None:
        late = NOW + 200
        assert len((await ask(client, "query", query="up", time=late))["data"]["result"]) == 2
        assert (await ask(client, "query", query="up", time=late, lookback_delta="1m"))["data"]["result"] == []
        assert len((await ask(client, "query", query="up", time=late, lookback_delta="201"))["data"]["result"]) == 2

    @pytest.mark.parametrize(
        ("params", "error"),
        [
            ({"query": "sum(up"}, 'invalid parameter "query": 1:7: parse error: unclosed left parenthesis'),
            ({"query": ""}, 'invalid parameter "query": 1:1: parse error: no expression found in input'),
            ({}, 'invalid parameter "query": 1:1: parse error: no expression found in input'),
            (
                {"query": "up", "time": "x"},
                'invalid parameter "time": invalid time value for \'time\': cannot parse "x" to a valid timestamp',
            ),
            ({"query": "up", "timeout": "x"}, 'invalid parameter "timeout": cannot parse "x" to a valid duration'),
            ({"query": "up", "lookback_delta": "x"}, 'error parsing lookback delta duration: cannot parse "x" to a valid duration'),
            ({"query": "up", "limit": "x"}, 'invalid parameter "limit": strconv.Atoi: parsing "x": invalid syntax'),
            ({"query": "up", "limit": "-1"}, 'invalid parameter "limit": limit must be non-negative'),
        ],
    )
    async def test_bad_parameters(self, client: httpx.AsyncClient, params: dict[str, str], error: str) -> None:
        assert await refused(client, "query", **params) == (400, "bad_data", error)

    async def test_an_execution_error(self, client: httpx.AsyncClient) -> None:
        status, kind, error = await refused(client, "query", query='label_replace(up, "job", "x", "job", ".*")')
        assert (status, kind) == (422, "execution")
        assert "same labelset" in error

    async def test_no_time_at_all(self, client: httpx.AsyncClient) -> None:
        assert await refused(client, "query", query="up", timeout="0") == (503, "timeout", "query timed out in query execution")


class TestQueryRange:
    async def test_a_matrix(self, client: httpx.AsyncClient) -> None:
        got = await ask(client, "query_range", query="rate(hits_total[1m])", start=NOW - 30, end=NOW, step=15)
        assert got["data"]["resultType"] == "matrix"
        first = got["data"]["result"][0]
        assert first["metric"] == {"job": "api"}
        assert [t for t, _ in first["values"]] == [NOW - 30, NOW - 15, NOW]
        assert float(first["values"][0][1]) == pytest.approx(1 / 15)

    async def test_a_step_as_a_duration_and_a_post(self, client: httpx.AsyncClient) -> None:
        form = {"query": "1", "start": str(NOW - 60), "end": str(NOW), "step": "1m"}
        got = (await client.post("/api/v1/query_range", data=form)).json()
        assert got["data"]["result"] == [{"metric": {}, "values": [[NOW - 60, "1"], [NOW, "1"]]}]

    @pytest.mark.parametrize(
        ("params", "error"),
        [
            ({"start": ""}, 'invalid parameter "start": cannot parse "" to a valid timestamp'),
            ({"end": "x"}, 'invalid parameter "end": cannot parse "x" to a valid timestamp'),
            ({"end": "1"}, 'invalid parameter "end": end timestamp must not be before start time'),
            ({"step": ""}, 'invalid parameter "step": cannot parse "" to a valid duration'),
            (
                {"step": "0"},
                'invalid parameter "step": zero or negative query resolution step widths are not accepted. Try a positive integer',
            ),
            (
                {"step": "-1"},
                'invalid parameter "step": zero or negative query resolution step widths are not accepted. Try a positive integer',
            ),
            (
                {"step": "0.01"},
                "exceeded maximum resolution of 11,000 points per timeseries. Try decreasing the query resolution (?step=XX)",
            ),
            (
                {"query": "up[5m]"},
                'invalid parameter "query": invalid expression type "range vector" for range query, must be Scalar or instant Vector',
            ),
        ],
    )
    async def test_bad_parameters(self, client: httpx.AsyncClient, params: dict[str, str], error: str) -> None:
        given = {"query": "up", "start": str(NOW - 600), "end": str(NOW), "step": "15", **params}
        assert await refused(client, "query_range", **given) == (400, "bad_data", error)

    async def test_eleven_thousand_points_are_taken(self, client: httpx.AsyncClient) -> None:
        got = await ask(client, "query_range", query="vector(1)", start=NOW - 11_000, end=NOW, step=1)
        assert len(got["data"]["result"][0]["values"]) == 11_001


class TestCatalog:
    async def test_series(self, client: httpx.AsyncClient) -> None:
        got = await ask(client, "series", **{"match[]": ['up{job="api"}', "hits_total"]})
        assert got["data"] == [
            {"__name__": "hits_total", "job": "api"},
            {"__name__": "hits_total", "job": "web"},
            {"__name__": "up", "job": "api"},
        ]
        assert (await ask(client, "series", **{"match[]": "up", "end": NOW - 3600}))["data"] == []
        cut = await ask(client, "series", **{"match[]": "up", "limit": 1})
        assert (len(cut["data"]), cut["warnings"]) == (1, ["results truncated due to limit"])
        assert "warnings" not in await ask(client, "series", **{"match[]": "up", "limit": 2})
        answer = await client.post("/api/v1/series", data={"match[]": "up"})
        assert len(answer.json()["data"]) == 2

    async def test_labels_and_values(self, client: httpx.AsyncClient) -> None:
        assert (await ask(client, "labels"))["data"] == ["__name__", "http.status", "job"]
        assert (await ask(client, "labels", **{"match[]": "up"}))["data"] == ["__name__", "job"]
        assert (await ask(client, "label/job/values"))["data"] == ["api", "web"]
        assert (await ask(client, "label/job/values", **{"match[]": 'up{job="web"}'}))["data"] == ["web"]
        assert (await ask(client, "label/none/values"))["data"] == []
        assert (await ask(client, "label/U__http_2e_status/values"))["data"] == ["200"]
        assert (await ask(client, "label/http.status/values"))["data"] == ["200"]
        cut = await ask(client, "label/__name__/values", limit=1)
        assert (cut["data"], cut["warnings"]) == (["hits_total"], ["results truncated due to limit"])

    async def test_metadata(self, client: httpx.AsyncClient) -> None:
        hits = [{"type": "counter", "unit": "", "help": "Hits."}]
        assert (await ask(client, "metadata"))["data"] == {"hits_total": hits, "up": [{"type": "gauge", "unit": "", "help": "Up."}]}
        assert (await ask(client, "metadata", metric="hits_total"))["data"] == {"hits_total": hits}
        assert (await ask(client, "metadata", metric="none"))["data"] == {}
        assert (await ask(client, "metadata", limit=1))["data"] == {"hits_total": hits}
        assert (await ask(client, "metadata", limit=0))["data"] == {}

    @pytest.mark.parametrize(
        ("path", "params", "error"),
        [
            ("series", {}, "no match[] parameter provided"),
            ("series", {"match[]": "up{"}, 'invalid parameter "match[]": 1:4: parse error: unexpected end of input inside braces'),
            (
                "series",
                {"match[]": '{job=~".*"}'},
                'invalid parameter "match[]": match[] must contain at least one non-empty matcher',
            ),
            (
                "labels",
                {"start": "x"},
                'invalid parameter "start": invalid time value for \'start\': cannot parse "x" to a valid timestamp',
            ),
            ("label/U__/values", {}, 'invalid label name: ""'),
            ("metadata", {"limit": "x"}, "limit must be a number"),
            ("metadata", {"limit_per_metric": "x"}, "limit_per_metric must be a number"),
        ],
    )
    async def test_bad_parameters(self, client: httpx.AsyncClient, path: str, params: dict[str, str], error: str) -> None:
        assert await refused(client, path, **params) == (400, "bad_data", error)

    async def test_a_tenant_sees_its_own_only(self, client: httpx.AsyncClient, build: Build, storage: Any, serve: Any) -> None:
        storage.put(Labels.of(__name__="secret", owner="alice"), (NOW_MS, 1.0), tenant="alice")
        bobs = serve(prometheus.routes(build(tenant_of=lambda request: "bob")))
        alices = serve(prometheus.routes(build(tenant_of=lambda request: "alice")))
        for path in ("query?query=secret", "series?match[]=secret", "labels", "label/owner/values"):
            assert "alice" not in (await client.get(f"/api/v1/{path}")).text
            assert "alice" not in (await bobs.get(f"/api/v1/{path}")).text
        assert (await ask(alices, "labels"))["data"] == ["__name__", "owner"]


class TestStatus:
    async def test_what_it_says(self, client: httpx.AsyncClient) -> None:
        build_info = (await ask(client, "status/buildinfo"))["data"]
        assert (build_info["version"], build_info["revision"]) == ("1.2.3", "abc")
        runtime = (await ask(client, "status/runtimeinfo"))["data"]
        assert runtime["serverTime"] == "2023-11-14T22:13:20Z"
        assert runtime["startTime"] == "2023-11-14T22:12:20Z"
        assert (runtime["storageRetention"], runtime["reloadConfigSuccess"]) == ("30d", True)
        assert runtime["goroutineCount"] >= 2
        assert (await ask(client, "status/config"))["data"] == {"yaml": "global: {}\n"}
        assert (await ask(client, "status/flags"))["data"] == {"storage.retention": "30d"}
        tsdb = (await ask(client, "status/tsdb", limit=1))["data"]
        assert tsdb["headStats"]["numSeries"] == 5
        assert tsdb["seriesCountByMetricName"] == [{"name": "hits_total", "value": 2}]

    async def test_how_far_the_log_is_read_is_told_while_nothing_else_is(self, build: Build, serve: Any) -> None:
        client = serve(prometheus.routes(build(ready=lambda: False)))
        assert (await client.get("/api/v1/status/tsdb")).status_code == 503
        answer = await client.get("/api/v1/status/walreplay")
        assert answer.json() == {"status": "success", "data": {"min": 0, "max": 0, "current": 0, "state": "done"}}

    @pytest.mark.parametrize("limit", ["0", "-1", "x"])
    async def test_a_bad_limit(self, client: httpx.AsyncClient, limit: str) -> None:
        assert await refused(client, "status/tsdb", limit=limit) == (400, "bad_data", "limit must be a positive number")
        assert (await refused(client, "status/tsdb", limit="10001"))[2] == "limit must not exceed 10000"


PUBLISHED = [
    ("query?query=up", "QueryOutputBody"),
    ("query?query=1", "QueryOutputBody"),
    ("query?query=up[1m]", "QueryOutputBody"),
    ("query?query=up&stats=true&limit=1", "QueryOutputBody"),
    (f"query_range?query=rate(up[1m])&start={NOW - 60}&end={NOW}&step=15", "QueryRangeOutputBody"),
    ("query_exemplars?query=up", "QueryExemplarsOutputBody"),
    ("format_query?query=sum(up)by(job)", "FormatQueryOutputBody"),
    ("parse_query?query=sum(up)by(job)", "ParseQueryOutputBody"),
    ("series?match[]=up", "SeriesOutputBody"),
    ("labels", "LabelsOutputBody"),
    ("label/job/values?limit=1", "LabelValuesOutputBody"),
    ("metadata", "MetadataOutputBody"),
    ("targets", "TargetsOutputBody"),
    ("rules", "RulesOutputBody"),
    ("status/buildinfo", "StatusBuildInfoOutputBody"),
    ("status/runtimeinfo", "StatusRuntimeInfoOutputBody"),
    ("status/config", "StatusConfigOutputBody"),
    ("status/flags", "StatusFlagsOutputBody"),
    ("status/tsdb", "StatusTSDBOutputBody"),
    ("features", "FeaturesOutputBody"),
    ("query?query=(", "Error"),
    ("series", "Error"),
]


@pytest.mark.parametrize(("path", "name"), PUBLISHED)
async def test_answers_fit_prometheus_own_schemas(client: httpx.AsyncClient, prometheus_schema: Any, path: str, name: str) -> None:
    Draft202012Validator(prometheus_schema(name)).validate((await client.get(f"/api/v1/{path}")).json())


async def test_formatting(client: httpx.AsyncClient) -> None:
    assert (await ask(client, "format_query", query="sum(rate(x[5m]))by(job)"))["data"] == "sum by (job) (rate(x[5m]))"
    status, kind, error = await refused(client, "format_query", query="sum(")
    assert (status, kind) == (400, "bad_data")
    assert error.startswith('invalid parameter "query": 1:')


async def test_the_syntax_tree(client: httpx.AsyncClient) -> None:
    name = {"name": "__name__", "value": "x", "type": "="}
    got = (await ask(client, "parse_query", query='-sum by (job) (rate(x{a=~"b"}[5m] offset 1m)) / on (job) group_left (y) (x @ end())'))[
        "data"
    ]
    assert got == {
        "type": "binaryExpr",
        "op": "/",
        "bool": False,
        "matching": {"card": "many-to-one", "labels": ["job"], "on": True, "include": ["y"], "fillValues": {"lhs": None, "rhs": None}},
        "lhs": {
            "type": "unaryExpr",
            "op": "-",
            "expr": {
                "type": "aggregation",
                "op": "sum",
                "param": None,
                "grouping": ["job"],
                "without": False,
                "expr": {
                    "type": "call",
                    "func": {"name": "rate", "argTypes": ["matrix"], "variadic": 0, "returnType": "vector"},
                    "args": [
                        {
                            "type": "matrixSelector",
                            "name": "x",
                            "range": 300_000,
                            "rangeExpr": None,
                            "offset": 60_000,
                            "offsetExpr": None,
                            "matchers": [{"name": "a", "value": "b", "type": "=~"}, name],
                            "timestamp": None,
                            "startOrEnd": None,
                            "anchored": False,
                            "smoothed": False,
                        }
                    ],
                },
            },
        },
        "rhs": {
            "type": "parenExpr",
            "expr": {
                "type": "vectorSelector",
                "name": "x",
                "offset": 0,
                "offsetExpr": None,
                "matchers": [name],
                "timestamp": None,
                "startOrEnd": "end",
                "anchored": False,
                "smoothed": False,
            },
        },
    }
    for query, kind in (("1", "numberLiteral"), ('"x"', "stringLiteral"), ("x[5m:1m] @ 10", "subquery")):
        assert (await ask(client, "parse_query", query=query))["data"]["type"] == kind
    assert (await ask(client, "parse_query", query="x and x"))["data"]["matching"]["card"] == "many-to-many"
    assert (await ask(client, "parse_query", query="x + 1"))["data"]["matching"] is None
    got = (await ask(client, "parse_query", query="x[step() * -5m:(2)] offset (max_of(1h, 2) / 3)"))["data"]
    hour, two = {"type": "numberLiteral", "val": "3600", "duration": True}, {"type": "numberLiteral", "val": "2", "duration": False}
    most = {"type": "durationExpr", "op": "max_of", "lhs": hour, "rhs": two, "wrapped": False}
    step = {"type": "durationExpr", "op": "step", "lhs": None, "rhs": None, "wrapped": False}
    assert got["rangeExpr"] == {**most, "op": "*", "lhs": step, "rhs": {**hour, "val": "-300"}}
    assert got["offsetExpr"] == {**most, "op": "/", "lhs": most, "rhs": {**two, "val": "3"}, "wrapped": True}
    assert (got["stepExpr"], got["step"]) == (None, 2000)


async def test_a_tree_too_deep_for_json(client: httpx.AsyncClient) -> None:
    status, kind, error = await refused(client, "parse_query", query="(" * 900 + "1" + ")" * 900)
    assert (status, kind) == (400, "bad_data")
    assert "deeply" in error


ODD = st.one_of(
    st.text(max_size=30), st.sampled_from(["1e308", "-1", "99999999999999999999", "1y", "up", "up[5m]", "\x00", "{}", "U__", "%"])
)
PATHS = ["query", "query_range", "query_exemplars", "format_query", "parse_query", "series", "labels", "label/job/values", "metadata"]
NAMES = ["query", "time", "start", "end", "step", "timeout", "limit", "lookback_delta", "match[]", "metric", "limit_per_metric"]


@settings(max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(path=st.sampled_from([*PATHS, "targets", "rules", "alerts", "status/tsdb"]), params=st.dictionaries(st.sampled_from(NAMES), ODD))
async def test_no_parameter_is_a_fault_of_ours(client: httpx.AsyncClient, path: str, params: dict[str, str]) -> None:
    answer = await client.get(f"/api/v1/{path}", params={k: v.encode("utf-8", "surrogatepass") for k, v in params.items()})
    assert answer.status_code in (200, 400, 422) or answer.json()["errorType"] == "timeout", (answer.status_code, answer.text)


async def test_what_asks_for_exemplars_is_checked(client: httpx.AsyncClient) -> None:
    assert (await ask(client, "query_exemplars", query="up"))["data"] == []
    assert (await refused(client, "query_exemplars", query="("))[0] == 400
    assert (await refused(client, "query_exemplars", query="up", start=2, end=1))[2] == "end timestamp must not be before start timestamp"


class Raising:
    """An engine whose queries end in a given error."""

    def __init__(self, error: Exception) -> None:
        self.error = error

    def glance(self, *args: Any) -> None:
        """Nothing is at hand."""

    def instant(self, *args: Any, **more: Any) -> Any:
        raise self.error


@pytest.mark.parametrize(
    ("error", "status", "kind"),
    [
        (LimitExceeded("select budget"), 422, "execution"),
        (LimitExceeded("closing", retry_after=2.5), 503, "unavailable"),
        (NotFound("no such tenant"), 404, "not_found"),
        (Undeliverable("upstream", reason="refused", retryable=True), 503, "unavailable"),
        (RuntimeError("insides"), 500, "internal"),
    ],
)
async def test_every_family_has_its_answer(build: Build, serve: Any, error: Exception, status: int, kind: str) -> None:
    answer = await serve(prometheus.routes(build(engine=Raising(error)))).get("/api/v1/query?query=up")
    assert (answer.status_code, answer.json()["errorType"]) == (status, kind)
    assert "insides" not in answer.text
    assert answer.headers.get("retry-after") == ("3" if status == 503 and kind == "unavailable" and "closing" in answer.text else None)


async def test_corruption_names_its_place(build: Build, serve: Any, tmp_path: Any) -> None:
    error = Corrupt("checksum", path=tmp_path / "page", offset=512)
    answer = await serve(prometheus.routes(build(engine=Raising(error)))).get("/api/v1/query?query=up")
    assert (answer.status_code, answer.json()["errorType"]) == (500, "internal")
    assert "byte 512" in answer.json()["error"]


class Waiting:
    """An engine whose queries run until they are let go or cancelled."""

    def __init__(self) -> None:
        self.reached = threading.Semaphore(0)
        self.cancelled = threading.Event()
        self.free = threading.Event()
        self.running = Running(ManualClock(), max_bytes=0)

    def glance(self, *args: Any) -> None:
        """Nothing is at hand."""

    def instant(self, *args: Any, cancel: threading.Event, **more: Any) -> Any:
        self.reached.release()
        while not self.free.is_set():
            if cancel.wait(0.01):
                self.cancelled.set()
                break
        raise LimitExceeded("let go")


async def test_nothing_is_read_before_the_log_is_replayed(build: Build, serve: Any) -> None:
    client = serve(prometheus.routes(build(ready=lambda: False)))
    for path in ("query?query=up", "labels", "targets", "status/buildinfo"):
        answer = await client.get(f"/api/v1/{path}")
        assert (answer.status_code, answer.json()["errorType"], answer.headers["retry-after"]) == (503, "unavailable", "1")


async def test_queries_beyond_the_bound_wait_their_turn(build: Build, serve: Any) -> None:
    engine = Waiting()
    client = serve(prometheus.routes(build(engine=engine, settings=PrometheusApiSettings(max_concurrency=1))))
    first = asyncio.create_task(client.get("/api/v1/query?query=up"))
    assert await asyncio.to_thread(engine.reached.acquire, timeout=60)
    third = asyncio.create_task(client.get("/api/v1/query?query=third"))
    async with asyncio.timeout(60):
        while not (listed := (await client.get("/api/v1/status/queries")).json()["data"]):
            await asyncio.sleep(0)
    assert [(q["state"], q["query"]) for q in listed] == [("waiting", "third")], "the engine here lists nothing of its own"
    assert (await client.delete(f"/api/v1/status/queries/{listed[0]['id']}")).status_code == 200
    assert ((await third).status_code, (await third).json()["error"]) == (503, "query was canceled in query queue")
    second = await client.get("/api/v1/query?query=up&timeout=50ms")
    assert (second.status_code, second.json()["error"]) == (503, "query timed out in query queue")
    engine.free.set()
    assert (await first).status_code == 422
    assert not engine.reached.acquire(blocking=False), "what timed out in the queue was never evaluated"


async def test_a_client_that_goes_cancels_its_query(build: Build) -> None:
    engine = Waiting()
    (endpoint,) = [e for e in build(engine=engine) if e.path == "/api/v1/query"]
    scope = {"type": "http", "method": "GET", "path": endpoint.path, "query_string": b"query=up", "headers": [], "path_params": {}}
    messages = [{"type": "http.request", "body": b"", "more_body": False}, {"type": "http.disconnect"}]
    sent: list[Any] = []

    async def receive() -> Any:
        if len(messages) == 1:
            assert await asyncio.to_thread(engine.reached.acquire, timeout=60)
        return messages.pop(0)

    async def send(message: Any) -> None:
        sent.append(message)

    await asyncio.wait_for(endpoint.route().handle(scope, receive, send), 20)
    assert engine.cancelled.is_set()


class TestEncoding:
    async def test_large_answers_are_compressed_for_those_who_ask(self, client: httpx.AsyncClient) -> None:
        params = {"query": "vector(1)", "start": str(NOW - 5000), "end": str(NOW), "step": "1"}
        plain = await client.get("/api/v1/query_range", params=params, headers={"Accept-Encoding": "identity"})
        assert "content-encoding" not in plain.headers
        for accepted in ("gzip", "deflate, gzip;q=0.5", "*"):
            async with client.stream("GET", "/api/v1/query_range", params=params, headers={"Accept-Encoding": accepted}) as packed:
                raw = b"".join([part async for part in packed.aiter_raw()])
            assert packed.headers["content-encoding"] == "gzip"
            assert packed.headers["vary"] == "Accept-Encoding"
            assert int(packed.headers["content-length"]) == len(raw) < len(plain.content) / 3
            assert gzip.decompress(raw) == plain.content
        for refusing in ("gzip;q=0", "br", ""):
            answer = await client.get("/api/v1/query_range", params=params, headers={"Accept-Encoding": refusing})
            assert "content-encoding" not in answer.headers

    async def test_small_ones_are_not(self, client: httpx.AsyncClient) -> None:
        assert "content-encoding" not in (await client.get("/api/v1/query?query=1", headers={"Accept-Encoding": "gzip"})).headers

    async def test_head(self, client: httpx.AsyncClient) -> None:
        answer = await client.head("/api/v1/query?query=1")
        assert answer.status_code == 200


class TestCors:
    async def test_any_page_may_read_by_default(self, client: httpx.AsyncClient) -> None:
        answer = await client.get("/api/v1/query?query=1", headers={"Origin": "https://grafana.example"})
        assert answer.headers["access-control-allow-origin"] == "*"
        assert "access-control-allow-credentials" not in answer.headers
        assert answer.headers["vary"] == "Origin"
        assert "access-control-allow-origin" not in (await client.get("/api/v1/query?query=1")).headers

    async def test_no_page_may_where_none_is_named(self, build: Build, serve: Any) -> None:
        client = serve(prometheus.routes(build(settings=PrometheusApiSettings(cors_origin=""))))
        for origin in ("https://grafana.example", "null", ""):
            answer = await client.get("/api/v1/query?query=1", headers={"Origin": origin})
            assert "access-control-allow-origin" not in answer.headers

    async def test_a_preflight(self, client: httpx.AsyncClient) -> None:
        answer = await client.options("/api/v1/query", headers={"Origin": "https://grafana.example"})
        assert answer.status_code == 204
        assert "Authorization" in answer.headers["access-control-allow-headers"]
        assert answer.headers["access-control-allow-methods"] == "GET, POST, OPTIONS"

    async def test_only_named_origins(self, build: Build, serve: Any) -> None:
        client = serve(prometheus.routes(build(settings=PrometheusApiSettings(cors_origin=r"https://.*\.example"))))
        good = await client.get("/api/v1/query?query=1", headers={"Origin": "https://grafana.example"})
        assert good.headers["access-control-allow-origin"] == "https://grafana.example"
        for origin in ("https://evil.test", "https://grafana.example.evil.test", "http://grafana.example"):
            bad = await client.get("/api/v1/query?query=1", headers={"Origin": origin})
            assert bad.status_code == 200
            assert "access-control-allow-origin" not in bad.headers

    def test_what_may_be_posted_from_anywhere_only_reads(self, build: Build) -> None:
        # Remote read, exports and searches are other rooms' operations, and only read, too.
        searches = {f"/api/v1/search/{name}" for name in ("metric_names", "label_names", "label_values")}
        others = {remote_read.PATH, "/api/v1/export", "/prometheus/api/v1/export", *searches}
        assert {e.path for e in build() if "POST" in e.methods} | others == READING_POSTS


async def test_methods_that_are_not_there(client: httpx.AsyncClient) -> None:
    assert (await client.delete("/api/v1/query")).status_code == 405
    assert (await client.post("/api/v1/targets")).status_code == 405


async def test_the_data_of_a_query_is_the_engines_own_bytes(client: httpx.AsyncClient, engine: Engine) -> None:
    data = engine.instant("default", "up", NOW_MS).json()
    assert (await client.get(f"/api/v1/query?query=up&time={NOW}")).content == b'{"status":"success","data":' + data + b"}"
    assert json.loads(data)["resultType"] == "vector"
