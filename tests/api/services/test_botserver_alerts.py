"""`/alerts/configure` as BotServer's document shows it: made, listed, edited, deleted; unknown metrics; whom to tell."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from vedette.api.endpoint import routes
from vedette.api.services.botserver_alerts import _EXAMPLE, BASE, Alerts, endpoints
from vedette.records.database import Records
from vedette.rules.managed import ManagedRules


class Room:
    """The endpoints over the services' storage, and the rules that they make."""

    client: httpx.AsyncClient
    rules: ManagedRules
    mails = True


@pytest.fixture
async def room(services: Any, serve: Any, empty_records: Path) -> AsyncIterator[Room]:
    records = await Records.open(empty_records)

    async def changed() -> None:
        pass

    async def admit(_: Any) -> None:
        pass

    made = Room()
    made.rules = ManagedRules(records, services.clock, changed, admit=admit)
    made.client = serve(routes(list(endpoints(Alerts(services.backend, lambda _: made.rules, lambda: made.mails)))))
    services.put({"__name__": "orders_total", "shop": "a"}, (0, 1))
    services.put({"__name__": "http_requests_total", "job": "api"}, (0, 1))
    yield made
    await records.close()


async def test_the_documents_example(room: Room) -> None:
    made = await room.client.post(BASE, json=_EXAMPLE)
    assert made.status_code == 201
    shown = {**_EXAMPLE, "notify": {"email": ["admin@example.com"], "webhook": "https://example.com/<secret>"}}
    assert made.json().items() >= {**shown, "status": "configured", "version": 1, "author": "anonymous"}.items()
    (group,) = room.rules.groups()
    (rule,) = group.rules
    assert (group.file, group.interval_ms, rule.name, rule.hold_ms) == ("api:configured", 15_000, "high_memory_usage", 300_000)
    assert rule.expr == "(100 * (1 - node_memory_MemAvailable_bytes / node_memory_MemTotal_bytes)) > 90"
    assert dict(rule.labels) == {"severity": "warning", "vedette_notify": "configured/high_memory_usage"}
    assert rule.annotations.get("summary") == "memory.usage_percent greater than 90 for 5m"
    assert group.notify is not None
    assert (group.notify.email, group.notify.webhook) == (("admin@example.com",), "https://example.com/alerts")


async def test_only_what_was_not_there_is_created(room: Room) -> None:
    assert [(await room.client.post(BASE, json=_EXAMPLE)).status_code for _ in range(2)] == [201, 200]
    assert (await room.client.put(f"{BASE}/high_memory_usage", json=_EXAMPLE)).status_code == 200
    assert (await room.client.delete(f"{BASE}/high_memory_usage")).status_code == 200
    assert (await room.client.post(BASE, json=_EXAMPLE)).status_code == 201


async def test_without_a_mail_server_it_is_taken_with_a_warning(room: Room) -> None:
    room.mails = False
    made = await room.client.post(BASE, json=_EXAMPLE)
    assert made.status_code == 201
    (warning,) = made.json()["warnings"]
    assert warning.startswith("notify.email: no mail server is configured")
    assert (await room.client.get(f"{BASE}/high_memory_usage")).json() == made.json()
    webhook_only = await room.client.post(BASE, json={**_EXAMPLE, "name": "hook", "notify": {"webhook": "https://example.com/a"}})
    assert "warnings" not in webhook_only.json()
    room.mails = True
    assert "warnings" not in (await room.client.get(f"{BASE}/high_memory_usage")).json(), "once there is a server"


async def test_listed_edited_and_deleted_by_name(room: Room) -> None:
    await room.client.post(BASE, json=_EXAMPLE)
    again = await room.client.post(BASE, json={**_EXAMPLE, "threshold": 95})
    assert (again.status_code, again.json()["version"]) == (200, 2)
    edited = await room.client.put(f"{BASE}/high_memory_usage", json={**_EXAMPLE, "threshold": 80, "notify": {}}, params={"author": "ann"})
    assert (edited.json()["threshold"], edited.json()["author"]) == (80, "ann")
    assert edited.json()["notify"] == {"email": [], "webhook": None}
    listed = (await room.client.get(BASE)).json()
    assert (listed["total"], [a["name"] for a in listed["alerts"]]) == (1, ["high_memory_usage"])
    assert (await room.client.get(f"{BASE}/high_memory_usage")).json() == edited.json() == listed["alerts"][0]
    assert (await room.client.delete(f"{BASE}/high_memory_usage")).json() == {"name": "high_memory_usage", "status": "deleted"}
    for answer in (
        await room.client.get(f"{BASE}/high_memory_usage"),
        await room.client.delete(f"{BASE}/high_memory_usage"),
        await room.client.put(f"{BASE}/high_memory_usage", json=_EXAMPLE),
    ):
        assert (answer.status_code, answer.json()) == (404, {"detail": "no alert 'high_memory_usage' is configured"})


@pytest.mark.parametrize("condition", ["greater_than", "less_than", "greater_or_equal", "less_or_equal", "equal", "not_equal"])
async def test_every_condition(room: Room, condition: str) -> None:
    body = {"name": "x", "metric": "orders_total", "condition": condition, "threshold": 5}
    assert (await room.client.post(BASE, json=body)).status_code == 201
    operator = {"greater_than": ">", "less_than": "<", "greater_or_equal": ">=", "less_or_equal": "<=", "equal": "==", "not_equal": "!="}
    assert room.rules.groups()[0].rules[0].expr == f"orders_total {operator[condition]} 5"


async def test_every_type(room: Room) -> None:
    for body in (
        {"name": "a", "type": "absence", "metric": 'orders_total{shop="a"}', "duration_seconds": 60},
        {"name": "b", "type": "anomaly", "metric": "rate(orders_total[5m])", "window_seconds": 86400},
        {"name": "c", "type": "forecast", "metric": "disk.free_gb", "ahead_seconds": 14400, "window_seconds": 3600},
        {
            "name": "d",
            "type": "threshold",
            "metric": "sum(orders_total) / 2",
            "condition": "less_than",
            "threshold": 1,
            "message": "a {{b}}",
        },
    ):
        answer = await room.client.post(BASE, json=body)
        assert answer.status_code == 201, answer.text
        assert answer.json().items() >= body.items() - {("message", "a {{b}}")}
    a, b, c, d = (g.rules[0] for g in room.rules.groups())
    assert (a.expr, a.hold_ms) == ('absent(orders_total{shop="a"})', 60_000)
    assert (b.expr, str(b.analysis).partition(":")[0]) == ("rate(orders_total[5m])", "anomaly")
    assert c.expr.startswith("predict_linear((node_filesystem_avail_bytes{")
    assert d.annotations.get("summary") == 'a {{ "{{" }}b}}'


REFUSED = [
    ({"metric": "memory.usage_percnt"}, ["body", "metric"], "did you mean memory.usage_percent"),
    ({"metric": "http_request_total"}, ["body", "metric"], "unknown metric 'http_request_total' (did you mean http_requests_total"),
    ({"metric": "sum(rate(order_total[5m]))"}, ["body", "metric"], "unknown metric 'order_total' (did you mean orders_total"),
    ({"metric": "("}, ["body", "metric"], "no PromQL"),
    ({"metric": "orders_total[5m]"}, ["body", "metric"], "a matrix has no one value"),
    ({"condition": "above"}, ["body", "condition"], "not a condition: 'above' (expected one of greater_than"),
    ({"threshold": None}, ["body", "threshold"], "field required"),
    ({"threshold": "90"}, ["body", "threshold"], "Expected `float | null`, got `str`"),
    ({"type": "spike"}, ["body", "type"], "Invalid enum value 'spike'"),
    ({"duration_seconds": -1}, ["body", "duration_seconds"], "-1 is out of range"),
    ({"name": "a/b"}, ["body", "name"], "not a name"),
    ({"notify": {"email": ["nobody"]}}, ["body", "notify", "email"], "not a mail address: 'nobody'"),
    ({"notify": {"webhook": "file:///etc/passwd"}}, ["body", "notify", "webhook"], "not a URL"),
    ({"notfy": {}}, ["body"], "Object contains unknown field `notfy`"),
]


@pytest.mark.parametrize(("change", "place", "problem"), REFUSED)
async def test_what_is_refused(room: Room, change: dict[str, Any], place: list[str], problem: str) -> None:
    answer = await room.client.post(BASE, json={**_EXAMPLE, **change})
    assert answer.status_code == 422
    (told,) = answer.json()["detail"]
    assert told["loc"] == place
    assert problem in told["msg"]
    assert room.rules.all() == []


async def test_another_name_in_the_body_than_in_the_path(room: Room) -> None:
    await room.client.post(BASE, json=_EXAMPLE)
    answer = await room.client.put(f"{BASE}/high_memory_usage", json={**_EXAMPLE, "name": "other"})
    assert answer.json()["detail"][0]["loc"] == ["body", "name"]
