"""In-process callbacks: each alert that begins to fire, told once to functions of the process that Vedette runs in.

They run on a thread of their own, one after the other, so that a slow one delays no evaluation. Not here: the functions, and what
happens when one raises (`sdk/monitor.py`).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import structlog

from vedette.model.alerts import ALERT_NAME, Alert
from vedette.model.labels import Labels

log = structlog.get_logger(__name__)

MAX_WAITING = 10_000
"""So many alerts wait for a slow callback at the most; those beyond are not told."""

_TYPES = {
    "HighCPUUsage": "high_cpu_usage",
    "HighMemoryUsage": "high_memory_usage",
    "HighDiskUsage": "high_disk_usage",
    "HighErrorRate": "high_error_rate",
    "SlowResponseTime": "slow_response_time",
}
"""The default alerts go by the names that the SDK's own monitor gives them; any other by its alertname."""


class Callbacks:
    """`announce(alert_type, data)` for each alert that is new; `listening` says whether anybody would hear it. One loop's."""

    def __init__(self, announce: Callable[[str, dict[str, Any]], None], listening: Callable[[], bool]) -> None:
        self._announce, self._listening = announce, listening
        self._told: dict[Labels, int] = {}
        self._waiting = 0
        self._thread: ThreadPoolExecutor | None = None

    def hear(self, alerts: Sequence[Alert], now: int) -> None:
        """News of alerts at `now` (ms): those that fire and were not told of are, those that have ended are forgotten."""
        for alert in alerts:
            if alert.status(now) == "resolved":
                self._told.pop(alert.labels, None)
            elif self._told.get(alert.labels) != alert.starts_at:
                self._told[alert.labels] = alert.starts_at
                if self._listening():
                    self._tell(alert)

    def _tell(self, alert: Alert) -> None:
        if self._waiting >= MAX_WAITING:
            log.warning("an alert callback is slow: an alert is not told", alert=str(alert.labels))
            return
        if self._thread is None:
            self._thread = ThreadPoolExecutor(1, thread_name_prefix="alert-callbacks")
        name = alert.labels.get(ALERT_NAME)
        notes = dict(alert.annotations)
        data = {
            "message": notes.get("description") or notes.get("summary") or name,
            "labels": dict(alert.labels),
            "annotations": notes,
            "timestamp": alert.starts_at / 1000,
            "generator_url": alert.generator_url,
        }
        self._waiting += 1
        self._thread.submit(self._run, _TYPES.get(name, name), data)

    def _run(self, kind: str, data: dict[str, Any]) -> None:
        try:
            self._announce(kind, data)
        finally:
            self._waiting -= 1

    def close(self) -> None:
        """Tell no more; a callback under way is not waited for."""
        if self._thread is not None:
            self._thread.shutdown(wait=False, cancel_futures=True)
