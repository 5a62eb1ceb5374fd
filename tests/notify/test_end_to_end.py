"""A rule file with one alert: it fires, reaches a webhook once, resolves, reaches it once more."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import Any

from vedette.clock import ManualClock, SystemClock
from vedette.model.labels import Labels
from vedette.model.samples import SampleBatch
from vedette.notify.config import parse
from vedette.notify.history import Question
from vedette.notify.notifier import Notifier
from vedette.promql.engine import Engine
from vedette.promql.memory import MemoryStorage
from vedette.promql.settings import PromqlSettings
from vedette.promql.standing import Answer, Standing
from vedette.records.database import Records
from vedette.rules.engine import Rules
from vedette.rules.files import load

RULES = """
groups:
  - name: web
    interval: 15s
    rules:
      - alert: InstanceDown
        expr: up == 0
        for: 30s
        labels:
          severity: page
        annotations:
          summary: '{{ $labels.instance }} is down ({{ $value }})'
"""

CONFIG = """
route:
  receiver: team
  group_by: [alertname]
  group_wait: 0s
  group_interval: 20ms
receivers:
  - name: team
    webhook_configs:
      - url: {url}
"""

Until = Callable[[Callable[[], object]], Awaitable[None]]


async def test_an_alert_fires_and_resolves_each_told_once(tmp_path: Path, records: Records, receiver: Any, until: Until) -> None:
    (tmp_path / "rules.yml").write_text(RULES)
    up, storage = Labels.of(__name__="up", instance="a:1", job="web"), MemoryStorage()
    appended: list[SampleBatch] = []

    async def ask(asked: Sequence[Standing], at: int) -> list[Answer]:
        return engine.instants("default", asked, at)

    async def append(batch: SampleBatch) -> None:
        appended.append(batch)

    clock = SystemClock()
    engine = Engine(storage, PromqlSettings(), clock)  # type: ignore[arg-type]  # the read half suffices
    notifier = Notifier(parse(CONFIG.format(url=receiver.url)), records, clock, external_url="http://vedette:8009/")
    await notifier.start()
    rules = Rules(
        # Their own clock stands still: a tick of it would be one evaluation more than those below.
        *(ask, append, notifier.accept, records, ManualClock(clock.now())),
        external_labels=Labels(),
        external_url="http://vedette:8009/",
        noticed=notifier.noticed,
    )
    await rules.apply(load(tmp_path / "rules.yml"))

    start = int(clock.now() * 1000) - 60_000
    for at in (0, 15_000, 30_000, 45_000):
        storage.add(up, start + at, 0.0)
        await rules.evaluate(start + at)
    await until(lambda: receiver.requests)
    storage.add(up, start + 60_000, 1.0)
    await rules.evaluate(start + 60_000)
    await until(lambda: len(receiver.requests) == 2)
    await rules.close()
    engine.close()
    steps = (await notifier.history.events(Question(since=0, until=1 << 62, limit=10))).rows
    assert [(s.kind, s.value) for s in steps] == [("resolved", 0.0), ("firing", 0.0), ("pending", 0.0)]
    assert len({s.fingerprint for s in steps}) == 1
    await notifier.close()

    fired, resolved = (r.body for r in receiver.requests)
    labels = {"alertname": "InstanceDown", "instance": "a:1", "job": "web", "severity": "page"}
    assert fired["status"] == "firing"
    assert fired["groupKey"] == '{}:{alertname="InstanceDown"}'
    assert fired["alerts"][0]["labels"] == labels
    assert fired["alerts"][0]["annotations"] == {"summary": "a:1 is down (0)"}
    assert fired["alerts"][0]["endsAt"] == "0001-01-01T00:00:00Z"
    assert fired["alerts"][0]["generatorURL"] == "http://vedette:8009/graph?g0.expr=up+%3D%3D+0&g0.tab=1"
    assert resolved["status"] == "resolved"
    assert resolved["alerts"][0]["startsAt"] == fired["alerts"][0]["startsAt"]
    assert resolved["alerts"][0]["labels"] == labels
    assert [b.series_count for b in appended] == [2, 2, 3, 2, 2]  # at the third the pending ALERTS series goes stale, at the last all
