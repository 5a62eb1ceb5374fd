"""Passing alerts on to Alertmanagers: Debian's real one, and one that fails as told."""

from __future__ import annotations

import asyncio
import json
import subprocess
import urllib.request
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from vedette import configfile
from vedette.clock import SystemClock, now_ms
from vedette.errors import BadInput
from vedette.model.alerts import Alert
from vedette.model.labels import Labels
from vedette.notify import alertmanagers
from vedette.notify.alerting import AlertingConfig
from vedette.notify.alertmanagers import Alertmanagers

Until = Callable[[Callable[[], object]], Awaitable[None]]


def parse(text: str) -> AlertingConfig:
    return configfile.parse(text, AlertingConfig, name="f")


def alert(name: str, *, ends_in: float = 3600) -> Alert:
    now = now_ms(SystemClock())
    return Alert(
        Labels.of(alertname=name, severity="page"), now - 5000, now + int(ends_in * 1000), Labels.of(summary="é"), "http://g/x?y=1"
    )


def test_urls_with_prefix_scheme_and_relabelling() -> None:
    config = parse(
        """
        alertmanagers:
        - scheme: https
          path_prefix: /am/
          timeout: 3s
          static_configs: [{targets: ['a:1', 'b:2'], labels: {zone: x}}]
          relabel_configs:
          - {source_labels: [__address__], regex: 'b.*', action: drop}
          - {source_labels: [zone], target_label: __alerts_path__, replacement: /$1}
        - static_configs: [{targets: ['c:3', 'c:3']}]
        """
    )
    assert [a.urls() for a in config.alertmanagers] == [["https://a:1/x"], ["http://c:3/api/v2/alerts"]]
    assert config.alertmanagers[0].timeout == 3000


def test_an_url_alone_is_one_more() -> None:
    config = AlertingConfig().with_url("http://am:9093/prefix/")
    assert config.alertmanagers[0].urls() == ["http://am:9093/prefix/api/v2/alerts"]
    with pytest.raises(BadInput, match="ALERTMANAGER_URL: not a URL"):
        AlertingConfig().with_url("am:9093")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("alertmanagers: [{api_version: v1}]", "expected Alertmanager api version to be one of [v2] but got v1"),
        ("alertmanagers: [{static_configs: [{targets: ['http://x:1']}]}]", '"http://x:1" is not a valid hostname'),
        ("alertmanagers: [{kubernetes_sd_configs: []}]", "kubernetes_sd_configs: not supported"),
        ("alertmanagers: [{bearer_token: a, bearer_token_file: b}]", "at most one of bearer_token & bearer_token_file"),
    ],
)
def test_bad_configurations_are_pointed_at(text: str, expected: str) -> None:
    with pytest.raises(BadInput) as refused:
        parse(text)
    assert expected in str(refused.value)


async def test_a_real_alertmanager_takes_them(
    tmp_path: Path, free_port: Callable[[], int], debian_binary: Callable[[str], str], until: Until
) -> None:
    port = free_port()
    (tmp_path / "am.yml").write_text("route: {receiver: a}\nreceivers: [{name: a}]\n")
    process = subprocess.Popen(
        [
            debian_binary("prometheus-alertmanager"),
            f"--config.file={tmp_path / 'am.yml'}",
            f"--storage.path={tmp_path / 'data'}",
            f"--web.listen-address=127.0.0.1:{port}",
            "--cluster.listen-address=",
        ],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    config = parse("alert_relabel_configs: [{source_labels: [severity], target_label: urgency}]").with_url(f"http://127.0.0.1:{port}")
    passing = Alertmanagers(config, SystemClock(), external_labels=Labels.of(dc="eu", severity="none"))
    try:
        await passing.start()
        # It may still be starting: what it does not take yet waits and is tried again.
        await passing.accept([alert("One"), alert("Two", ends_in=-1)])
        await until(lambda: passing.peers()[0].sent == 2)
    finally:
        await passing.close()
        found = await asyncio.to_thread(lambda: json.load(urllib.request.urlopen(f"http://127.0.0.1:{port}/api/v2/alerts")))
        process.terminate()
        await asyncio.to_thread(process.wait, 20)
    (one,) = found
    assert one["labels"] == {"alertname": "One", "dc": "eu", "severity": "page", "urgency": "page"}
    assert one["annotations"] == {"summary": "é"}
    assert one["generatorURL"] == "http://g/x?y=1"
    assert one["fingerprint"] == f"{Labels.of(one['labels']).fingerprint():016x}"


async def test_one_that_fails_is_tried_again_and_delays_no_other(receiver: Any, until: Until, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(alertmanagers, "_BACKOFF_S", 0.01)
    receiver.answers = [(500, {}), (503, {}), (200, {}), (400, {})]
    config = parse(f"alertmanagers: [{{static_configs: [{{targets: ['127.0.0.1:{receiver.port}', '127.0.0.1:1']}}]}}]")
    passing = Alertmanagers(config, SystemClock())
    await passing.start()
    await passing.accept([alert("One")])
    await until(lambda: passing.peers()[0].sent == 1)
    peer, dead = passing.peers()
    assert (peer.errors, peer.last_error, peer.queued) == (2, "", 0)
    assert dead.sent == 0
    assert dead.queued == 1
    assert "cannot connect" in dead.last_error
    await passing.accept([alert("Refused")])
    await until(lambda: passing.peers()[0].dropped == 1)
    assert [m["labels"]["alertname"] for r in receiver.requests for m in r.body] == ["One", "One", "One", "Refused"]
    await passing.close()


async def test_a_full_queue_loses_its_oldest_and_counts_them(until: Until) -> None:
    config = AlertingConfig().with_url("http://127.0.0.1:1")
    passing = Alertmanagers(config, SystemClock(), capacity=3)
    await passing.start()
    await passing.accept([alert(str(i)) for i in range(5)])
    (peer,) = passing.peers()
    assert (peer.dropped, peer.queued) == (2, 3)
    await passing.close()


async def test_alerts_are_relabelled_for_all_and_for_each(receiver: Any, until: Until) -> None:
    text = f"""
    alert_relabel_configs: [{{source_labels: [alertname], regex: Gone, action: drop}}]
    alertmanagers:
    - static_configs: [{{targets: ['127.0.0.1:{receiver.port}']}}]
      alert_relabel_configs: [{{regex: severity, action: labeldrop}}]
    """
    passing = Alertmanagers(parse(text), SystemClock())
    await passing.start()
    await passing.accept([alert("Gone"), alert("Kept")])
    await until(lambda: receiver.requests)
    assert [m["labels"] for m in receiver.requests[0].body] == [{"alertname": "Kept"}]
    assert receiver.requests[0].path == "/api/v2/alerts"
    await passing.close()


async def test_a_reload_keeps_what_waits(receiver: Any, until: Until) -> None:
    passing = Alertmanagers(AlertingConfig().with_url("http://127.0.0.1:1"), SystemClock())
    await passing.start()
    await passing.accept([alert("One")])
    url = f"http://127.0.0.1:{receiver.port}"
    await passing.apply(AlertingConfig().with_url("http://127.0.0.1:1").with_url(url), external_labels=Labels.of(a="b"))
    assert [p.queued for p in passing.peers()] == [1, 0]
    await passing.accept([alert("Two")])
    await until(lambda: passing.peers()[1].sent == 1)
    assert receiver.requests[0].body[0]["labels"]["a"] == "b"
    await passing.close()
