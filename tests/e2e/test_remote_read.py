"""A real Prometheus reads from Vedette by remote read, and answers what Vedette holds."""

from __future__ import annotations

import sys
import time
from pathlib import Path
from typing import Any

import cramjam
import numpy as np
import pytest

from vedette.model.histograms import NO_BUCKETS, Histogram, Layout
from vedette.model.labels import Labels
from vedette.wire import remote_write
from vedette.wire.native import field, varint

sys.path.insert(0, str(Path(__file__).parents[1] / "wire"))
import xor_twin

pytestmark = pytest.mark.timeout(600)


def test_prometheus_answers_what_vedette_holds(launch: Any, tools: Any) -> None:
    config = launch.folder / "vedette.yml"
    config.write_text("global: {external_labels: {site: here}}\n")
    vedette = launch.vedette("--config", str(config), env=tools.environment(VEDETTE_HOST_ENABLED="false"))
    at = int(time.time()) * 1000 - 60_000
    series = [({"__name__": "m", "i": str(i)}, [(at + 1000 * k, float(i + k)) for k in range(30)]) for i in range(3)]
    assert vedette.write(series).status_code == 204
    prometheus = launch.prometheus(f"remote_read: [{{url: '{vedette.url}/api/v1/read', read_recent: true}}]\n")
    for query in ("m", "sum(rate(m[10s]))", 'm{i="2"}', "count_over_time(m[5s])"):
        when = at / 1000 + 20.5
        got, wanted = prometheus.query(query, when), vedette.query(query, when)
        plain = [{**row, "metric": {k: v for k, v in row["metric"].items() if k != "site"}} for row in got]
        assert sorted(plain, key=str) == sorted(wanted, key=str), query
        assert len(wanted) > 0
    assert all(row["metric"]["site"] == "here" for row in prometheus.query("m", at / 1000 + 20.5))


@pytest.fixture(scope="module")
def both(module_launch: Any, tools: Any) -> tuple[Any, Any]:
    """Vedette, and a Prometheus; either takes what is written to it."""
    vedette = module_launch.vedette(env=tools.environment(VEDETTE_HOST_ENABLED="false"))
    flags = ["--web.enable-remote-write-receiver", "--enable-feature=native-histograms"]
    return vedette, module_launch.prometheus("global: {scrape_interval: 1h}\n", flags=flags)


def test_chunks_are_those_of_prometheus_to_the_bit(both: Any) -> None:
    """The same samples in both: the streams of both are read alike, and their chunks are equal."""
    # Well within one of Prometheus' two hours, so that it begins no chunk anew.
    at = (int(time.time()) // 7200 * 7200 - 7200 + 600) * 1000
    kinds = {
        "constant": [1.0] * 100,
        "counter": [float(7 * k) for k in range(100)],
        "real": [0.1 * k * (-1) ** k for k in range(100)],
        "odd": [float("inf"), 0.0, -0.0, 1e-300, 5.0] * 20,
    }
    steps = [1000, 1000, 1003, 17_000, 999, 64, 9000, 1, 70_000, 1000]
    times = [at + sum(steps[i % 10] for i in range(k)) for k in range(100)]
    series = [({"__name__": "x", "kind": kind}, list(zip(times, values, strict=True))) for kind, values in kinds.items()]
    found = []
    for server in both:
        assert server.write(series).status_code == 204
        found.append([xor_twin.series(message) for message in streamed(server, "x", at)])
    ours, theirs = found
    assert [labels["kind"] for labels, _, _ in ours] == sorted(kinds)
    assert ours == theirs


def streamed(server: Any, name: str, at: int) -> list[bytes]:
    """What `server` streams of the series of a name, an hour from `at` (ms) on."""
    matcher = field(3, 2, field(1, 0, varint(0)) + field(2, 2, b"__name__") + field(3, 2, name.encode()))
    request = field(1, 2, field(1, 0, varint(at)) + field(2, 0, varint(at + 3_600_000)) + matcher) + field(2, 0, varint(1))
    headers = {"Content-Encoding": "snappy", "Content-Type": "application/x-protobuf"}
    answer = server.post("/api/v1/read", content=bytes(cramjam.snappy.compress_raw(request)), headers=headers)
    assert (answer.status_code, answer.headers["content-type"].partition(";")[0]) == (200, "application/x-streamed-protobuf")
    return list(xor_twin.frames(answer.content))


LAYOUTS = [
    Layout(3, 2.0**-128, (), np.array([-2, -1, 5, 300], dtype=np.int32), np.array([7, 8], dtype=np.int32)),
    Layout(-4, 0.001, (), np.array([-1, 0], dtype=np.int32), NO_BUCKETS),
]


def test_chunks_of_histograms_are_those_of_prometheus_to_the_bit(both: Any, tools: Any) -> None:
    """Counters that fall, layouts that change; counts that are no whole numbers, since Prometheus has other chunks for those."""
    at = (int(time.time()) // 7200 * 7200 - 7200 + 600) * 1000
    names = ["changes", "falls", "grows"]
    times = [at + 1000 * k + (k % 7) ** 3 for k in range(50)]
    samples = []
    for name in names:
        for k in range(50):
            layout = LAYOUTS[name == "changes" and 15 <= k < 30]
            since = k - 20 if name == "falls" and k >= 20 else k
            cells = 0.5 + since + np.arange(2, layout.width) * since
            samples.append(Histogram(layout, np.array([cells.sum(), 0.1 * k, *cells])))
    labels = [Labels.of(__name__="h", kind=name) for name in names]
    body = remote_write.render(labels, [50 * i for i in range(4)], times * 3, samples)
    found = []
    for server in both:
        answer = server.post("/api/v1/write", content=body, headers=tools.write_headers)
        assert answer.status_code == 204, answer.text
        read = [xor_twin.kinds(message) for message in streamed(server, "h", at)]
        # Prometheus 2 writes a series' last chunk anew to send it, and then no longer says that it began with a reset.
        kept = [(labels["kind"], [data[2] for *_, data in chunks[:-1]]) for labels, chunks, _ in read]
        found.append((kept, [(labels, [(*span, data[:2] + data[3:]) for *span, data in chunks]) for labels, chunks, _ in read]))
    assert found[0][0] == [("changes", [0, 0x80]), ("falls", [0]), ("grows", [])]
    assert found[0] == found[1]
