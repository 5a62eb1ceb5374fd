"""Vedette's metrics about itself, on one prometheus_client registry.

What the rooms already count is read when the registry is rendered (`_Rooms`), so the hot paths pay nothing; only
HTTP requests are observed as they happen (`HttpMetrics`). Names: those the service documents promise, and `vedette_*`.
"""

from __future__ import annotations

import itertools
import time
from bisect import bisect_left
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from prometheus_client import (
    CollectorRegistry,
    GCCollector,
    Metric,
    PlatformCollector,
    ProcessCollector,
    disable_created_metrics,
)
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily
from prometheus_client.registry import Collector
from prometheus_client.utils import floatToGoString
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from vedette.api.tracing import SpanCounts
from vedette.api.updates import Updates
from vedette.collect.scrape import TargetState
from vedette.forward.forwards import ForwardState
from vedette.ingest.door import Counts
from vedette.ingest.exemplars import Exemplars
from vedette.ingest.graphite import Graphite
from vedette.ingest.pushed import Pushed
from vedette.ingest.statsd import Statsd
from vedette.ingest.track import Tracker
from vedette.logs.store import LogStore
from vedette.net.addresses import redacted_url
from vedette.notify.alertmanagers import PeerState
from vedette.notify.pipeline import Counts as NotifierCounts
from vedette.rules.state import Tally
from vedette.storage.interface import StorageStats

BUCKETS_S = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)


@dataclass(frozen=True, slots=True)
class Reading:
    """One figure of a room: `kind` counter or gauge, `values` by label value ("" where the metric has no label)."""

    name: str
    kind: str
    help: str
    values: Mapping[str, float]
    label: str = ""


def _one(name: str, kind: str, about: str, value: float) -> Reading:
    return Reading(name, kind, about, {"": value})


_LEVELS = {
    "memory_bytes": "Bytes in memory",
    "page_cache_bytes": "Bytes in memory",
    "rollup_bytes": "Bytes on disk",
    "tombstones": "Now",
    "queued_samples": "Now",
}


def of_storage(stats: StorageStats, counters: Mapping[str, int]) -> Iterator[Reading]:
    """What the engine holds, and what it counted, as `vedette_storage_*`."""
    for name, value in counters.items():
        kind, about = ("gauge", _LEVELS[name]) if name in _LEVELS else ("counter", "Since the start")
        yield _one(f"vedette_storage_{name}", kind, f"{about}: {name.replace('_', ' ')}.", value)
    yield _one("vedette_head_series", "gauge", "Series in memory.", stats.series)
    yield _one("vedette_head_chunks", "gauge", "Chunks of samples in memory.", stats.chunks)
    yield _one("vedette_wal_bytes", "gauge", "Size of the log on disk.", stats.wal_bytes)
    yield _one("vedette_block_bytes", "gauge", "Size of all blocks on disk.", stats.block_bytes)
    yield _one("vedette_blocks", "gauge", "Blocks on disk.", stats.blocks)
    yield _one("vedette_appended_samples", "counter", "Samples stored since the start.", stats.samples_appended)


def of_forwards(states: Sequence[ForwardState]) -> Iterator[Reading]:
    """How forwarding goes, by server."""

    def reading(name: str, kind: str, about: str, values: Mapping[str, float]) -> Reading:
        return Reading(f"vedette_forward_{name}", kind, about, values, "remote")

    yield reading("queued_samples", "gauge", "Samples that wait to be sent.", {s.name: s.queued for s in states})
    yield reading("queue_bytes", "gauge", "Size of the queue on disk.", {s.name: s.queue_bytes for s in states})
    yield reading("sent_samples", "counter", "Samples that the server has.", {s.name: s.sent for s in states})
    yield reading("retries", "counter", "Requests sent again.", {s.name: s.retries for s in states})
    yield reading("dead_samples", "counter", "Samples that the server refused as bad.", {s.name: s.dead for s in states})
    yield reading("dropped_samples", "counter", "Samples for which the queue had no room.", {s.name: s.dropped for s in states})


def of_door(counts: Counts) -> Iterator[Reading]:
    """What came in."""
    yield _one("vedette_ingested_samples", "counter", "Samples taken in.", counts.samples)
    yield Reading("vedette_dropped_samples", "counter", "Samples not stored, by reason.", dict(counts.dropped), "reason")
    yield Reading("vedette_refused_batches", "counter", "Batches refused whole, by reason.", dict(counts.refused), "reason")
    yield Reading("vedette_limited_samples", "counter", "Samples that a limit kept out, by tenant.", dict(counts.limited), "tenant")
    yield _one("vedette_new_series", "counter", "Series met for the first time.", counts.new_series)


def of_intake(unread: Mapping[str, int], left_out: Mapping[str, int]) -> Iterator[Reading]:
    """What came in by other protocols than Prometheus' own, and did not become samples."""
    about = "Lines, rows and points that could not be read, by protocol."
    yield Reading("vedette_intake_unreadable", "counter", about, dict(unread), "protocol")
    about = "Values of a kind that no sample can have (strings), left out, by protocol."
    yield Reading("vedette_intake_left_out", "counter", about, dict(left_out), "protocol")


def of_sockets(graphite: Graphite, statsd: Statsd) -> Iterator[Reading]:
    """What came in without HTTP."""
    yield _one("vedette_graphite_samples", "counter", "Samples of Graphite's protocols stored.", graphite.counts.samples)
    yield Reading("vedette_graphite_dropped", "counter", "What of them was not, by reason.", graphite.drops(), "reason")
    yield _one("vedette_statsd_lines", "counter", "Lines of StatsD taken.", statsd.counts.lines)
    yield Reading("vedette_statsd_dropped", "counter", "Lines not taken, by reason.", statsd.drops(), "reason")
    yield _one("vedette_statsd_metrics", "gauge", "Metrics kept, label sets counted apart.", statsd.series)
    yield _one("vedette_statsd_failures", "counter", "Intervals that could not be written.", statsd.failures)


def of_pushed(pushed: Pushed) -> Iterator[Reading]:
    """What jobs pushed and is kept."""
    yield _one("vedette_pushed_groups", "gauge", "Pushed groups kept.", pushed.count)
    yield _one("vedette_pushes", "counter", "Pushes taken.", pushed.counts.pushes)
    yield _one("vedette_pushes_refused", "counter", "Pushes refused as inconsistent.", pushed.counts.refused)
    yield _one("vedette_pushed_failures", "counter", "Intervals in which groups could not be written.", pushed.failures)


def of_exemplars(exemplars: Exemplars) -> Iterator[Reading]:
    """What is kept of exemplars."""
    yield _one("vedette_exemplars", "gauge", "Exemplars kept.", len(exemplars))
    yield _one("vedette_exemplar_series", "gauge", "Series that have exemplars.", exemplars.series)
    yield _one("vedette_appended_exemplars", "counter", "Exemplars taken in.", exemplars.appended)
    yield Reading("vedette_dropped_exemplars", "counter", "Exemplars not kept, by reason.", dict(exemplars.dropped), "reason")


def of_limits(series: Mapping[str, int], most: Mapping[str, int]) -> Iterator[Reading]:
    """How near tenants are to how many series they may have; `most` of those that are named in the settings."""
    yield Reading("vedette_tenant_series", "gauge", "Series in memory, by tenant.", dict(series), "tenant")
    yield Reading("vedette_tenant_series_limit", "gauge", "How many series the tenant may have.", dict(most), "tenant")


def of_spans(counts: SpanCounts) -> Iterator[Reading]:
    """What became of the spans of traces."""
    yield _one("vedette_spans_sent", "counter", "Spans that the collector took.", counts.sent)
    yield _one("vedette_spans_dropped", "counter", "Spans not sent.", counts.dropped)


def of_live(updates: Updates) -> Iterator[Reading]:
    """Who watches live values."""
    yield _one("vedette_live_clients", "gauge", "Clients that watch live values.", updates.clients)
    yield _one("vedette_live_updates", "counter", "Updates put in line for them.", updates.told)
    yield _one("vedette_live_updates_dropped", "counter", "Updates that they were too slow for.", updates.lost)


def of_tracker(tracker: Tracker) -> Iterator[Reading]:
    """Tracked metrics, under the names of the metrics service's document."""
    yield _one("metrics_collected", "counter", "Total metrics collected.", tracker.collected)
    yield _one("metrics_series_total", "gauge", "Total metric series.", tracker.series)
    yield _one("metrics_points", "counter", "Total metric points.", tracker.points)
    yield _one("metrics_errors", "counter", "Total collection errors.", sum(tracker.dropped.values()) + tracker.failures)


def of_logs(store: LogStore) -> Iterator[Reading]:
    """What the log store holds and did."""
    sizes, counts = store.sizes(), store.counts
    yield _one("vedette_logs_segments", "gauge", "Segments of log lines on disk.", sizes["segments"])
    yield _one("vedette_logs_segment_bytes", "gauge", "Size of all segments on disk.", sizes["segment_bytes"])
    yield _one("vedette_logs_segment_lines", "gauge", "Lines in segments.", sizes["segment_lines"])
    yield _one("vedette_logs_memory_lines", "gauge", "Lines in memory, not in a segment yet.", sizes["memory_lines"])
    yield _one("vedette_logs_memory_bytes", "gauge", "Memory that these take.", sizes["memory_bytes"])
    yield _one("vedette_logs_lines", "counter", "Lines stored since the start.", store.lines)
    yield _one("vedette_logs_write_failures", "counter", "Batches of lines that the log did not take.", store.write_failures)
    yield _one("vedette_logs_failures", "counter", "Flushes and merges of segments that failed.", counts.failures)
    yield _one("vedette_logs_corrupt", "counter", "Segments set aside and places of the log skipped, being damaged.", counts.corrupt)
    yield _one("vedette_logs_segments_deleted", "counter", "Segments deleted by retention.", counts.segments_deleted)


def of_notifier(counts: NotifierCounts) -> Iterator[Reading]:
    """What was told to people."""
    yield Reading("vedette_notifications", "counter", "Notifications sent, by channel.", dict(counts.sent), "channel")
    yield Reading("vedette_notifications_failed", "counter", "Notifications that failed, by reason.", dict(counts.failed), "reason")
    yield Reading("vedette_alerts_muted", "counter", "Alerts not told of, by reason.", dict(counts.muted), "reason")


def of_alertmanagers(peers: Sequence[PeerState]) -> Iterator[Reading]:
    """What was passed on to other Alertmanagers."""
    for name, kind, about in (
        ("sent", "counter", "Alerts passed on."),
        ("dropped", "counter", "Alerts not passed on: the queue was full."),
        ("errors", "counter", "Requests that failed."),
        ("queued", "gauge", "Alerts that wait to be passed on."),
    ):
        values = {redacted_url(peer.url): float(getattr(peer, name)) for peer in peers}
        yield Reading(f"vedette_alertmanager_{name}", kind, about, values, "alertmanager")


def of_targets(targets: Sequence[TargetState], failures: int) -> Iterator[Reading]:
    """How scraping goes; `failures` are scrapes that broke on our side."""
    yield _one("vedette_scrape_failures", "counter", "Scrapes that broke inside or could not be stored.", failures)
    health = {state: float(sum(t.health == state for t in targets)) for state in ("up", "down", "unknown")}
    yield Reading("vedette_targets", "gauge", "Targets by health.", health, "health")


def of_rules(tally: Tally) -> Iterator[Reading]:
    """How evaluating goes."""
    yield _one("vedette_rule_groups", "gauge", "Rule groups in force.", tally.groups)
    yield _one("vedette_rule_evaluations", "counter", "Evaluations of rule groups.", tally.iterations)
    yield _one("vedette_rule_failures", "counter", "Evaluations of rules that failed.", tally.failures)
    yield _one("vedette_rule_iterations_missed", "counter", "Evaluations that came too late and were left out.", tally.missed)
    states = {"pending": float(tally.pending), "firing": float(tally.firing)}
    yield Reading("vedette_alerts", "gauge", "Active alerts by state.", states, "state")


class _Rooms(Collector):
    def __init__(self, read: Callable[[], Iterable[Reading]]) -> None:
        self._read = read

    def describe(self) -> Iterable[Metric]:
        return ()  # without it the registry would collect once at registration, before anything has started

    def collect(self) -> Iterator[Metric]:
        for reading in self._read():
            names = [reading.label] if reading.label else []
            shape = CounterMetricFamily if reading.kind == "counter" else GaugeMetricFamily
            family = shape(reading.name, reading.help, labels=names)
            for label, value in reading.values.items():
                family.add_metric([label] if names else [], value)
            yield family


def registry(read: Callable[[], Iterable[Reading]]) -> CollectorRegistry:
    """A registry with this process' own figures and those that `read` gives at each rendering."""
    # `_created` series double what a histogram costs, and nobody asks for them. The library has only this switch, for the process.
    disable_created_metrics()  # type: ignore[no-untyped-call]
    made = CollectorRegistry()
    ProcessCollector(registry=made)
    PlatformCollector(registry=made)
    GCCollector(registry=made)
    made.register(_Rooms(read))
    return made


class _Times:
    """How often something took how long: `counts` of those up to each of `BUCKETS_S`, and of the longer ones; `total` in seconds."""

    __slots__ = ("counts", "total")

    def __init__(self) -> None:
        self.counts = [0] * (len(BUCKETS_S) + 1)
        self.total = 0.0

    def observe(self, place: int, seconds: float) -> None:
        """Note one that took `seconds`, which belong to the bucket at `place`."""
        self.counts[place] += 1
        self.total += seconds

    def family(self) -> tuple[list[tuple[str, float]], float]:
        """Buckets and sum as a `HistogramMetricFamily` takes them."""
        bounds = [*map(floatToGoString, BUCKETS_S), "+Inf"]
        return list(zip(bounds, itertools.accumulate(map(float, self.counts)), strict=True)), self.total


_METHODS = frozenset(("GET", "POST", "PUT", "DELETE", "HEAD", "OPTIONS", "PATCH"))


class HttpMetrics(Collector):
    """ASGI middleware: counts and times requests, by handler (a known path, or `other`) and by status. For one event loop.

    The smallest requests take a tenth of a millisecond, of which metrics that every thread may write would take a tenth.
    """

    def __init__(self, into: CollectorRegistry, known: Callable[[str], str]) -> None:
        self._known = known
        self._counts: dict[tuple[str, int, str], int] = {}
        self._times: dict[str, _Times] = {}
        self._all = _Times()
        into.register(self)

    def describe(self) -> Iterable[Metric]:
        """The same, so that the registry finds it by name."""
        return self.collect()

    def collect(self) -> Iterable[Metric]:
        """What was observed, under our names and those of the service documents."""
        requests: dict[tuple[str, str], int] = {}
        documents: dict[tuple[str, str], int] = {}
        for (handler, status, method), count in list(self._counts.items()):
            code = str(status)
            requests[handler, code] = requests.get((handler, code), 0) + count
            documents[method, code] = documents.get((method, code), 0) + count
        yield _counter("vedette_http_requests", "HTTP requests answered.", ("handler", "code"), requests)
        times = HistogramMetricFamily("vedette_http_request_duration_seconds", "Time to answer an HTTP request.", labels=["handler"])
        for handler, observed in list(self._times.items()):
            times.add_metric([handler], *observed.family())
        yield times
        yield _counter("botserver_requests", "Total number of requests.", ("method", "status"), documents)
        every = HistogramMetricFamily("botserver_request_duration_seconds", "Request duration.", labels=[])
        every.add_metric([], *self._all.family())
        yield every

    def around(self, inner: ASGIApp) -> ASGIApp:
        """`inner` with every request observed."""

        async def observed(scope: Scope, receive: Receive, send: Send) -> None:
            if scope["type"] != "http":
                await inner(scope, receive, send)
                return
            started, status = time.perf_counter(), 500

            async def watch(message: Message) -> None:
                nonlocal status
                if message["type"] == "http.response.start":
                    status = message["status"]
                await send(message)

            try:
                await inner(scope, receive, watch)
            finally:
                self.observe(scope["path"], scope["method"], status, time.perf_counter() - started)

        return observed

    def observe(self, path: str, method: str, status: int, seconds: float) -> None:
        """Count one request that was answered."""
        handler = self._known(path)
        # A client may send any word as the method; only the standard ones become label values.
        method = method if method in _METHODS else "other"
        key = handler, status, method
        self._counts[key] = self._counts.get(key, 0) + 1
        times = self._times.get(handler)
        if times is None:
            times = self._times[handler] = _Times()
        place = bisect_left(BUCKETS_S, seconds)
        times.observe(place, seconds)
        self._all.observe(place, seconds)


def _counter(name: str, about: str, labels: tuple[str, str], values: Mapping[tuple[str, str], int]) -> CounterMetricFamily:
    family = CounterMetricFamily(name, about, labels=list(labels))
    for key, value in values.items():
        family.add_metric(list(key), value)
    return family
