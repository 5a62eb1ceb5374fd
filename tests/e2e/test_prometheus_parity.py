"""A real Prometheus scrapes a real node_exporter and itself, remote-writes into Vedette; then both answer alike.

Instants are chosen between samples: Prometheus 2 includes a sample at the left edge of a range, Prometheus 3 and
Vedette do not, and that difference of versions is the only one these queries would meet.
"""

from __future__ import annotations

import json
import math
import time
from typing import Any

import pytest

pytestmark = pytest.mark.timeout(600)

INTERVAL_MS = 500
SCRAPES = 32

QUERIES = [
    "up{job!='vedette'}",
    "scrape_samples_scraped{job!='vedette'}",
    'node_cpu_seconds_total{mode!="idle"}',
    'node_cpu_seconds_total{mode=~"user|system",cpu="0"}',
    '{__name__=~"node_load.*"}',
    "node_load1 offset 5s",
    "sum by (mode) (rate(node_cpu_seconds_total[6s]))",
    "avg without (cpu) (irate(node_cpu_seconds_total[6s]))",
    "1 - avg by (instance) (rate(node_cpu_seconds_total{mode='idle'}[8s]))",
    "increase(node_context_switches_total[8s])",
    "delta(node_memory_MemFree_bytes[8s])",
    "node_memory_MemAvailable_bytes / node_memory_MemTotal_bytes * 100",
    "node_memory_MemTotal_bytes - node_memory_MemFree_bytes > 1024",
    "avg_over_time(node_memory_MemFree_bytes[8s])",
    "max_over_time(node_load1[8s]) - min_over_time(node_load1[8s])",
    "quantile_over_time(0.5, node_memory_MemFree_bytes[8s])",
    "stddev_over_time(node_memory_MemFree_bytes[8s])",
    "count_over_time(up{job!='vedette'}[7s])",
    "last_over_time(node_time_seconds[8s])",
    "changes(node_time_seconds[8s])",
    "resets(node_cpu_seconds_total{cpu='0'}[8s])",
    "deriv(node_time_seconds[8s])",
    "predict_linear(node_memory_MemFree_bytes[8s], 60)",
    "sum(node_filesystem_size_bytes) by (fstype)",
    "topk(3, node_filesystem_size_bytes)",
    "count by (mode) (node_cpu_seconds_total)",
    "count_values('value', up{job!='vedette'})",
    "quantile(0.9, node_network_receive_bytes_total)",
    "stdvar(node_cpu_seconds_total)",
    "group(up{job!='vedette'}) by (job)",
    "histogram_quantile(0.9, sum by (le) (rate(prometheus_http_request_duration_seconds_bucket[10s])))",
    "histogram_quantile(0.5, prometheus_http_request_duration_seconds_bucket)",
    "node_filesystem_avail_bytes * on (instance, job) group_left (nodename) node_uname_info",
    "node_network_receive_bytes_total and on (device) node_network_up == 1",
    "up{job!='vedette'} or vector(1)",
    "up{job!='vedette'} unless on (job) node_uname_info",
    "label_replace(up{job!='vedette'}, 'host', '$1', 'instance', '(.*):.*')",
    "label_join(up{job!='vedette'}, 'joined', '-', 'job', 'instance')",
    "absent(no_such_metric{job='x'})",
    "sort_desc(node_filesystem_files)",
    "clamp_max(node_load1, 0.1) + floor(node_load5) + round(node_load15, 0.5)",
    "max_over_time(sum(rate(node_cpu_seconds_total[4s]))[6s:1s])",
    "time() - node_boot_time_seconds",
    "day_of_week(node_time_seconds) + hour(node_time_seconds) + minute()",
    "node_load1 > bool 0.2",
    "-node_load1 ^ 2 % 3",
]


@pytest.fixture(scope="module")
def both(module_launch: Any, tools: Any) -> tuple[Any, Any, float]:
    """(Vedette, Prometheus, an instant that both hold the same samples before and around)."""
    # What Vedette collects of this machine by itself would be two of everything; `up` and `scrape_*` of its own are left out by their job.
    vedette = module_launch.vedette(env=tools.environment(VEDETTE_HOST_ENABLED="false"))
    exporter = module_launch.node_exporter()
    port = module_launch.free_port()
    prometheus = module_launch.prometheus(
        f"""\
global: {{scrape_interval: {INTERVAL_MS}ms, scrape_timeout: {INTERVAL_MS}ms}}
scrape_configs:
  - job_name: node
    static_configs: [{{targets: ["{exporter.url.removeprefix("http://")}"], labels: {{rack: r1}}}}]
  - job_name: prometheus
    static_configs: [{{targets: ["127.0.0.1:{port}"]}}]
remote_write:
  - url: {vedette.url}/api/v1/write
    queue_config: {{batch_send_deadline: 500ms, min_shards: 1, max_shards: 1}}
    metadata_config: {{send_interval: 5s}}
""",
        port=port,
    )

    def enough() -> bool:
        found = vedette.query("count_over_time(up{job!='vedette'}[1m])")
        return len(found) == 2 and all(float(one["value"][1]) >= SCRAPES for one in found)

    tools.eventually(enough, "Prometheus has written enough scrapes into Vedette")
    # Both targets' scrapes arrive in one queue, in order: what is two seconds old is there, whole.
    instant = _between_samples(prometheus, time.time() - 2.0)
    tools.eventually(lambda: all(_caught_up(vedette, prometheus, instant)), "both have caught up")
    return vedette, prometheus, instant


def _caught_up(vedette: Any, prometheus: Any, instant: float) -> list[bool]:
    """For each job, whether a scrape after `instant` is in both."""
    expr = f"timestamp(up{{job!='vedette'}}) > {instant!r}"
    return [len(server.query(expr, instant + 1)) == 2 for server in (vedette, prometheus)]


def _between_samples(prometheus: Any, near: float) -> float:
    """An instant just before `near`, at least a tenth of an interval away from any target's samples (and from whole steps of them)."""
    phases = [float(one["value"][1]) * 1000 % INTERVAL_MS for one in prometheus.query("timestamp(up)", near)]
    assert len(phases) == 2
    candidates = (int(near * 1000) - offset for offset in range(0, INTERVAL_MS, 5))
    for at in candidates:
        gaps = [min((at - p) % INTERVAL_MS, (p - at) % INTERVAL_MS) for p in phases]
        if min(gaps) >= INTERVAL_MS / 10:
            return at / 1000
    raise AssertionError(f"no instant lies between the samples: {phases}")


def _points(data: dict[str, Any]) -> dict[str, list[tuple[float, float]]]:
    """Series, named by their labels, to points; a scalar is a series without labels."""
    if data["resultType"] == "scalar":
        return {"": [(float(data["result"][0]), float(data["result"][1]))]}
    found = {}
    for one in data["result"]:
        points = one["values"] if data["resultType"] == "matrix" else [one["value"]]
        found[json.dumps(one["metric"], sort_keys=True)] = [(float(t), float(v)) for t, v in points]
    return found


def _assert_alike(ours: dict[str, Any], theirs: dict[str, Any]) -> None:
    assert ours["resultType"] == theirs["resultType"]
    left, right = _points(ours), _points(theirs)
    assert left.keys() == right.keys()
    for labels, points in right.items():
        assert [t for t, _ in left[labels]] == [t for t, _ in points], labels
        for (at, value), (_, other) in zip(left[labels], points, strict=True):
            alike = math.isclose(value, other, rel_tol=1e-9, abs_tol=1e-12) or (math.isnan(value) and math.isnan(other))
            assert alike, f"{labels} at {at}: {value!r}, Prometheus has {other!r}"


@pytest.mark.parametrize("expr", QUERIES)
def test_an_instant_query_gives_the_same(both: tuple[Any, Any, float], expr: str) -> None:
    vedette, prometheus, instant = both
    asked = {"query": expr, "time": repr(instant)}
    _assert_alike(vedette.data("/api/v1/query", **asked), prometheus.data("/api/v1/query", **asked))


@pytest.mark.parametrize("expr", QUERIES)
def test_a_range_query_gives_the_same(both: tuple[Any, Any, float], expr: str) -> None:
    vedette, prometheus, instant = both
    asked = {"query": expr, "start": repr(instant - 10), "end": repr(instant), "step": "0.5"}
    ours, theirs = vedette.data("/api/v1/query_range", **asked), prometheus.data("/api/v1/query_range", **asked)
    _assert_alike(ours, theirs)


def test_most_queries_have_something_to_compare(both: tuple[Any, Any, float]) -> None:
    _, prometheus, instant = both
    empty = [expr for expr in QUERIES if not prometheus.query(expr, instant)]
    assert len(empty) <= 2, f"these compare nothing with nothing: {empty}"


def test_an_order_is_the_same(both: tuple[Any, Any, float]) -> None:
    vedette, prometheus, instant = both
    for expr in ("sort(node_filesystem_size_bytes)", "topk(5, node_cpu_seconds_total)"):
        ours, theirs = vedette.query(expr, instant), prometheus.query(expr, instant)
        assert [float(one["value"][1]) for one in ours] == [float(one["value"][1]) for one in theirs]


def test_series_labels_and_values_are_the_same(both: tuple[Any, Any, float]) -> None:
    vedette, prometheus, instant = both
    # The default alerts may be about to fire on this machine: their series are Vedette's own.
    asked = {"match[]": '{job=~"node|prometheus",alertname=""}', "start": repr(instant - 10), "end": repr(instant)}

    def ordered(data: list[dict[str, str]]) -> list[str]:
        return sorted(json.dumps(one, sort_keys=True) for one in data)

    ours, theirs = vedette.data("/api/v1/series", **asked), prometheus.data("/api/v1/series", **asked)
    assert len(theirs) > 300
    assert ordered(ours) == ordered(theirs)
    assert vedette.data("/api/v1/labels", **asked) == prometheus.data("/api/v1/labels", **asked)
    for label in ("__name__", "mode", "device"):
        assert vedette.data(f"/api/v1/label/{label}/values", **asked) == prometheus.data(f"/api/v1/label/{label}/values", **asked)


def test_metadata_comes_along(both: tuple[Any, Any, float], tools: Any) -> None:
    vedette, prometheus, _ = both
    theirs = prometheus.data("/api/v1/metadata", metric="node_load1")
    found = tools.eventually(lambda: vedette.data("/api/v1/metadata", metric="node_load1"), "metadata has been written")
    assert found["node_load1"] == theirs["node_load1"]
