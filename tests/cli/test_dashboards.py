"""The dashboards that come along: whole, of valid PromQL, and taken by a Grafana's API."""

from __future__ import annotations

import http.server
import json
import re
import threading
from collections.abc import Iterator
from typing import Any

import pytest
from typer.testing import CliRunner

from vedette.cli.dashboards import dashboards, found
from vedette.errors import BadInput, Undeliverable
from vedette.promql.parse import parse

BOARDS = [board for _, board in found()]
PANELS = [(b["title"], p) for b in BOARDS for p in b["panels"] if p["type"] != "row"]


def test_the_documents_five() -> None:
    titles = {b["title"] for b in BOARDS}
    assert titles == {"Platform Overview", "Service Performance", "Trading Operations", "Infrastructure", "Alerts"}
    assert len({b["uid"] for b in BOARDS}) == 5


@pytest.mark.parametrize("board", BOARDS, ids=lambda b: b["title"])
def test_a_dashboard_is_whole(board: dict[str, Any]) -> None:
    assert board["schemaVersion"] >= 36
    assert len({p["id"] for p in board["panels"]}) == len(board["panels"])
    taken = set()
    for panel in board["panels"]:
        place = panel["gridPos"]
        assert place["x"] + place["w"] <= 24
        cells = {(x, y) for x in range(place["x"], place["x"] + place["w"]) for y in range(place["y"], place["y"] + place["h"])}
        assert not cells & taken, f"{panel['title']} lies on another panel"
        taken |= cells


@pytest.mark.parametrize(("title", "panel"), PANELS, ids=lambda v: v["title"] if isinstance(v, dict) else v)
def test_a_panel_asks_what_can_be_asked(title: str, panel: dict[str, Any]) -> None:
    assert panel["targets"], title
    for target in panel["targets"]:
        parse(re.sub(r"\$\w+", "x", target["expr"]))


class Grafana(http.server.ThreadingHTTPServer):
    """Takes what Grafana's API takes, and remembers it."""

    daemon_threads = True

    def __init__(self) -> None:
        self.asked: list[tuple[str, dict[str, Any], str]] = []
        self.status = 200
        grafana = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                grafana.asked.append((self.path, body, self.headers.get("Authorization", "")))
                told = json.dumps({"status": "success", "url": f"/d/{body.get('dashboard', {}).get('uid', '')}"}).encode()
                self.send_response(grafana.status)
                self.send_header("Content-Length", str(len(told)))
                self.end_headers()
                self.wfile.write(told)

            def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the base class names it
                """Quiet."""

        super().__init__(("127.0.0.1", 0), Handler)


@pytest.fixture
def grafana() -> Iterator[Grafana]:
    server = Grafana()
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield server
    server.shutdown()
    server.server_close()
    thread.join()


def run(*words: str) -> Any:
    return CliRunner().invoke(dashboards, list(words), env={"GRAFANA_URL": "", "API_KEY": ""}, catch_exceptions=False)


def test_pushed_with_a_data_source(grafana: Grafana) -> None:
    url = f"http://127.0.0.1:{grafana.server_address[1]}"
    done = run("push", "--url", url, "--token", "t0ken", "--source", "http://vedette:8009", "--api-key", "k")
    assert done.exit_code == 0
    assert "Platform Overview: " + url + "/d/vedette-platform-overview" in done.output
    (first, source, credential), *rest = grafana.asked
    assert (first, source["url"], source["type"], credential) == ("/api/datasources", "http://vedette:8009", "prometheus", "Bearer t0ken")
    assert source["secureJsonData"] == {"httpHeaderValue1": "Bearer k"}
    assert [path for path, _, _ in rest] == ["/api/dashboards/db"] * 5
    assert all(body["overwrite"] and body["dashboard"]["id"] is None for _, body, _ in rest)


def test_refusals_are_told(grafana: Grafana) -> None:
    grafana.status = 403
    with pytest.raises(Undeliverable, match="HTTP status 403"):
        run("push", "--url", f"http://127.0.0.1:{grafana.server_address[1]}")
    with pytest.raises(BadInput, match="--url"):
        run("push", "--url", "grafana:3000")


def test_nobody_there(free_port: Any) -> None:
    with pytest.raises(Undeliverable, match="does not answer"):
        run("push", "--url", f"http://127.0.0.1:{free_port()}")


def test_listed() -> None:
    done = run("list")
    assert done.exit_code == 0
    assert "Trading Operations" in done.output
