"""Real processes on loopback: Vedette as a user starts it, Debian's Prometheus and node_exporter, targets and receivers.

Everything a test starts is stopped at its end, by its own process id, and writes only below the test's directory.
"""

from __future__ import annotations

import http.server
import json
import os
import ssl
import struct
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import cramjam
import httpx
import pytest
from tests.e2e import patient

WRITE_HEADERS = {"Content-Type": "application/x-protobuf", "Content-Encoding": "snappy", "X-Prometheus-Remote-Write-Version": "0.1.0"}


def environment(**extra: str) -> dict[str, str]:
    """A user's environment: none of Vedette's own variables."""
    ours = ("PORT", "API_KEY", "SECRET_KEY", "LOG_LEVEL", "EXTERNAL_URL", "RETENTION_DAYS", "DATABASE_URL", "ALERTMANAGER_URL")
    kept = {k: v for k, v in os.environ.items() if k not in ours and not k.startswith(("VEDETTE_", "ALERT_", "ACCESS_"))}
    return {**kept, **extra}


def eventually(condition: Callable[[], Any], what: str, *, seconds: float = patient.SECONDS) -> Any:
    """Poll until `condition()` is true and return what it gave; fail after `seconds`, saying `what` did not come about."""
    deadline = time.monotonic() + seconds
    while True:
        try:
            found, problem = condition(), ""
        except httpx.TransportError as error:
            found, problem = None, f" ({error!r})"
        if found:
            return found
        if time.monotonic() > deadline:
            pytest.fail(f"not within {seconds:g} s: {what}{problem}; last: {found!r}")
        time.sleep(0.02)


@dataclass
class Process:
    """A running program that answers HTTP at `url`."""

    name: str
    url: str
    log: Path
    popen: subprocess.Popen[bytes]
    client: httpx.Client = field(default_factory=lambda: httpx.Client(timeout=patient.SECONDS))

    def get(self, path: str, **params: Any) -> httpx.Response:
        """One GET."""
        return self.client.get(self.url + path, params=params)

    def post(self, path: str, **arguments: Any) -> httpx.Response:
        """One POST."""
        return self.client.post(self.url + path, **arguments)

    def data(self, path: str, **params: Any) -> Any:
        """The `data` of a successful answer of the Prometheus API."""
        answer = self.get(path, **params)
        assert answer.status_code == 200, f"{self.name} {answer.url}: {answer.status_code} {answer.text[:500]}"
        body = answer.json()
        assert body["status"] == "success", body
        return body["data"]

    def query(self, expr: str, at: float | None = None) -> list[dict[str, Any]]:
        """The result of an instant query."""
        result: list[dict[str, Any]] = self.data("/api/v1/query", query=expr, **({} if at is None else {"time": repr(at)}))["result"]
        return result

    def value(self, expr: str, at: float | None = None) -> float | None:
        """The value of the only series an instant query finds; None where it finds nothing."""
        result = self.query(expr, at)
        assert len(result) <= 1, result
        return float(result[0]["value"][1]) if result else None

    def write(self, series: Sequence[tuple[Mapping[str, str], Sequence[tuple[int, float]]]]) -> httpx.Response:
        """Remote-write [(labels, [(ms, value)])]."""
        return self.post("/api/v1/write", content=write_body(series), headers=WRITE_HEADERS)

    def logged(self) -> str:
        """What it has printed so far."""
        return self.log.read_text(encoding="utf-8", errors="replace")

    def kill(self) -> None:
        """SIGKILL, and wait until it is gone."""
        self.popen.kill()
        self.popen.wait()

    def terminate(self, seconds: float = patient.SECONDS) -> int:
        """SIGTERM; the exit status, which must come within `seconds`."""
        self.popen.terminate()
        return self.popen.wait(timeout=seconds)


def _varint(number: int) -> bytes:
    out = bytearray()
    while number > 127:
        out.append(number & 127 | 128)
        number >>= 7
    return bytes(out) + bytes([number])


def _field(tag: int, payload: bytes) -> bytes:
    return bytes([tag]) + _varint(len(payload)) + payload


def write_request(series: Sequence[tuple[Mapping[str, str], Sequence[tuple[int, float]]]]) -> bytes:
    """A remote-write 1.0 protobuf message, labels in the order given; written without Vedette's own encoder."""
    request = b""
    for labels, samples in series:
        one = b"".join(_field(0x0A, _field(0x0A, n.encode()) + _field(0x12, v.encode())) for n, v in labels.items())
        for at, value in samples:
            one += _field(0x12, b"\x09" + struct.pack("<d", value) + b"\x10" + _varint(at))
        request += _field(0x0A, one)
    return request


def write_body(series: Sequence[tuple[Mapping[str, str], Sequence[tuple[int, float]]]]) -> bytes:
    """The same, compressed, with each series' labels sorted."""
    ordered = [(dict(sorted(labels.items())), samples) for labels, samples in series]
    return bytes(cramjam.snappy.compress_raw(write_request(ordered)))


class Launcher:
    """Starts programs below one directory and ends those that still run."""

    def __init__(self, folder: Path, free_port: Callable[[], int], debian_binary: Callable[[str], str]) -> None:
        self.folder = folder
        self.free_port = free_port
        self._binary = debian_binary
        self._started: list[Process] = []

    def start(
        self,
        name: str,
        command: Sequence[str],
        port: int,
        *,
        ready: str,
        env: Mapping[str, str] | None = None,
        ca: Path | ssl.SSLContext | None = None,
    ) -> Process:
        """Run `command`, wait until `ready` answers 200; `ca` is the certificate of one that speaks TLS, or how to speak to it."""
        log = self.folder / f"{name}-{len(self._started)}.log"
        with log.open("wb") as out:
            popen = subprocess.Popen(command, stdout=out, stderr=subprocess.STDOUT, cwd=self.folder, env=env or environment())
        if ca is None:
            process = Process(name, f"http://127.0.0.1:{port}", log, popen)
        else:
            context = ca if isinstance(ca, ssl.SSLContext) else ssl.create_default_context(cafile=str(ca))
            client = httpx.Client(timeout=patient.SECONDS, verify=context)
            process = Process(name, f"https://127.0.0.1:{port}", log, popen, client)
        self._started.append(process)

        def up() -> bool:
            if popen.poll() is not None:
                pytest.fail(f"{name} ended with status {popen.returncode}:\n{process.logged()[-3000:]}")
            return process.get(ready).status_code == 200

        eventually(up, f"{name} answers {ready}", seconds=2 * patient.SECONDS)
        return process

    def vedette(
        self,
        *arguments: str,
        data: Path | None = None,
        port: int | None = None,
        env: Mapping[str, str] | None = None,
        ca: Path | ssl.SSLContext | None = None,
    ) -> Process:
        """`python -m vedette serve` on a free port (`port` 0 leaves it to the arguments), ready to be asked."""
        port = port or self.free_port()
        data = data or self.folder / "data"
        command = [sys.executable, "-m", "vedette", "serve", "--port", str(port), "--data", str(data), *arguments]
        return self.start("vedette", command, port, ready="/-/ready", env=env, ca=ca)

    def prometheus(self, config: str, *, port: int | None = None, flags: Sequence[str] = ()) -> Process:
        """Debian's Prometheus with this configuration."""
        binary, port = self._binary("prometheus"), port or self.free_port()
        file = self.folder / f"prometheus-{port}.yml"
        file.write_text(config, encoding="utf-8")
        storage = f"--storage.tsdb.path={self.folder / f'prometheus-{port}'}"
        command = [binary, f"--config.file={file}", storage, f"--web.listen-address=127.0.0.1:{port}", *flags]
        return self.start("prometheus", command, port, ready="/-/ready")

    def node_exporter(self) -> Process:
        """Debian's node_exporter over this machine."""
        binary, port = self._binary("prometheus-node-exporter"), self.free_port()
        return self.start("node_exporter", [binary, f"--web.listen-address=127.0.0.1:{port}"], port, ready="/metrics")

    def close(self) -> None:
        """End what still runs."""
        for process in reversed(self._started):
            if process.popen.poll() is None:
                process.popen.terminate()
                try:
                    process.popen.wait(timeout=15)
                except subprocess.TimeoutExpired:
                    process.kill()
            process.client.close()


@pytest.fixture
def launch(tmp_path: Path, free_port: Callable[[], int], debian_binary: Callable[[str], str]) -> Iterator[Launcher]:
    """A launcher for one test."""
    launcher = Launcher(tmp_path, free_port, debian_binary)
    yield launcher
    launcher.close()


@pytest.fixture(scope="module")
def module_launch(
    tmp_path_factory: pytest.TempPathFactory, free_port: Callable[[], int], debian_binary: Callable[[str], str]
) -> Iterator[Launcher]:
    """A launcher for servers that a module's tests share."""
    launcher = Launcher(tmp_path_factory.mktemp("e2e"), free_port, debian_binary)
    yield launcher
    launcher.close()


@dataclass(frozen=True)
class Tools:
    """The helpers that tests call directly."""

    eventually: Callable[..., Any] = eventually
    write_request: Callable[..., bytes] = write_request
    write_body: Callable[..., bytes] = write_body
    environment: Callable[..., dict[str, str]] = environment
    write_headers: Mapping[str, str] = field(default_factory=lambda: dict(WRITE_HEADERS))


@pytest.fixture(scope="session")
def tools() -> Tools:
    """`eventually`, the remote-write encoder, a clean environment."""
    return Tools()


class Site:
    """A small HTTP server of the test's own: `pages` maps a path to what answers it; `requests` is what came in."""

    def __init__(self) -> None:
        self.requests: list[tuple[str, str, dict[str, str], bytes]] = []
        self.pages: dict[str, Callable[[http.server.BaseHTTPRequestHandler], None]] = {}
        self.stopping = threading.Event()
        site = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                site.answer(self)

            do_POST = do_GET  # noqa: N815 - the base class looks for this name

            def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the base class names it
                """Requests are kept, not logged."""

        self._server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self.address = f"127.0.0.1:{self._server.server_address[1]}"
        self._thread = threading.Thread(target=self._server.serve_forever, daemon=True)
        self._thread.start()

    def answer(self, request: http.server.BaseHTTPRequestHandler) -> None:
        """Note the request, then let its page answer it."""
        body = request.rfile.read(int(request.headers.get("Content-Length") or 0))
        self.requests.append((request.command, request.path, {k.lower(): v for k, v in request.headers.items()}, body))
        page = self.pages.get(request.path.split("?")[0])
        try:
            if page is None:
                request.send_error(404)
            else:
                page(request)
        except (BrokenPipeError, ConnectionResetError):
            return  # the client had enough, which some tests are about

    def text(self, path: str, body: Callable[[], str]) -> None:
        """Answer `path` with what `body()` gives at each request."""

        def page(request: http.server.BaseHTTPRequestHandler) -> None:
            payload = body().encode()
            request.send_response(200)
            request.send_header("Content-Type", "text/plain; version=0.0.4; charset=utf-8")
            request.send_header("Content-Length", str(len(payload)))
            request.end_headers()
            request.wfile.write(payload)

        self.pages[path] = page

    def posted(self, path: str) -> list[Any]:
        """The JSON bodies posted to `path` so far."""
        return [json.loads(body) for method, at, _, body in self.requests if method == "POST" and at == path]

    def close(self) -> None:
        """Stop serving."""
        self.stopping.set()
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


@pytest.fixture
def site() -> Iterator[Site]:
    """A fresh `Site`."""
    made = Site()
    yield made
    made.close()
