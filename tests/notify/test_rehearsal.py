"""Rehearsals: what would have been told, compared with what the real notifier tells on a clock of its own."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from vedette.clock import ManualClock
from vedette.errors import LimitExceeded
from vedette.model.alerts import Alert
from vedette.model.labels import Labels
from vedette.model.matchers import Matcher
from vedette.notify import rehearsal
from vedette.notify.config import parse
from vedette.notify.rehearsal import channels, rehearse
from vedette.notify.silence import Silence

T0, MINUTE = 1_700_000_000_000, 60_000

CONFIG = """
route:
  receiver: all
  group_by: [alertname]
  group_wait: 30s
  group_interval: 5m
  repeat_interval: 1h
  routes:
  - {matchers: [severity=page], receiver: phone, continue: true, group_by: [alertname, i]}
inhibit_rules:
- {source_matchers: [severity=page], target_matchers: [severity=warning], equal: [i]}
receivers:
- name: all
  webhook_configs: [{url: 'http://127.0.0.1:1/all'}]
- name: phone
  webhook_configs: [{url: 'http://127.0.0.1:1/phone', send_resolved: false}, {url: 'http://127.0.0.1:1/second'}]
"""


def alert(begin: float, end: float, **labels: str) -> Alert:
    return Alert(Labels.of(labels), T0 + round(begin * MINUTE), T0 + round(end * MINUTE))


ALERTS = [
    alert(0, 20, alertname="Down", i="a", severity="page"),
    alert(2, 12, alertname="Slow", i="a", severity="warning"),
    alert(3, 90, alertname="Slow", i="b", severity="warning"),
    alert(31, 33, alertname="Down", i="b", severity="page"),
    alert(40, 41, alertname="Short", i="a", severity="info"),
    alert(45, 60, alertname="Down", i="a", severity="page"),
]


def told(found: rehearsal.Rehearsal) -> list[tuple[float, str, str, list[str]]]:
    return [((t.at - T0) / MINUTE, t.receiver, t.status, sorted(a.labels.get("i") for a in t.alerts)) for t in found.told]


def test_waits_intervals_repeats_and_ends() -> None:
    found = rehearse(parse(CONFIG), ALERTS[:1], [], until=T0 + 200 * MINUTE)
    assert told(found) == [
        (0.5, "phone", "firing", ["a"]),
        (0.5, "phone", "firing", ["a"]),
        (20.5, "phone", "resolved", ["a"]),
    ]
    assert [t.channel for t in found.told] == ["webhook/0", "webhook/1", "webhook/1"]
    assert [t.why for t in found.told] == ["first notification", "first notification", "all alerts resolved"]
    long = rehearse(parse(CONFIG), [alert(0, 1000, alertname="X", i="a")], [], until=T0 + 130 * MINUTE)
    assert [(at, status) for at, _, status, _ in told(long)] == [(0.5, "firing"), (65.5, "firing")]


def test_inhibition_keeps_quiet_and_says_by_what() -> None:
    found = rehearse(parse(CONFIG), ALERTS[:3], [], until=T0 + 200 * MINUTE)
    assert [(m.receiver, m.labels.get("alertname"), m.labels.get("i"), m.stage) for m in found.muted] == [("all", "Slow", "a", "inhibited")]
    assert 'i="a", severity="page"' in found.muted[0].reason
    to_all = [(at, status, names) for at, receiver, status, names in told(found) if receiver == "all"]
    # The group was begun by the alert that is kept quiet, so it is flushed at 2.5, 7.5, …; by 12.5 the other has ended, untold.
    assert to_all == [(7.5, "firing", ["b"]), (67.5 + 5, "firing", ["b"]), (92.5, "resolved", ["b"])]


def test_silences_hold_at_their_time_only() -> None:
    silence = Silence((Matcher("alertname", "=", "Down"),), T0, T0 + 10 * MINUTE, id="s1")
    found = rehearse(parse(CONFIG), ALERTS[:1], [silence], until=T0 + 15 * MINUTE)
    assert told(found) == [(10.5, "phone", "firing", ["a"]), (10.5, "phone", "firing", ["a"])]
    assert [(m.stage, m.reason) for m in found.muted] == [("silenced", "silenced by s1")]


def test_mute_times_are_those_of_the_route() -> None:
    config = parse(
        """
route: {receiver: a, routes: [{matchers: [alertname=~".+"], receiver: a, mute_time_intervals: [always]}]}
time_intervals: [{name: always, time_intervals: [{times: [{start_time: '00:00', end_time: '24:00'}]}]}]
receivers: [{name: a, webhook_configs: [{url: 'http://127.0.0.1:1/'}]}]
"""
    )
    found = rehearse(config, ALERTS[:1], [], until=T0 + 60 * MINUTE)
    assert (found.told, [m.stage for m in found.muted]) == ([], ["in_mute_times"])


def test_nobody_configured_is_nobody_told() -> None:
    assert rehearse(None, ALERTS, [], until=T0 + 60 * MINUTE) == rehearsal.Rehearsal()


def test_too_many_flushes_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rehearsal, "MAX_FLUSHES", 10)
    with pytest.raises(LimitExceeded, match="more than 10 flushes"):
        rehearse(parse(CONFIG), ALERTS, [], until=T0 + 10_000 * MINUTE)


def test_channels_are_named_as_the_pipeline_names_them() -> None:
    config = parse(CONFIG)
    assert channels(config.receivers[1]) == [("webhook/0", False), ("webhook/1", True)]


async def test_the_real_notifier_tells_the_same() -> None:
    from vedette.net.answers import Answer
    from vedette.notify.notifier import Notifier

    clock = ManualClock(T0 / 1000)
    sent: list[tuple[float, str, str, list[str]]] = []

    class Http:
        async def post_json(self, url: str, payload: Any, *, leaving: Any = None, **_: Any) -> Answer:
            import json

            if leaving is not None:
                await leaving()
            body = json.loads(payload) if isinstance(payload, bytes) else payload
            names = sorted(a["labels"]["i"] for a in body["alerts"])
            sent.append((round(clock.now() - T0 / 1000) / 60, body["receiver"], body["status"], names))
            return Answer(200, {}, b"", url)

        post = post_json

        async def close(self) -> None:
            pass

    class Forgetful:
        """Records that keep nothing, and so never let the test's clock run ahead of them."""

        async def load(self, *_: Any, **__: Any) -> list[Any]:
            return []

        async def newest(self, *_: Any, **__: Any) -> int:
            return 0

        async def save(self, *_: Any, **__: Any) -> None:
            pass

        trim = save

    notifier = Notifier(parse(CONFIG), Forgetful(), clock, lambda _config: Http())  # type: ignore[arg-type, return-value]
    await notifier.start()
    far = T0 + 10**9
    for second in range(0, 130 * 60, 30):
        now = T0 + second * 1000
        news = [replace(a, ends_at=far) for a in ALERTS if a.starts_at == now] + [a for a in ALERTS if a.ends_at == now]
        if news:
            await notifier.accept([replace(a, ends_at=min(a.ends_at, now) if a.ends_at != far else far) for a in news])
        await clock.advance(30, turns=30)
    await notifier.close()
    expected = told(rehearse(parse(CONFIG), ALERTS, [], until=T0 + 130 * MINUTE - 1))

    assert sorted((round(at, 1), r, s, n) for at, r, s, n in sent) == sorted((round(at, 1), r, s, n) for at, r, s, n in expected)
