"""Names found by parts of them, in Prometheus' lines of JSON."""

from __future__ import annotations

import dataclasses
import json
from typing import Any

import httpx
import pytest

from vedette.api.endpoint import answering, routes
from vedette.api.problems import prometheus
from vedette.api.prometheus import any_matchers_of
from vedette.api.search import NDJSON, Search, endpoints
from vedette.clock import ManualClock
from vedette.model.labels import Labels

NOW = 1_700_000_000.0


@pytest.fixture
def client(serve: Any, storage: Any) -> httpx.AsyncClient:
    recent, old = (int(NOW) * 1000 - 60_000, 1.0), (int(NOW) * 1000 - 7_200_000, 1.0)
    for name in ("http_requests_total", "http_errors_total", "up", "grpc_requests_total"):
        storage.put(Labels.of(__name__=name, job="api", instance="a:1"), recent)
    storage.put(Labels.of(__name__="up", job="db"), recent)
    storage.put(Labels.of(__name__="gone_total", job="old"), old)
    storage.put(Labels.of(__name__="secret", job="theirs"), recent, tenant="other")
    storage.about("http_requests_total", "counter", "Requests.", "")

    async def run(function: Any, *args: Any) -> Any:
        return function(*args)

    search = Search(storage, run, ManualClock(NOW), any_matchers_of, lambda scope: "default")
    made: httpx.AsyncClient = serve(
        routes([dataclasses.replace(e, handler=answering(e.handler, prometheus, AssertionError)) for e in endpoints(search)])  # type: ignore[arg-type]
    )
    return made


async def lines(client: httpx.AsyncClient, what: str, **params: Any) -> list[Any]:
    answer = await client.get(f"/api/v1/search/{what}", params=params)
    assert (answer.status_code, answer.headers["content-type"]) == (200, NDJSON), answer.text
    return [json.loads(line) for line in answer.text.splitlines()]


async def names(client: httpx.AsyncClient, what: str, **params: Any) -> list[str]:
    return [one["name"] for line in await lines(client, what, **params) for one in line.get("results", ())]


async def test_what_there_was_in_the_last_hour(client: httpx.AsyncClient) -> None:
    assert await lines(client, "metric_names") == [
        {"results": [{"name": n} for n in ("grpc_requests_total", "http_errors_total", "http_requests_total", "up")]},
        {"status": "success", "has_more": False},
    ]
    assert "gone_total" in await names(client, "metric_names", start=str(NOW - 9000))
    assert await names(client, "label_names") == ["__name__", "instance", "job"]
    assert await names(client, "label_values", label="job") == ["api", "db"]
    assert await lines(client, "label_values", label="none") == [{"results": []}, {"status": "success", "has_more": False}]


@pytest.mark.parametrize(
    ("params", "found"),
    [
        ({"search[]": "req"}, ["grpc_requests_total", "http_requests_total"]),
        ({"search[]": "REQ"}, []),
        ({"search[]": "REQ", "case_sensitive": "false"}, ["grpc_requests_total", "http_requests_total"]),
        ({"search[]": ["up", "err"]}, ["http_errors_total", "up"]),
        ({"search[]": "http", "sort_by": "alpha", "sort_dir": "dsc"}, ["http_requests_total", "http_errors_total"]),
        ({"search[]": "requests", "sort_by": "score"}, ["http_requests_total", "grpc_requests_total"]),
        ({"search[]": "htp_reqests_total", "fuzz_alg": "jarowinkler", "fuzz_threshold": "86"}, ["http_requests_total"]),
        ({"match[]": '{job="db"}'}, ["up"]),
        ({"match[]": ['{job="db"}', '{__name__=~"grpc.*"}']}, ["grpc_requests_total", "up"]),
        ({"limit": "0", "search[]": "up"}, ["up"]),
    ],
)
async def test_names_are_found(client: httpx.AsyncClient, params: dict[str, Any], found: list[str]) -> None:
    got = await names(client, "metric_names", **params)
    assert sorted(got) == sorted(found) if params.get("sort_by") == "score" else got == found


async def test_batches_and_the_limit(client: httpx.AsyncClient) -> None:
    got = await lines(client, "metric_names", limit="3", batch_size="2")
    assert [[one["name"] for one in line["results"]] for line in got[:-1]] == [
        ["grpc_requests_total", "http_errors_total"],
        ["http_requests_total"],
    ]
    assert got[-1] == {"status": "success", "has_more": True}
    assert (await lines(client, "metric_names", limit="4"))[-1] == {"status": "success", "has_more": False}


async def test_scores_and_what_is_known_of_a_metric(client: httpx.AsyncClient) -> None:
    got = await lines(client, "metric_names", **{"search[]": "http_r", "include_score": "true", "include_metadata": "true"})
    errors, requests = got[0]["results"]
    assert (errors["name"], 0.5 < errors["score"] < 1, "type" in errors) == ("http_errors_total", True, False)
    assert requests == {"name": "http_requests_total", "score": 1.0, "type": "counter", "help": "Requests."}
    answer = await client.post("/api/v1/search/label_names", data={"search[]": "job", "include_score": "1"})
    assert json.loads(answer.text.splitlines()[0]) == {"results": [{"name": "job", "score": 1.0}]}


@pytest.mark.parametrize(
    ("what", "params", "said"),
    [
        ("metric_names", {"fuzz_threshold": "101"}, 'invalid fuzz_threshold "101": must be 0-100'),
        ("metric_names", {"fuzz_threshold": "x"}, 'invalid fuzz_threshold "x": must be 0-100'),
        ("metric_names", {"fuzz_alg": "soundex"}, 'unsupported fuzz_alg "soundex": must be one of [subsequence jarowinkler]'),
        ("metric_names", {"case_sensitive": "yes"}, 'invalid case_sensitive "yes": must be boolean'),
        ("metric_names", {"sort_dir": "asc"}, "sort_dir is only valid when sort_by is set"),
        ("metric_names", {"sort_dir": "asc", "sort_by": "score"}, "sort_dir is not supported for sort_by=score"),
        ("metric_names", {"sort_dir": "desc", "sort_by": "alpha"}, 'invalid sort_dir "desc": must be "asc" or "dsc"'),
        ("metric_names", {"sort_by": "score"}, "sort_by=score requires search[] to be set"),
        ("label_names", {"sort_by": "size"}, 'invalid sort_by "size" for label_names: must be "alpha" or "score"'),
        ("metric_names", {"limit": "-1"}, 'invalid limit "-1": must be non-negative integer'),
        ("metric_names", {"batch_size": "1.5"}, 'invalid batch_size "1.5": must be non-negative integer'),
        ("label_values", {}, 'missing required parameter "label"'),
        ("label_names", {"match[]": "{"}, "parse error"),
        ("label_names", {"start": "then"}, "start"),
    ],
)
async def test_what_cannot_be_asked(client: httpx.AsyncClient, what: str, params: dict[str, str], said: str) -> None:
    answer = await client.get(f"/api/v1/search/{what}", params=params)
    assert (answer.status_code, answer.json()["errorType"]) == (400, "bad_data")
    assert said in answer.json()["error"]
