"""A Pushgateway's API over HTTP: client libraries push to it unchanged, and what it tells has a Pushgateway's shape."""

from __future__ import annotations

import asyncio
import gzip
import json
import struct
import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx
import prometheus_client as prom
import pytest
from starlette.applications import Starlette

from vedette.access.permits import need_of
from vedette.api.endpoint import routes
from vedette.api.intake import Intake
from vedette.api.pushgateway import Pushgateway, endpoints
from vedette.api.write import WriteSettings
from vedette.clock import ManualClock
from vedette.errors import LimitExceeded
from vedette.ingest.pushed import Pushed
from vedette.ingest.socket_settings import PushedSettings
from vedette.model.samples import Appended, SampleBatch
from vedette.records.database import Records

sys.path.insert(0, str(Path(__file__).parent.parent / "wire"))
from protos import messages


def tenant_of(scope: Mapping[str, Any]) -> str:
    return str(dict(scope["headers"]).get(b"x-scope-orgid", b"default").decode())


class Server:
    """The operations with records of their own; `appended` is what was to be stored."""

    def __init__(self) -> None:
        self.clock = ManualClock(1_700_000_000)
        self.settings = PushedSettings(max_body=2_000)
        self.appended: list[SampleBatch] = []
        self.full = False
        self.pushed = Pushed(self.append, self.clock, lambda: self.settings)
        self.intake = Intake(self.append, self.run, self.clock, tenant_of)
        self.client: Client

    async def append(self, batch: SampleBatch) -> Appended:
        if self.full:
            raise LimitExceeded("full", retry_after=3.0)
        self.appended.append(batch)
        return Appended(batch.key_start, samples=batch.sample_count)

    async def run(self, function: Callable[..., Any], *args: Any) -> Any:
        return function(*args)

    def app(self) -> Starlette:
        room = Pushgateway(self.pushed, self.intake, lambda: self.settings)
        return Starlette(routes=routes(endpoints(room)))

    def send(self, url: str, method: str, timeout: float | None, headers: list[tuple[str, str]], data: bytes) -> Callable[[], None]:
        """A handler of prometheus_client, which raises as its own does."""

        def sent() -> None:
            answer = self.client.request(method, urlsplit(url).path, headers=dict(headers), content=data)
            if answer.status_code >= 400:
                raise OSError(f"error talking to pushgateway: {answer.status_code} {answer.text}")

        return sent

    def text(self) -> str:
        return str(self.client.get("/pushgateway/metrics").text)


class Client:
    """Asks an application without a socket and without `await`, as client libraries do."""

    def __init__(self, app: Starlette, runner: asyncio.Runner) -> None:
        self._runner = runner
        self._client = httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://gate")

    def request(self, method: str, path: str, **given: Any) -> httpx.Response:
        return self._runner.run(self._client.request(method, path, **given))

    def get(self, path: str, **given: Any) -> httpx.Response:
        return self.request("GET", path, **given)

    def put(self, path: str, **given: Any) -> httpx.Response:
        return self.request("PUT", path, **given)

    def post(self, path: str, **given: Any) -> httpx.Response:
        return self.request("POST", path, **given)

    def delete(self, path: str, **given: Any) -> httpx.Response:
        return self.request("DELETE", path, **given)


@pytest.fixture
def server(empty_records: Path) -> Iterator[Server]:
    with asyncio.Runner() as runner:
        made = Server()
        records = runner.run(Records.open(empty_records))
        runner.run(made.pushed.open(records))
        made.client = Client(made.app(), runner)
        yield made
        runner.run(records.close())


def registry() -> prom.CollectorRegistry:
    found = prom.CollectorRegistry()
    prom.Gauge("job_last_success_unixtime", "Last time it succeeded.", registry=found).set(5)
    prom.Counter("rows", "Rows.", ["table"], registry=found).labels("a").inc(2)
    histogram = prom.Histogram("took_seconds", "How long.", buckets=(1, 2), registry=found)
    histogram.observe(1.5)
    return found


@pytest.mark.parametrize("gateway", ["gate:9091", "http://gate:9091", "http://gate/pushgateway"])
def test_the_python_client(server: Server, gateway: str) -> None:
    prom.push_to_gateway(gateway, job="batch", registry=registry(), grouping_key={"instance": "a"}, handler=server.send)
    text = server.text()
    assert 'job_last_success_unixtime{instance="a",job="batch"} 5' in text
    assert '# TYPE rows_total counter\nrows_total{instance="a",job="batch",table="a"} 2' in text
    assert 'took_seconds_bucket{instance="a",job="batch",le="2.0"} 1' in text
    assert 'push_time_seconds{instance="a",job="batch"} 1700000000' in text

    more = prom.CollectorRegistry()
    prom.Gauge("other", "Other.", registry=more).set(1)
    prom.pushadd_to_gateway(gateway, job="batch", registry=more, grouping_key={"instance": "a"}, handler=server.send)
    assert "rows_total" in server.text() and "other{" in server.text()
    prom.push_to_gateway(gateway, job="batch", registry=more, grouping_key={"instance": "a"}, handler=server.send)
    assert "rows_total" not in server.text()
    prom.delete_from_gateway(gateway, job="batch", grouping_key={"instance": "a"}, handler=server.send)
    assert server.text() == ""


def test_the_python_clients_odd_names(server: Server) -> None:
    key = {"path": "/var/tmp", "none": ""}
    prom.push_to_gateway("gate", job="a/b", registry=registry(), grouping_key=key, handler=server.send)
    assert 'job_last_success_unixtime{job="a/b",path="/var/tmp"} 5' in server.text()
    assert server.client.delete("/metrics/job@base64/YS9i/path@base64/L3Zhci90bXA=/none@base64/=").status_code == 202
    assert server.text() == ""


def test_what_is_pushed_is_stored_and_answered(server: Server) -> None:
    for method, status in (("PUT", 200), ("POST", 200), ("DELETE", 202), ("DELETE", 202)):
        answer = server.client.request(method, "/metrics/job/x", content=b"a 1\n")
        assert (answer.status_code, answer.content) == (status, b"")
    assert [batch.sample_count for batch in server.appended] == [3, 3, 3]


def test_the_protobuf_exposition(server: Server) -> None:
    # a gauge of 2.5: name, type GAUGE, one metric with a gauge whose value is a double
    gauge = b"\x09" + struct.pack("<d", 2.5)
    metric = b"\x12" + bytes([len(gauge)]) + gauge
    family = b"\x0a\x01a\x18\x01\x22" + bytes([len(metric)]) + metric
    body = bytes([len(family)]) + family
    kind = "application/vnd.google.protobuf; proto=io.prometheus.client.MetricFamily; encoding=delimited"
    assert server.client.put("/metrics/job/x", content=body, headers={"content-type": kind}).status_code == 200
    assert '# TYPE a gauge\na{job="x"} 2.5' in server.text()


def test_a_native_histogram_is_told_by_its_sum_and_count(server: Server) -> None:
    kinds = messages("io.prometheus.client")
    family = kinds["MetricFamily"](name="took", type=4)
    histogram = family.metric.add().histogram
    histogram.sample_count, histogram.sample_sum, histogram.schema, histogram.zero_threshold = 3, 4.5, 0, 0.001
    histogram.positive_span.add(offset=1, length=1)
    histogram.positive_delta.append(3)
    message = family.SerializeToString()
    kind = "application/vnd.google.protobuf; proto=io.prometheus.client.MetricFamily; encoding=delimited"
    answer = server.client.put("/metrics/job/x", content=bytes([len(message)]) + message, headers={"content-type": kind})
    assert answer.status_code == 200
    assert '# TYPE took histogram\ntook_bucket{job="x",le="+Inf"} 3\ntook_sum{job="x"} 4.5\ntook_count{job="x"} 3\n' in server.text()
    told = server.client.get("/pushgateway/api/v1/metrics").json()["data"][0]["took"]
    assert told["type"] == "HISTOGRAM"
    assert told["metrics"] == [{"labels": {"job": "x"}, "buckets": {"+Inf": "3"}, "count": "3", "sum": "4.5"}]
    assert server.appended[-1].histograms is not None


def test_a_packed_body(server: Server) -> None:
    packed = gzip.compress(b"a 1\n")
    assert server.client.put("/metrics/job/x", content=packed, headers={"content-encoding": "gzip"}).status_code == 200
    answer = server.client.put("/metrics/job/x", content=packed, headers={"content-encoding": "br"})
    assert (answer.status_code, "unsupported content encoding" in answer.text) == (415, True)
    bomb = gzip.compress(b"a" * 100_000)
    assert server.client.put("/metrics/job/x", content=bomb, headers={"content-encoding": "gzip"}).status_code == 413


@pytest.mark.parametrize(
    ("path", "body", "status", "text"),
    [
        ("/metrics/job/", b"a 1\n", 400, "job name is required"),
        ("/metrics/job/x/y", b"a 1\n", 400, 'odd number of components in label string "/y"'),
        ("/metrics/job/x/y-z/1", b"a 1\n", 400, 'improper label name "y-z"'),
        ("/metrics/job@base64/!", b"a 1\n", 400, 'invalid base64 encoding in job name "!"'),
        ("/metrics/job/x", b"a one\n", 400, "text format parsing error in line 1, column 3: not a number"),
        (
            "/metrics/job/x",
            b"a 1 5\n",
            400,
            "pushed metrics are invalid or inconsistent with existing metrics: pushed metrics must not have",
        ),
        ("/metrics/job/x", b"a" * 3_000, 413, ""),
    ],
)
def test_a_refusal_is_a_line_of_text(server: Server, path: str, body: bytes, status: int, text: str) -> None:
    for root in ("", "/pushgateway"):
        answer = server.client.post(root + path, content=body)
        assert answer.status_code == status, answer.text
        assert answer.text.startswith(text) and answer.text.endswith("\n")
        assert answer.headers["content-type"].startswith("text/plain")


def test_a_refused_push_is_noted_and_what_was_stays(server: Server) -> None:
    server.client.put("/metrics/job/x", content=b"# TYPE a gauge\na 1\n")
    server.clock._now += 10
    answer = server.client.put("/metrics/job/y", content=b"# TYPE a counter\na 1\n")
    assert answer.status_code == 400 and 'collected metric "a" {job="y"} is not a GAUGE' in answer.text
    assert 'a{job="x"} 1' in server.text()
    assert 'push_failure_time_seconds{job="y"} 1700000010' in server.text()


def test_a_storage_that_is_full_is_a_503_that_says_when(server: Server) -> None:
    server.full = True
    answer = server.client.put("/metrics/job/x", content=b"a 1\n")
    assert (answer.status_code, answer.headers["retry-after"]) == (503, "3")


def test_pushes_count_among_the_bytes_of_requests_in_work(server: Server) -> None:
    server.intake.limits = WriteSettings(max_held_bytes=100)
    answer = server.client.request("PUT", "/metrics/job/a", content=b"# " + b"x" * 100 + b"\na 1\n")
    assert (answer.status_code, answer.headers["retry-after"]) == (503, "1")
    assert server.client.request("PUT", "/metrics/job/a", content=b"a 1\n").status_code == 200


def test_all_groups_as_json(server: Server) -> None:
    text = b'# HELP t How long.\n# TYPE t histogram\nt_bucket{le="1"} 1\nt_bucket{le="+Inf"} 2\nt_sum 5\nt_count 2\n'
    text += b'# TYPE s summary\ns{quantile="0.5"} 1\ns_sum 2\ns_count 3\nplain NaN\n'
    server.client.put("/metrics/job/x/instance/i", content=text)
    server.clock._now += 1
    server.client.put("/metrics/job/x/instance/i", content=b"a 1 5\n")
    answer = server.client.get("/pushgateway/api/v1/metrics").json()
    assert answer["status"] == "success"
    (group,) = answer["data"]
    labels = {"instance": "i", "job": "x"}
    assert (group["labels"], group["last_push_successful"]) == (labels, False)
    assert group["t"] == {
        "time_stamp": "2023-11-14T22:13:20.000Z",
        "type": "HISTOGRAM",
        "help": "How long.",
        "metrics": [{"labels": labels, "buckets": {"1": "1", "+Inf": "2"}, "sum": "5", "count": "2"}],
    }
    assert group["s"]["metrics"] == [{"labels": labels, "quantiles": {"0.5": "1"}, "sum": "2", "count": "3"}]
    assert (group["plain"]["type"], group["plain"]["metrics"]) == ("UNTYPED", [{"labels": labels, "value": "NaN"}])
    assert group["push_time_seconds"]["metrics"][0]["value"] == "1700000000"
    assert group["push_failure_time_seconds"]["metrics"][0]["value"] == "1700000001"


def test_wiping_is_off_until_it_is_turned_on_and_ones_own(server: Server) -> None:
    acme = {"x-scope-orgid": "acme"}
    server.client.put("/metrics/job/x", content=b"a 1\n")
    server.client.put("/metrics/job/y", content=b"a 1\n", headers=acme)
    answer = server.client.put("/pushgateway/api/v1/admin/wipe")
    assert answer.status_code == 404 and "pushed.admin_api" in json.dumps(answer.json())
    server.settings = PushedSettings(admin_api=True)
    assert server.client.put("/pushgateway/api/v1/admin/wipe").status_code == 202
    assert server.text() == ""
    assert 'a{job="y"} 1' in server.client.get("/pushgateway/metrics", headers=acme).text


def test_who_may() -> None:
    for root in ("", "/pushgateway"):
        for method in ("PUT", "POST", "DELETE"):
            assert need_of(method, f"{root}/metrics/job/x", reading_posts=frozenset()) == "write"
            assert need_of(method, f"{root}/metrics/job@base64/eA", reading_posts=frozenset()) == "write"
    assert need_of("GET", "/pushgateway/metrics", reading_posts=frozenset()) == "read"
    assert need_of("PUT", "/pushgateway/api/v1/admin/wipe", reading_posts=frozenset()) == "admin"
