"""What a verb says to whom the server does not know: where a key comes from."""

from __future__ import annotations

import http.server
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from typer.testing import CliRunner

from vedette.cli import access, keys, logs, query, rules, storage, transfer
from vedette.errors import BadInput


class _Handler(http.server.BaseHTTPRequestHandler):
    """Refuses everybody, as a server does once it has a user."""

    def do_GET(self) -> None:
        self.rfile.read(int(self.headers.get("Content-Length", 0)))
        body = b'{"status":"error","errorType":"unauthorized","error":"unauthorized"}'
        self.send_response(401)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    do_POST = do_GET  # noqa: N815 - the base class names it

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the base class names it
        pass


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), _Handler) as made:
        thread = threading.Thread(target=made.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{made.server_address[1]}"
        made.shutdown()
        thread.join()


def ask_query(url: str, folder: Path) -> None:
    query.run("up", range_=None, step=None, time=None, url=url, api_key="wrong", as_json=False)


def ask_logs(url: str, folder: Path, *, follow: bool = False) -> None:
    filters: dict[str, Any] = {"levels": [], "services": [], "fields": [], "regex": None}
    logs.run(None, **filters, last="1h", limit=10, follow=follow, as_json=False, url=url, api_key=None)


def follow_logs(url: str, folder: Path) -> None:
    ask_logs(url, folder, follow=True)


def ask_rules(url: str, folder: Path) -> None:
    file = folder / "rules.yml"
    file.write_text("groups: [{name: a, rules: [{alert: A, expr: up == 0}]}]\n")
    rules.backtest(file, since="1h", end=None, url=url, api_key=None, as_json=True)


def ask_storage(url: str, folder: Path) -> None:
    storage.top(folder, by="metric", limit=5, last="1h", growth=False, url=url, api_key=None)


def ask_transfer(url: str, folder: Path) -> None:
    wanted: dict[str, Any] = {"form": "openmetrics", "match": "up", "start": None, "end": None, "tenant": "default"}
    transfer.run_export(folder / "out", **wanted, data=folder, url=url, api_key=None)


@pytest.mark.parametrize("ask", [ask_query, ask_logs, follow_logs, ask_rules, ask_storage, ask_transfer])
def test_whom_the_server_does_not_know_is_told_where_a_key_comes_from(ask: Callable[[str, Path], None], url: str, tmp_path: Path) -> None:
    with pytest.raises(BadInput) as caught:
        ask(url, tmp_path)
    assert caught.value.where == "--api-key"
    assert caught.value.problem == f"{url} wants a key that it knows"
    assert "vedette token create" in (caught.value.hint or "")


@pytest.mark.parametrize("status", [200, 400, 403, 500])
def test_any_other_answer_is_the_verbs_own(status: int) -> None:
    keys.check_known(httpx.Response(status, request=httpx.Request("GET", "http://127.0.0.1/")))


def test_a_password_in_the_url_is_not_printed() -> None:
    with pytest.raises(BadInput) as caught:
        keys.check_known(httpx.Response(401, request=httpx.Request("GET", "http://me:hunter2@127.0.0.1:9/api")))
    assert "hunter2" not in str(caught.value)


@pytest.mark.parametrize(("words", "may"), [(["--role", "admin"], "role admin"), ([], "role viewer"), (["--scope", "write"], "write")])
def test_a_new_key_says_what_it_may(words: list[str], may: str, tmp_path: Path) -> None:
    done = CliRunner().invoke(access.token, ["create", "laptop", "--data", str(tmp_path), *words])
    assert done.exit_code == 0, done.output
    assert f"of tenant default: {may}" in done.stderr
    assert done.stdout.startswith("vdt_")
