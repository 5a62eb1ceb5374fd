"""What the query cases ask: 100,000 series of a fleet of machines, as dashboards know them; and a month of one metric.

Beside TSBS-like hosts (`data.py`) there are metrics of many series each, so that one function of one metric reads over a
million samples: a counter, a gauge, and a histogram of classic buckets. Written without any of Vedette's own code.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from bench import data

BOUNDS = ("0.005", "0.01", "0.025", "0.05", "0.1", "0.25", "0.5", "1", "2.5", "5", "10", "+Inf")
"""The `le` of each bucket."""
DAY_MS = 86_400_000
MONTH_STEP_MS = 15_000


@dataclass(frozen=True)
class Fleet:
    """How many of each: `hosts` of 100 devops series, `servers` of 20 requests counters and 20 gauges, `services` of 12 buckets."""

    hosts: int
    servers: int
    services: int

    @property
    def series(self) -> int:
        """All series."""
        return self.hosts * data.FIELDS_PER_HOST + self.servers * 40 + self.services * len(BOUNDS)


FULL = Fleet(hosts=360, servers=1000, services=2000)
"""100,000 series."""


def _labels(name: str, **labels: str) -> bytes:
    pairs = sorted({"__name__": name, **labels}.items())
    return b"".join(data.label_field(k, v) for k, v in pairs)


def _region(number: int) -> str:
    return data.REGIONS[number * 7 % len(data.REGIONS)]


def _server_series(fleet: Fleet) -> tuple[list[bytes], list[bytes]]:
    requests, gauges = [], []
    for server in range(fleet.servers):
        instance, region = f"i-{server:05}", _region(server)
        requests += [
            _labels("http_requests_total", instance=instance, region=region, handler=handler, method=method, code=code)
            for handler in ("/", "/login", "/cart", "/search", "/pay")
            for method in ("GET", "POST")
            for code in ("200", "500")
        ]
        gauges += [_labels("vm_memory_bytes", instance=instance, region=region, vm=f"vm-{vm}") for vm in range(20)]
    return requests, gauges


def _bucket_series(fleet: Fleet) -> list[bytes]:
    return [
        _labels("rpc_seconds_bucket", service=f"svc-{service:05}", region=_region(service), le=bound)
        for service in range(fleet.services)
        for bound in BOUNDS
    ]


class _Values:
    """The values of all series, one step after another."""

    def __init__(self, fleet: Fleet) -> None:
        self._random = np.random.default_rng(5)
        self._hosts = data.Walk(fleet.hosts * data.FIELDS_PER_HOST)
        self._pace = self._random.exponential(20, fleet.servers * 20)
        self._requests = np.round(self._random.uniform(0, 1e5, fleet.servers * 20))
        self._memory = np.round(self._random.uniform(1e8, 4e9, fleet.servers * 20))
        self._buckets = np.zeros((fleet.services, len(BOUNDS)))

    def next(self) -> NDArray[np.float64]:
        random = self._random
        self._requests = self._requests + random.poisson(self._pace)
        restarted = random.random(len(self._requests)) < 0.0005
        self._requests[restarted] = 0
        self._memory = np.maximum(4096.0, self._memory + 4096 * np.round(random.normal(0, 500, len(self._memory))))
        self._buckets = self._buckets + np.cumsum(random.poisson(1.5, self._buckets.shape), axis=1)
        return np.concatenate([self._hosts.next(), self._requests, self._memory, self._buckets.reshape(-1)])


def bodies(fleet: Fleet, steps: int, *, start_ms: int, per_request: int) -> list[list[bytes]]:
    """`bodies[step][request]`: remote-write requests of all series, `data.STEP_MS` apart."""
    names = data.metric_names()
    regions = []
    for host in data.hosts(fleet.hosts):
        tags = b"".join(data.label_field(name, value) for name, value in host.tags)
        regions += [data.label_field("__name__", metric) + tags for metric in names]
    requests, gauges = _server_series(fleet)
    every = [*regions, *requests, *gauges, *_bucket_series(fleet)]
    templates = [data.WriteTemplate(every[i : i + per_request]) for i in range(0, len(every), per_request)]
    values, rounds = _Values(fleet), []
    for step in range(steps):
        now, at, made = values.next(), 0, []
        for template in templates:
            made.append(template.render(np.ascontiguousarray(now[at : at + template.series]), start_ms + step * data.STEP_MS))
            at += template.series
        rounds.append(made)
    return rounds


def month(series: int, days: int, *, start_ms: int, per_request: int = 100) -> list[bytes]:
    """Requests, in order of time, of one counter (`events_total`) of `series` series, every 15 s for `days` days.

    A request holds `per_request` times of all series; less than an hour, so that no sample is late for Prometheus.
    """
    random = np.random.default_rng(3)
    keys = [_labels("events_total", instance=f"i-{n}", zone="ab"[n % 2]) for n in range(series)]
    levels = np.zeros(series)
    made = []
    for first in range(0, days * DAY_MS // MONTH_STEP_MS, per_request):
        count = min(per_request, days * DAY_MS // MONTH_STEP_MS - first)
        grown = levels + np.cumsum(random.poisson(5 + np.arange(series), (count, series)), axis=0)
        levels = grown[-1]
        template = data.WriteTemplate([key for key in keys for _ in range(count)])
        times = start_ms + MONTH_STEP_MS * np.tile(np.arange(first, first + count), series)
        made.append(template.render_at(np.ascontiguousarray(grown.T.reshape(-1)), times))
    return made
