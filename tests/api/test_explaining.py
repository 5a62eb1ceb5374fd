"""Why an alert was or was not sent, as the pipeline decides it."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

from vedette.api.endpoint import routes
from vedette.api.explaining import Explaining, endpoints
from vedette.clock import ManualClock, now_ms
from vedette.model.alerts import Alert
from vedette.model.labels import Labels
from vedette.model.matchers import Matcher
from vedette.net.answers import Answer
from vedette.notify.config import parse
from vedette.notify.notifier import Notifier
from vedette.notify.silence import Silence
from vedette.records.database import Records
from vedette.rules.state import ActiveAlert, GroupState, RuleState

CONFIG = """
route:
  receiver: everyone
  group_by: [alertname]
  group_wait: 30s
  routes:
  - {receiver: nights, matchers: [service="db"], active_time_intervals: [night]}
receivers: [{name: everyone, webhook_configs: [{url: 'http://hook'}]}, {name: nights}]
inhibit_rules: [{source_match: {severity: critical}, target_match: {severity: warning}}]
time_intervals: [{name: night, time_intervals: [{times: [{start_time: '00:00', end_time: '06:00'}]}]}]
"""


class Hook:
    """Takes every notification."""

    async def post_json(self, url: str, payload: Any, *, leaving: Any, **_more: Any) -> Answer:
        await leaving()
        return Answer(200, {}, b"", url)

    async def close(self) -> None:
        pass


def rule(name: str, *, alerts: list[ActiveAlert] | None = None, health: Any = "ok", error: str = "", at: float = 1.0) -> RuleState:
    state = alerts[0].state if alerts else "inactive"
    return RuleState(
        "alerting",
        name,
        "up == 0",
        300_000,
        0,
        Labels(),
        Labels(),
        health,
        error,
        at,
        0.001,
        state,
        alerts or [],
    )


async def test_what_nobody_is_told_of_yet_and_why(tmp_path: Path, clock: ManualClock, serve: Any) -> None:
    records = await Records.open(tmp_path / "v.db")
    notifier = Notifier(parse(CONFIG), records, clock, lambda _config: Hook())  # type: ignore[arg-type]
    await notifier.start()
    waiting = ActiveAlert(Labels.of(alertname="Slow", service="db"), Labels(), "pending", now_ms(clock), 1.0)
    rules = [
        rule("Slow", alerts=[waiting]),
        rule("Quiet"),
        rule("Broken", health="err", error="no such function"),
        rule("New", at=0.0),
    ]
    groups = [GroupState("g", "rules.yml", 15_000, 0, 1.0, 0.001, rules)]
    room = Explaining(lambda _: notifier, lambda: now_ms(clock), lambda _: groups)
    client = serve(routes(endpoints(room)))

    async def why(*filters: str) -> Any:
        return (await client.get("/api/v1/alerts/explain", params={"filter": filters})).json()

    slow = await why("alertname=Slow", 'service="db"')
    (alert,) = slow["alerts"]
    assert (alert["status"], alert["routes"], slow["rules"]) == ("pending", [], [])
    assert alert["verdict"] == (
        "pending since 2023-11-14T22:13:20Z: its rule waits for 5m, so it fires at 2023-11-14T22:18:20Z if it holds until then"
    )
    assert (await why("alertname=Slow", "service=web"))["alerts"] == []
    for name, says in (("Quiet", "gave nothing"), ("Broken", "no such function"), ("New", "not evaluated yet")):
        found = await why(f"alertname={name}")
        assert found["alerts"] == []
        ((quiet),) = found["rules"]
        assert (quiet["rule"], quiet["group"], quiet["file"]) == (name, "g", "rules.yml")
        assert says in quiet["verdict"]
    assert (await why("service=db"))["rules"] == [], "no rule was asked for by its name"
    await notifier.close()
    await records.close()


async def test_every_reason_is_named(tmp_path: Path, clock: ManualClock, serve: Any) -> None:
    records = await Records.open(tmp_path / "v.db")
    notifier = Notifier(parse(CONFIG), records, clock, lambda _config: Hook())  # type: ignore[arg-type]
    await notifier.start()
    client = serve(routes(endpoints(Explaining(lambda _: notifier, lambda: now_ms(clock)))))

    async def why(name: str) -> Any:
        answer = await client.get("/api/v1/alerts/explain", params={"filter": f"alertname={name}"})
        assert answer.status_code == 200
        (alert,) = answer.json()["alerts"]
        return alert

    now = now_ms(clock)
    wanted = {"Told": {}, "Hushed": {}, "Nightly": {"service": "db"}, "Big": {"severity": "critical"}, "Small": {"severity": "warning"}}
    made = await notifier.silences.put(Silence((Matcher("alertname", "=", "Hushed"),), now, now + 3_600_000))
    await notifier.accept([Alert(Labels.of(alertname=name, **labels), now, now + 3_600_000) for name, labels in wanted.items()])
    told = await why("Told")
    assert told["verdict"] == "everyone: webhook/0 is told at 2023-11-14T22:13:50Z: first notification"
    await clock.advance(31)
    async with asyncio.timeout(10):
        while notifier.counts.sent["webhook"] < 2:  # Told and Big
            await asyncio.sleep(0.005)
    told = await why("Told")
    assert told["verdict"] == "everyone: webhook/0 is not told: nothing new since the last notification"
    (route,) = told["routes"]
    assert (route["receiver"], route["group_key"], route["quiet"]) == ("everyone", '{}:{alertname="Told"}', [])
    assert route["channels"][0]["last_told"].startswith("2023-11-14T22:13:5")
    hushed = await why("Hushed")
    assert hushed["verdict"] == f"everyone: kept quiet: silenced by {made}"
    assert [q["stage"] for q in hushed["routes"][0]["quiet"]] == ["silenced"]
    assert (await why("Nightly"))["routes"][0]["quiet"][0]["stage"] == "outside_active_times"
    big = Labels.of(alertname="Big", severity="critical")
    assert (await why("Small"))["verdict"] == f"everyone: kept quiet: inhibited by the alert {big.fingerprint():016x}, {big}"

    refused = await client.get("/api/v1/alerts/explain")
    assert (refused.status_code, refused.json()["detail"][0]["loc"]) == (422, ["query", "filter"])
    assert (await client.get("/api/v1/alerts/explain", params={"filter": "alertname=None"})).json() == {
        "alerts": [],
        "rules": [],
        "truncated": 0,
    }
    await notifier.close()
    await records.close()
