"""Every curl line and every JSON example of the five documents, against a running server with all their ports open.

What an example can be filled with is put there first, so that its values are compared, not only its shape. The documents are not
part of this repository: `VEDETTE_DOCUMENTS` says where they are (../shared/seeds beside it if absent).
"""

from __future__ import annotations

import json
import os
import re
import subprocess
from pathlib import Path
from typing import Any

import httpx
import pytest
from jsonschema import Draft202012Validator
from tests.e2e import patient
from tests.e2e.documents import Example, curls, examples, getting, misfit, read, recent

FOLDER = Path(os.environ.get("VEDETTE_DOCUMENTS") or Path(__file__).parents[2] / "../shared/seeds")
DIALECTS = {"000": "gamiroo", "001": "platform", "002": "botserver", "003": "access_layer", "004": "xscore"}
PORTS = {"8001": "gamiroo", "8009": "platform", "8080": "botserver", "8012": "access_layer", "9090": "xscore"}
COUNTS = {"000": (3, 1), "001": (0, 4), "002": (0, 15), "003": (8, 8), "004": (0, 0)}
"""So many curl lines and JSON examples of requests and answers there are: fewer were overlooked."""

pytestmark = [
    pytest.mark.timeout(600),
    pytest.mark.skipif(not FOLDER.is_dir(), reason=f"no documents at {FOLDER}: set VEDETTE_DOCUMENTS to where they are"),
]

KNOWN = {
    # A database inside this process, and a service known by its targets, have no port; nobody measures when they began.
    ("002", "/status"): r"services\[\d\]\.(uptime_seconds|port) is absent",
    # Those of the records' SQLite; PostgreSQL tells its own.
    ("002", "/resources/database"): r"\.(waiting_requests|total_created|total_closed|slow_queries|average_duration_ms): None",
    # Of a series that was tracked without one.
    ("003", "/metrics/series?service=gateway-service&limit=10"): r"\.tenant_id: None",
}
"""What is absent or null where a document has a value, because there is none that could be measured."""

RULES = """
groups:
  - name: document
    interval: 1s
    rules:
"""


@pytest.fixture(scope="module")
def texts() -> dict[str, str]:
    return {number: read(FOLDER, number) for number in DIALECTS}


def told(text: str, method: str, path: str, *, answers: bool = True) -> Any:
    """The value of the one example of this request."""
    (found,) = [e.value for e in examples(text) if (e.method, e.path.partition("?")[0], e.answers) == (method, path, answers)]
    return found


@pytest.fixture(scope="module")
def server(module_launch: Any, free_port: Any, tmp_path_factory: pytest.TempPathFactory, tools: Any, texts: dict[str, str]) -> Any:
    """Vedette with a listener for each dialect (`doors`), filled with what the documents show."""
    folder = tmp_path_factory.mktemp("documents")
    alerts = told(texts["001"], "GET", "/api/v1/alerts")["alerts"]
    rules = "".join(
        f"      - {{alert: {a['id']}, expr: vector(85) > 80, labels: {{severity: {a['severity']}, service: {a['service']}}}, "
        f"annotations: {{description: {a['description']}}}}}\n"
        for a in alerts
    )
    (folder / "rules.yml").write_text(RULES + rules, encoding="utf-8")
    (folder / "prometheus.yml").write_text("rule_files: [rules.yml]\n", encoding="utf-8")
    ports = {dialect: free_port() for dialect in DIALECTS.values()}
    listen = [word for d, p in ports.items() for word in ("--listen", f"{d}={p}")]
    env = tools.environment(VEDETTE_SERVICES_ALERTS_PER_MINUTE="0", VEDETTE_SERVICES_METRICS_PER_MINUTE="0")
    vedette = module_launch.vedette("--config", str(folder / "prometheus.yml"), *listen, env=env)
    vedette.doors = {dialect: f"http://127.0.0.1:{port}" for dialect, port in ports.items()}
    vedette.texts = texts
    fill(vedette, texts)
    tools.eventually(lambda: len(vedette.get("/api/v1/alerts").json()["alerts"]) >= 2, "the documents' alerts fire")
    return vedette


def fill(server: Any, texts: dict[str, str]) -> None:
    """Put there what the examples show."""
    records = told(texts["000"], "GET", "/api/v1/monitoring/metrics")
    stored = server.post("/api/v1/monitoring/metrics", json=[{k: v for k, v in r.items() if k != "id"} for r in records])
    assert stored.status_code == 201, stored.text
    shown = told(texts["001"], "GET", "/api/v1/metrics/{service}")
    rows = [
        {"service_name": shown["service"], "metric_name": shown["metric"], "value": value, "recorded_at": at}
        for at, value in zip(shown["timestamps"], shown["values"], strict=True)
    ]
    stored = server.post("/api/v1/monitoring/metrics", json=rows)
    assert stored.status_code == 201, stored.text
    logs = told(texts["002"], "GET", "/logs")["logs"]
    assert server.post("/api/v1/logs", json=logs).status_code == 200
    app = [
        {"name": "botserver_requests_total", "value": 10, "type": "counter", "labels": {"status": "200"}, "service": "bot"},
        {"name": "botserver_requests_total", "value": 1, "type": "counter", "labels": {"status": "500"}, "service": "bot"},
        {"name": "botserver_request_duration_seconds", "value": 0.15, "type": "histogram", "service": "bot"},
        {"name": "botserver_messages_total", "value": 5, "type": "counter", "service": "bot"},
        {"name": "botserver_response_bytes_total", "value": 500, "type": "counter", "service": "bot"},
    ]
    for _ in range(2):
        assert server.post("/metrics/track/batch", json=app).json()["failed"] == 0


@pytest.mark.parametrize("number", DIALECTS)
def test_no_example_is_overlooked(texts: dict[str, str], number: str) -> None:
    assert (len(curls(texts[number])), len(list(examples(texts[number])))) == COUNTS[number]


@pytest.mark.parametrize("number", DIALECTS)
def test_every_path_that_can_be_read_answers(server: Any, texts: dict[str, str], number: str) -> None:
    for path in getting(texts[number]):
        if path not in ("/metrics/trends/api_requests_total?hours=24",):  # below, once there is such a metric
            answer = patient.get(url_of(server, number, path))
            assert answer.status_code == 200, f"{answer.url}: {answer.text[:300]}"


@pytest.mark.parametrize("number", ["000", "003"])
def test_every_curl_line(server: Any, texts: dict[str, str], number: str) -> None:
    for words in curls(texts[number]):
        moved = [re_pointed(server, word) for word in words]
        done = subprocess.run([*moved, "-sS", "-w", "\n%{http_code}"], capture_output=True, text=True, timeout=patient.SECONDS, check=False)
        body, _, status = done.stdout.rpartition("\n")
        assert (done.returncode, status) == (0, "200"), f"{words}: {done.stderr}{done.stdout[:300]}"
        if "metrics?format" not in words[1]:
            json.loads(body)
    text = patient.get(server.doors["access_layer"] + "/metrics").text
    if number == "003":
        assert 'test_metric{job="test-service",service="test"} 42.5\n' in text


@pytest.mark.parametrize("number", ["000", "001", "002", "003"])
def test_every_json_example(server: Any, texts: dict[str, str], number: str) -> None:
    found, asked = [], None
    for example in examples(texts[number]):
        if not example.answers:
            asked = example
            answer = patient.post(url_of(server, number, example.path), json=example.value)
            if answer.status_code not in (200, 201):
                found.append(f"line {example.line}: {answer.status_code} {answer.text[:300]}")
        else:
            answer = ask(server, number, example, asked)
            assert answer.status_code == 200, f"line {example.line}: {answer.text[:300]}"
            known = KNOWN.get((number, example.path), "(?!)")
            wrong = (each for each in misfit(example.value, answer.json()) if not re.search(known, each))
            found += [f"line {example.line}: {each}" for each in wrong]
    assert not found, "\n".join(found)


def test_values_that_were_put_there_come_back(server: Any, texts: dict[str, str]) -> None:
    gamiroo, platform, botserver = (server.doors[d] for d in ("gamiroo", "platform", "botserver"))
    for record in told(texts["000"], "GET", "/api/v1/monitoring/metrics"):
        (back,) = patient.get(f"{gamiroo}/api/v1/monitoring/metrics", params={"service_name": record["service_name"]}).json()
        assert {**back, "id": 0} == {**record, "id": 0}
    shown = told(texts["001"], "GET", "/api/v1/metrics/{service}")
    span = {"start_time": shown["timestamps"][0], "end_time": shown["timestamps"][-1], "step": "1m"}
    answer = patient.get(f"{platform}/api/v1/metrics/{shown['service']}", params={"metric": shown["metric"], **span}).json()
    assert {key: answer[key] for key in shown} == shown
    alerts = {a["id"]: a for a in patient.get(f"{platform}/api/v1/alerts").json()["alerts"]}
    for alert in told(texts["001"], "GET", "/api/v1/alerts")["alerts"]:
        fields = alert.keys() - {"start_time"}
        assert {key: alerts[alert["id"]][key] for key in fields} == {key: alert[key] for key in fields}
    wanted = told(texts["002"], "GET", "/logs")
    params = {"service": "web_server", "limit": 100}
    logs = patient.get(f"{botserver}/api/v1/monitoring/logs", params=params).json()
    assert logs["logs"] == [line for line in wanted["logs"] if line["service"] == "web_server"]
    assert (logs["total"], logs["query"]["limit"]) == (1, 100)
    summary = patient.get(f"{botserver}/api/v1/monitoring/errors/summary").json()["summary"]
    assert summary["errors_by_service"]["database"] == 1
    assert summary["errors_by_type"]["timeout_error"] == 1


def test_what_is_described_is_what_is_answered(server: Any) -> None:
    """Each request that OpenAPI shows as an example is made on every listener, and its answer has the shape described."""
    made = 0
    for door in server.doors.values():
        for path, operations in patient.get(f"{door}/openapi.json").json()["paths"].items():
            for method in ("post", "put"):
                operation = operations.get(method, {})
                for content in operation.get("requestBody", {}).get("content", {}).values():
                    body = content.get("example") or next(iter(content["schema"].get("examples", ())), None)
                    if body is None:
                        continue
                    body = json.loads(recent(json.dumps(body)))  # or it would be older than what is kept
                    alerts = patient.get(f"{server.doors['platform']}/api/v1/alerts").json()["alerts"]
                    at = path.replace("{fingerprint}", alerts[0]["fingerprint"]).replace("{name}", "high_memory_usage")
                    answer = patient.request(method, door + at, json=body)
                    described = next(iter(s for s in operation["responses"] if s.startswith("2")))
                    assert answer.status_code in (int(described), 200), f"{method} {at}: {answer.text[:300]}"
                    Draft202012Validator(operation["responses"][described]["content"]["application/json"]["schema"]).validate(answer.json())
                    made += 1
    assert made >= 7, "records, silences, acknowledgements, alerts (made and changed), metrics and batches of them"


def test_an_acknowledged_alert_says_so_among_the_alerts(server: Any) -> None:
    url = f"{server.doors['botserver']}/api/v1/monitoring/alerts"
    first = next(a for a in patient.get(url).json()["alerts"] if a["type"] == "api_high_latency")
    asked = told(server.texts["002"], "POST", "/alerts/{alert_id}/acknowledge", answers=False)
    assert patient.post(f"{url}/{first['alert_id']}/acknowledge", json=asked).status_code == 200
    (shown,) = (a for a in patient.get(url).json()["alerts"] if a["alert_id"] == first["alert_id"])
    assert (shown["acknowledged"], shown["acknowledged_by"], shown["notes"]) == (True, "admin", "Investigating the issue")
    assert patient.delete(f"{server.url}/api/v1/alerts/{first['alert_id']}/acknowledge").status_code == 200
    (shown,) = (a for a in patient.get(url).json()["alerts"] if a["alert_id"] == first["alert_id"])
    assert shown["acknowledged"] is False
    assert "acknowledged_by" not in shown
    assert patient.post(f"{url}/0000000000000000/acknowledge", json=asked).status_code == 404


def test_silences_and_alerts_are_answered_as_described(server: Any) -> None:
    server.post("/api/v1/alerts/silence", json={"matcher": {"a": "b"}, "duration_minutes": 1})
    paths = patient.get(f"{server.doors['platform']}/openapi.json").json()["paths"]
    silence = server.get("/api/v1/alerts/silence").json()["silences"][0]["id"]
    for path in ("/api/v1/alerts", "/api/v1/alerts/silence", "/api/v1/alerts/silence/{id}"):
        schema = paths[path]["get"]["responses"]["200"]["content"]["application/json"]["schema"]
        Draft202012Validator(schema).validate(server.get(path.replace("{id}", silence)).json())


def url_of(server: Any, number: str, path: str) -> str:
    """Where a path of a document is, its placeholders filled."""
    prefix = "/api/v1/monitoring" if number == "002" else ""
    door = server.doors[DIALECTS[number]]
    if "{alert_id}" in path:
        path = path.replace("{alert_id}", patient.get(f"{door}{prefix}/alerts").json()["alerts"][0]["alert_id"])
    return str(door + prefix + path.replace("{service}", "trading-gateway"))


def ask(server: Any, number: str, example: Example, asked: Example | None) -> httpx.Response:
    """The answer that an example shows; that of a POST is to the body `asked` shows."""
    url = url_of(server, number, example.path)
    if example.method == "POST":
        assert asked is not None
        assert asked.path == example.path
        return patient.post(url, json=asked.value)
    shown = example.value
    if "timestamps" in shown:
        span = {"start_time": shown["timestamps"][0], "end_time": shown["timestamps"][-1], "step": "1m"}
        return patient.get(url, params={"metric": shown["metric"], **span})
    return patient.get(url, params={"period": shown["period"], "resolution": shown["resolution"]} if "resolution" in shown else None)


def re_pointed(server: Any, word: str) -> str:
    """A word of a command with this server's doors for the documents' ports."""
    for port, dialect in PORTS.items():
        word = word.replace(f"http://localhost:{port}", server.doors[dialect])
    return word
