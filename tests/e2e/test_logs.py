"""Log lines on a server as a user starts it: from everywhere, through kill -9, into an alert."""

from __future__ import annotations

import json
import socket
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import pytest
from tests.e2e import patient

pytest.importorskip("duckdb", reason="duckdb is not installed: pip install 'vedette[logs]'")

CONFIG = """
global: {{evaluation_interval: 1s}}
rule_files: [rules.yml]
vedette:
  host: {{interval: 1s}}
  logs:
    syslog_tcp: 127.0.0.1:{port}
    files: [{{path: '{folder}/*.log', service: tailed, from_start: true}}]
"""

RULES = """
groups:
- name: logs
  rules:
  - alert: ErrorsInLogs
    expr: sum by (service) (increase(vedette_log_messages_total{level=~"error|fatal"}[5m])) > 2
"""


def test_from_everywhere_through_a_kill_into_an_alert(launch: Any, tools: Any, tmp_path: Path, free_port: Callable[[], int]) -> None:
    port, folder = free_port(), tmp_path / "watched"
    folder.mkdir()
    (tmp_path / "vedette.yml").write_text(CONFIG.format(port=port, folder=folder))
    (tmp_path / "rules.yml").write_text(RULES)
    (folder / "a.log").write_text("ERROR from a file\n")
    arguments = ("--config", str(tmp_path / "vedette.yml"))
    server = launch.vedette(*arguments, data=tmp_path / "data")
    with socket.create_connection(("127.0.0.1", port)) as sender:
        sender.sendall(b"<11>1 - - shop - - - over syslog\n")
    body = "\n".join(json.dumps({"level": "error", "service": "web", "message": f"line {i}"}) for i in range(10))
    assert server.post("/api/v1/logs", content=body).json()["data"] == {"accepted": 10}

    def services() -> dict[str, int]:
        found = server.data("/api/v1/logs/services", last="1d")["services"]
        return {s["service"]: s["lines"] for s in found}

    expected = {"web": 10, "shop": 1, "tailed": 1}
    tools.eventually(lambda: expected.items() <= services().items(), "all lines are there")
    own = {"service": "vedette", "text": "serving"}
    tools.eventually(lambda: server.data("/api/v1/logs", **own)["logs"], "the server's own lines are kept")
    firing = 'ALERTS{alertname="ErrorsInLogs",service="web",alertstate="firing"}'
    tools.eventually(lambda: server.value(firing) == 1, "the alert fires")
    assert 'vedette_log_messages_total{level="error",service="web"} 10' in server.get("/metrics").text
    server.kill()
    (folder / "a.log").write_text("ERROR from a file\nwritten while nobody looked\n")
    server = launch.vedette(*arguments, data=tmp_path / "data")
    tools.eventually(lambda: services().get("tailed", 0) >= 2, "the file is followed from where it was")
    assert {"web": 10, "shop": 1}.items() <= services().items()


def _request(step: int) -> tuple[str, str, str]:
    """(path, media type, body) of a hundred lines, by each way in that acknowledges in turn."""
    messages = [f"line {step} {i}" for i in range(100)]
    match step % 4:
        case 0:
            return "/api/v1/logs", "application/x-ndjson", "\n".join(json.dumps({"service": "s", "message": m}) for m in messages)
        case 1:
            values = [[str(time.time_ns()), m] for m in messages]
            return "/loki/api/v1/push", "application/json", json.dumps({"streams": [{"stream": {"service": "s"}, "values": values}]})
        case 2:
            rows = [json.dumps({"create": {}}) + "\n" + json.dumps({"service": {"name": "s"}, "message": m}) for m in messages]
            return "/logs-s/_bulk", "application/x-ndjson", "\n".join(rows) + "\n"
    records = [{"timeUnixNano": str(time.time_ns()), "body": {"stringValue": m}} for m in messages]
    resource = {"attributes": [{"key": "service.name", "value": {"stringValue": "s"}}]}
    whole = {"resourceLogs": [{"resource": resource, "scopeLogs": [{"logRecords": records}]}]}
    return "/v1/logs", "application/json", json.dumps(whole)


def test_kill_while_lines_come_in(launch: Any, tools: Any, tmp_path: Path) -> None:
    server = launch.vedette(data=tmp_path / "data", env=tools.environment(VEDETTE_LOGS_FLUSH_LINES="2000"))
    acknowledged: list[int] = []

    def write() -> None:
        with httpx.Client(timeout=patient.SECONDS) as client:
            for step in range(1_000_000):
                path, kind, body = _request(step)
                try:
                    answer = client.post(server.url + path, content=body, headers={"content-type": kind})
                except httpx.TransportError:
                    return
                if answer.status_code not in (200, 204):
                    return
                acknowledged.append(step)
                if step == 60:
                    enough.set()

    enough = threading.Event()
    writer = threading.Thread(target=write)
    writer.start()
    assert enough.wait(60)
    server.kill()
    writer.join()
    server = launch.vedette(data=tmp_path / "data")
    found: list[str] = []
    cursor = ""
    while cursor is not None:
        page = server.data("/api/v1/logs", service="s", limit=10_000, cursor=cursor)
        found += [line["message"] for line in page["logs"]]
        cursor = page["next"]
    assert len(found) == len(set(found)), "no line twice"
    assert {f"line {step} {i}" for step in acknowledged for i in range(100)} <= set(found)


def test_tenants_see_their_own_lines(launch: Any, tools: Any, tmp_path: Path) -> None:
    server = launch.vedette(data=tmp_path / "data", env=tools.environment(API_KEY="secret"))
    for tenant in ("alice", "charlie"):
        headers = {"Authorization": "Bearer secret", "X-Scope-OrgID": tenant}
        if tenant == "alice":
            assert server.post("/api/v1/logs", content='{"message":"of alice","level":"error"}', headers=headers).status_code == 200
        for path in ("/api/v1/logs", "/api/v1/errors", "/api/v1/monitoring/logs", "/loki/api/v1/query_range?query={}"):
            answer = server.client.get(server.url + path, headers=headers)
            assert answer.status_code == 200
            assert ("of alice" in answer.text) == (tenant == "alice"), path
    assert server.get("/api/v1/logs").status_code == 401
    assert server.post("/api/v1/logs", content="{}").status_code == 401
