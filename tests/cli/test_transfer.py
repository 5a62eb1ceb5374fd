"""`vedette storage import --url` into a server that puts it off; what `export` says of itself."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import numpy as np
import pytest
from typer.testing import CliRunner

from vedette.cli import transfer
from vedette.cli.verbs import app
from vedette.clock import ManualClock
from vedette.errors import BadInput, Undeliverable
from vedette.model.histogram_arithmetic import equal
from vedette.model.histograms import NO_BUCKETS, Histogram, Histograms, Layout
from vedette.model.labels import Labels
from vedette.model.samples import SampleBatch, canonical
from vedette.storage.engine import Engine
from vedette.storage.settings import StorageSettings
from vedette.wire import remote_write
from vedette.wire.dump import Run

WHY = "limit exceeded: tenant default has 50 series in memory"


@pytest.fixture
def receiver() -> Iterator[tuple[str, list[int]]]:
    """A receiver of remote write, and the statuses it has still to give: 204 once there are none."""
    statuses: list[int] = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            self.rfile.read(int(self.headers["Content-Length"]))
            status = statuses.pop(0) if statuses else 204
            body = WHY.encode() if status == 429 else b""
            self.send_response(status)
            self.send_header("Retry-After", "0" if len(statuses) else "1")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            """Nothing: the test's output is the command's."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}", statuses
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture
def dump(tmp_path):
    path = tmp_path / "dump.prom"
    path.write_text('up{job="a"} 1 1700000000000\n')
    return path


def test_what_is_put_off_is_told_once_and_sent_again(receiver, dump):
    url, statuses = receiver
    statuses += [429, 429, 503, 204]
    result = CliRunner().invoke(app, ["storage", "import", str(dump), "--url", url], env={"COLUMNS": "200"})
    assert result.exit_code == 0, result.output
    assert "1 samples imported" in result.stdout
    assert result.stderr.count(WHY) == 1
    assert statuses == []


def test_an_import_that_a_limit_never_lets_in_ends_and_says_why(receiver, dump, monkeypatch):
    url, statuses = receiver
    statuses += [429]
    monkeypatch.setattr(transfer, "_PATIENCE", 0.0)
    result = CliRunner().invoke(app, ["storage", "import", str(dump), "--url", url])
    assert isinstance(result.exception, Undeliverable)
    assert f"takes no more: {WHY}" in str(result.exception)
    assert result.exit_code != 0


class TestExport:
    """What an export says of itself."""

    def run(self, tmp_path, *words):
        return CliRunner().invoke(
            app, ["storage", "export", str(tmp_path / "out"), "--format", "csv", "--data", str(tmp_path / "data"), *words]
        )

    async def fill(self, tmp_path):
        engine = Engine(StorageSettings(data=tmp_path / "data"), ManualClock())
        await engine.start()
        now = int(ManualClock().now() * 1000)
        await engine.append(SampleBatch.of(canonical(), [Labels.of(__name__="m"), Labels.of(__name__="n")], [now] * 2, [1.0, 2.0]))
        await engine.close()

    async def test_again_it_says_that_it_is_complete(self, tmp_path):
        await self.fill(tmp_path)
        assert "2 samples exported" in await asyncio.to_thread(lambda: self.run(tmp_path).output)
        again = await asyncio.to_thread(lambda: self.run(tmp_path).output)
        assert "complete already, up to 2023-11-14T22:13:20Z" in again

    async def test_one_selector_and_no_more(self, tmp_path):
        await self.fill(tmp_path)
        refused = await asyncio.to_thread(lambda: self.run(tmp_path, "--match", "m", "--match", "n"))
        assert isinstance(refused.exception, BadInput)
        assert "more than one selector" in str(refused.exception)
        assert "1 samples exported" in await asyncio.to_thread(lambda: self.run(tmp_path, "--match", "m").output)


def test_native_histograms_go_into_a_server_as_they_are():
    layout = Layout(1, 0.5, (), np.array([0, 2], dtype=np.int32), NO_BUCKETS)
    histogram = Histogram(layout, np.array([4.0, 9.5, 1.0, 1.0, 2.0]))
    labels = [Labels.of(__name__="a"), Labels.of(__name__="b")]
    times, values = np.array([1000, 2000, 1000]), np.array([1.5, 9.5, 2.5])
    run = Run(labels, np.array([0, 2, 3]), times, values, histograms=Histograms.of([1], [histogram]))
    ((body, samples),) = transfer._bodies(run)
    batch = remote_write.parse(body, remote_write.remote_write_keyspace("default"))
    assert samples == batch.sample_count == 3
    assert batch.histograms is not None
    assert batch.timestamps[batch.histograms.at].tolist() == [2000]
    assert equal(batch.histograms.sample(0), histogram)
    assert sorted(np.delete(batch.values, batch.histograms.at).tolist()) == [1.5, 2.5]
