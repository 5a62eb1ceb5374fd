"""Targets, rules and alerts: snapshots in Prometheus' shapes, against its own schemas and published bodies."""

from __future__ import annotations

import asyncio
import dataclasses
import itertools
import json
from typing import Any

import httpx
import pytest
from jsonschema import Draft202012Validator

from vedette.api.endpoint import answering, routes
from vedette.api.problems import prometheus
from vedette.api.prometheus import any_matchers_of
from vedette.api.watch import Sources, Watch, endpoints, exponent
from vedette.collect.scrape import TargetState
from vedette.collect.targets import DroppedTarget
from vedette.model.labels import Labels
from vedette.model.samples import MetricMetadata
from vedette.rules.state import ActiveAlert, GroupState, RuleState

NODE = TargetState(
    pool="node",
    labels=Labels.of(job="node", instance="127.0.0.1:9100"),
    discovered=Labels.of(__address__="127.0.0.1:9100", job="node"),
    url="http://127.0.0.1:9100/metrics",
    health="up",
    last_scrape=1_700_000_000.25,
    last_duration=0.0125,
    interval_ms=15_000,
    timeout_ms=10_000,
)
WEB = dataclasses.replace(NODE, pool="web", url="https://web.example/metrics", health="down", last_error="status 500", last_scrape=0.0)
GONE = DroppedTarget("node", Labels.of(__address__="gone:1", job="node"))

FIRING = ActiveAlert(
    Labels.of(alertname="HighCPU", severity="warning", service="gateway"),
    Labels.of(description="CPU usage above 80% for 5 minutes", summary="busy"),
    "firing",
    1_700_000_000_500,
    0.9,
)
PENDING = ActiveAlert(Labels.of(alertname="HighCPU", job="shop"), Labels.of(summary="busy"), "pending", 1_700_000_060_000, 81.0)


def alerting(**changes: Any) -> RuleState:
    rule = RuleState(
        kind="alerting",
        name="HighCPU",
        expr="cpu > 0.8",
        duration_ms=300_000,
        keep_firing_for_ms=60_000,
        labels=Labels.of(severity="warning"),
        annotations=Labels.of(summary="busy"),
        health="ok",
        last_error="",
        last_evaluation=1_700_000_010.0,
        evaluation_time=0.0005,
        state="firing",
        alerts=[FIRING, PENDING],
    )
    return dataclasses.replace(rule, **changes)


RECORDING = alerting(
    kind="recording", name="job:cpu:avg", labels=Labels.of(team="a"), alerts=[], state="inactive", health="err", last_error="bad"
)


def group(name: str, file: str, *rules: RuleState) -> GroupState:
    return GroupState(name, file, 15_000, 0, 1_700_000_010.0, 0.001, list(rules))


GROUPS = [
    group("one", "a.yml", alerting(), RECORDING),
    group("two", "a.yml", alerting(name="Quiet", alerts=[])),
    group("one", "b.yml", RECORDING),
]


@pytest.fixture
def targets() -> list[TargetState]:
    return [NODE, WEB]


@pytest.fixture
def client(serve: Any, targets: list[TargetState]) -> httpx.AsyncClient:
    sources = Sources(
        targets=lambda: targets, dropped=lambda: [GONE], dropped_counts=lambda: {"node": 3, "web": 0}, groups=lambda _request: GROUPS
    )
    watch = Watch(sources, any_matchers_of, "https://monitor.example/vedette")
    made: httpx.AsyncClient = serve(
        routes([dataclasses.replace(e, handler=answering(e.handler, prometheus, AssertionError)) for e in endpoints(watch)])  # type: ignore[arg-type]
    )
    return made


async def data(client: httpx.AsyncClient, path: str, **params: Any) -> Any:
    answer = await client.get(f"/api/v1/{path}", params=params)
    assert answer.status_code == 200, answer.text
    assert answer.json()["status"] == "success"
    return answer.json()["data"]


class TestTargets:
    async def test_all(self, client: httpx.AsyncClient) -> None:
        found = await data(client, "targets")
        assert found["activeTargets"][0] == {
            "discoveredLabels": {"__address__": "127.0.0.1:9100", "job": "node"},
            "labels": {"instance": "127.0.0.1:9100", "job": "node"},
            "scrapePool": "node",
            "scrapeUrl": "http://127.0.0.1:9100/metrics",
            "globalUrl": "http://monitor.example:9100/metrics",
            "lastError": "",
            "lastScrape": "2023-11-14T22:13:20.25Z",
            "lastScrapeDuration": 0.0125,
            "health": "up",
            "scrapeInterval": "15s",
            "scrapeTimeout": "10s",
        }
        web = found["activeTargets"][1]
        assert (web["globalUrl"], web["lastError"], web["lastScrape"]) == (
            "https://web.example/metrics",
            "status 500",
            "0001-01-01T00:00:00Z",
        )
        assert found["droppedTargets"] == [{"discoveredLabels": {"__address__": "gone:1", "job": "node"}, "scrapePool": "node"}]
        assert found["droppedTargetCounts"] == {"node": 3, "web": 0}

    @pytest.mark.parametrize(
        ("params", "active", "dropped", "counts"),
        [
            ({"state": "active"}, ["node", "web"], 0, {}),
            ({"state": "Dropped"}, [], 1, {"node": 3, "web": 0}),
            ({"state": "any"}, ["node", "web"], 1, {"node": 3, "web": 0}),
            ({"scrapePool": "web"}, ["web"], 0, {"web": 0}),
            ({"scrapePool": "none"}, [], 0, {}),
        ],
    )
    async def test_filters(self, client: httpx.AsyncClient, params: Any, active: list[str], dropped: int, counts: Any) -> None:
        found = await data(client, "targets", **params)
        assert [t["scrapePool"] for t in found["activeTargets"]] == active
        assert len(found["droppedTargets"]) == dropped
        assert found["droppedTargetCounts"] == counts


def told(*metrics: tuple[str, str, str, str]) -> TargetState:
    """A target that says this of its metrics."""
    return dataclasses.replace(NODE, metadata=tuple(itertools.starmap(MetricMetadata, metrics)))


class TestMetadataOfTargets:
    LOAD, FREE = ("node_load1", "gauge", "1m load average.", ""), ("node_free_bytes", "gauge", "Free.", "bytes")

    @pytest.fixture
    def targets(self) -> list[TargetState]:
        shop = dataclasses.replace(told(self.LOAD), labels=Labels.of(job="shop", instance="b:80"))
        return [told(self.LOAD, self.FREE), shop, WEB]

    async def test_all_of_all(self, client: httpx.AsyncClient) -> None:
        node, shop = {"instance": "127.0.0.1:9100", "job": "node"}, {"instance": "b:80", "job": "shop"}
        load = {"type": "gauge", "help": "1m load average.", "unit": ""}
        assert await data(client, "targets/metadata") == [
            {"target": node, "metric": "node_load1", **load},
            {"target": node, "metric": "node_free_bytes", "type": "gauge", "help": "Free.", "unit": "bytes"},
            {"target": shop, "metric": "node_load1", **load},
        ]
        assert await data(client, "targets/metadata", metric="node_load1") == [{"target": node, **load}, {"target": shop, **load}]

    @pytest.mark.parametrize(
        ("params", "count"),
        [
            ({"match_target": '{job="shop"}'}, 1),
            ({"match_target": '{job=~"shop|node"}'}, 3),
            ({"match_target": "{}"}, 3),
            ({"match_target": '{rack=""}', "metric": "node_free_bytes"}, 1),
            ({"match_target": "up"}, 0),
            ({"match_target": ""}, 3),
            ({"metric": "none"}, 0),
            ({"limit": "0"}, 0),
            ({"limit": "1"}, 2),
            ({"limit": "2"}, 2),
            ({"limit": "3"}, 3),
            ({"limit": "1", "metric": "node_load1"}, 1),
            ({"limit": "-1"}, 3),
            ({"limit": ""}, 3),
        ],
    )
    async def test_filters(self, client: httpx.AsyncClient, params: dict[str, str], count: int) -> None:
        assert len(await data(client, "targets/metadata", **params)) == count

    @pytest.mark.parametrize("targets", [[told(("node_load1", "gauge", "", ""))] * 100])
    async def test_very_many(self, client: httpx.AsyncClient) -> None:
        assert len(await data(client, "targets/metadata")) == 100
        assert len(await data(client, "targets/metadata", limit="31")) == 31

    @pytest.mark.parametrize(
        ("params", "problem"),
        [
            ({"limit": "x"}, "limit must be a number"),
            ({"limit": "1.5"}, "limit must be a number"),
            ({"match_target": "{"}, 'invalid parameter "match_target": 1:2: parse error: unexpected end of input inside braces'),
            ({"match_target": '{a=~"("}'}, 'invalid parameter "match_target"'),
            ({"match_target": "sum(up)"}, 'invalid parameter "match_target"'),
        ],
    )
    async def test_bad_parameters(self, client: httpx.AsyncClient, params: dict[str, str], problem: str) -> None:
        answer = await client.get("/api/v1/targets/metadata", params=params)
        assert answer.status_code == 400
        assert answer.json()["errorType"] == "bad_data"
        assert answer.json()["error"].startswith(problem)


class TestRules:
    async def test_an_alerting_rule_whole(self, client: httpx.AsyncClient) -> None:
        found = (await data(client, "rules"))["groups"][0]
        rule = found.pop("rules")[0]
        assert found == {
            "name": "one",
            "file": "a.yml",
            "interval": 15,
            "limit": 0,
            "evaluationTime": 0.001,
            "lastEvaluation": "2023-11-14T22:13:30Z",
        }
        assert rule.pop("alerts")[0] == {
            "labels": {"alertname": "HighCPU", "service": "gateway", "severity": "warning"},
            "annotations": {"description": "CPU usage above 80% for 5 minutes", "summary": "busy"},
            "state": "firing",
            "activeAt": "2023-11-14T22:13:20.5Z",
            "value": "9e-01",
        }
        assert rule == {
            "state": "firing",
            "name": "HighCPU",
            "query": "cpu > 0.8",
            "duration": 300,
            "keepFiringFor": 60,
            "labels": {"severity": "warning"},
            "annotations": {"summary": "busy"},
            "health": "ok",
            "evaluationTime": 0.0005,
            "lastEvaluation": "2023-11-14T22:13:30Z",
            "type": "alerting",
        }

    async def test_a_recording_rule_whole(self, client: httpx.AsyncClient) -> None:
        assert (await data(client, "rules"))["groups"][0]["rules"][1] == {
            "name": "job:cpu:avg",
            "query": "cpu > 0.8",
            "labels": {"team": "a"},
            "health": "err",
            "lastError": "bad",
            "evaluationTime": 0.0005,
            "lastEvaluation": "2023-11-14T22:13:30Z",
            "type": "recording",
        }

    @pytest.mark.parametrize(
        ("params", "names"),
        [
            ({"type": "alert"}, [["HighCPU"], ["Quiet"]]),
            ({"type": "record"}, [["job:cpu:avg"], ["job:cpu:avg"]]),
            ({"rule_name[]": ["Quiet", "job:cpu:avg"]}, [["job:cpu:avg"], ["Quiet"], ["job:cpu:avg"]]),
            ({"rule_group[]": "two"}, [["Quiet"]]),
            ({"file[]": "b.yml"}, [["job:cpu:avg"]]),
            ({"match[]": '{team="a"}'}, [["job:cpu:avg"], ["job:cpu:avg"]]),
            ({"match[]": ['{team="a"}', '{severity=~"warn.*"}'], "file[]": "a.yml"}, [["HighCPU", "job:cpu:avg"], ["Quiet"]]),
            ({"rule_group[]": "two", "type": "record"}, []),
        ],
    )
    async def test_filters(self, client: httpx.AsyncClient, params: Any, names: list[list[str]]) -> None:
        assert [[r["name"] for r in g["rules"]] for g in (await data(client, "rules", **params))["groups"]] == names

    async def test_without_alerts(self, client: httpx.AsyncClient) -> None:
        assert (await data(client, "rules", exclude_alerts="true"))["groups"][0]["rules"][0]["alerts"] == []

    async def test_others_have_their_turn_while_many_are_listed(self, client: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch) -> None:
        whole = await data(client, "rules")
        turns: list[float] = []

        class Loop:
            """What the room uses of asyncio, written down."""

            @staticmethod
            async def sleep(seconds: float) -> None:
                turns.append(seconds)
                await asyncio.sleep(seconds)

        monkeypatch.setattr("vedette.api.watch.asyncio", Loop)
        assert await data(client, "rules") == whole
        assert turns == [], "a few rules are no burden"
        monkeypatch.setattr("vedette.api.watch.RULES_AT_ONCE", 0)
        assert await data(client, "rules") == whole
        assert turns == [0] * (len(GROUPS) - 1)

    async def test_pages(self, client: httpx.AsyncClient) -> None:
        seen, token = [], {}
        for _ in range(3):
            page = await data(client, "rules", group_limit=1, **token)
            seen += [(g["name"], g["file"]) for g in page["groups"]]
            token = {"group_next_token": page.get("groupNextToken")}
        assert seen == [("one", "a.yml"), ("two", "a.yml"), ("one", "b.yml")]
        assert token == {"group_next_token": None}
        assert "groupNextToken" not in await data(client, "rules", group_limit=3)

    @pytest.mark.parametrize(
        ("params", "error"),
        [
            ({"type": "x"}, 'invalid parameter "type": not supported value "x"'),
            ({"exclude_alerts": "x"}, 'invalid parameter "exclude_alerts"'),
            ({"group_limit": "x"}, 'invalid parameter "group_limit"'),
            ({"group_limit": "0"}, "greater than 0"),
            ({"group_next_token": "x"}, "group_limit needs to be present"),
            ({"group_limit": "1", "group_next_token": "x"}, "were rule groups changed?"),
            ({"match[]": "{"}, "parse error"),
            ({"match[]": '{a=~".*"}'}, "at least one non-empty matcher"),
        ],
    )
    async def test_bad_parameters(self, client: httpx.AsyncClient, params: Any, error: str) -> None:
        answer = await client.get("/api/v1/rules", params=params)
        assert (answer.status_code, answer.json()["errorType"]) == (400, "bad_data")
        assert error in answer.json()["error"]


class TestAlerts:
    async def test_both_shapes(self, client: httpx.AsyncClient) -> None:
        body = (await client.get("/api/v1/alerts")).json()
        assert [a["state"] for a in body["data"]["alerts"]] == ["firing", "pending"]
        assert body["alerts"][0] == {
            "id": "HighCPU",
            "fingerprint": f"{FIRING.labels.fingerprint():016x}",
            "severity": "warning",
            "service": "gateway",
            "description": "CPU usage above 80% for 5 minutes",
            "start_time": "2023-11-14T22:13:20Z",
            "status": "firing",
        }
        assert (body["alerts"][1]["service"], body["alerts"][1]["description"]) == ("shop", "busy")


class TestPublished:
    """Prometheus' own schemas, and bodies that its users publish."""

    async def test_schemas(self, client: httpx.AsyncClient, prometheus_schema: Any) -> None:
        for path, name in (("targets", "TargetsOutputBody"), ("rules", "RulesOutputBody")):
            Draft202012Validator(prometheus_schema(name)).validate((await client.get(f"/api/v1/{path}")).json())
        # The union of two documents has one member more than Prometheus' own.
        body = (await client.get("/api/v1/alerts")).json()
        del body["alerts"]
        Draft202012Validator(prometheus_schema("AlertsOutputBody")).validate(body)

    async def test_rules_have_the_keys_of_the_golden_bodies(self, client: httpx.AsyncClient, conformance: Any) -> None:
        golden = conformance / "prometheus-community_prom-label-proxy/injectproxy/testdata"
        theirs: dict[str, set[str]] = {}
        for file in ("rules_with_active_alerts.golden", "rules_match_namespace_ns2.golden"):
            for g in json.loads((golden / file).read_text())["data"]["groups"]:
                for rule in g["rules"]:
                    theirs.setdefault(rule["type"], set()).update(rule)
        ours = {r["type"]: set(r) - {"lastError"} for g in (await data(client, "rules"))["groups"] for r in g["rules"]}
        assert ours == theirs


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0.0, "0e+00"),
        (-0.0, "-0e+00"),
        (1.0, "1e+00"),
        (81.0, "8.1e+01"),
        (0.9, "9e-01"),
        (-0.0025, "-2.5e-03"),
        (1e300, "1e+300"),
        (5e-324, "5e-324"),
        (123456789.125, "1.23456789125e+08"),
        (float("inf"), "+Inf"),
        (float("-inf"), "-Inf"),
        (float("nan"), "NaN"),
    ],
)
def test_values_as_go_prints_them(value: float, text: str) -> None:
    assert exponent(value) == text
