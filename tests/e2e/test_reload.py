"""SIGHUP and `POST /-/reload`: a good configuration takes over, a bad one changes nothing and says why."""

from __future__ import annotations

import signal
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import pytest
from tests.e2e import patient

pytestmark = pytest.mark.timeout(600)

RULES = "groups: [{name: made, interval: 1s, rules: [{record: RECORD, expr: EXPR}]}]\n"


def _write(folder: Path, *, job: str, address: str, record: str = "one", expr: str = "vector(1)", extra: str = "") -> Path:
    (folder / "rules.yml").write_text(RULES.replace("RECORD", record).replace("EXPR", expr), encoding="utf-8")
    file = folder / "prometheus.yml"
    text = "global: {scrape_interval: 300ms, scrape_timeout: 300ms}\nrule_files: [rules.yml]\n"
    text += f"scrape_configs: [{{job_name: {job}, static_configs: [{{targets: ['{address}']}}]}}]\n{extra}"
    file.write_text(text, encoding="utf-8")
    return file


def _by_signal(server: Any) -> Callable[[], str]:
    """Reload, and give what tells the outcome: the log."""
    server.popen.send_signal(signal.SIGHUP)
    told: Callable[[], str] = server.logged
    return told


def _by_post(server: Any) -> Callable[[], str]:
    """Reload, and give what tells the outcome: the answer."""
    text: str = server.post("/-/reload").text
    return lambda: text


@pytest.mark.parametrize("reload", [_by_signal, _by_post])
def test_good_and_bad(launch: Any, tools: Any, site: Any, tmp_path: Path, reload: Callable[[Any], Callable[[], str]]) -> None:
    site.text("/metrics", lambda: "page 1\n")
    server = launch.vedette("--config", str(_write(tmp_path, job="before", address=site.address)))
    tools.eventually(lambda: server.query('up{job="before"}') and server.query("one"), "the first configuration is in force")

    _write(tmp_path, job="after", address=site.address, record="two")
    reload(server)
    tools.eventually(lambda: server.query('up{job="after"}') and server.query("two"), "the second configuration is in force")
    tools.eventually(lambda: not server.query('page{job="before"}') and not server.query("one"), "what is gone is stale")
    assert [t["scrapePool"] for t in server.data("/api/v1/targets")["activeTargets"] if t["scrapePool"] in ("before", "after")] == ["after"]
    assert "after" in server.data("/api/v1/status/config")["yaml"]

    _write(tmp_path, job="never", address=site.address, extra="surprise: true\n")
    told = reload(server)
    tools.eventually(lambda: "surprise" in told(), "the unknown key is named")
    _write(tmp_path, job="never", address=site.address, record="three", expr="rate(up)")
    told = reload(server)
    tools.eventually(lambda: "rules.yml" in told() and "parse error" in told(), "the bad rule file is named")
    assert server.value('up{job="after"}') == 1
    assert not server.query('up{job="never"}')
    assert "after" in server.data("/api/v1/status/config")["yaml"]
    groups = {g["name"]: [r["name"] for r in g["rules"]] for g in server.data("/api/v1/rules")["groups"]}
    assert groups["made"] == ["two"]


def test_post_answers_with_the_reason(launch: Any, site: Any, tmp_path: Path) -> None:
    site.text("/metrics", lambda: "page 1\n")
    file = _write(tmp_path, job="web", address=site.address)
    server = launch.vedette("--config", str(file))
    assert server.post("/-/reload").status_code == 200
    assert "wait for the next start" not in server.logged()
    _write(tmp_path, job="web", address=site.address, extra="vedette: {server: {log_level: warn}, storage: {retention: 9d}}\n")
    assert server.post("/-/reload").status_code == 200
    assert '"settings": ["server.log_level", "storage.retention"]' in server.logged(), "what only a start puts in force is told by name"
    _write(tmp_path, job="web", address=site.address, extra="surprise: true\n")
    answer = server.post("/-/reload")
    assert answer.status_code >= 400
    assert f"{file}:4" in answer.text
    assert "surprise" in answer.text
    assert server.get("/-/healthy").status_code == 200


def test_who_may_come_in_and_where_lines_come_in(launch: Any, tools: Any, free_port: Any, tmp_path: Path) -> None:
    file, first, second = tmp_path / "vedette.yml", free_port(), free_port()

    def write(key: str, *, udp: int, retention: str = "30d") -> None:
        logs = f"logs: {{syslog_udp: '127.0.0.1:{udp}', retention: {retention}}}"
        file.write_text(f"vedette: {{access: {{api_key: {key}}}, {logs}}}\n", encoding="utf-8")

    def asked(key: str, path: str = "/api/v1/logs", **params: Any) -> httpx.Response:
        return patient.get(server.url + path, params=params, headers={"Authorization": f"Bearer {key}"})

    def heard(port: int, text: str) -> bool:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as out:
            out.sendto(f"<14>1 2026-01-01T00:00:00Z host app - - - {text}".encode(), ("127.0.0.1", port))
        return bool(asked("new", start=0, text=text).json()["data"]["total"])

    write("old", udp=first)
    server = launch.vedette("--config", str(file))
    assert asked("old").status_code == 200
    write("new", udp=second)
    assert patient.post(f"{server.url}/-/reload", headers={"Authorization": "Bearer old"}).status_code == 200
    assert (asked("old").status_code, asked("new").status_code) == (401, 200)
    tools.eventually(lambda: heard(second, "after-the-reload"), "syslog is taken at the new address")
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as taken:
        taken.bind(("127.0.0.1", 0))
        write("newer", udp=taken.getsockname()[1])
        refused = patient.post(f"{server.url}/-/reload", headers={"Authorization": "Bearer new"})
        assert refused.status_code >= 400
        assert str(taken.getsockname()[1]) in refused.text
    assert asked("new").status_code == 200, "a bad reload changes nothing"
    tools.eventually(lambda: heard(second, "after-the-bad-one"), "syslog is still taken where it was")
