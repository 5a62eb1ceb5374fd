"""A channel that changes its message: what it keeps lies on disk with the group's entry, until all of the group has ended."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import yaml

from vedette.clock import ManualClock
from vedette.model.alerts import Alert
from vedette.model.labels import Labels
from vedette.notify.config import parse
from vedette.notify.notifier import Notifier
from vedette.records.database import Records
from vedette.records.rows import NotificationRow

T0 = 1_700_000_000


def alert(name: str, *, ends: int) -> Alert:
    return Alert(Labels.of(alertname="A", n=name), T0 * 1000, (T0 + ends) * 1000)


async def test_a_slack_message_is_changed_over_a_restart_and_a_new_one_begins_after_the_end(tmp_path: Path, receiver: Any) -> None:
    slack = {
        "app_token": "t",
        "app_url": f"http://127.0.0.1:{receiver.port}/chat.postMessage",
        "channel": "#ops",
        "update_message": True,
        "send_resolved": True,
    }
    route = {"receiver": "team", "group_by": ["alertname"], "group_wait": "1s", "group_interval": "10s"}
    config = parse(yaml.safe_dump({"route": route, "receivers": [{"name": "team", "slack_configs": [slack]}]}))
    receiver.answers = [
        (200, {"Content-Type": "application/json"}, json.dumps({"ok": True, "channel": "C1", "ts": ts})) for ts in ("1", "1", "1", "2")
    ]
    clock = ManualClock(T0)
    records = await Records.open(tmp_path / "v.db")
    notifier = Notifier(config, records, clock)
    await notifier.start()

    async def told(count: int) -> None:
        for _ in range(200):
            if len(receiver.requests) >= count and not notifier._flushes._tasks:
                return
            await clock.advance(1)
            await notifier.settled()
        raise AssertionError(f"{len(receiver.requests)} requests, not {count}")

    await notifier.accept([alert("1", ends=9000)])
    await told(1)
    await notifier.close()
    await records.close()

    records = await Records.open(tmp_path / "v.db")
    (entry,) = await records.load(NotificationRow)
    assert json.loads(entry.kept) == {"channel": "C1", "ts": "1"}
    notifier = Notifier(config, records, clock)
    await notifier.start()
    await notifier.accept([alert("2", ends=9000)])
    await told(2)
    await notifier.accept([alert("1", ends=-1), alert("2", ends=-1)])
    await told(3)
    await notifier.accept([alert("1", ends=9000)])
    await told(4)
    await notifier.close()
    await records.close()
    assert [(r.path, r.body.get("ts")) for r in receiver.requests] == [
        ("/chat.postMessage", None),
        ("/chat.update", "1"),
        ("/chat.update", "1"),
        ("/chat.postMessage", None),
    ]
