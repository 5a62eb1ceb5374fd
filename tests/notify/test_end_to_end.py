"""A rule file with one alert: it fires, reaches a webhook once, resolves, reaches it once more."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from vedette.clock import ManualClock, SystemClock
from vedette.model.labels import Labels, LabelTable
from vedette.model.samples import SampleBatch
from vedette.notify.config import parse
from vedette.notify.history import Question
from vedette.notify.notifier import Notifier
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


@dataclass
class Answer:
    """A query's result."""

    samples: list[tuple[Labels, float]]
    type: str = "vector"

    def vector(self) -> tuple[LabelTable, Any, int]:
        table = LabelTable.from_labels([s for s, _ in self.samples])
        return table, np.array([v for _, v in self.samples]), 0

    def histogram_rows(self) -> list[Any]:
        return []


async def test_an_alert_fires_and_resolves_each_told_once(tmp_path: Path, records: Records, receiver: Any, until: Until) -> None:
    (tmp_path / "rules.yml").write_text(RULES)
    down: list[tuple[Labels, float]] = [(Labels.of(__name__="up", instance="a:1", job="web"), 0.0)]
    appended: list[SampleBatch] = []

    async def query(expr: str, at: int) -> Answer:
        assert expr == "up == 0"
        return Answer(list(down))

    async def append(batch: SampleBatch) -> None:
        appended.append(batch)

    clock = SystemClock()
    notifier = Notifier(parse(CONFIG.format(url=receiver.url)), records, clock, external_url="http://vedette:8009/")
    await notifier.start()
    rules = Rules(
        # Their own clock stands still: a tick of it would be one evaluation more than those below.
        *(query, append, notifier.accept, records, ManualClock(clock.now())),
        external_labels=Labels(),
        external_url="http://vedette:8009/",
        noticed=notifier.noticed,
    )
    await rules.apply(load(tmp_path / "rules.yml"))

    start = int(clock.now() * 1000) - 60_000
    for at in (0, 15_000, 30_000, 45_000):
        await rules.evaluate(start + at)
    await until(lambda: receiver.requests)
    down.clear()
    await rules.evaluate(start + 60_000)
    await until(lambda: len(receiver.requests) == 2)
    await rules.close()
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
