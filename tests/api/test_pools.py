"""Scrape pools, their relabelling step by step, and where alerts go: as Prometheus shows them."""

from __future__ import annotations

import dataclasses
import json
from typing import Any

import httpx
import pytest
import yaml
from jsonschema import Draft202012Validator

from vedette.api.endpoint import answering, routes
from vedette.api.pools import InForce, Pools, endpoints
from vedette.api.problems import prometheus
from vedette.collect.config import ScrapeConfig
from vedette.model.relabel import RelabelConfig

RULES = [
    RelabelConfig(source_labels=("__address__",), regex="([^:]+):.*", target_label="host"),
    RelabelConfig(source_labels=("job", "host"), separator="/", action="hashmod", modulus=4, target_label="shard"),
    RelabelConfig(source_labels=("host",), regex="gone", action="drop"),
    RelabelConfig(regex="shard", action="labeldrop"),
]


JOBS = [
    ScrapeConfig(job_name="web", scrape_interval=15_000, scrape_timeout=10_000, relabel_configs=tuple(RULES)),
    ScrapeConfig(job_name="node", scrape_interval=60_000, scrape_timeout=10_000, metrics_path="/probe"),
]
TEXT = """
global: {scrape_interval: 15s}
scrape_configs:
  - {job_name: web, basic_auth: {username: u, password: <secret>}, static_configs: [{targets: ["a.example:80"]}]}
  - {job_name: node, scrape_interval: 1m, metrics_path: /probe}
"""


@pytest.fixture
def client(serve: Any) -> httpx.AsyncClient:
    in_force = InForce(lambda: JOBS, lambda: ["vedette"], lambda: TEXT, lambda: ["http://am.example:9093/api/v2/alerts"])
    made: httpx.AsyncClient = serve(
        routes([dataclasses.replace(e, handler=answering(e.handler, prometheus, AssertionError)) for e in endpoints(Pools(in_force))])  # type: ignore[arg-type]
    )
    return made


async def data(client: httpx.AsyncClient, path: str, **params: str) -> Any:
    answer = await client.get(f"/api/v1/{path}", params=params)
    assert answer.status_code == 200, answer.text
    return answer.json()["data"]


async def test_pools_and_alertmanagers(client: httpx.AsyncClient) -> None:
    assert await data(client, "scrape_pools") == {"scrapePools": ["node", "vedette", "web"]}
    assert await data(client, "alertmanagers") == {
        "activeAlertmanagers": [{"url": "http://am.example:9093/api/v2/alerts"}],
        "droppedAlertmanagers": [],
    }


async def test_each_rule_says_what_it_makes_of_the_labels(client: httpx.AsyncClient) -> None:
    given = {"__address__": "a.example:80", "job": "web", "empty": ""}
    found = await data(client, "targets/relabel_steps", scrapePool="web", labels=json.dumps(given))
    assert found["steps"][0] == {
        "rule": {
            "source_labels": ["__address__"],
            "separator": ";",
            "regex": "([^:]+):.*",
            "target_label": "host",
            "replacement": "$1",
            "action": "replace",
        },
        "output": {"__address__": "a.example:80", "job": "web", "host": "a.example"},
        "keep": True,
    }
    assert [set(step["output"]) for step in found["steps"][1:]] == [
        {"__address__", "job", "host", "shard"},
        {"__address__", "job", "host", "shard"},
        {"__address__", "job", "host"},
    ]
    assert found["steps"][1]["rule"]["modulus"] == 4
    assert all(step["keep"] for step in found["steps"])
    for pool in ("node", "vedette"):
        assert await data(client, "targets/relabel_steps", scrapePool=pool, labels="{}") == {"steps": []}


async def test_a_pools_configuration_with_what_it_has_from_global(client: httpx.AsyncClient) -> None:
    web = (await data(client, "scrape_pools/config", scrapePool="web"))["yaml"]
    assert web.startswith("job_name: web\nscrape_interval: 15s\nscrape_timeout: 10s\nmetrics_path: /metrics\nscheme: http\n")
    assert yaml.safe_load(web)["basic_auth"] == {"username": "u", "password": "<secret>"}
    node = yaml.safe_load((await data(client, "scrape_pools/config", scrapePool="node"))["yaml"])
    assert node == {"job_name": "node", "scrape_interval": "1m", "scrape_timeout": "10s", "metrics_path": "/probe", "scheme": "http"}
    assert await data(client, "scrape_pools/config", scrapePool="vedette") == {"yaml": "job_name: vedette\n"}


@pytest.mark.parametrize(
    ("params", "said"),
    [({}, "no scrapePool parameter provided"), ({"scrapePool": "x"}, 'error retrieving scrape config: scrape pool "x" not found')],
)
async def test_pools_that_are_none(client: httpx.AsyncClient, params: dict[str, str], said: str) -> None:
    answer = await client.get("/api/v1/scrape_pools/config", params=params)
    assert (answer.status_code, answer.json()["error"]) == (400, said)


async def test_answers_are_as_prometheus_describes_them(client: httpx.AsyncClient, prometheus_schema: Any) -> None:
    for path, schema, params in (
        ("scrape_pools", "ScrapePoolsOutputBody", {}),
        ("scrape_pools/config", "ScrapePoolConfigOutputBody", {"scrapePool": "web"}),
        ("targets/relabel_steps", "TargetRelabelStepsOutputBody", {"scrapePool": "web", "labels": '{"__address__": "a:1"}'}),
        ("alertmanagers", "AlertmanagersOutputBody", {}),
    ):
        answer = await client.get(f"/api/v1/{path}", params=params)
        Draft202012Validator(prometheus_schema(schema)).validate(answer.json())


async def test_what_a_rule_drops_stays_dropped(client: httpx.AsyncClient) -> None:
    found = await data(client, "targets/relabel_steps", scrapePool="web", labels='{"__address__": "gone:80"}')
    assert [step["keep"] for step in found["steps"]] == [True, True, False, False]
    assert [step["output"] for step in found["steps"][2:]] == [{}, {}]


@pytest.mark.parametrize(
    ("params", "said"),
    [
        ({}, "no scrapePool parameter provided"),
        ({"scrapePool": "web"}, "no labels parameter provided"),
        ({"scrapePool": "none", "labels": "{}"}, 'error retrieving scrape config: scrape pool "none" not found'),
        ({"scrapePool": "web", "labels": "{"}, "error parsing labels: "),
        ({"scrapePool": "web", "labels": "[]"}, "error parsing labels: "),
        ({"scrapePool": "web", "labels": '{"a": 1}'}, "error parsing labels: "),
    ],
)
async def test_what_cannot_be_asked(client: httpx.AsyncClient, params: dict[str, str], said: str) -> None:
    answer = await client.get("/api/v1/targets/relabel_steps", params=params)
    assert (answer.status_code, answer.json()["errorType"]) == (400, "bad_data")
    assert answer.json()["error"].startswith(said)
