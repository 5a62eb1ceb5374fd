"""The platform document's silences: as it writes them, seen by Alertmanager's API, refused with 422 that points."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from vedette.api.endpoint import routes
from vedette.api.silencing import Silencing, endpoints, shown
from vedette.clock import ManualClock, now_ms
from vedette.model.labels import Labels
from vedette.model.matchers import Matcher
from vedette.notify.notifier import Notifier
from vedette.notify.silence import Silence
from vedette.records.database import Records

PATH = "/api/v1/alerts/silence"
DOCUMENT = {
    "matcher": {"service": "trading-gateway", "severity": "warning"},
    "duration_minutes": 60,
    "created_by": "admin",
    "comment": "Investigating high CPU usage",
}


@pytest.fixture
async def notifier(empty_records: Path, clock: ManualClock) -> AsyncIterator[Notifier]:
    records = await Records.open(empty_records)
    made = Notifier(None, records, clock)
    await made.start()
    yield made
    await made.close()
    await records.close()


@pytest.fixture
def client(notifier: Notifier, clock: ManualClock, serve: Any) -> httpx.AsyncClient:
    made: httpx.AsyncClient = serve(routes(endpoints(Silencing(lambda _: notifier, lambda: now_ms(clock)))))
    return made


async def test_the_documents_example(client: httpx.AsyncClient, notifier: Notifier, clock: ManualClock) -> None:
    answer = await client.post(PATH, json=DOCUMENT)
    assert answer.status_code == 200
    made = answer.json()
    assert {name: made[name] for name in DOCUMENT} == DOCUMENT
    assert (made["status"], made["start_time"], made["end_time"]) == ("active", "2023-11-14T22:13:20Z", "2023-11-14T23:13:20Z")
    hush = notifier.silences.hush(now_ms(clock))
    assert hush.of(Labels.of(service="trading-gateway", severity="warning", x="y")) == [made["id"]]
    assert hush.of(Labels.of(service="trading-gateway", severity="critical")) == []
    assert (await client.get(f"{PATH}/{made['id']}")).json() == made
    assert (await client.get(PATH)).json() == {"silences": [made]}
    ended = (await client.delete(f"{PATH}/{made['id']}")).json()
    assert (ended["status"], ended["end_time"]) == ("expired", "2023-11-14T22:13:20Z")


REFUSED = [
    ({}, "matcher", "field required"),
    ({**DOCUMENT, "matcher": {}}, "matcher", "at least one"),
    ({**DOCUMENT, "matcher": {"a": ""}}, "matcher", "at least one"),
    ({**DOCUMENT, "matcher": {"a": 1}}, "matcher", "Expected `str`, got `int`"),
    ({**DOCUMENT, "duration_minutes": 0}, "duration_minutes", "0 is out of range"),
    ({**DOCUMENT, "duration_minutes": 1e9}, "duration_minutes", "out of range"),
    ({**DOCUMENT, "duration_minutes": "long"}, "duration_minutes", "Expected `float`"),
]


@pytest.mark.parametrize(("body", "field", "text"), REFUSED)
async def test_a_refusal_points(client: httpx.AsyncClient, body: dict[str, Any], field: str, text: str) -> None:
    answer = await client.post(PATH, json=body)
    assert answer.status_code == 422
    (problem,) = answer.json()["detail"]
    assert problem["loc"] == ["body", field]
    assert text in problem["msg"]


@pytest.mark.parametrize("method", ["GET", "DELETE"])
async def test_an_unknown_one(client: httpx.AsyncClient, method: str) -> None:
    answer = await client.request(method, f"{PATH}/nobody")
    assert (answer.status_code, answer.json()) == (404, {"detail": "silence nobody not found"})


@pytest.mark.parametrize(("ms", "minutes"), [(3_600_000, 60), (3_599_997, 60), (59_999, 1), (30_000, 0.5), (90_000, 1.5)])
def test_an_hour_that_began_when_it_was_stored_is_an_hour(ms: int, minutes: float) -> None:
    silence = Silence((Matcher("a", "=", "b"),), 1_000_000, 1_000_000 + ms, "", "", id="x")
    assert shown(silence, 1_000_000)["duration_minutes"] == minutes
