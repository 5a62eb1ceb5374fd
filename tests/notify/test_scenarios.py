"""Alertmanager's acceptance scenarios, on an owned clock: what is pushed when, and which notifications come of it."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest
import yaml

from vedette.clock import ManualClock
from vedette.errors import Undeliverable
from vedette.model.alerts import Alert
from vedette.model.labels import Labels
from vedette.model.matchers import Matcher
from vedette.net.answers import Answer
from vedette.notify.config import parse
from vedette.notify.notifier import Notifier
from vedette.notify.silence import Silence
from vedette.records.database import Records

T0 = 1_700_000_000.0
STEP = 0.125  # exact in binary, so that the clock does not drift

# Clusters and a delayed start of the dispatcher are not part of this.
LATER = {"ColdStart", "ClusterDeduplication", "ClusterVSInstance"}
RUN = [
    "MergeAlerts",
    "MergeAlertsWithEndsAt",
    "Retry",
    "Batching",
    "ResolvedFilter",
    "WebhookTimeout",
    "Inhibiting",
    "EmptyInhibitionRule",
    "Silencing",
    "SendAlertsToUTF8Route",
]


@dataclass
class Wire:
    """Webhooks by host name (`wh1`), behind the channel's own HTTP interface and on the test's clock."""

    clock: ManualClock
    behaviour: Mapping[str, Mapping[str, Any]]
    got: dict[str, list[tuple[float, dict[str, Any]]]] = field(default_factory=dict)

    async def post_json(
        self,
        url: str,
        payload: Any,
        *,
        timeout: float,
        headers: Mapping[str, str] | None = None,
        leaving: Callable[[], Awaitable[None]] | None = None,
    ) -> Answer:
        assert leaving is not None
        await leaving()
        name, now = url.removeprefix("http://"), self.clock.now() - T0
        how = self.behaviour.get(name, {})
        if now < how.get("before", 0):
            await self.clock.sleep(min(how["delay"], timeout))
            if how["delay"] > timeout:
                raise Undeliverable("no answer", reason="timeout", retryable=True)
        elif now >= how.get("drop_before", 0):
            self.got.setdefault(name, []).append((now, payload))
        return Answer(200, {}, b"", url)

    async def close(self) -> None:
        pass


def seconds(text: str) -> float:
    return datetime.fromisoformat(text.replace("Z", "+00:00")).timestamp() - T0


async def play(scenario: dict[str, Any], records: Records) -> dict[str, list[tuple[float, dict[str, Any]]]]:
    clock = ManualClock(T0)
    wire = Wire(clock, scenario.get("webhook_behaviour", {}))
    config = parse(re.sub(r"\{(wh\d)\}", r"\1", scenario["config"]))
    notifier = Notifier(config, records, clock, lambda _config: wire)
    await notifier.start()

    async def quiet() -> None:
        for _ in range(8):
            for _ in range(20):
                await asyncio.sleep(0)
            if (task := records._committer) is not None and not task.done():
                await asyncio.wait([task])

    pushes = sorted(scenario.get("push", []), key=lambda p: p["at"])
    silences = sorted(scenario.get("silence", []), key=lambda s: s["at"])
    end = max([b["between"][1] for wanted in scenario["expect"].values() for b in wanted] + [5])
    for tick in range(int(end / STEP) + 1):
        now = tick * STEP
        while pushes and pushes[0]["at"] <= now + 1e-6:
            await notifier.accept([alert_of(a) for a in pushes.pop(0)["alerts"]])
        while silences and silences[0]["at"] <= now + 1e-6:
            await notifier.silences.put(silence_of(silences.pop(0)))
        await quiet()
        await clock.advance(STEP)
        await quiet()
    await notifier.close()
    return wire.got


def silence_of(given: dict[str, Any]) -> Silence:
    matchers = tuple(Matcher(m["name"], "=~" if m["isRegex"] else "=", m["value"]) for m in given["matchers"])
    return Silence(matchers, round((T0 + given["s"]) * 1000), round((T0 + given["e"]) * 1000), "test", "test")


def alert_of(given: dict[str, Any]) -> Alert:
    starts, ends = (given.get(k, 0) for k in "se")
    return Alert(
        labels=Labels.of(given["l"]),
        starts_at=round((T0 + starts) * 1000) if starts > 0 else 0,
        ends_at=round((T0 + ends) * 1000) if ends > 0 else 0,
        annotations=Labels.of(given.get("a", {})),
    )


def same(got: dict[str, Any], wanted: dict[str, Any], tolerance: float) -> bool:
    if got["labels"] != wanted["l"] or got["annotations"] != wanted.get("a", {}):
        return False
    if "s" in wanted and abs(seconds(got["startsAt"]) - wanted["s"]) > tolerance:
        return False
    if "e" not in wanted:
        return got["endsAt"] == "0001-01-01T00:00:00Z"
    return abs(seconds(got["endsAt"]) - wanted["e"]) <= tolerance


@pytest.mark.parametrize("name", RUN)
async def test_scenario(name: str, conformance: Path, records: Records) -> None:
    data = yaml.safe_load((conformance / "derived/alertmanager_acceptance.yml").read_text())
    scenario = next(s for s in data["scenarios"] if s["name"] == name)
    tolerance = scenario.get("tolerance", data["defaults"]["tolerance"])
    got = await play(scenario, records)
    for webhook, expected in scenario["expect"].items():
        messages = got.get(webhook, [])
        for wanted in expected:
            low, high = wanted["between"]
            within = [m["alerts"] for at, m in messages if low - 1e-6 <= at <= high + 1e-6]
            if not wanted["alerts"]:
                assert within == []
                continue
            assert any(
                len(alerts) == len(wanted["alerts"]) and all(any(same(a, w, tolerance) for a in alerts) for w in wanted["alerts"])
                for alerts in within
            ), f"{webhook} {low}..{high}: {messages}"
        assert sum(len(m["alerts"]) for _, m in messages) == sum(len(w["alerts"]) for w in expected)


def test_every_scenario_is_run_or_known_to_be_for_later(conformance: Path) -> None:
    data = yaml.safe_load((conformance / "derived/alertmanager_acceptance.yml").read_text())
    assert {s["name"] for s in data["scenarios"]} == {*RUN, *LATER}
