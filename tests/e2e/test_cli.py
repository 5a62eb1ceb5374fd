"""The commands as a user types them."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import time
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pytest
from tests.e2e import patient

pytestmark = pytest.mark.timeout(600)


def _run(tools: Any, *arguments: str, cwd: Path | None = None, **env: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "vedette", *arguments]
    return subprocess.run(
        command,
        capture_output=True,
        text=True,
        cwd=cwd,
        env=tools.environment(**{"COLUMNS": "120", **env}),
        timeout=patient.SECONDS,
        check=False,
    )


@pytest.fixture(scope="module")
def server(module_launch: Any) -> Any:
    """Vedette holding ten minutes of a straight line."""
    vedette = module_launch.vedette()
    now = int(time.time())
    series = [({"__name__": "line", "job": "demo"}, [((now - 600 + 15 * i) * 1000, float(i)) for i in range(41)])]
    assert vedette.write(series).status_code == 204
    return vedette


def test_version(tools: Any) -> None:
    done = _run(tools, "version")
    assert done.returncode == 0
    assert done.stdout.splitlines()[0] == f"vedette {version('vedette')}"


def test_query_prints_a_table(server: Any, tools: Any) -> None:
    done = _run(tools, "query", "line", "--url", server.url)
    assert done.returncode == 0, done.stderr
    assert 'line{job="demo"}' in done.stdout
    assert done.stdout.split()[-1] == "40"


def test_query_plots_a_range(server: Any, tools: Any) -> None:
    done = _run(tools, "query", "line", "--range", "10m", "--step", "15s", "--url", server.url)
    assert done.returncode == 0, done.stderr
    drawn = [c for c in done.stdout if 0x2801 <= ord(c) <= 0x28FF]
    assert len(drawn) > 20, "a line of braille dots"
    assert 'line{job="demo"}' in done.stdout


def test_query_as_json(server: Any, tools: Any) -> None:
    done = _run(tools, "query", "1 + 1", "--json", "--url", server.url)
    assert json.loads(done.stdout)["data"]["result"][1] == "2"


def test_query_refusals(server: Any, tools: Any, free_port: Any) -> None:
    done = _run(tools, "query", "sum(", "--url", server.url)
    assert done.returncode == 2
    assert "1:4" in done.stderr or "1:5" in done.stderr
    nobody = _run(tools, "query", "up", "--url", f"http://127.0.0.1:{free_port()}")
    assert nobody.returncode == 1
    assert len(nobody.stderr.strip().splitlines()) == 1
    assert "vedette serve" in nobody.stderr


def test_check_accepts_good_files(tools: Any, tmp_path: Path) -> None:
    (tmp_path / "rules.yml").write_text("groups: [{name: g, rules: [{record: a:b, expr: sum(up)}]}]\n", encoding="utf-8")
    (tmp_path / "prometheus.yml").write_text("rule_files: [rules.yml]\nscrape_configs: [{job_name: x}]\n", encoding="utf-8")
    done = _run(tools, "check", "config", "prometheus.yml", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "1 scrape configs" in done.stdout
    assert "1 groups, 1 rules" in done.stdout
    assert _run(tools, "check", "rules", "rules.yml", cwd=tmp_path).returncode == 0


def test_config_shows_values_and_sources_without_secrets(tools: Any, tmp_path: Path) -> None:
    done = _run(tools, "config", cwd=tmp_path, PORT="8123", API_KEY="tell-nobody", COLUMNS="200")
    assert done.returncode == 0, done.stderr
    port = next(line for line in done.stdout.splitlines() if line.startswith("server.port"))
    assert port.split() == ["server.port", "8123", "PORT"]
    assert "tell-nobody" not in done.stdout + done.stderr
    assert "API_KEY" in done.stdout


def test_uvicorn_serves_the_app(launch: Any, tools: Any, tmp_path: Path, free_port: Any) -> None:
    port = free_port()
    command = [sys.executable, "-m", "uvicorn", "vedette.app:app", "--host", "127.0.0.1", "--port", str(port)]
    env = tools.environment(VEDETTE_STORAGE_DATA=str(tmp_path / "data"), PORT=str(port))
    server = launch.start("uvicorn", command, port, ready="/-/ready", env=env)
    assert server.write([({"__name__": "through_uvicorn"}, [(int(time.time() * 1000), 5.0)])]).status_code == 204
    assert server.value("through_uvicorn") == 5
    assert server.terminate() in (0, -15)


def test_a_further_listener_serves_its_dialect(launch: Any, free_port: Any) -> None:
    port = free_port()
    server = launch.vedette("--listen", f"access_layer={port}")
    body = {"name": "orders_total", "value": 2, "type": "counter", "labels": {"method": "GET"}, "service": "shop"}
    answer = patient.post(f"http://127.0.0.1:{port}/metrics/track", json=body)
    assert answer.status_code == 200, answer.text
    assert answer.json() == {"success": True, "message": "Metric tracked successfully"}
    assert server.value('orders_total{service="shop",method="GET"}') == 2


def test_an_api_key_is_asked_for(launch: Any) -> None:
    environment = {k: v for k, v in os.environ.items() if not k.startswith("VEDETTE_")}
    server = launch.vedette(env={**environment, "API_KEY": "open-sesame"})
    assert server.get("/api/v1/query", query="up").status_code == 401
    assert server.get("/-/healthy").status_code == 200
    answer = server.client.get(f"{server.url}/api/v1/query", params={"query": "up"}, headers={"Authorization": "Bearer open-sesame"})
    assert answer.status_code == 200


def test_a_request_that_does_not_end_is_refused(launch: Any) -> None:
    server = launch.vedette()
    host, port = server.url.removeprefix("http://").rsplit(":", 1)
    with socket.create_connection((host, int(port)), timeout=patient.SECONDS) as client:
        client.sendall(b"GET / HTTP/1.1\r\nHost: 127.0.0.1\r\n" + b"X: y\r\n" * 20_000)
        assert client.recv(1000).startswith(b"HTTP/1.1 431 ")


def test_every_line_of_the_log_is_json(launch: Any, tools: Any) -> None:
    """Also what the HTTP server underneath has to say."""
    server = launch.vedette()
    host, port = server.url.removeprefix("http://").rsplit(":", 1)
    with socket.create_connection((host, int(port)), timeout=patient.SECONDS) as client:
        client.sendall(b"\x16\x03\x01 this is not HTTP\r\n\r\n")
        assert client.recv(1000).startswith(b"HTTP/1.1 400")
    tools.eventually(lambda: "Invalid HTTP request" in server.logged(), "the refusal is logged")
    lines = [json.loads(line) for line in server.logged().splitlines()]
    refusal = next(line for line in lines if "Invalid HTTP request" in line["message"])
    assert (refusal["level"], refusal["logger"], refusal["service"]) == ("WARNING", "uvicorn.error", "vedette")
    assert all(list(line)[:4] == ["timestamp", "level", "service", "message"] for line in lines), "the document's names, in its order"

    asked = [0.0]

    def stored() -> list[Any]:
        # It answers thirty requests a minute, and no lines before those stored are open.
        if time.monotonic() - asked[0] < 2.1:
            return []
        asked[0] = time.monotonic()
        answer = server.get("/api/v1/monitoring/logs?level=warn")
        assert answer.status_code in (200, 503), answer.text
        found = answer.json()["logs"] if answer.status_code == 200 else []
        return [line for line in found if "Invalid HTTP request" in line["message"]]

    kept = tools.eventually(stored, "the refusal is among the stored lines")
    assert kept[0]["metadata"] == {"logger": "uvicorn.error"}, "nothing of what the logging library needs for itself"
