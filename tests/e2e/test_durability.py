"""Nothing acknowledged is lost, whichever door it came in by: `kill -9` while writing, and SIGTERM with writes in flight."""

from __future__ import annotations

import http.client
import json
import random
import signal
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import httpx
import pytest
from tests.e2e import patient

pytestmark = pytest.mark.timeout(600)

SERIES_PER_REQUEST = 20

Series = Sequence[tuple[str, int]]
"""(writer, number) of each series of a request, which all get one value at one time."""


def _influx(series: Series, at: int, value: float) -> bytes:
    return "".join(f"was,writer={writer},n={n} written={value} {at}\n" for writer, n in series).encode()


def _lines(series: Series, at: int, value: float) -> bytes:
    metrics = [{"__name__": "was_written", "writer": writer, "n": str(n)} for writer, n in series]
    return "".join(json.dumps({"metric": metric, "values": [value], "timestamps": [at]}) + "\n" for metric in metrics).encode()


def _csv(series: Series, at: int, value: float) -> bytes:
    return "".join(f"{at},{writer},{n},{value}\n" for writer, n in series).encode()


def _text(series: Series, at: int, value: float) -> bytes:
    return "".join(f'was_written{{writer="{writer}",n="{n}"}} {value} {at}\n' for writer, n in series).encode()


def _opentsdb(series: Series, at: int, value: float) -> bytes:
    points = [{"metric": "was.written", "timestamp": at, "value": value, "tags": {"writer": writer, "n": n}} for writer, n in series]
    return json.dumps(points).encode()


def _datadog1(series: Series, at: int, value: float) -> bytes:
    points = [[at / 1000, value]]
    return json.dumps(
        {"series": [{"metric": "was.written", "points": points, "tags": [f"writer:{w}", f"n:{n}"]} for w, n in series]}
    ).encode()


def _datadog2(series: Series, at: int, value: float) -> bytes:
    points = [{"timestamp": at / 1000, "value": value}]
    return json.dumps(
        {"series": [{"metric": "was.written", "points": points, "tags": [f"writer:{w}", f"n:{n}"]} for w, n in series]}
    ).encode()


DOORS: dict[str, Callable[[Series, int, float], bytes]] = {
    "/write?precision=ms": _influx,
    "/api/v2/write?precision=ms": _influx,
    "/api/v1/import": _lines,
    "/api/v1/import/csv?format=1:time:unix_ms,2:label:writer,3:label:n,4:metric:was_written": _csv,
    "/api/v1/import/prometheus": _text,
    "/api/put": _opentsdb,
    "/datadog/api/v1/series": _datadog1,
    "/datadog/api/v2/series": _datadog2,
}
"""What each path is sent, besides remote write."""


class Writer(threading.Thread):
    """Writes request after request until the server is gone; `acknowledged` holds the steps that it took. `door` is one of `DOORS`."""

    def __init__(self, server: Any, tools: Any, name: str, start_ms: int, *, door: str = "") -> None:
        super().__init__(daemon=True)
        self.acknowledged: list[int] = []
        self.refused = ""
        self._server, self._tools, self._writer, self._start, self._door = server, tools, name, start_ms, door
        self.metric = "was_written" if door else "written"

    def run(self) -> None:
        with httpx.Client(timeout=patient.SECONDS) as client:
            for step in range(1_000_000):
                try:
                    answer = client.post(**self._request(self._start + step * 10, float(step)))
                except httpx.TransportError:
                    return
                if not answer.is_success:
                    self.refused = f"{answer.status_code} {answer.text}"
                    return
                self.acknowledged.append(step)

    def _request(self, at: int, value: float) -> dict[str, Any]:
        if self._door:
            body = DOORS[self._door]([(self._writer, n) for n in range(SERIES_PER_REQUEST)], at, value)
            return {"url": f"{self._server.url}{self._door}", "content": body}
        series = [({"__name__": "written", "writer": self._writer, "n": str(n)}, [(at, value)]) for n in range(SERIES_PER_REQUEST)]
        return {"url": f"{self._server.url}/api/v1/write", "content": self._tools.write_body(series), "headers": self._tools.write_headers}


class Pusher(threading.Thread):
    """Pushes a group, with another value each time, until the server is gone."""

    def __init__(self, server: Any) -> None:
        super().__init__(daemon=True)
        self.acknowledged = 0
        self._server = server

    def run(self) -> None:
        with httpx.Client(timeout=patient.SECONDS) as client:
            for step in range(1, 1_000_000):
                try:
                    answer = client.put(f"{self._server.url}/metrics/job/killed", content=f"pushed_step {step}\n".encode())
                except httpx.TransportError:
                    return
                assert answer.status_code == 200, answer.text
                self.acknowledged = step


def _assert_all_there(server: Any, writers: list[Writer], run_start: int) -> None:
    """Each acknowledged step of each series is stored, once, with its value."""
    for writer in writers:
        assert writer.acknowledged, f"nothing was acknowledged: the test proved nothing ({writer.refused})"
        last = run_start + writer.acknowledged[-1] * 10
        span = writer.acknowledged[-1] * 10 + 1
        found = server.query(f'{writer.metric}{{writer="{writer._writer}"}}[{span}ms]', at=last / 1000)
        assert len(found) == SERIES_PER_REQUEST
        for one in found:
            stored = [(round(float(t) * 1000), float(v)) for t, v in one["values"]]
            assert stored == [(run_start + step * 10, float(step)) for step in writer.acknowledged]


def test_kill_9_loses_nothing_acknowledged(launch: Any, tools: Any, tmp_path: Path) -> None:
    randomness = random.Random(3)
    data = tmp_path / "data"
    history: list[tuple[list[Writer], int]] = []
    doors = ["", *DOORS]
    pushed = 0
    for number in range(4):
        server = launch.vedette(data=data)
        for writers, begun in history:
            _assert_all_there(server, writers, begun)
        if number:
            # The last push may have been kept and not answered any more.
            shown = next(line for line in server.get("/pushgateway/metrics").text.splitlines() if line.startswith("pushed_step{"))
            assert float(shown.rpartition(" ")[2]) in (pushed, pushed + 1)
        if number == 3:
            break
        begun = int(time.time() * 1000) - 120_000
        writers = [Writer(server, tools, f"{number}-{i}", begun, door=door) for i, door in enumerate(doors[3 * number : 3 * number + 3])]
        pusher = Pusher(server)
        for thread in (*writers, pusher):
            thread.start()
        enough = randomness.randint(20, 150)
        tools.eventually(
            lambda w=writers, p=pusher, n=enough: (
                (p.acknowledged and min(len(one.acknowledged) for one in w) >= n) or any(one.refused for one in w)
            ),
            "writes are acknowledged",
        )
        server.kill()
        for thread in (*writers, pusher):
            thread.join(timeout=patient.SECONDS)
        assert not any(one.refused for one in writers), [one.refused for one in writers]
        pushed = pusher.acknowledged
        assert pushed
        history.append((writers, begun))


def test_sigterm_finishes_what_is_in_flight(launch: Any, tools: Any, tmp_path: Path) -> None:
    data = tmp_path / "data"
    server = launch.vedette(data=data)
    at = int(time.time() * 1000) - 1000
    body = tools.write_body([({"__name__": "late", "n": str(n)}, [(at, 1.0)]) for n in range(500)])
    host, port = server.url.removeprefix("http://").split(":")
    connection = http.client.HTTPConnection(host, int(port), timeout=patient.SECONDS)
    connection.putrequest("POST", "/api/v1/write")
    for name, value in {**tools.write_headers, "Content-Length": str(len(body))}.items():
        connection.putheader(name, value)
    connection.endheaders()
    connection.send(body[: len(body) // 2])
    # The server has read this far once it answers another request that came later.
    assert server.get("/-/healthy").status_code == 200
    server.popen.send_signal(signal.SIGTERM)
    tools.eventually(lambda: _refuses(server), "the server has stopped listening")
    connection.send(body[len(body) // 2 :])
    assert connection.getresponse().status == 204
    connection.close()
    assert server.popen.wait(timeout=patient.SECONDS) == 0, server.logged()
    again = launch.vedette(data=data)
    assert again.value("count(late)", at / 1000) == 500


def _refuses(server: Any) -> bool:
    try:
        patient.get(f"{server.url}/-/healthy")
    except httpx.ConnectError:
        return True
    except httpx.TransportError:
        return False  # it was taken, and then let go
    return False


def test_sigterm_under_load_exits_cleanly(launch: Any, tools: Any, tmp_path: Path) -> None:
    data = tmp_path / "data"
    server = launch.vedette(data=data)
    begun = int(time.time() * 1000) - 120_000
    writers = [Writer(server, tools, f"t-{i}", begun) for i in range(3)]
    for writer in writers:
        writer.start()
    tools.eventually(lambda: min(len(w.acknowledged) for w in writers) >= 30, "writes are acknowledged")
    assert server.terminate() == 0, server.logged()
    for writer in writers:
        writer.join(timeout=patient.SECONDS)
    again = launch.vedette(data=data)
    _assert_all_there(again, writers, begun)
    assert again.terminate() == 0
