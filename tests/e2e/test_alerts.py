"""A rule file with one alert reaches a webhook once, and resolves; across a restart too."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import pytest

pytestmark = pytest.mark.timeout(600)

RULES = """\
groups:
  - name: shop
    interval: 500ms
    rules:
      - alert: QueueTooLong
        expr: queue_length > 10
        labels: {severity: page}
        annotations: {summary: "{{ $labels.queue }} holds {{ $value }}"}
"""


def _files(folder: Path, hook: str) -> list[str]:
    (folder / "rules.yml").write_text(RULES, encoding="utf-8")
    (folder / "prometheus.yml").write_text("rule_files: [rules.yml]\n", encoding="utf-8")
    (folder / "alertmanager.yml").write_text(
        f"""\
route: {{receiver: nobody, group_wait: 100ms, group_interval: 500ms, repeat_interval: 1h, group_by: [alertname],
         routes: [{{receiver: hook, matchers: ['severity="page"']}}]}}
receivers:
  - name: nobody
  - name: hook
    webhook_configs: [{{url: "{hook}"}}]
""",
        encoding="utf-8",
    )
    return ["--config", str(folder / "prometheus.yml"), "--alertmanager-config", str(folder / "alertmanager.yml")]


def _set(server: Any, value: float) -> None:
    assert server.write([({"__name__": "queue_length", "queue": "mail"}, [(int(time.time() * 1000), value)])]).status_code == 204


def _taking_notes(site: Any) -> None:
    def page(request: Any) -> None:
        request.send_response(200)
        request.send_header("Content-Length", "0")
        request.end_headers()

    site.pages["/hook"] = page


def test_fires_once_and_resolves(launch: Any, tools: Any, site: Any, tmp_path: Path) -> None:
    _taking_notes(site)
    server = launch.vedette(*_files(tmp_path, f"http://{site.address}/hook"), data=tmp_path / "data")
    _set(server, 12)
    tools.eventually(lambda: site.posted("/hook"), "the webhook was called")
    notice = site.posted("/hook")[0]
    assert notice["version"] == "4"
    assert (notice["status"], notice["receiver"], notice["groupLabels"]) == ("firing", "hook", {"alertname": "QueueTooLong"})
    alert = notice["alerts"][0]
    assert alert["labels"] == {"alertname": "QueueTooLong", "queue": "mail", "severity": "page"}
    assert alert["annotations"] == {"summary": "mail holds 12"}
    active = [a for a in server.data("/api/v1/alerts")["alerts"] if a["labels"]["alertname"] == "QueueTooLong"]
    assert [a["state"] for a in active] == ["firing"]
    assert server.value('ALERTS{alertname="QueueTooLong",alertstate="firing"}') == 1

    # A restart while it fires tells nobody again.
    assert server.terminate() == 0
    server = launch.vedette(*_files(tmp_path, f"http://{site.address}/hook"), data=tmp_path / "data")
    _set(server, 13)
    tools.eventually(lambda: _evaluated_since(server, time.time()), "the rule was evaluated several times after the restart")
    assert [n["status"] for n in site.posted("/hook")] == ["firing"], "told once"

    _set(server, 3)
    tools.eventually(lambda: len(site.posted("/hook")) == 2, "the webhook was told that it is over")
    resolved = site.posted("/hook")[1]
    assert resolved["status"] == "resolved"
    assert resolved["alerts"][0]["status"] == "resolved"
    tools.eventually(lambda: not server.query('ALERTS{alertname="QueueTooLong"}'), "the ALERTS series is stale")
    assert not [a for a in server.data("/api/v1/alerts")["alerts"] if a["labels"]["alertname"] == "QueueTooLong"]


def _evaluated_since(server: Any, begun: float) -> bool:
    # Two seconds hold four evaluations and as many group intervals: a repeat would have come by then.
    found = server.query('count_over_time(ALERTS{alertname="QueueTooLong"}[2s])', at=begun)
    return bool(found) and float(found[0]["value"][1]) >= 4
