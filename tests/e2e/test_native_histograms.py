"""Native histograms written to Vedette and to Debian's Prometheus: both answer the same JSON."""

from __future__ import annotations

import time
from typing import Any

import numpy as np
import pytest

from vedette.model.exemplars import Exemplar
from vedette.model.histograms import Histogram, Layout
from vedette.model.labels import Labels
from vedette.wire import remote_write, remote_write2

pytestmark = pytest.mark.timeout(600)

SERIES = [Labels.of(__name__="h", job="a"), Labels.of(__name__="h", job="b"), Labels.of(__name__="x", job="b")]
LAYOUTS = [
    Layout(2, 0.001, (), np.array([-3, -2, 0, 1, 2, 9], dtype=np.int32), np.array([1, 2], dtype=np.int32)),
    Layout(1, 0.001, (), np.array([-1, 0, 1, 2, 4], dtype=np.int32), np.array([1], dtype=np.int32)),
]
# No quantiles: within a bucket Prometheus 2 interpolates evenly, Prometheus 3 and Vedette on a logarithmic scale.
QUERIES = [
    "h",
    "h[2m]",
    "sum(h)",
    "rate(h[2m])",
    "increase(h{job='a'}[2m])",
    "sum by (job) (rate(h[2m]))",
    "histogram_fraction(0, 2, h)",
    "histogram_count(h)",
    "histogram_sum(rate(h[2m]))",
    "h + h",
    "count(h)",
    "count_over_time(h[2m])",
    "x",
]


def samples(begin: int) -> tuple[list[int], list[int], list[float | Histogram]]:
    """Offsets, times and values: 12 of each series, with a reset and a change of layout."""
    rng = np.random.default_rng(5)
    times, values = [], []
    for which in range(2):
        totals = np.zeros(10)
        for k in range(12):
            layout = LAYOUTS[k // 8]
            totals += rng.integers(0, 9, 10)
            if k == 6:
                totals[:] = 1
            buckets = totals[: layout.width - 2]
            values.append(Histogram(layout, np.array([buckets.sum(), float(k) * 1.5 + which, *buckets])))
            times.append(begin + 15_000 * k)
    values += [float(k) for k in range(12)]
    times += [begin + 15_000 * k for k in range(12)]
    return [0, 12, 24, 36], times, values


@pytest.fixture(scope="module")
def both(module_launch: Any, tools: Any) -> tuple[Any, Any, float]:
    vedette = module_launch.vedette(env=tools.environment(VEDETTE_HOST_ENABLED="false"))
    port = module_launch.free_port()
    folder = module_launch.folder
    (folder / "empty.yml").write_text("global: {}\n")
    binary = module_launch._binary("prometheus")
    flags = ["--web.enable-remote-write-receiver", "--enable-feature=native-histograms", f"--web.listen-address=127.0.0.1:{port}"]
    command = [binary, f"--config.file={folder / 'empty.yml'}", f"--storage.tsdb.path={folder / 'prometheus'}", *flags]
    prometheus = module_launch.start("prometheus", command, port, ready="/-/ready")
    begin = (int(time.time()) - 200) * 1000
    body = remote_write.render(SERIES, *samples(begin))
    for server in (vedette, prometheus):
        answer = server.post("/api/v1/write", content=body, headers=tools.write_headers)
        assert answer.status_code == 204, (server.name, answer.text)
    # Between two samples: versions differ in whether a window includes one at its left edge.
    return vedette, prometheus, begin / 1000 + 172


def sorted_result(data: Any) -> Any:
    return sorted(data["result"], key=lambda row: sorted(row["metric"].items()))


def close(got: Any, wanted: Any) -> bool:
    """Equality of JSON, numbers to twelve digits: versions sum in another order."""
    if isinstance(wanted, dict):
        return got.keys() == wanted.keys() and all(close(got[k], wanted[k]) for k in wanted)
    if isinstance(wanted, list):
        return len(got) == len(wanted) and all(close(g, w) for g, w in zip(got, wanted, strict=True))
    try:
        return float(got) == pytest.approx(float(wanted), rel=1e-12)
    except (TypeError, ValueError):
        return bool(got == wanted)


@pytest.mark.parametrize("query", QUERIES)
def test_an_instant_query_answers_as_prometheus(both, query):
    vedette, prometheus, at = both
    got, wanted = (sorted_result(s.data("/api/v1/query", query=query, time=str(at))) for s in (vedette, prometheus))
    assert len(wanted) > 0
    assert close(got, wanted), (got, wanted)


@pytest.mark.parametrize("query", [q for q in QUERIES if not q.endswith("]")])
def test_a_range_query_answers_as_prometheus(both, query):
    vedette, prometheus, at = both
    span = {"start": str(at - 30), "end": str(at), "step": "15"}
    got, wanted = (sorted_result(s.data("/api/v1/query_range", query=query, **span)) for s in (vedette, prometheus))
    assert len(wanted) > 0
    assert close(got, wanted), (got, wanted)


def test_the_second_version_of_remote_write_is_taken(both, tools):
    vedette, _, at = both
    offsets, times, values = samples(int(at * 1000) - 172_000)
    series = [labels.with_({"way": "v2"}) for labels in SERIES]
    body = remote_write2.render(series, offsets, times, values)
    headers = {**tools.write_headers, "Content-Type": "application/x-protobuf;proto=io.prometheus.write.v2.Request"}
    answer = vedette.post("/api/v1/write", content=body, headers=headers | {"X-Prometheus-Remote-Write-Version": "2.0.0"})
    assert answer.status_code == 204
    assert answer.headers["x-prometheus-remote-write-histograms-written"] == "24"
    assert answer.headers["x-prometheus-remote-write-samples-written"] == "12"
    first, second = (vedette.data("/api/v1/query", query=f"h{{way='{way}'}}", time=str(at))["result"] for way in ("", "v2"))
    assert [row["histogram"] for row in first] == [row["histogram"] for row in second]


def test_exemplars_are_answered_as_prometheus_answers(both, tools):
    vedette, prometheus, at = both
    marks = [Exemplar(0, Labels.of(trace_id="abc"), 0.25, int(at * 1000) - 5000)]
    body = remote_write2.render([SERIES[0]], [0, 1], [int(at * 1000) + 30_000], [1.0], exemplars=marks)
    headers = {**tools.write_headers, "Content-Type": "application/x-protobuf;proto=io.prometheus.write.v2.Request"}
    answer = vedette.post("/api/v1/write", content=body, headers=headers)
    assert answer.headers["x-prometheus-remote-write-exemplars-written"] == "1"
    span = {"query": "rate(h[1m])", "start": str(at - 60), "end": str(at)}
    (found,) = vedette.data("/api/v1/query_exemplars", **span)
    assert found["seriesLabels"] == {"__name__": "h", "job": "a"}
    assert found["exemplars"] == [{"labels": {"trace_id": "abc"}, "value": "0.25", "timestamp": at - 5}]
    assert prometheus.data("/api/v1/query_exemplars", **span) == vedette.data("/api/v1/query_exemplars", **span | {"query": "none"}) == []


def test_histograms_survive_a_kill(both, module_launch, tools):
    vedette, _, at = both
    before = sorted_result(vedette.data("/api/v1/query", query="h", time=str(at)))
    vedette.kill()
    again = module_launch.vedette(env=tools.environment(VEDETTE_HOST_ENABLED="false"))
    assert sorted_result(again.data("/api/v1/query", query="h", time=str(at))) == before
