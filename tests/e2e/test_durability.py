"""Nothing acknowledged is lost: `kill -9` while writing, and SIGTERM with writes in flight."""

from __future__ import annotations

import http.client
import random
import signal
import threading
import time
from pathlib import Path
from typing import Any

import httpx
import pytest

pytestmark = pytest.mark.timeout(180)

SERIES_PER_REQUEST = 20


class Writer(threading.Thread):
    """Writes request after request until the server is gone; `acknowledged` holds (step, ms) of those it took."""

    def __init__(self, server: Any, body: Any, headers: dict[str, str], name: str, start_ms: int) -> None:
        super().__init__(daemon=True)
        self.acknowledged: list[int] = []
        self._server, self._body, self._headers, self._writer, self._start = server, body, headers, name, start_ms

    def run(self) -> None:
        with httpx.Client(timeout=30) as client:
            for step in range(1_000_000):
                at = self._start + step * 10
                series = [
                    ({"__name__": "written", "writer": self._writer, "n": str(n)}, [(at, float(step))]) for n in range(SERIES_PER_REQUEST)
                ]
                try:
                    answer = client.post(f"{self._server.url}/api/v1/write", content=self._body(series), headers=self._headers)
                except httpx.TransportError:
                    return
                if answer.status_code != 204:
                    return
                self.acknowledged.append(step)


def _assert_all_there(server: Any, writers: list[Writer], run_start: int) -> None:
    """Each acknowledged step of each series is stored, once, with its value."""
    for writer in writers:
        assert writer.acknowledged, "nothing was acknowledged: the test proved nothing"
        last = run_start + writer.acknowledged[-1] * 10
        span = writer.acknowledged[-1] * 10 + 1
        found = server.query(f'written{{writer="{writer._writer}"}}[{span}ms]', at=last / 1000)
        assert len(found) == SERIES_PER_REQUEST
        for one in found:
            stored = [(round(float(t) * 1000), float(v)) for t, v in one["values"]]
            assert stored == [(run_start + step * 10, float(step)) for step in writer.acknowledged]


def test_kill_9_loses_nothing_acknowledged(launch: Any, tools: Any, tmp_path: Path) -> None:
    randomness = random.Random(3)
    data = tmp_path / "data"
    history: list[tuple[list[Writer], int]] = []
    for number in range(4):
        server = launch.vedette(data=data)
        for writers, begun in history:
            _assert_all_there(server, writers, begun)
        if number == 3:
            break
        begun = int(time.time() * 1000) - 120_000
        writers = [Writer(server, tools.write_body, tools.write_headers, f"{number}-{i}", begun) for i in range(3)]
        for writer in writers:
            writer.start()
        enough = randomness.randint(20, 150)
        tools.eventually(lambda w=writers, n=enough: min(len(one.acknowledged) for one in w) >= n, "writes are acknowledged")
        server.kill()
        for writer in writers:
            writer.join(timeout=30)
        history.append((writers, begun))


def test_sigterm_finishes_what_is_in_flight(launch: Any, tools: Any, tmp_path: Path) -> None:
    data = tmp_path / "data"
    server = launch.vedette(data=data)
    at = int(time.time() * 1000) - 1000
    body = tools.write_body([({"__name__": "late", "n": str(n)}, [(at, 1.0)]) for n in range(500)])
    host, port = server.url.removeprefix("http://").split(":")
    connection = http.client.HTTPConnection(host, int(port), timeout=20)
    connection.putrequest("POST", "/api/v1/write")
    for name, value in {**tools.write_headers, "Content-Length": str(len(body))}.items():
        connection.putheader(name, value)
    connection.endheaders()
    connection.send(body[: len(body) // 2])
    # The server has read this far once it answers another request that came later.
    assert server.get("/-/healthy").status_code == 200
    started = time.monotonic()
    server.popen.send_signal(signal.SIGTERM)
    tools.eventually(lambda: _refuses(server), "the server has stopped listening", seconds=8)
    connection.send(body[len(body) // 2 :])
    assert connection.getresponse().status == 204
    connection.close()
    assert server.popen.wait(timeout=10) == 0, server.logged()
    assert time.monotonic() - started < 10
    again = launch.vedette(data=data)
    assert again.value("count(late)", at / 1000) == 500


def _refuses(server: Any) -> bool:
    try:
        httpx.get(f"{server.url}/-/healthy", timeout=2)
    except httpx.TransportError:
        return True
    return False


def test_sigterm_under_load_exits_cleanly(launch: Any, tools: Any, tmp_path: Path) -> None:
    data = tmp_path / "data"
    server = launch.vedette(data=data)
    begun = int(time.time() * 1000) - 120_000
    writers = [Writer(server, tools.write_body, tools.write_headers, f"t-{i}", begun) for i in range(3)]
    for writer in writers:
        writer.start()
    tools.eventually(lambda: min(len(w.acknowledged) for w in writers) >= 30, "writes are acknowledged")
    assert server.terminate(10) == 0, server.logged()
    for writer in writers:
        writer.join(timeout=30)
    again = launch.vedette(data=data)
    _assert_all_there(again, writers, begun)
    assert again.terminate(10) == 0
