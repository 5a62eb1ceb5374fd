"""In-process callbacks: told once for each alert, on a thread of their own, whatever they do."""

from __future__ import annotations

import threading
from typing import Any

import pytest
from prometheus_client import CollectorRegistry

from vedette.model.alerts import Alert
from vedette.model.labels import Labels
from vedette.rules import callbacks
from vedette.rules.callbacks import Callbacks
from vedette.sdk import MetricsMonitor

T0 = 1_700_000_000_000


def alert(start: int, end: int = 10**6, **labels: str) -> Alert:
    return Alert(Labels.of(labels), T0 + start, T0 + end, Labels.of(summary="short", description="long"), "http://v/graph")


class Heard:
    """A monitor with one callback, and what that heard."""

    def __init__(self) -> None:
        self.calls: list[tuple[str, dict[str, Any]]] = []
        self.monitor = MetricsMonitor(CollectorRegistry(), environment={})
        self.monitor.attach()
        self.monitor.add_alert_callback(lambda kind, data: self.calls.append((kind, data)))
        self.callbacks = Callbacks(self.monitor.announce, lambda: self.monitor.listening)

    def settle(self) -> None:
        """Wait until all that was told has been heard."""
        assert self.callbacks._thread is not None
        self.callbacks._thread.submit(lambda: None).result(timeout=60)


@pytest.fixture
def heard() -> Any:
    made = Heard()
    yield made
    made.callbacks.close()


def test_each_alert_once_and_again_when_it_comes_back(heard: Heard) -> None:
    heard.callbacks.hear([alert(0, alertname="HighCPUUsage", instance="h"), alert(0, alertname="Mine")], T0)
    heard.callbacks.hear([alert(0, alertname="Mine")], T0 + 60_000)
    heard.callbacks.hear([alert(0, 90_000, alertname="Mine")], T0 + 90_000)
    heard.callbacks.hear([alert(120_000, alertname="Mine")], T0 + 120_000)
    heard.settle()
    assert [kind for kind, _ in heard.calls] == ["high_cpu_usage", "Mine", "Mine"]
    assert heard.calls[0][1] == {
        "message": "long",
        "labels": {"alertname": "HighCPUUsage", "instance": "h"},
        "annotations": {"summary": "short", "description": "long"},
        "timestamp": T0 / 1000,
        "generator_url": "http://v/graph",
    }


def test_a_slow_callback_delays_nobody_and_what_it_cannot_take_is_left_out(heard: Heard, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(callbacks, "MAX_WAITING", 2)
    free = threading.Event()
    heard.monitor.add_alert_callback(lambda *_: free.wait(10))
    heard.callbacks.hear([alert(n, alertname=f"A{n}") for n in range(5)], T0)
    free.set()
    heard.settle()
    assert [kind for kind, _ in heard.calls] == ["A0", "A1"]


def test_one_that_raises_harms_nothing(heard: Heard) -> None:
    def bad(*_: Any) -> None:
        raise RuntimeError("mine")

    heard.monitor.add_alert_callback(bad)
    heard.callbacks.hear([alert(0, alertname="A"), alert(0, alertname="B")], T0)
    heard.settle()
    assert [kind for kind, _ in heard.calls] == ["A", "B"]
    assert heard.monitor.failed_callbacks == 2


def test_with_nobody_listening_there_is_no_thread() -> None:
    silent = Callbacks(lambda *_: None, lambda: False)
    silent.hear([alert(0, alertname="A")], T0)
    assert silent._thread is None
    silent.close()
