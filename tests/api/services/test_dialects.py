"""Which door answers what: the union's rules, each dialect's own listener, and their description."""

from __future__ import annotations

from typing import Any
from urllib.parse import quote

import httpx
import orjson
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from jsonschema import Draft202012Validator

from vedette.api import openapi
from vedette.api.services.dialects import DIALECTS
from vedette.api.services.examples import BY_TAG, OPERATIONS
from vedette.collect.scrape import TargetState
from vedette.model.labels import Labels
from vedette.rules.state import ActiveAlert, GroupState, RuleState

RECORDS = "/api/v1/monitoring/metrics"


def test_the_documents_ports() -> None:
    assert DIALECTS == {"gamiroo": 8001, "platform": 8009, "botserver": 8080, "access_layer": 8012, "xscore": 9090}


async def test_the_union_tells_two_documents_apart_by_the_question(client: httpx.AsyncClient, own: Any) -> None:
    assert "system" in (await client.get(RECORDS)).json()
    assert "system" in (await client.get(f"{RECORDS}?pretty=1")).json()
    for name, value in (
        ("service_name", "a"),
        ("metric_name", "a"),
        ("start_date", "2025-01-01"),
        ("end_date", "2025-01-01"),
        ("limit", "1"),
    ):
        assert (await client.get(RECORDS, params={name: value})).json() == [], name
    assert (await client.get(f"{RECORDS}?cursor=bad")).status_code == 422
    assert (await own("gamiroo").get(RECORDS)).json() == []
    assert "system" in (await own("botserver").get(f"{RECORDS}?limit=1")).json()


async def test_health_is_said_as_each_document_says_it(client: httpx.AsyncClient, own: Any) -> None:
    assert (await own("access_layer").get("/health")).json()["status"] == "ok"
    for one in (client, own("platform"), own("gamiroo"), own("botserver"), own("xscore")):
        assert (await one.get("/health")).json()["status"] == "healthy"


@pytest.mark.parametrize(
    ("dialect", "path"),
    [
        ("gamiroo", "/api/v1/alerts"),
        ("platform", "/metrics"),
        ("botserver", "/metrics/track"),
        ("access_layer", RECORDS),
        ("xscore", RECORDS),
    ],
)
async def test_an_own_listener_serves_nothing_else(own: Any, dialect: str, path: str) -> None:
    assert (await own(dialect).get(path)).status_code in (404, 405)


async def test_what_one_door_takes_all_doors_show(client: httpx.AsyncClient, own: Any) -> None:
    record = {"service_name": "shop", "metric_name": "orders", "value": 3.0}
    assert (await own("gamiroo").post(RECORDS, json=record)).status_code == 201
    tracked = {"name": "carts", "value": 4.0, "service": "shop"}
    assert (await own("access_layer").post("/metrics/track", json=tracked)).status_code == 200
    records = (await client.get(f"{RECORDS}?service_name=shop")).json()
    assert {(r["metric_name"], r["value"]) for r in records} == {("carts", 4.0), ("orders", 3.0)}
    metrics = (await own("platform").get("/api/v1/metrics/shop")).json()["metrics"]
    assert {(m["metric"], m["value"]) for m in metrics} == {("carts", 4.0), ("orders", 3.0)}
    series = (await own("access_layer").get("/metrics/series?service=shop")).json()["series"]
    assert {s["name"] for s in series} == {"carts", "orders"}
    result = (await client.get("/api/v1/query", params={"query": 'sum({service="shop"})'})).json()["data"]["result"]
    assert result[0]["value"][1] == "7"


async def test_answers_are_as_described(services: Any, own: Any) -> None:
    """Every GET without a required parameter on every listener, against the schema that OpenAPI gives of its success."""
    services.put({"__name__": "m", "service": "s"}, (1, 1.0))
    groups = [GroupState("g", "f", 15_000, 0, 0.0, 0.0, [firing_rule()])]
    checked = set()
    elsewhere = ("/logs", "/errors/summary")  # these tests keep no logs
    for filled in (False, True):
        services.groups = groups if filled else []
        for dialect, endpoints in services.dialects.own.items():
            client = own(dialect)
            for path, operations in openapi.document(endpoints, version="1.0.0")["paths"].items():
                if path.endswith(elsewhere) or "get" not in operations or path.startswith("/-/"):
                    continue
                answer = await client.get(path.replace("{service}", "s").replace("{name}", "m"))
                assert answer.status_code == 200, path
                (content,) = operations["get"]["responses"]["200"]["content"].items()
                if content[0] == "application/json":
                    Draft202012Validator.check_schema(content[1]["schema"])
                    Draft202012Validator(content[1]["schema"]).validate(answer.json())
                    checked.add((dialect, path))
    assert len(checked) >= 25


def firing_rule() -> RuleState:
    labels, about = Labels.of(alertname="hot", severity="warning", service="s"), Labels.of(description="too hot")
    alert = ActiveAlert(labels, about, "firing", 1_705_312_500_000, 85.0)
    return RuleState("alerting", "hot", "m > 80", 0, 0, Labels.of(severity="warning"), about, "ok", "", 0.0, 0.0, "firing", [alert])


def test_every_operation_of_a_document_is_described_with_an_example(services: Any) -> None:
    """A paragraph, an example of the answer and, where there is a body, of the request; all of them fit their schemas."""
    tags = {"gamiroo", "platform", "botserver", "track", "xscore"}
    seen = 0
    for dialect, endpoints in {"": services.dialects.union, **services.dialects.own}.items():
        document = openapi.document(endpoints, version="1.0.0")
        for path, operations in document["paths"].items():
            for method, operation in operations.items():
                if not tags.intersection(operation["tags"]):
                    continue
                where = f"{dialect} {method} {path}"
                assert operation["description"].endswith("."), where
                answers = [r for status, r in operation["responses"].items() if status.startswith("2")]
                for content in [c for answer in answers for c in answer["content"].items()]:
                    if content[0] == "application/json":
                        assert examples_of(content[1]), where
                for content in operation.get("requestBody", {}).get("content", {}).values():
                    assert examples_of(content), where
                seen += 1
    assert seen >= 50


def examples_of(content: Any) -> list[Any]:
    """The examples of a body, each of which fits its schema."""
    found = [(content["schema"], content["example"])] if "example" in content else []
    for part in (content["schema"], *content["schema"].get("oneOf", ())):
        found += [(part, example) for example in part.get("examples", ())]
    for schema, example in found:
        Draft202012Validator(schema).validate(example)
    return [example for _, example in found]


def test_what_is_described_is_there(services: Any) -> None:
    """No description of an operation that there is not, but of those that other rooms add to the whole server."""
    served = {(m, e.path) for listener in (services.dialects.union, *services.dialects.own.values()) for e in listener for m in e.methods}
    elsewhere = ("/api/v1/alerts/silence", "/api/v1/monitoring/alerts/")  # tests/e2e/test_documents.py
    assert {key for key in OPERATIONS if not key[1].startswith(elsewhere)} <= served
    for (tag, method, path), told in BY_TAG.items():
        assert (method, path) in served, (tag, told)


async def test_large_answers_are_compressed_and_preflights_answered(client: httpx.AsyncClient, services: Any) -> None:
    for i in range(100):
        services.put({"__name__": f"m{i}", "service": "s"}, (1, 1.0))
    answer = await client.get(f"{RECORDS}?limit=100", headers={"Accept-Encoding": "gzip"})
    assert answer.headers["content-encoding"] == "gzip"
    assert len(answer.json()) == 100
    for path in (RECORDS, "/api/v1/metrics/s", "/metrics/series", "/api/metrics"):
        assert (await client.options(path, headers={"Origin": "http://elsewhere.example"})).status_code == 204, path
    assert (await client.post(RECORDS, json=[])).status_code == 201


async def test_another_tenant_sees_none_of_the_alerts_targets_and_metrics(services: Any, serve: Any, own: Any) -> None:
    labels = Labels.of(job="node", instance="a:9100")
    services.targets = [TargetState("node", labels, labels, "http://a:9100/metrics", health="up")]
    services.groups = [firing()]
    services.put({"__name__": "m", "service": "s"}, (1, 1.0))
    base = "/api/v1/monitoring"
    for tenant, alerts, scraped, records in (("default", 1, 1, 1), ("charlie", 0, 0, 0)):
        services.tenant = tenant
        client = own("botserver")
        assert (await client.get(f"{base}/alerts")).json()["active_count"] == alerts
        assert len([s for s in (await client.get(f"{base}/status")).json()["services"] if s["name"] == "node"]) == scraped
        assert len((await own("gamiroo").get(RECORDS)).json()) == records
        assert (await own("platform").get("/api/v1/metrics/s")).status_code == (200 if records else 404)
        assert (await own("access_layer").get("/metrics/series")).json()["total"] == records
        assert (await own("access_layer").get("/metrics/trends/m")).status_code == (200 if records else 404)
        assert ("m_avg" in (await own("access_layer").get("/metrics?aggregated=true")).text) == bool(records)


def firing() -> GroupState:
    alert = ActiveAlert(Labels.of(alertname="a"), Labels(), "firing", 1_700_000_000_000, 1.0)
    rule = RuleState("alerting", "a", "x > 1", 0, 0, Labels(), Labels(), "ok", "", 0.0, 0.0, "firing", [alert])
    return GroupState("g", "f", 15_000, 0, 0.0, 0.0, [rule])


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=100)
@given(
    body=st.one_of(
        st.binary(max_size=60),
        st.recursive(
            st.one_of(st.none(), st.booleans(), st.floats(allow_nan=False), st.text(max_size=9)),
            lambda inner: st.one_of(
                st.lists(inner, max_size=3),
                st.dictionaries(st.sampled_from(["service_name", "metric_name", "value", "recorded_at", "x"]), inner, max_size=5),
            ),
            max_leaves=12,
        ).map(orjson.dumps),
    )
)
async def test_no_body_is_a_fault_of_ours(client: httpx.AsyncClient, body: bytes) -> None:
    answer = await client.post(RECORDS, content=body)
    assert answer.status_code in (201, 422), (body, answer.text)


WORDS = st.one_of(
    st.sampled_from(
        ["", "0", "1", "-1", "1e999", "NaN", "true", "2025-02-20T12:00:00Z", "9999-12-31", "0001-01-01", "1h", "30s", "a1.1", "b1.1"]
    ),
    st.text(max_size=20),
)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=150)
@given(data=st.data())
async def test_no_question_is_a_fault_of_ours(services: Any, client: httpx.AsyncClient, data: st.DataObject) -> None:
    """Any parameter of any endpoint with any text: answered or refused, never a 5xx."""
    services.put({"__name__": "m", "service": "s"}, (1, 1.0))
    mine = [e for e in services.dialects.union if "GET" in e.methods and e.tag in ("gamiroo", "platform", "botserver", "track", "xscore")]
    endpoint = data.draw(st.sampled_from(mine))
    asked = data.draw(st.lists(st.sampled_from([p.name for p in endpoint.params] or ["x"]), unique=True, max_size=4))
    name = data.draw(st.one_of(st.sampled_from(["m", "s"]), st.text(min_size=1, max_size=8)))
    path = endpoint.path.replace("{service:path}", quote(name, safe="")).replace("{name:path}", quote(name, safe=""))
    answer = await client.get(path, params={n: data.draw(WORDS) for n in asked})
    assert answer.status_code in (200, 404, 422), (answer.url, answer.text)
    if answer.status_code == 422:
        assert answer.json()["detail"]
