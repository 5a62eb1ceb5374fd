"""Alertmanager's API over a real notifier: answers held against its own description, filters, refusals, the acceptance checks."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import httpx
import jsonschema
import pytest
import yaml

from vedette.access.guard import tenant_of
from vedette.api.alertmanager import Alertmanager, AlertmanagerInfo, endpoints
from vedette.api.endpoint import routes
from vedette.clock import ManualClock, now_ms
from vedette.model.labels import Labels
from vedette.notify.config import parse
from vedette.notify.notifier import Notifier
from vedette.records.database import Records

CONFIG = """
route:
  receiver: everyone
  group_by: [alertname]
  group_wait: 1h
  routes:
  - {receiver: db, group_wait: 1h, matchers: [service="db"], mute_time_intervals: [always]}
receivers: [{name: everyone}, {name: db}]
inhibit_rules: [{source_match: {severity: critical}, target_match: {severity: warning}, equal: [alertname]}]
time_intervals: [{name: always, time_intervals: [{}]}]
"""
NOW = "2023-11-14T22:13:20Z"  # what the fixture's clock shows


@pytest.fixture
async def notifier(empty_records: Path, clock: ManualClock) -> AsyncIterator[Notifier]:
    records = await Records.open(empty_records)
    made = Notifier(parse(CONFIG), records, clock)
    await made.start()
    yield made
    await made.close()
    await records.close()


@pytest.fixture
async def client(notifier: Notifier, clock: ManualClock, serve: Any, run: Any) -> httpx.AsyncClient:
    assert tenant_of({}) == "default"
    info = AlertmanagerInfo("1.2.3", 1_700_000_000.0, lambda: "route: {}\n")
    made: httpx.AsyncClient = serve(routes(endpoints(Alertmanager(lambda _: notifier, lambda: now_ms(clock), info, run), run=run)))
    made.base_url = httpx.URL("http://127.0.0.1:8009/api/v2")
    return made


@pytest.fixture(scope="module")
def valid(conformance: Path) -> Callable[[str, Any], Any]:
    """Checks a value against a definition of Alertmanager's OpenAPI description."""
    described = yaml.safe_load((conformance / "prometheus_alertmanager/api/v2/openapi.yaml").read_text())

    def check(name: str, value: Any) -> Any:
        schema = {"$ref": f"#/definitions/{name}", "definitions": described["definitions"]}
        validator = jsonschema.Draft4Validator(schema, format_checker=jsonschema.Draft4Validator.FORMAT_CHECKER)
        validator.validate(value)
        return value

    return check


def alert(**labels: str) -> dict[str, Any]:
    return {"labels": labels, "annotations": {"summary": "x"}, "generatorURL": "http://g/"}


def silence(*matchers: tuple[str, str], **more: Any) -> dict[str, Any]:
    given = [{"name": n, "value": v, "isRegex": False} for n, v in matchers]
    return {"matchers": given, "startsAt": NOW, "endsAt": "2023-11-14T23:13:20Z", "createdBy": "me", "comment": "", **more}


async def get(client: httpx.AsyncClient, path: str, **params: Any) -> Any:
    answer = await client.get(path, params=params)
    assert answer.status_code == 200, answer.text
    return answer.json()


async def names(client: httpx.AsyncClient, **params: Any) -> set[str]:
    return {a["labels"]["alertname"] for a in await get(client, "/alerts", **params)}


async def test_the_status_of_an_alert_follows_silences_and_inhibition(client: httpx.AsyncClient, valid: Any) -> None:
    # The acceptance suite's AlertGetReturnsCurrentAlertStatus.
    warning, critical = (Labels.of(alertname="test1", severity=s) for s in ("warning", "critical"))
    assert (await client.post("/alerts", json=[alert(alertname="test1", severity="warning")])).status_code == 200
    (one,) = valid("gettableAlerts", await get(client, "/alerts"))
    assert one["status"] == {"state": "active", "silencedBy": [], "inhibitedBy": [], "mutedBy": []}
    made = (await client.post("/silences", json=silence(("alertname", "test1")))).json()["silenceID"]
    (one,) = await get(client, "/alerts")
    assert (one["status"]["state"], one["status"]["silencedBy"]) == ("suppressed", [made])
    assert one["fingerprint"] == f"{warning.fingerprint():016x}"
    await client.post("/alerts", json=[alert(alertname="test1", severity="critical")])
    status = {a["labels"]["severity"]: a["status"] for a in await get(client, "/alerts")}
    assert all(s["silencedBy"] == [made] for s in status.values())
    assert status["warning"]["inhibitedBy"] == [f"{critical.fingerprint():016x}"]
    assert (await client.delete(f"/silence/{made}")).status_code == 200
    status = {a["labels"]["severity"]: a["status"] for a in valid("gettableAlerts", await get(client, "/alerts"))}
    assert all(s["silencedBy"] == [] for s in status.values())
    assert (status["critical"]["state"], status["warning"]["state"]) == ("active", "suppressed")


async def test_an_alert_as_it_was_posted(client: httpx.AsyncClient, clock: ManualClock) -> None:
    posted = {**alert(alertname="A", gone=""), "startsAt": "2023-11-14T23:13:19.25+01:00", "endsAt": "0001-01-01T00:00:00Z"}
    await client.post("/alerts", json=[posted])
    (found,) = await get(client, "/alerts")
    assert found["labels"] == {"alertname": "A"}
    assert (found["startsAt"], found["endsAt"]) == ("2023-11-14T22:13:19.25Z", "2023-11-14T22:18:20Z")
    assert (found["annotations"], found["generatorURL"]) == ({"summary": "x"}, "http://g/")
    assert found["receivers"] == [{"name": "everyone"}]
    await clock.advance(301)
    assert await get(client, "/alerts") == []


async def test_filters(client: httpx.AsyncClient) -> None:
    await client.post("/alerts", json=[alert(alertname="A", service="db"), alert(alertname="B", host="x"), alert(alertname="C")])
    await client.post("/silences", json=silence(("alertname", "B")))
    assert await names(client) == {"A", "B", "C"}
    assert await names(client, filter='service="db"') == {"A"}
    assert await names(client, filter=['alertname=~"A|B"', "host=x"]) == {"B"}
    assert await names(client, filter='host=""') == {"A", "C"}
    assert await names(client, filter='host!=""') == {"B"}
    assert await names(client, silenced="false") == {"A", "C"}
    assert await names(client, active="false") == {"B"}
    assert await names(client, receiver="d.") == {"A"}
    assert await names(client, receiver="nobody") == set()


async def test_groups(client: httpx.AsyncClient, valid: Any) -> None:
    posted = [alert(alertname="A", i="1"), alert(alertname="A", i="2"), alert(alertname="B", service="db"), alert(alertname="C")]
    await client.post("/alerts", json=posted)
    await client.post("/silences", json=silence(("alertname", "C")))
    found = valid("alertGroups", await get(client, "/alerts/groups"))
    assert [(g["labels"], g["receiver"]["name"], len(g["alerts"])) for g in found] == [
        ({"alertname": "A"}, "everyone", 2),
        ({"alertname": "B"}, "db", 1),
        ({"alertname": "C"}, "everyone", 1),
    ]
    (muted,) = found[1]["alerts"]
    assert muted["status"] == {"state": "suppressed", "silencedBy": [], "inhibitedBy": [], "mutedBy": ["always"]}
    assert [g["labels"]["alertname"] for g in await get(client, "/alerts/groups", muted="false")] == ["A"]
    assert [g["labels"]["alertname"] for g in await get(client, "/alerts/groups", receiver="db")] == ["B"]
    assert [g["labels"]["alertname"] for g in await get(client, "/alerts/groups", silenced="false")] == ["A", "B"]


async def test_a_silence_from_making_to_end(client: httpx.AsyncClient, valid: Any, clock: ManualClock) -> None:
    posted = silence(("foo", "bar"), comment="why", annotations={"ticket": "7"})
    posted["matchers"].append({"name": "x", "value": "y|z", "isRegex": True, "isEqual": False})
    identity = (await client.post("/silences", json=posted)).json()["silenceID"]
    found = valid("gettableSilence", await get(client, f"/silence/{identity}"))
    assert found["matchers"] == [{"name": "foo", "value": "bar", "isRegex": False, "isEqual": True}, posted["matchers"][1]]
    assert (found["status"]["state"], found["comment"], found["createdBy"]) == ("active", "why", "me")
    assert (found["startsAt"], found["annotations"]) == (NOW, {"ticket": "7"})
    # What it answers can be posted back, changed, as amtool does.
    await clock.advance(60)
    again = await client.post("/silences", json={**found, "endsAt": "2023-11-15T00:00:00Z"})
    assert again.json()["silenceID"] == identity
    assert (await client.delete(f"/silence/{identity}")).status_code == 200
    (ended,) = valid("gettableSilences", await get(client, "/silences"))
    assert (ended["status"]["state"], ended["endsAt"]) == ("expired", "2023-11-14T22:14:20Z")
    assert await get(client, "/silences", expired="false") == []


async def test_a_silence_from_matchers_as_texts_alone(client: httpx.AsyncClient, valid: Any) -> None:
    posted = {key: value for key, value in silence().items() if key != "matchers"}
    refused = await client.post("/silences", json=posted)
    assert (refused.status_code, "at least one matcher required" in refused.json()) == (400, True)
    made = await client.post("/silences", json={**posted, "filter": ['foo="bar"', "x!~y"]})
    found = valid("gettableSilence", await get(client, f"/silence/{made.json()['silenceID']}"))
    assert [(m["name"], m["value"], m["isRegex"], m["isEqual"]) for m in found["matchers"]] == [
        ("foo", "bar", False, True),
        ("x", "y", True, False),
    ]


async def test_filters_of_silences(client: httpx.AsyncClient) -> None:
    for name in ("a", "b"):
        await client.post("/silences", json=silence((name, "bar🙂")))
    assert len(await get(client, "/silences")) == 2
    (found,) = await get(client, "/silences", filter="a=bar🙂")
    assert found["matchers"][0]["name"] == "a"
    assert await get(client, "/silences", filter="a=other") == []
    assert len(await get(client, "/silences", filter='a!="other"')) == 2


async def test_utf8_alerts(client: httpx.AsyncClient) -> None:
    labels = {"a": "a", "00": "b", "Σ": "c", "🙂": "dΘ"}
    await client.post("/alerts", json=[{"labels": labels}])
    filters = ["00=b", "Σ=c", '"\\xf0\\x9f\\x99\\x82"=dΘ']
    (found,) = await get(client, "/alerts", filter=filters)
    assert found["labels"] == labels
    (group,) = await get(client, "/alerts/groups", filter=filters)
    assert group["alerts"][0]["labels"] == labels


REFUSED = [
    ("POST", "/alerts", b"{", 400, "bad JSON body"),
    ("POST", "/alerts", b'[{"labels": {"a": 1}}]', 400, "Expected `str`, got `int`"),
    ("POST", "/alerts", b'[{"labels": {"a": ""}}]', 400, "alert 0: at least one label pair required"),
    ("POST", "/alerts", b'[{"labels": {"a": "b"}, "startsAt": "soon"}]', 400, "alert 0: startsAt: cannot parse"),
    (
        "POST",
        "/alerts",
        b'[{"labels": {"a": "b"}, "startsAt": "2023-11-14T22:13:20Z", "endsAt": "2023-11-14T22:13:19Z"}]',
        400,
        "start time must be before end time",
    ),
    ("GET", "/alerts?filter=%7B", None, 400, "bad matcher"),
    ("GET", "/alerts?receiver=%28", None, 400, "bad regular expression"),
    ("GET", "/alerts?active=maybe", None, 400, 'invalid parameter "active"'),
    ("GET", "/silence/nobody", None, 404, "silence nobody not found"),
    ("DELETE", "/silence/nobody", None, 404, "silence nobody not found"),
    ("POST", "/silences", b"{}", 400, "missing required field `startsAt`"),
]


@pytest.mark.parametrize(("method", "path", "body", "status", "text"), REFUSED)
async def test_a_refusal_is_a_json_string(
    client: httpx.AsyncClient, method: str, path: str, body: bytes | None, status: int, text: str
) -> None:
    answer = await client.request(method, path, content=body)
    assert answer.status_code == status
    assert text in answer.json()


BAD_SILENCES = [
    (silence(), 400, "at least one matcher required"),
    (silence(("a", "")), 400, "at least one matcher must not match the empty string"),
    (silence(("a", "b"), endsAt=NOW), 400, "start time must be before end time"),
    (silence(("a", "b"), startsAt="2020-01-01T00:00:00Z", endsAt="2021-01-01T00:00:00Z"), 400, "end time can't be in the past"),
    (silence(("a", "b"), id="4711"), 404, "silence 4711 not found"),
    ({**silence(), "matchers": [{"name": "a", "value": "(", "isRegex": True}]}, 400, "bad regular expression"),
]


@pytest.mark.parametrize(("posted", "status", "text"), BAD_SILENCES)
async def test_a_bad_silence_is_not_made(client: httpx.AsyncClient, posted: dict[str, Any], status: int, text: str) -> None:
    answer = await client.post("/silences", json=posted)
    assert (answer.status_code, text in answer.json()) == (status, True), answer.text
    assert await get(client, "/silences") == []


async def test_good_alerts_are_taken_beside_bad_ones(client: httpx.AsyncClient) -> None:
    answer = await client.post("/alerts", json=[alert(alertname="good"), {"labels": {}}])
    assert answer.status_code == 400
    assert await names(client) == {"good"}


async def test_status_and_receivers(client: httpx.AsyncClient, valid: Any) -> None:
    status = valid("alertmanagerStatus", await get(client, "/status"))
    assert (status["versionInfo"]["version"], status["config"]["original"], status["uptime"]) == ("1.2.3", "route: {}\n", NOW)
    assert [valid("receiver", r)["name"] for r in await get(client, "/receivers")] == ["everyone", "db"]


async def test_pages_of_other_origins_may_read_and_not_write(client: httpx.AsyncClient) -> None:
    headers = {"Origin": "http://elsewhere"}
    assert (await client.get("/alerts", headers=headers)).headers["access-control-allow-origin"] == "*"
    assert "access-control-allow-origin" not in (await client.post("/alerts", json=[], headers=headers)).headers
