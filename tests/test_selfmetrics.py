"""What HTTP requests are counted as: the text that the library's own metrics would give."""

from __future__ import annotations

import random

from prometheus_client import CollectorRegistry, Counter, Histogram, disable_created_metrics, generate_latest

from vedette.selfmetrics import BUCKETS_S, HttpMetrics


def test_requests_are_counted_as_the_librarys_metrics_would() -> None:
    disable_created_metrics()  # type: ignore[no-untyped-call]
    ours, theirs = CollectorRegistry(), CollectorRegistry()
    http = HttpMetrics(ours, lambda path: path if path != "/unknown" else "other")
    requests = Counter("vedette_http_requests", "HTTP requests answered.", ["handler", "code"], registry=theirs)
    times = Histogram(
        "vedette_http_request_duration_seconds", "Time to answer an HTTP request.", ["handler"], buckets=BUCKETS_S, registry=theirs
    )
    documents = Counter("botserver_requests", "Total number of requests.", ["method", "status"], registry=theirs)
    every = Histogram("botserver_request_duration_seconds", "Request duration.", buckets=BUCKETS_S, registry=theirs)
    assert generate_latest(ours) == generate_latest(theirs), "before anything was asked for"
    draw = random.Random(1)
    for _ in range(500):
        path, method = draw.choice(["/a", "/b", "/unknown"]), draw.choice(["GET", "POST", "BREW", "HEAD"])
        status, seconds = draw.choice([200, 204, 404, 503]), draw.choice([*BUCKETS_S, 0.0, 0.0004, 0.3, 11.0, 600.0])
        http.observe(path, method, status, seconds)
        handler = path if path != "/unknown" else "other"
        requests.labels(handler, str(status)).inc()
        times.labels(handler).observe(seconds)
        documents.labels("other" if method == "BREW" else method, str(status)).inc()
        every.observe(seconds)
    assert sorted(generate_latest(ours).splitlines()) == sorted(generate_latest(theirs).splitlines())
    # A part of them is found by name.
    names = ["vedette_http_requests_total"]
    assert generate_latest(ours.restricted_registry(names)) == generate_latest(theirs.restricted_registry(names))
