"""The remote backend against real servers that go and come, and one of the test's own that looks at what it is sent."""

from __future__ import annotations

import asyncio
import base64
import http.server
import json
import signal
import subprocess
import sys
import textwrap
import threading
import time

import numpy as np
import pytest

from vedette.clock import SystemClock
from vedette.errors import BadInput, LimitExceeded, NotFound, Unreachable
from vedette.model.histograms import CUSTOM_SCHEMA, Histogram, Layout
from vedette.model.matchers import Matcher
from vedette.model.samples import MetricMetadata, SampleBatch, canonical
from vedette.storage.backends import open_backend
from vedette.storage.limits import Limits, LimitsSettings, TenantLimits
from vedette.storage.remote.client import in_path
from vedette.storage.remote.engine import Remote, selector
from vedette.storage.remote.settings import NOWHERE, RemoteSettings, parse_server_url
from vedette.storage.settings import StorageSettings
from vedette.wire import remote_write, remote_write2

EVER = (-(1 << 62), 1 << 62)


async def eventually(check, what="it", seconds=30.0):
    deadline = time.monotonic() + seconds
    while not check():
        assert time.monotonic() < deadline, f"{what} never came true"
        await asyncio.sleep(0.01)


class Stub:
    """A server that notes its requests; `status` and `body` are what it answers, by path."""

    def __init__(self):
        self.requests: list[tuple[str, str, dict[str, str], bytes]] = []
        self.answers: dict[str, tuple[int, dict[str, str], bytes]] = {}
        stub = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_POST(self):
                body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
                stub.requests.append((self.command, self.path, {k.lower(): v for k, v in self.headers.items()}, body))
                status, headers, answer = stub.answers.get(self.path.split("?")[0], (204, {}, b""))
                self.send_response(status)
                for name, value in headers.items():
                    self.send_header(name, value)
                self.send_header("Content-Length", str(len(answer)))
                self.end_headers()
                self.wfile.write(answer)

            do_GET = do_POST  # noqa: N815 - the base class looks for this name

            def log_message(self, format, *args):  # noqa: A002 - the base class names it
                """Requests are kept, not logged."""

        self._server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}"
        self._thread = threading.Thread(target=self._server.serve_forever, daemon=True)
        self._thread.start()

    def json(self, path, data, status=200):
        self.answers[path] = (status, {"Content-Type": "application/json"}, json.dumps(data).encode())

    def written(self, path="/api/v1/write"):
        """(labels, samples) of what was written."""
        rows = []
        for _, at, _, body in self.requests:
            if at == path:
                batch = remote_write.parse(body, remote_write.remote_write_keyspace())
                for i in range(batch.series_count):
                    labels = remote_write.parse_labels(batch.buffer[batch.key_start[i] : batch.key_end[i]].tobytes())
                    span = slice(int(batch.offsets[i]), int(batch.offsets[i + 1]))
                    rows.append((labels, list(zip(batch.timestamps[span].tolist(), batch.values[span].tolist(), strict=True))))
        return rows

    def close(self):
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


@pytest.fixture
def stub():
    made = Stub()
    yield made
    made.close()


async def test_nothing_acknowledged_is_lost_while_the_server_goes_and_comes(start_peer, open_remote, tools, keyspace, free_port):
    port = free_port()
    peer = start_peer("prometheus", port=port)
    storage = await open_remote(peer.url, remote={"max_backoff": 200})
    rows = [tools.metric("m", i=str(i)) for i in range(10)]
    now = int(time.time() * 1000)

    async def write(k):
        assert (await storage.append(SampleBatch.of(keyspace, rows, [now + k] * 10, [float(k)] * 10))).samples == 10

    for k in range(20):
        await write(k)
    await eventually(lambda: not storage.queued)
    peer.end()
    for k in range(20, 60):
        await write(k)
    await eventually(lambda: storage.problem)
    assert storage.queued == 400
    with pytest.raises(Unreachable):
        await asyncio.to_thread(storage.select, "default", [], *EVER)
    assert storage.stats().wal_bytes > 0
    start_peer("prometheus", port=port)
    await eventually(lambda: not storage.queued)
    await write(60)
    await eventually(lambda: not storage.queued)
    found = await asyncio.to_thread(storage.select, "default", [Matcher("__name__", "=", "m")], *EVER)
    assert np.diff(found.offsets).tolist() == [61] * 10
    assert (found.timestamps[:61] - now).tolist() == list(range(61))
    assert storage.counters()["dead_samples"] == 0
    assert storage.problem == ""


WRITER = textwrap.dedent(
    """
    import asyncio, sys, time
    from pathlib import Path
    from vedette.clock import SystemClock
    from vedette.model.labels import Labels
    from vedette.model.samples import SampleBatch, canonical
    from vedette.storage.remote.engine import Remote
    from vedette.storage.remote.settings import RemoteSettings
    from vedette.storage.settings import StorageSettings

    async def main(url, data, start):
        storage = Remote(StorageSettings(data=Path(data), backend="remote"), RemoteSettings(url=url), SystemClock())
        await storage.start()
        rows = [Labels.of(__name__="killed", i=str(i)) for i in range(10)]
        space = canonical()
        for k in range(10_000_000):
            await storage.append(SampleBatch.of(space, rows, [start + k] * 10, [float(k)] * 10))
            print("stored", k, flush=True)

    asyncio.run(main(sys.argv[1], sys.argv[2], int(sys.argv[3])))
    """
)


def stored(line: str, first: int) -> list[int]:
    """What a line of the writer's acknowledges; others are its log's, and a last one may be cut off."""
    words = line.split() if line.endswith("\n") else []
    return [first + int(words[1])] if words[:1] == ["stored"] else []


async def test_what_was_acknowledged_before_a_kill_is_sent_after_it(start_peer, open_remote, tmp_path, tools, free_port):
    """Killed while there is no server, again while it sends, then started once more: each sample is there."""
    port = free_port()
    start = int(time.time() * 1000) - 100_000_000
    acknowledged: list[int] = []
    peer = None
    first = 0
    for least in (30, 60):
        command = [sys.executable, "-c", WRITER, f"http://127.0.0.1:{port}", str(tmp_path / "data"), str(start + first)]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as writer:
            assert writer.stdout is not None
            for line in writer.stdout:
                acknowledged += stored(line, first)
                if len(acknowledged) >= least:
                    break
            writer.send_signal(signal.SIGKILL)
            for line in writer.stdout:
                acknowledged += stored(line, first)
        first = acknowledged[-1] + 1000
        if peer is None:
            peer = start_peer("victoria-metrics", port=port)
    storage = await open_remote(peer.url)
    await eventually(lambda: not storage.queued)
    await asyncio.to_thread(peer.get, "/internal/force_flush")
    found = await asyncio.to_thread(storage.select, "default", [Matcher("__name__", "=", "killed")], *EVER)
    assert len(found) == 10
    for i in range(10):
        times = found.timestamps[found.offsets[i] : found.offsets[i + 1]] - start
        assert set(acknowledged) <= set(times.tolist())
        assert len(set(times.tolist())) == len(times)
    assert storage.counters()["dead_samples"] == 0


async def test_what_a_real_server_refuses_is_kept_aside(start_peer, open_remote, tools, keyspace, tmp_path):
    storage = await open_remote(start_peer("prometheus").url)
    now = int(time.time() * 1000)
    await storage.append(SampleBatch.of(keyspace, [tools.metric("m")], [now], [1.0]))
    await eventually(lambda: not storage.queued)
    await storage.append(SampleBatch.of(keyspace, [tools.metric("m")], [now - 3_600_000], [2.0]))
    await eventually(lambda: storage.counters()["dead_samples"] == 1)
    (about,) = (tmp_path / "data" / "remote" / "dead").glob("*.json")
    assert "out of order" in json.loads(about.read_text())["reason"]
    await storage.append(SampleBatch.of(keyspace, [tools.metric("m")], [now + 1], [3.0]))
    await eventually(lambda: not storage.queued)
    found = await asyncio.to_thread(storage.select, "default", [], *EVER)
    assert found.values.tolist() == [1.0, 3.0]


async def test_requests_carry_tenant_credentials_prefix_and_headers(stub, open_remote, tools):
    options = {
        "tenant_header": "X-Scope-OrgID",
        "write_url": f"{stub.url}/select/0/push",
        "username": "me",
        "password": "sesame",
        "headers": {"X-Team": "a"},
    }
    storage = await open_remote(f"{stub.url}/prometheus", remote=options)
    await storage.append(SampleBatch.of(canonical("alice"), [tools.metric("m", owner="alice")], [tools.now], [1.0]))
    await storage.append(SampleBatch.of(canonical("bob"), [tools.metric("m", owner="bob")], [tools.now], [1.0]))
    await eventually(lambda: not storage.queued)
    stub.json("/prometheus/api/v1/label/job/values", {"status": "success", "data": ["b", "a"]})
    assert await asyncio.to_thread(storage.label_values, "alice", "job", [], 0, tools.now) == ["a", "b"]
    sent = {(path.split("?")[0], headers["x-scope-orgid"]) for _, path, headers, _ in stub.requests}
    assert sent == {("/select/0/push", "alice"), ("/select/0/push", "bob"), ("/prometheus/api/v1/label/job/values", "alice")}
    basic = "Basic " + base64.b64encode(b"me:sesame").decode()
    assert {(h["authorization"], h["x-team"]) for _, _, h, _ in stub.requests} == {(basic, "a")}
    assert {labels.get("owner") for labels, _ in stub.written("/select/0/push")} == {"alice", "bob"}


async def test_a_bearer_token_is_read_anew_and_a_401_loses_nothing(stub, open_remote, tools, keyspace, tmp_path):
    token = tmp_path / "token"
    token.write_text("old\n")
    stub.answers["/api/v1/write"] = (401, {}, b"expired")
    storage = await open_remote(stub.url, remote={"bearer_token_file": str(token), "min_backoff": 5, "max_backoff": 20})
    await storage.append(SampleBatch.of(keyspace, [tools.metric("m")], [tools.now], [1.0]))
    await eventually(lambda: "401" in storage.problem)
    token.write_text("new\n")
    await eventually(lambda: stub.requests[-1][2]["authorization"] == "Bearer new")
    del stub.answers["/api/v1/write"]
    await eventually(lambda: not storage.queued)
    assert stub.requests[0][2]["authorization"] == "Bearer old"
    assert storage.counters()["dead_samples"] == 0


async def test_floats_histograms_metadata_and_stale_markers_are_written_as_they_are(stub, open_remote, tools, keyspace):
    storage = await open_remote(stub.url, remote={"lanes": 1, "write_version": "1.0"})
    layout = Layout(CUSTOM_SCHEMA, 0.0, (1.0, 2.0), np.arange(3, dtype=np.int32), np.zeros(0, np.int32))
    one = Histogram(layout, np.array([6.0, 42.5, 0.0, 1, 2, 3]), 2)
    about = [MetricMetadata("f", "counter", "What it is.", "seconds")]
    batch = SampleBatch.of(keyspace, [tools.metric("f"), tools.metric("h")], [tools.now, tools.now + 1], [1.5, one], metadata=about)
    for _ in range(2):
        await storage.append(batch)
        await eventually(lambda: not storage.queued)
    parsed = [remote_write.parse(body, remote_write.remote_write_keyspace()) for _, _, _, body in stub.requests]
    assert [list(p.metadata) for p in parsed] == [about, []], "metadata goes once"
    for p in parsed:
        assert p.sample_count == 2
        assert p.histograms is not None
        read = p.histograms.sample(0)
        assert read.layout.same(layout)
        assert read.cells.tolist() == one.cells.tolist()
        assert p.values[p.histograms.at[0]] == 42.5
    stub.json("/api/v1/metadata", {"status": "success", "data": {"g": [{"type": "gauge", "help": "There.", "unit": ""}]}})
    assert await asyncio.to_thread(storage.metadata, "default") == [*about, MetricMetadata("g", "gauge", "There.")]


async def test_one_series_stays_in_order_whatever_lane_it_has(stub, open_remote, tools, keyspace):
    storage = await open_remote(stub.url, remote={"lanes": 3, "max_samples": 20})
    rows = [tools.metric("m", i=str(i)) for i in range(10)]
    for k in range(30):
        await storage.append(SampleBatch.of(keyspace, rows, [tools.now + k] * 10, [float(k)] * 10))
    await eventually(lambda: not storage.queued)
    of: dict[object, list[int]] = {}
    for labels, samples in stub.written():
        of.setdefault(labels, []).extend(t - tools.now for t, _ in samples)
    assert len(of) == 10
    assert all(times == list(range(30)) for times in of.values())


async def test_a_full_queue_refuses_and_says_so(open_remote, tools, keyspace, free_port):
    storage = await open_remote(f"http://127.0.0.1:{free_port()}", remote={"queue_size": 3000})
    with pytest.raises(LimitExceeded, match="3000 bytes") as refused:
        for k in range(100):
            await storage.append(SampleBatch.of(keyspace, [tools.metric("m")], [tools.now + k], [1.0]))
    assert refused.value.retry_after is not None
    assert "3000 bytes" in storage.problem


async def test_a_tenant_of_a_server_without_tenants_has_nothing_and_may_not_write(stub, open_remote, tools):
    storage = await open_remote(stub.url)
    with pytest.raises(NotFound, match="tenant_header"):
        await storage.append(SampleBatch.of(canonical("bob"), [tools.metric("m")], [tools.now], [1.0]))
    with pytest.raises(NotFound):
        await asyncio.to_thread(storage.ask, "bob", "query")
    assert len(storage.select("bob", [], *EVER)) == 0
    assert storage.series("bob", [[]], *EVER) == storage.label_names("bob", [], *EVER) == storage.metadata("bob") == []
    assert stub.requests == []


@pytest.mark.parametrize(
    ("status", "body", "error", "words"),
    [
        (400, {"status": "error", "errorType": "bad_data", "error": "1:3: parse error"}, BadInput, "1:3: parse error"),
        (422, {"status": "error", "errorType": "execution", "error": "too many samples"}, LimitExceeded, "too many samples"),
        (503, {"status": "error", "error": "shutting down"}, Unreachable, "503: shutting down"),
        (404, "page not found", NotFound, "page not found"),
        (200, "<html>a login page</html>", Unreachable, "a login page"),
    ],
)
async def test_refusals_of_the_server_are_passed_on(stub, open_remote, status, body, error, words):
    storage = await open_remote(stub.url)
    if isinstance(body, str):
        stub.answers["/api/v1/query"] = (status, {}, body.encode())
    else:
        stub.json("/api/v1/query", body, status)
    with pytest.raises(error, match=words):
        await asyncio.to_thread(storage.ask, "default", "query", [("query", "up")])


async def test_limits_hold_here_too(stub, tmp_path, tools, keyspace):
    limits = Limits(LimitsSettings(default=TenantLimits(max_series=1, max_label_value_length=5)))
    storage = Remote(StorageSettings(data=tmp_path / "d", backend="remote"), RemoteSettings(url=stub.url), SystemClock(), limits=limits)
    await storage.start()
    rows = [tools.metric("m", v="long" * 3), tools.metric("m", v="1"), tools.metric("m", v="2")]
    appended = await storage.append(SampleBatch.of(keyspace, rows, [tools.now] * 3, [1.0] * 3))
    assert (appended.samples, appended.dropped) == (1, {"label_value_too_long": 1, "series_limit": 1})
    assert storage.tenant_series() == {"default": 1}
    await storage.close()
    with pytest.raises(LimitExceeded, match="not running"):
        storage.select("default", [], *EVER)


def test_selectors_are_such_as_servers_take():
    assert selector([]) == '{__name__!=""}'
    assert selector([Matcher("a", "=", "")]) == '{a="",__name__!=""}'
    assert selector([Matcher("a", "=~", 'x|"\\\n')]) == '{a=~"x|\\"\\\\\\n"}'
    assert in_path("job") == "job"
    assert in_path("a.b_c ä") == "U__a_2e_b__c_20__e4_"


@pytest.mark.parametrize("text", ["nonsense", "ftp://h", "http://", "http://h:x", "http://me:sesame@h", "http://h/?a=b"])
def test_a_bad_url_is_refused_without_its_password(text):
    with pytest.raises(BadInput) as refused:
        parse_server_url(text)
    assert "sesame" not in str(refused.value)
    assert parse_server_url("http://h:9090/prefix/") == "http://h:9090/prefix"


@pytest.mark.parametrize(
    ("storage", "remote", "where"),
    [
        ({"backend": "remote"}, NOWHERE, "remote.url"),
        ({"backend": "embedded"}, RemoteSettings(url="http://h"), "remote.url"),
        ({"backend": "remote", "retention_size": 1}, RemoteSettings(url="http://h"), "storage.retention_size"),
    ],
)
def test_settings_that_do_not_go_together_are_refused(tmp_path, storage, remote, where):
    with pytest.raises(BadInput) as refused:
        open_backend(StorageSettings(data=tmp_path, **storage), SystemClock(), retention=[], limits=Limits(), remote=remote)
    assert refused.value.where == where


async def test_series_that_are_sent_no_more_are_forgotten(stub, open_remote, tools, keyspace, monkeypatch):
    monkeypatch.setattr("vedette.storage.names._LEAST", 3)
    monkeypatch.setattr("vedette.storage.remote.engine._FORGET_S", 0.0)
    monkeypatch.setattr("vedette.storage.remote.engine._STATS_S", 0.0)
    storage = await open_remote(stub.url)
    rows = [tools.metric("m", i=str(i)) for i in range(12)]
    await storage.append(SampleBatch.of(keyspace, rows, [tools.now] * 12, [0.0] * 12))
    for k in range(1, 7):
        await storage.append(SampleBatch.of(keyspace, rows[:2], [tools.now + k] * 2, [float(k)] * 2))
        await eventually(lambda: not storage.queued)
        await asyncio.to_thread(storage.stats)
    assert storage.tenant_series() == {"default": 2}
    assert storage.counters()["forgotten_series"] == 10
    appended = await storage.append(SampleBatch.of(keyspace, rows, [tools.now + 9] * 12, [9.0] * 12))
    assert appended.new_series == 10
    await eventually(lambda: not storage.queued)
    written = {}
    for labels, samples in stub.written():
        written.setdefault(labels.get("i"), []).extend(t - tools.now for t, _ in samples)
    assert {i: sorted(times) for i, times in written.items()} == {str(i): [0, 1, 2, 3, 4, 5, 6, 9] if i < 2 else [0, 9] for i in range(12)}


V2 = "application/x-protobuf;proto=io.prometheus.write.v2.Request"


async def sent_with(storage, tools, keyspace, times=2):
    for k in range(times):
        await storage.append(SampleBatch.of(keyspace, [tools.metric("m", a="b")], [tools.now + k], [float(k)]))
        await eventually(lambda: not storage.queued)


@pytest.mark.parametrize("version", ["2.0", "auto"])
async def test_a_server_that_takes_the_second_version_gets_it(stub, open_remote, tools, keyspace, version):
    stub.answers["/api/v1/write"] = (204, {"X-Prometheus-Remote-Write-Samples-Written": "1"}, b"")
    storage = await open_remote(stub.url, remote={"write_version": version})
    await sent_with(storage, tools, keyspace)
    found = [(h["content-type"], h["x-prometheus-remote-write-version"], body) for _, _, h, body in stub.requests]
    assert [kinds for *kinds, _ in found] == [[V2, "2.0.0"]] * 2
    batches = [remote_write2.parse(body, remote_write2.remote_write2_keyspace()) for *_, body in found]
    assert [(b.timestamps.tolist(), b.values.tolist()) for b in batches] == [([tools.now], [0.0]), ([tools.now + 1], [1.0])]
    assert storage.counters()["sent_samples"] == 2


@pytest.mark.parametrize("answer", [(204, b""), (415, b"unsupported"), (400, b"what is this")])
async def test_a_server_that_does_not_know_it_gets_everything_by_the_first(stub, open_remote, tools, keyspace, answer):
    """One that says 204 may have understood nothing: it is not believed."""
    status, body = answer
    real = stub.answers
    stub.answers = Picky(real, V2, (status, {}, body))
    storage = await open_remote(stub.url, remote={"write_version": "auto"})
    await sent_with(storage, tools, keyspace)
    kinds = [h["content-type"] for _, _, h, _ in stub.requests]
    assert kinds == [V2, "application/x-protobuf", "application/x-protobuf"]
    stub.requests = [r for r in stub.requests if r[2]["content-type"] != V2]
    assert [t - tools.now for _, samples in stub.written() for t, _ in samples] == [0, 1]
    assert storage.counters()["dead_samples"] == 0


class Picky(dict):
    """Answers of a server: `other` to what is of another kind, which is asked of by the last request's content type."""

    def __init__(self, answers, kind, other):
        super().__init__(answers)
        self.kind, self.other = kind, other
        self.turn = 0

    def get(self, path, default=None):
        self.turn += 1
        return self.other if self.turn == 1 else super().get(path, default)


async def test_while_a_server_is_away_nothing_is_decided(stub, open_remote, tools, keyspace):
    stub.answers["/api/v1/write"] = (503, {}, b"later")
    storage = await open_remote(stub.url, remote={"write_version": "auto", "min_backoff": 5, "max_backoff": 20})
    await storage.append(SampleBatch.of(keyspace, [tools.metric("m")], [tools.now], [0.0]))
    await eventually(lambda: len(stub.requests) > 4)
    stub.answers["/api/v1/write"] = (204, {"X-Prometheus-Remote-Write-Samples-Written": "1"}, b"")
    await eventually(lambda: not storage.queued)
    before = len(stub.requests)
    await sent_with(storage, tools, keyspace, 1)
    assert storage.counters()["dead_samples"] == 0
    assert len(stub.requests) == before + 1
    assert stub.requests[-1][2]["content-type"] == V2


async def test_a_second_version_that_refuses_samples_is_not_taken_for_none(stub, open_remote, tools, keyspace):
    stub.answers["/api/v1/write"] = (400, {"X-Prometheus-Remote-Write-Samples-Written": "0"}, b"out of order sample")
    storage = await open_remote(stub.url, remote={"write_version": "auto"})
    await storage.append(SampleBatch.of(keyspace, [tools.metric("m")], [tools.now], [0.0]))
    await eventually(lambda: storage.counters()["dead_samples"] == 1)
    assert {h["content-type"] for _, _, h, _ in stub.requests} == {V2}


async def test_two_of_us_speak_the_second_version(stub, open_remote, tools, keyspace):
    """What Vedette sends, Vedette reads: the body of a real request is what the receiver's parser takes."""
    stub.answers["/api/v1/write"] = (204, {"X-Prometheus-Remote-Write-Samples-Written": "1"}, b"")
    storage = await open_remote(stub.url, remote={"write_version": "2.0"})
    rows = [tools.metric("m", i=str(i), text="ä\n") for i in range(200)]
    await storage.append(SampleBatch.of(keyspace, rows, [tools.now] * 200, [float(i) for i in range(200)]))
    await eventually(lambda: not storage.queued)
    found = {}
    for _, _, _, body in stub.requests:
        batch = remote_write2.parse(body, remote_write2.remote_write2_keyspace())
        keys = [batch.buffer[lo:hi].tobytes() for lo, hi in zip(batch.key_start, batch.key_end, strict=True)]
        found.update(zip(map(remote_write2.parse_labels, keys), batch.values.tolist(), strict=True))
    assert found == {labels: float(i) for i, labels in enumerate(rows)}
