"""A real Prometheus reads from Vedette by remote read, and answers what Vedette holds."""

from __future__ import annotations

import sys
import time
from pathlib import Path
from typing import Any

import cramjam
import pytest

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


def test_chunks_are_those_of_prometheus_to_the_bit(launch: Any, tools: Any) -> None:
    """The same samples in both: the streams of both are read alike, and their chunks are equal."""
    vedette = launch.vedette(env=tools.environment(VEDETTE_HOST_ENABLED="false"))
    prometheus = launch.prometheus("global: {scrape_interval: 1h}\n", flags=["--web.enable-remote-write-receiver"])
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
    name = field(3, 2, field(1, 0, varint(0)) + field(2, 2, b"__name__") + field(3, 2, b"x"))
    request = field(1, 2, field(1, 0, varint(at)) + field(2, 0, varint(at + 3_600_000)) + name) + field(2, 0, varint(1))
    for server in (vedette, prometheus):
        assert server.write(series).status_code == 204
        headers = {"Content-Encoding": "snappy", "Content-Type": "application/x-protobuf"}
        answer = server.post("/api/v1/read", content=bytes(cramjam.snappy.compress_raw(request)), headers=headers)
        assert (answer.status_code, answer.headers["content-type"].partition(";")[0]) == (200, "application/x-streamed-protobuf")
        found.append([xor_twin.series(message) for message in xor_twin.frames(answer.content)])
    ours, theirs = found
    assert [labels["kind"] for labels, _, _ in ours] == sorted(kinds)
    assert ours == theirs
