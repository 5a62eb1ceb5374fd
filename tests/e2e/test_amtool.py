"""Debian's amtool and Prometheus against a real Vedette: alerts, silences and the configuration, as with Alertmanager."""

from __future__ import annotations

import json
import re
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tests.e2e import patient

pytestmark = pytest.mark.timeout(600)

CONFIG = """\
route:
  receiver: nobody
  group_by: [alertname]
  group_wait: 0s
  routes:
  - receiver: team
    matchers: ['service="db"']
    mute_time_intervals: [never]
receivers:
- name: nobody
- name: team
  webhook_configs: [{url: 'http://127.0.0.1:9/hunter2', send_resolved: false}]
time_intervals: [{name: never, time_intervals: [{years: ['1999']}]}]
"""


@pytest.fixture(scope="module")
def server(module_launch: Any) -> Any:
    file = module_launch.folder / "alertmanager.yml"
    file.write_text(CONFIG, encoding="utf-8")
    return module_launch.vedette("--alertmanager-config", str(file))


Amtool = Callable[..., str]


@pytest.fixture
def amtool(server: Any, debian_binary: Callable[[str], str]) -> Amtool:
    """Runs amtool against the server; its output."""

    def run(*arguments: str) -> str:
        command = [debian_binary("amtool"), f"--alertmanager.url={server.url}", "--no-version-check", *arguments]
        done = subprocess.run(command, capture_output=True, text=True, timeout=patient.SECONDS, check=False)
        assert done.returncode == 0, f"{arguments}: {done.stdout}{done.stderr}"
        return done.stdout

    return run


def test_alerts(amtool: Amtool) -> None:
    amtool("alert", "add", "alertname=Added", "service=web", "--annotation=summary=by hand", "--generator-url=http://g/")
    (found,) = json.loads(amtool("alert", "query", "-o", "json", "alertname=Added"))
    assert found["labels"] == {"alertname": "Added", "service": "web"}
    assert found["annotations"] == {"summary": "by hand"}
    assert "Added" in amtool("alert")
    assert "Added" not in amtool("alert", "query", "service=~d.*")
    assert "by hand" in amtool("alert", "query", "-o", "extended", "Added")


def test_silences(amtool: Amtool) -> None:
    amtool("alert", "add", "alertname=Noisy")
    identity = amtool("silence", "add", "alertname=Noisy", "--author=alice", "--comment=looking at it", "--duration=1h").strip()
    assert re.fullmatch(r"[0-9a-f-]{36}", identity)
    assert "looking at it" in amtool("silence", "query")
    assert "Noisy" not in amtool("alert", "query")
    assert "Noisy" in amtool("alert", "query", "--silenced")
    (before,) = json.loads(amtool("silence", "query", "-o", "json", "alertname=Noisy"))
    # amtool prints the updated silence's id unless asked for more.
    assert identity in amtool("silence", "update", identity, "--duration=2h", "--comment=still at it")
    (after,) = json.loads(amtool("silence", "query", "-o", "json", "alertname=Noisy"))
    assert (after["id"], after["comment"], after["startsAt"]) == (identity, "still at it", before["startsAt"])
    assert after["endsAt"] > before["endsAt"]
    amtool("silence", "expire", identity)
    assert identity not in amtool("silence", "query", "-q")
    assert identity in amtool("silence", "query", "-q", "--expired")
    assert "Noisy" in amtool("alert", "query")


def test_silences_are_imported(amtool: Amtool, tmp_path: Path) -> None:
    first = amtool("silence", "add", "alertname=Imported", "--comment=x", "--author=bob").strip()
    (tmp_path / "silences.json").write_text(amtool("silence", "query", "-o", "json", "alertname=Imported"))
    amtool("silence", "expire", first)
    assert "bob" in amtool("silence", "import", "--force", str(tmp_path / "silences.json")) + amtool("silence", "query")


def test_config_and_routes(amtool: Amtool, server: Any, tmp_path: Path) -> None:
    shown = amtool("config", "show")
    assert "hunter2" not in shown
    assert 'service="db"' in shown
    assert 'service="db"' in amtool("config", "routes", "show")
    assert amtool("config", "routes", "test", "service=db").strip() == "team"
    assert amtool("config", "routes", "test", "service=web").strip() == "nobody"
    (tmp_path / "am.yml").write_text(CONFIG)
    assert "SUCCESS" in amtool("check-config", str(tmp_path / "am.yml"))
    assert "Cluster Status" in amtool("cluster", "show")


def test_a_prometheus_tells_its_alerts(launch: Any, server: Any, tools: Any) -> None:
    rules = launch.folder / "rules.yml"
    # Prometheus looks for its Alertmanagers for 5 s at first, and tells again what it could tell nobody only after a minute.
    rules.write_text(
        "groups: [{name: g, rules: [{alert: FromPrometheus, expr: vector(7), for: 6s, annotations: {summary: 'is {{ $value }}'}}]}]\n"
    )
    prometheus = launch.prometheus(
        f"global: {{evaluation_interval: 500ms, external_labels: {{dc: eu}}}}\nrule_files: [{rules}]\n"
        f"alerting: {{alertmanagers: [{{static_configs: [{{targets: ['{server.url.removeprefix('http://')}']}}]}}]}}\n"
    )

    def arrived() -> Any:
        return [a for a in server.get("/api/v2/alerts").json() if a["labels"]["alertname"] == "FromPrometheus"]

    (found,) = tools.eventually(arrived, "Prometheus' alert arrived")
    assert found["labels"] == {"alertname": "FromPrometheus", "dc": "eu"}
    assert found["annotations"] == {"summary": "is 7"}
    assert found["receivers"] == [{"name": "nobody"}]
    active = prometheus.data("/api/v1/alertmanagers")["activeAlertmanagers"]
    assert [a["url"] for a in active] == [f"{server.url}/api/v2/alerts"]


def test_a_slack_webhook_and_a_mail_server_alone_make_a_route(launch: Any, tools: Any, debian_binary: Callable[[str], str]) -> None:
    addresses = {"SLACK_WEBHOOK_URL": "http://127.0.0.1:9/hunter2", "EMAIL_SERVER": "127.0.0.1:9", "EMAIL_FROM": "alerts@example.org"}
    made = launch.vedette(env=tools.environment(**addresses))
    config = made.get("/api/v2/status").json()["config"]["original"]
    assert "hunter2" not in config
    assert "alerts@example.org" in config
    command = [debian_binary("amtool"), f"--alertmanager.url={made.url}", "--no-version-check", "config", "routes", "test", "a=b"]
    assert subprocess.run(command, capture_output=True, text=True, timeout=patient.SECONDS, check=True).stdout.strip() == "default"


def test_a_silence_of_everything_is_refused_until_the_comment_confirms_it(
    amtool: Amtool, server: Any, debian_binary: Callable[[str], str]
) -> None:
    command = [debian_binary("amtool"), f"--alertmanager.url={server.url}", "--no-version-check", "silence", "add", "alertname=~.+"]
    refused = subprocess.run([*command, "--comment", "all"], capture_output=True, text=True, timeout=patient.SECONDS, check=False)
    assert refused.returncode != 0
    assert "would silence every alert" in refused.stderr
    identity = amtool("silence", "add", "alertname=~.+", "--comment", "all of it [confirm]").strip()
    amtool("silence", "expire", identity)


def test_silences_that_recur_or_end_with_their_alert_are_plain_ones_to_amtool(amtool: Amtool, server: Any) -> None:
    amtool("alert", "add", "alertname=Nightly", "service=web")
    body = {
        "matchers": [{"name": "alertname", "value": "Nightly", "isRegex": False}],
        "startsAt": "2000-01-01T00:00:00Z",
        "endsAt": "2100-01-01T00:00:00Z",
        "createdBy": "me",
        "comment": "c",
        "recurs": [{"months": ["january:december"]}],
        "endsWhenResolved": True,
    }
    made = patient.post(f"{server.url}/api/v2/silences", json=body).json()["silenceID"]
    listed = json.loads(amtool("silence", "query", "-o", "json", "alertname=Nightly"))
    assert [(s["id"], s["status"]["state"]) for s in listed] == [(made, "active")]
    amtool("silence", "update", "--comment=changed", made)
    after = patient.get(f"{server.url}/api/v2/silence/{made}").json()
    assert (after["comment"], after["recurs"], after["endsWhenResolved"]) == ("changed", body["recurs"], True)
    amtool("silence", "expire", made)


def test_an_acknowledgement_leaves_amtool_its_alert(amtool: Amtool, server: Any) -> None:
    amtool("alert", "add", "alertname=Known", "service=web")
    (found,) = json.loads(amtool("alert", "query", "-o", "json", "alertname=Known"))
    path = f"/api/v1/monitoring/alerts/{found['fingerprint']}/acknowledge"
    made = patient.post(server.url + path, json={"acknowledged_by": "admin", "notes": "Investigating the issue"})
    assert (made.status_code, made.json()["status"]) == (200, "acknowledged")
    (again,) = json.loads(amtool("alert", "query", "-o", "json", "alertname=Known"))
    assert again["status"]["state"] == "active"
