"""Rules made over the API against the real server: told, kept over a kill -9, gone once deleted; a backtest by the command line."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

pytestmark = pytest.mark.timeout(600)

CONFIGURE = "/api/v1/monitoring/alerts/configure"


def _set(server: Any, value: float) -> None:
    assert server.write([({"__name__": "queue_length", "queue": "mail"}, [(int(time.time() * 1000), value)])]).status_code == 204


def _taking_notes(site: Any) -> None:
    def page(request: Any) -> None:
        request.send_response(200)
        request.send_header("Content-Length", "0")
        request.end_headers()

    site.pages["/hook"] = page


def _firing(server: Any) -> list[str]:
    return [a["labels"]["alertname"] for a in server.data("/api/v1/alerts")["alerts"] if a["state"] == "firing"]


def test_a_configured_alert_tells_its_webhook_and_outlives_a_kill(launch: Any, tools: Any, site: Any, tmp_path: Path) -> None:
    _taking_notes(site)
    (tmp_path / "v.yml").write_text("vedette: {rules: {private_webhooks: true}}\n")
    # Nobody else is told, and nothing waits for company first.
    (tmp_path / "am.yml").write_text("{route: {receiver: nobody, group_wait: 0s}, receivers: [{name: nobody}]}\n")
    start = ("--config", str(tmp_path / "v.yml"), "--alertmanager-config", str(tmp_path / "am.yml"))
    server = launch.vedette(*start, data=tmp_path / "data")
    _set(server, 12)
    asked = {"name": "long_queue", "metric": "queue_length", "condition": "greater_than", "threshold": 10}
    asked["notify"] = {"webhook": f"http://{site.address}/hook"}
    made = server.post(CONFIGURE, json=asked)
    assert made.status_code == 201, made.text
    tools.eventually(lambda: _firing(server) == ["long_queue"], "the alert fires, evaluated at once")
    tools.eventually(lambda: site.posted("/hook"), "the webhook was called")
    server.kill()
    again = launch.vedette(*start, data=tmp_path / "data")
    assert again.get(f"{CONFIGURE}/long_queue").json()["version"] == 1
    assert _firing(again) == ["long_queue"]
    assert again.get("/api/v1/rules/export").text.startswith("groups:\n- name: long_queue\n")
    assert again.client.delete(again.url + f"{CONFIGURE}/long_queue").status_code == 200
    assert _firing(again) == []
    assert len([n for n in site.posted("/hook") if n["status"] == "firing"]) == 1


def test_a_backtest_from_the_command_line(launch: Any, tmp_path: Path) -> None:
    server = launch.vedette(data=tmp_path / "data")
    now = int(time.time() * 1000)
    samples = [(now - (600 - s) * 1000, 20.0 if 200 <= s < 400 else 1.0) for s in range(0, 601, 10)]
    assert server.write([({"__name__": "queue_length", "queue": "mail"}, samples)]).status_code == 204
    (tmp_path / "rule.yml").write_text("{alert: Long, expr: queue_length > 10, interval: 10s, for: 30s}\n")
    command = [sys.executable, "-m", "vedette", "rules", "backtest", str(tmp_path / "rule.yml"), "--since", "10m", "--url", server.url]
    shown = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    assert "Long: 61 evaluations, 1 firings, 0 only pending" in shown
    assert "█" in shown
    (rule,) = json.loads(subprocess.run([*command, "--json"], capture_output=True, text=True, check=True).stdout)["rules"]
    assert [f["value"] for f in rule["firings"]] == [20.0]
    (tmp_path / "rule.yml").write_text("{alert: Long, expr: 'queue_length >'}\n")
    bad = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (bad.returncode, "could not parse expression" in bad.stderr) == (2, True)
