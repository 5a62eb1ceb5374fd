"""`vedette logs`: what it asks for, what it prints, what it says where there is nobody to ask."""

from __future__ import annotations

import http.server
import json
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from typer.testing import CliRunner

from vedette.cli.logs import safe
from vedette.cli.verbs import app
from vedette.errors import BadInput, Undeliverable

LINE = {
    "timestamp": "2024-01-15T10:00:00Z",
    "level": "error",
    "service": "shop",
    "message": "boom \x1b[31m\nnext",
    "fields": {"n": 5, "who": "a"},
}
OLDER = {**LINE, "timestamp": "2024-01-15T09:00:00Z", "message": "before"}


class _Handler(http.server.BaseHTTPRequestHandler):
    asked: list[str]
    status = 200

    def do_GET(self) -> None:
        self.asked.append(self.path)
        if self.path.startswith("/api/v1/logs/tail"):
            skipped = b'event: skipped\ndata: {"lines": 7}\n\n'
            body = b": open\n\ndata: " + json.dumps({**LINE, "message": "as it came"}).encode() + b"\n\n" + skipped
        elif self.status != 200:
            body = json.dumps({"status": "error", "error": 'invalid parameter "level": not a level'}).encode()
        else:
            body = json.dumps({"status": "success", "data": {"logs": [LINE, OLDER], "total": 2, "next": None}}).encode()
        self.send_response(self.status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the base class names it
        pass


@pytest.fixture
def server() -> Iterator[tuple[str, type[_Handler]]]:
    handler = type("Handler", (_Handler,), {"asked": []})
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as made:
        thread = threading.Thread(target=made.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{made.server_address[1]}", handler
        made.shutdown()
        thread.join()


def test_lines_are_printed_oldest_first_and_safely(server: tuple[str, type[_Handler]]) -> None:
    url, handler = server
    options = ["--level", "error,fatal", "--service", "shop", "--field", "n=5", "--regex", "b+", "--last", "2h", "--limit", "5"]
    done = CliRunner().invoke(app, ["logs", "boom", *options, "--url", url])
    assert done.exit_code == 0, done.output
    assert done.output.splitlines() == [
        "2024-01-15T09:00:00Z error   shop before n=5 who=a",
        "2024-01-15T10:00:00Z error   shop boom \\x1b[31m",
        "  next n=5 who=a",
    ]
    assert handler.asked == ["/api/v1/logs?level=error%2Cfatal&service=shop&field=n%3D5&text=boom&regex=b%2B&last=2h&limit=5"]


def test_following(server: tuple[str, type[_Handler]]) -> None:
    done = CliRunner().invoke(app, ["logs", "--follow", "--url", server[0]])
    assert [line.split("shop ")[-1] for line in done.output.splitlines()[-2:]] == ["as it came n=5 who=a", " unknown … 7 lines left out"]


def test_json(server: tuple[str, type[_Handler]]) -> None:
    done = CliRunner().invoke(app, ["logs", "--json", "--url", server[0]])
    assert [json.loads(line) for line in done.output.splitlines()] == [OLDER, LINE]


def test_what_the_server_refuses_and_no_server(server: tuple[str, type[_Handler]], free_port: Callable[[], int]) -> None:
    url, handler = server
    handler.status = 400
    done = CliRunner().invoke(app, ["logs", "--url", url])
    assert isinstance(done.exception, BadInput) and "not a level" in str(done.exception)
    done = CliRunner().invoke(app, ["logs", "--url", f"http://127.0.0.1:{free_port()}"])
    assert isinstance(done.exception, Undeliverable) and "is `vedette serve` running there?" in str(done.exception)


def test_text_that_would_move_the_cursor() -> None:
    assert safe("a\x1b[2J\x07\r\u202eb\té\n") == "a\\x1b[2J\\x07\\r\\u202eb  é\n  "
