"""Acknowledging over the API, the history of alerts, the log of notifications, trying receivers and templates, silences of our own."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping
from pathlib import Path
from typing import Any

import httpx
import pytest

from vedette.api import alerts, notifications, silencing
from vedette.api.alertmanager import Alertmanager, AlertmanagerInfo
from vedette.api.alertmanager import endpoints as alertmanager_endpoints
from vedette.api.endpoint import routes
from vedette.clock import ManualClock, now_ms
from vedette.errors import Undeliverable
from vedette.model.alerts import Alert
from vedette.model.labels import Labels
from vedette.net.answers import Answer
from vedette.notify.config import parse
from vedette.notify.notifier import Notifier
from vedette.records.database import Records

CONFIG = """
route: {receiver: team, group_by: [alertname], group_wait: 1s, group_interval: 10s, repeat_interval: 1h}
receivers:
- name: team
  webhook_configs: [{url: 'http://hook'}]
- name: spare
  webhook_configs: [{url: 'http://spare', send_resolved: false}]
"""


class Wire:
    """Every webhook: keeps what comes; `broken` says why it fails."""

    def __init__(self) -> None:
        self.got: list[tuple[str, Any]] = []
        self.broken = ""

    async def post_json(
        self, url: str, payload: Any, *, timeout: float, headers: Mapping[str, str] | None = None, leaving: Callable[[], Any] | None = None
    ) -> Answer:
        if self.broken:
            raise Undeliverable(f"{url}: {self.broken}", reason=self.broken, retryable=False)
        if leaving is not None:
            await leaving()
        self.got.append((url, payload))
        return Answer(200, {}, b"", url)

    async def close(self) -> None:
        pass


@pytest.fixture
def wire() -> Wire:
    return Wire()


@pytest.fixture
async def notifier(empty_records: Path, clock: ManualClock, wire: Wire) -> AsyncIterator[Notifier]:
    records = await Records.open(empty_records)
    made = Notifier(parse(CONFIG), records, clock, lambda _c: wire)  # type: ignore[arg-type, return-value]
    await made.start()
    yield made
    await made.close()
    await records.close()


@pytest.fixture
async def client(notifier: Notifier, clock: ManualClock, serve: Any, run: Any) -> httpx.AsyncClient:
    def mine(_request: Any) -> Notifier:
        return notifier

    def now() -> int:
        return now_ms(clock)

    room = Alertmanager(mine, now, AlertmanagerInfo("1", 0.0, str), run)
    made: httpx.AsyncClient = serve(
        routes(
            [
                *silencing.endpoints(silencing.Silencing(mine, now)),
                *alerts.endpoints(alerts.Alerts(mine, now, lambda name: {"ffffffffffffffff": alert().fingerprint}.get(name, name))),
                *notifications.endpoints(notifications.Notifications(mine, now, "http://me")),
                *alertmanager_endpoints(room, run=run),
            ]
        )
    )
    return made


def alert(name: str = "A", *, ends: int = 7200, **labels: str) -> Alert:
    return Alert(Labels.of(alertname=name, **labels), 1_700_000_000_000, 1_700_000_000_000 + ends * 1000, Labels.of(summary="s"), value=0.5)


async def settle(clock: ManualClock, notifier: Notifier, seconds: float) -> None:
    for _ in range(int(seconds)):
        await clock.advance(1)
        await records_rest(notifier)
        async with asyncio.timeout(10):
            await notifier.settled()


async def records_rest(notifier: Notifier) -> None:
    """The records work on a thread, beside the test's clock: wait until they have done what they were given."""
    for _ in range(5):
        async with notifier._records._turn:
            await asyncio.sleep(0)
        if (task := notifier._records._committer) is not None and not task.done():
            await asyncio.wait([task])
        for _ in range(10):
            await asyncio.sleep(0)


async def ok(answer: Any) -> Any:
    found = await answer
    assert found.status_code == 200, found.text
    return found.json()


async def test_an_acknowledged_alert_is_not_told_again_and_its_end_is(
    client: httpx.AsyncClient, notifier: Notifier, clock: ManualClock, wire: Wire
) -> None:
    await notifier.accept([alert()])
    await settle(clock, notifier, 2)
    path = f"/api/v1/alerts/{alert().fingerprint}/acknowledge"
    made = await ok(client.post(path, json={"author": "Alice", "note": "on it", "duration": "2h"}))
    assert (made["author"], made["note"], made["labels"]) == ("Alice", "on it", {"alertname": "A"})
    assert made["expires_at"] == "2023-11-15T00:13:22Z"
    assert await ok(client.get(path)) == made
    listed = await ok(client.get("/api/v2/alerts"))
    assert listed[0]["acknowledgement"]["author"] == "Alice"
    assert listed[0]["status"]["state"] == "active"
    await settle(clock, notifier, 12)
    await clock.advance(3605)
    await settle(clock, notifier, 12)
    assert [body["status"] for _, body in wire.got] == ["firing"], "the repeat interval went by"
    await notifier.accept([alert(ends=3630)])
    await settle(clock, notifier, 12)
    assert [body["status"] for _, body in wire.got] == ["firing", "resolved"]
    assert (await client.get(path)).status_code == 404
    kinds = [e["kind"] for e in (await ok(client.get("/api/v1/alerts/history")))["events"]]
    assert kinds == ["unacknowledged", "resolved", "acknowledged", "firing"]


async def test_taken_back_and_timed_out_it_is_told_at_the_next_repeat(
    client: httpx.AsyncClient, notifier: Notifier, clock: ManualClock, wire: Wire
) -> None:
    await notifier.accept([alert(), alert("B")])
    await settle(clock, notifier, 2)
    one, two = (f"/api/v1/alerts/{alert(n).fingerprint}/acknowledge" for n in "AB")
    await ok(client.post(one))
    await ok(client.post(two, json={"expires_at": clock.now() + 60}))
    assert (await ok(client.delete(one, params={"author": "Bob"})))["ended"] is True
    await settle(clock, notifier, 2)
    await clock.advance(3700)
    await settle(clock, notifier, 12)
    assert sorted(body["groupLabels"]["alertname"] for _, body in wire.got) == ["A", "A", "B", "B"]
    notes = [e["note"] for e in (await ok(client.get("/api/v1/alerts/history", params={"kind": "unacknowledged"})))["events"]]
    assert notes == ["its time is up", "taken back by Bob"]


async def test_it_is_told_again_when_it_gets_worse(client: httpx.AsyncClient, notifier: Notifier, clock: ManualClock, wire: Wire) -> None:
    mild, grave = alert(severity="warning", host="h"), alert(severity="critical", host="h")
    await notifier.accept([mild])
    await settle(clock, notifier, 2)
    await ok(client.post(f"/api/v1/alerts/{mild.fingerprint}/acknowledge", json={"author": "Alice"}))
    await notifier.accept([mild])
    await settle(clock, notifier, 12)
    assert len(wire.got) == 1, "the same alert again is no news"
    await notifier.accept([grave])
    await settle(clock, notifier, 12)
    assert [a["labels"]["severity"] for a in wire.got[1][1]["alerts"]] == ["critical", "warning"], "all of the group is told"
    (ended,) = (await ok(client.get("/api/v1/alerts/history", params={"kind": "unacknowledged"})))["events"]
    assert ended["note"] == "worse: severity rose to critical"


async def test_a_new_alert_in_the_group_ends_it_and_one_elsewhere_does_not(
    client: httpx.AsyncClient, notifier: Notifier, clock: ManualClock
) -> None:
    await notifier.accept([alert(i="1")])
    await settle(clock, notifier, 2)
    path = f"/api/v1/alerts/{alert(i='1').fingerprint}/acknowledge"
    await ok(client.post(path))
    await notifier.accept([alert("Other")])
    assert (await client.get(path)).status_code == 200
    await notifier.accept([alert(i="2")])
    assert (await client.get(path)).status_code == 404


async def test_the_bot_server_documents_acknowledgement(client: httpx.AsyncClient, notifier: Notifier) -> None:
    await notifier.accept([alert()])
    body = {"acknowledged_by": "admin", "notes": "Investigating the issue"}
    made = await ok(client.post("/api/v1/monitoring/alerts/ffffffffffffffff/acknowledge", json=body))
    assert made == {
        "alert_id": "ffffffffffffffff",
        "status": "acknowledged",
        "acknowledged_by": "admin",
        "acknowledged_at": "2023-11-14T22:13:20Z",
        "notes": "Investigating the issue",
    }
    assert (await client.post("/api/v1/monitoring/alerts/ffffffffffffffff/acknowledge", json={})).status_code == 422


REFUSED = [
    ({"duration": "x"}, "duration"),
    ({"duration": "1h", "expires_at": 5}, "duration"),
    ({"expires_at": 5}, "expires_at"),
    ({"expires_at": "tomorrow"}, "expires_at"),
    ({"note": "x" * 20_000}, "note"),
    ({"author": 7}, "author"),
]


@pytest.mark.parametrize(("body", "where"), REFUSED)
async def test_bad_acknowledgements_are_refused_by_field(client: httpx.AsyncClient, notifier: Notifier, body: Any, where: str) -> None:
    await notifier.accept([alert()])
    answer = await client.post(f"/api/v1/alerts/{alert().fingerprint}/acknowledge", json=body)
    assert answer.status_code == 422
    assert answer.json()["detail"][0]["loc"] == ["body", where]


@pytest.mark.parametrize("path", ["/api/v1/alerts/history", "/api/v1/notifications"])
@pytest.mark.parametrize(
    ("asked", "name"),
    [
        ({"limit": "-1"}, "limit"),
        ({"limit": "many"}, "limit"),
        ({"cursor": "nowhere"}, "cursor"),
        ({"start": "never"}, "start"),
        ({"start": "2", "end": "1"}, "end"),
        ({"filter": "("}, "filter"),
    ],
)
async def test_a_bad_parameter_is_named_as_one_of_the_query(client: httpx.AsyncClient, path: str, asked: dict[str, str], name: str) -> None:
    answer = await client.get(path, params=asked)
    assert answer.status_code == 422
    assert answer.json()["detail"][0]["loc"] == ["query", name]


async def test_only_alerts_that_fire_can_be_acknowledged(client: httpx.AsyncClient, notifier: Notifier) -> None:
    assert (await client.post("/api/v1/alerts/0123456789abcdef/acknowledge")).status_code == 404
    await notifier.accept([alert(ends=-1)])
    assert (await client.post(f"/api/v1/alerts/{alert().fingerprint}/acknowledge")).status_code == 422
    assert (await client.delete(f"/api/v1/alerts/{alert().fingerprint}/acknowledge")).status_code == 404


async def test_history_by_pages_and_filters(client: httpx.AsyncClient, notifier: Notifier, clock: ManualClock) -> None:
    for name in "ABC":
        await notifier.accept([alert(name, team="x" if name != "C" else "y")])
        await clock.advance(10)

    async def page(**params: Any) -> tuple[list[str], str | None]:
        found = await ok(client.get("/api/v1/alerts/history", params=params))
        return [e["labels"]["alertname"] for e in found["events"]], found["next_cursor"]

    names, cursor = await page(limit=2)
    assert names == ["C", "B"]
    assert await page(limit=2, cursor=cursor) == (["A"], None)
    assert await page(filter='team="x"') == (["B", "A"], None)
    assert (await page(filter='team="x"', limit=1))[0] == ["B"]
    assert await page(fingerprint=alert("B", team="x").fingerprint) == (["B"], None)
    assert await page(start=clock.now() - 15) == (["C"], None)
    assert await page(end=clock.now() - 25) == (["A"], None)
    first = (await ok(client.get("/api/v1/alerts/history")))["events"][0]
    assert (first["at"], first["value"], first["kind"]) == ("2023-11-14T22:13:40Z", 0.5, "firing")
    for bad in ({"limit": 0}, {"limit": 5000}, {"kind": "odd"}, {"start": 9, "end": 3}, {"cursor": "x"}, {"filter": "{"}):
        assert (await client.get("/api/v1/alerts/history", params=bad)).status_code == 422, bad


async def test_the_log_says_what_was_sent_failed_and_muted_and_why(
    client: httpx.AsyncClient, notifier: Notifier, clock: ManualClock, wire: Wire
) -> None:
    async def log(**params: Any) -> list[dict[str, Any]]:
        return list((await ok(client.get("/api/v1/notifications", params=params)))["notifications"])

    await notifier.accept([alert(i="1")])
    await settle(clock, notifier, 2)
    (sent,) = await log()
    assert (sent["outcome"], sent["reason"], sent["receiver"], sent["channel"]) == ("sent", "first notification", "team", "webhook/0")
    assert (sent["firing"], sent["resolved"], sent["group_key"]) == (1, 0, '{}:{alertname="A"}')
    assert sent["alerts"] == [{"fingerprint": alert(i="1").fingerprint, "labels": {"alertname": "A", "i": "1"}}]
    wire.broken = "refused"
    await notifier.accept([alert(i="2")])
    await settle(clock, notifier, 12)
    failed = await log(outcome="failed")
    assert [(f["reason"], f["detail"]) for f in failed] == [("refused", "http://hook: refused")]
    wire.broken = ""
    body = {"matcher": {"alertname": "Quiet"}, "duration_minutes": 60, "comment": "c"}
    made = (await ok(client.post("/api/v1/alerts/silence", json=body)))["id"]
    await notifier.accept([alert("Quiet")])
    await settle(clock, notifier, 60)
    muted = await log(outcome="muted")
    assert [(m["reason"], m["detail"]) for m in muted] == [("silenced", f"silenced by {made}")], "one entry, however often it is flushed"
    assert [m["outcome"] for m in await log(filter='alertname="Quiet"')] == ["muted"]
    assert await log(receiver="nobody") == []
    assert len(await log(reason="refused")) == 1
    assert (await client.get("/api/v1/notifications", params={"outcome": "odd"})).status_code == 422


async def test_a_receiver_is_tested(client: httpx.AsyncClient, wire: Wire) -> None:
    found = await ok(client.post("/api/v1/receivers/spare/test"))
    assert found == {
        "receiver": "spare",
        "channels": [{"channel": "webhook/0", "delivered": True, "reason": "", "detail": "200"}],
        "delivered": True,
    }
    assert wire.got[0][1]["alerts"][0]["labels"]["alertname"] == "VedetteTest"
    await ok(client.post("/api/v1/receivers/spare/test", json={"labels": {"alertname": "Mine"}, "annotations": {"a": "b"}}))
    assert wire.got[1][1]["commonAnnotations"] == {"a": "b"}
    wire.broken = "timeout"
    broken = await ok(client.post("/api/v1/receivers/team/test"))
    assert (broken["delivered"], broken["channels"][0]["reason"]) == (False, "timeout")
    assert (await client.post("/api/v1/receivers/nobody/test")).status_code == 404
    assert (await ok(client.get("/api/v1/notifications")))["notifications"] == [], "tests are not in the log"


async def test_a_template_is_tried_on_samples_given_and_standing_alerts(client: httpx.AsyncClient, notifier: Notifier) -> None:
    async def preview(**body: Any) -> httpx.Response:
        return await client.post("/api/v1/templates/preview", json=body)

    text = "{{ .Status }} {{ range .Alerts }}{{ .Labels.alertname }}/{{ .Status }} {{ end }}"
    assert (await preview(template=text)).json() == {"text": "firing VedetteTest/firing VedetteTest/resolved ", "alerts": 2}
    mine = [{"labels": {"alertname": "<b>"}}]
    assert (await preview(template="{{ .CommonLabels.alertname }}", alerts=mine, html=True)).json()["text"] == "&lt;b&gt;"
    await notifier.accept([alert("A"), alert("B")])
    assert (await preview(template="{{ len .Alerts }} {{ .ExternalURL }}", filter=["alertname=~A|B"])).json()["text"] == "2 http://me"
    assert (
        (await preview(template='{{ template "slack.default.title" . }}', filter=["alertname=A"])).json()["text"].startswith("[FIRING:1] A")
    )


@pytest.mark.parametrize(
    ("body", "says"),
    [
        ({"template": "{{ .Nope }}"}, "Nope"),
        ({"template": "{{ if }}"}, "if"),
        ({"template": "{{ range $i, $e := .Alerts }}{{ range $.Alerts }}" * 60 + "x" + "{{ end }}" * 120}, ""),
        ({"template": '{{ define "a" }}{{ template "a" . }}{{ end }}{{ template "a" . }}'}, ""),
        ({"template": "x" * 1_100_000}, "longer than"),
        ({"template": '{{ file "/etc/passwd" }}'}, "file"),
        ({"template": "x", "filter": ["alertname=Nobody"]}, "no alert stands"),
        ({}, "required"),
    ],
)
async def test_templates_that_loop_read_files_or_are_too_long_are_refused(client: httpx.AsyncClient, body: Any, says: str) -> None:
    answer = await client.post("/api/v1/templates/preview", json=body)
    assert answer.status_code == 422
    assert says in answer.json()["detail"][0]["msg"]


async def test_a_silence_shows_what_it_matches_before_it_is_made(client: httpx.AsyncClient, notifier: Notifier) -> None:
    await notifier.accept([alert("A", s="1"), alert("B", s="2")])
    found = await ok(client.post("/api/v1/silences/preview", json={"filter": ['s="1"']}))
    assert (found["count"], found["standing"], found["covers_everything"], found["truncated"]) == (1, 2, False, 0)
    assert found["alerts"] == [
        {"fingerprint": alert("A", s="1").fingerprint, "labels": {"alertname": "A", "s": "1"}, "receivers": ["team"]}
    ]
    everything = await ok(
        client.post("/api/v1/silences/preview", json={"matchers": [{"name": "alertname", "value": ".+", "isRegex": True}]})
    )
    assert (everything["count"], everything["needs_confirmation"]) == (2, True)
    assert (await client.post("/api/v1/silences/preview", json={})).status_code == 422


def posted(value: str = "A", *, regex: bool = False, **more: Any) -> dict[str, Any]:
    matchers = [{"name": "alertname", "value": value, "isRegex": regex}]
    times = {"startsAt": "2023-11-14T22:13:20Z", "endsAt": "2024-11-14T22:13:20Z"}
    return {"matchers": matchers, **times, "createdBy": "me", "comment": "c", **more}


async def test_a_silence_of_everything_must_be_confirmed(client: httpx.AsyncClient) -> None:
    refused = await client.post("/api/v2/silences", json=posted(".+", regex=True))
    assert refused.status_code == 400
    assert "would silence every alert" in refused.json()
    assert (await client.post("/api/v2/silences", json=posted(".+", regex=True, confirm=True))).status_code == 200
    assert (await client.post("/api/v2/silences", json=posted(".+", regex=True, comment="all of it [confirm]"))).status_code == 200


async def test_a_silence_that_recurs_holds_in_its_hours_and_keeps_them_when_others_change_it(
    client: httpx.AsyncClient, notifier: Notifier, clock: ManualClock
) -> None:
    await notifier.accept([alert()])
    hours = [{"times": [{"start_time": "22:15", "end_time": "22:20"}]}]
    made = (await ok(client.post("/api/v2/silences", json=posted(recurs=hours))))["silenceID"]

    async def state() -> tuple[str, list[str]]:
        found = await ok(client.get(f"/api/v2/silence/{made}"))
        assert found["recurs"] == hours
        (one,) = await ok(client.get("/api/v2/alerts"))
        return found["status"]["state"], one["status"]["silencedBy"]

    assert await state() == ("pending", [])
    await clock.advance(120)
    assert await state() == ("active", [made])
    changed = (await ok(client.post("/api/v2/silences", json=posted(id=made, comment="by amtool"))))["silenceID"]
    assert changed == made
    assert await state() == ("active", [made])
    await clock.advance(300)
    assert await state() == ("pending", [])
    bad = await client.post("/api/v2/silences", json=posted(recurs=[{"times": [{"start_time": "9", "end_time": "10:00"}]}]))
    assert bad.status_code == 400
    assert "couldn't parse timestamp" in bad.json()


async def test_a_silence_ends_when_its_alert_resolves(client: httpx.AsyncClient, notifier: Notifier, clock: ManualClock) -> None:
    early = await client.post("/api/v2/silences", json=posted(endsWhenResolved=True))
    assert early.status_code == 400
    assert "no alert stands" in early.json()
    await notifier.accept([alert()])
    made = (await ok(client.post("/api/v2/silences", json=posted(endsWhenResolved=True))))["silenceID"]
    await clock.advance(5)
    assert (await ok(client.get(f"/api/v2/silence/{made}")))["status"]["state"] == "active"
    await notifier.accept([alert(ends=5)])
    async with asyncio.timeout(10):
        while (await ok(client.get(f"/api/v2/silence/{made}")))["status"]["state"] != "expired":
            await clock.advance(0.1)
            await asyncio.sleep(0.005)
