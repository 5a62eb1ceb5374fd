"""The data all servers are given: TSBS-like host metrics, and their remote-write and exposition bodies.

Written without any of Vedette's own code, so that a fault in its encoders cannot flatter it. The model follows the
DevOps use case of timescale/tsbs: per host nine measurements with 100 fields in all and ten tags; gauges are clamped
random walks, counters grow. Bodies are built from byte templates into which NumPy writes values and timestamps.
"""

from __future__ import annotations

from dataclasses import dataclass

import cramjam
import numpy as np
from numpy.typing import NDArray

MEASUREMENTS = {"cpu": 10, "diskio": 7, "disk": 7, "kernel": 5, "mem": 9, "net": 8, "nginx": 7, "postgresl": 16, "redis": 31}
"""Fields per measurement; 100 in all (TSBS has 99: redis is given one more to make the counts round)."""

FIELDS_PER_HOST = sum(MEASUREMENTS.values())
COUNTERS = frozenset({"diskio", "net"})
REGIONS = (
    "us-east-1",
    "us-west-1",
    "us-west-2",
    "eu-west-1",
    "eu-central-1",
    "ap-southeast-1",
    "ap-southeast-2",
    "ap-northeast-1",
    "sa-east-1",
)
STEP_MS = 10_000


@dataclass(frozen=True)
class Host:
    """One simulated host: its tags, sorted by name."""

    tags: tuple[tuple[str, str], ...]


def hosts(count: int, seed: int = 7) -> list[Host]:
    """`count` hosts with TSBS' tags; the same for the same seed."""
    random = np.random.default_rng(seed)
    made = []
    for number in range(count):
        region = REGIONS[int(random.integers(len(REGIONS)))]
        tags = {
            "hostname": f"host_{number}",
            "region": region,
            "datacenter": f"{region}{'abc'[int(random.integers(3))]}",
            "rack": str(int(random.integers(100))),
            "os": ("Ubuntu16.10", "Ubuntu16.04LTS", "Ubuntu15.10")[int(random.integers(3))],
            "arch": ("x64", "x86")[int(random.integers(2))],
            "team": ("SF", "NYC", "LON", "CHI")[int(random.integers(4))],
            "service": str(int(random.integers(20))),
            "service_version": str(int(random.integers(2))),
            "service_environment": ("production", "staging", "test")[int(random.integers(3))],
        }
        made.append(Host(tuple(sorted(tags.items()))))
    return made


def metric_names() -> list[str]:
    """The 100 metric names, in the order of a host's series."""
    return [f"devops_{measurement}_{i}" for measurement, count in MEASUREMENTS.items() for i in range(count)]


class Walk:
    """The values of all series at one step after another. `next()` gives float64[series], host by host."""

    def __init__(self, series: int, seed: int = 11) -> None:
        self._random = np.random.default_rng(seed)
        counters = [m in COUNTERS for m, count in MEASUREMENTS.items() for _ in range(count)]
        self._counter = np.resize(np.array(counters), series)
        self._values = np.where(self._counter, 0.0, self._random.uniform(0, 100, series))

    def next(self) -> NDArray[np.float64]:
        """Advance every series by one step: gauges within 0..100 with two decimals, counters by whole numbers."""
        steps = self._random.normal(0, 1, len(self._values))
        gauges = np.clip(self._values + steps, 0, 100)
        self._values = np.where(self._counter, self._values + np.abs(np.round(steps * 50)), gauges)
        return np.asarray(np.round(self._values, 2), dtype=np.float64)


def _varint(number: int) -> bytes:
    out = bytearray()
    while number > 127:
        out.append(number & 127 | 128)
        number >>= 7
    out.append(number)
    return bytes(out)


def _field(tag: int, payload: bytes) -> bytes:
    return bytes([tag]) + _varint(len(payload)) + payload


def label_field(name: str, value: str) -> bytes:
    """One label of a series, as it stands in a request."""
    return _field(0x0A, _field(0x0A, name.encode()) + _field(0x12, value.encode()))


class WriteTemplate:
    """Remote-write 1.0 requests for a fixed list of series, one sample each."""

    def __init__(self, series: list[bytes]) -> None:
        # Sample: tag 0x12, length 16; value: tag 0x09, 8 bytes; timestamp: tag 0x10, 6 varint bytes (any time in 2004-2109).
        blank = b"\x12\x10\x09" + bytes(8) + b"\x10" + bytes(6)
        body = bytearray()
        at = []
        for labels in series:
            body += b"\x0a" + _varint(len(labels) + len(blank)) + labels
            at.append(len(body) + 3)
            body += blank
        self._body = np.frombuffer(bytes(body), dtype=np.uint8).copy()
        self._values_at = np.array(at)[:, None] + np.arange(8)
        self._times_at = np.array(at)[:, None] + 9 + np.arange(6)
        self.series = len(series)

    def render(self, values: NDArray[np.float64], timestamp_ms: int) -> bytes:
        """The snappy-compressed request body with these values (float64[series]), all at one time."""
        self._body[self._values_at] = values.view(np.uint8).reshape(-1, 8)
        self._body[self._times_at] = np.frombuffer(_varint(timestamp_ms), dtype=np.uint8)
        return bytes(cramjam.snappy.compress_raw(self._body.tobytes()))

    def render_at(self, values: NDArray[np.float64], timestamps_ms: NDArray[np.int64]) -> bytes:
        """The same with a time (int64[series]) for each."""
        self._body[self._values_at] = values.view(np.uint8).reshape(-1, 8)
        groups = timestamps_ms[:, None] >> (7 * np.arange(6)) & 127
        groups[:, :5] |= 128
        self._body[self._times_at] = groups.astype(np.uint8)
        return bytes(cramjam.snappy.compress_raw(self._body.tobytes()))


def write_templates(host_list: list[Host], per_request: int) -> list[WriteTemplate]:
    """Templates that together cover all series of these hosts, host by host, at most `per_request` series each."""
    names = metric_names()
    regions: list[bytes] = []
    for host in host_list:
        tags = b"".join(label_field(name, value) for name, value in host.tags)
        regions.extend(label_field("__name__", metric) + tags for metric in names)
    return [WriteTemplate(regions[i : i + per_request]) for i in range(0, len(regions), per_request)]


def write_bodies(host_list: list[Host], steps: int, *, start_ms: int, per_request: int) -> list[list[bytes]]:
    """`bodies[step][request]`: the requests of `steps` rounds, `STEP_MS` apart, the first at `start_ms`."""
    templates = write_templates(host_list, per_request)
    walk = Walk(len(host_list) * FIELDS_PER_HOST)
    rounds = []
    for step in range(steps):
        values = walk.next()
        at = 0
        requests = []
        for template in templates:
            requests.append(template.render(values[at : at + template.series], start_ms + step * STEP_MS))
            at += template.series
        rounds.append(requests)
    return rounds


def exposition_bodies(lines: int, variants: int) -> list[bytes]:
    """`variants` text expositions of the same `lines` series (three labels each) with other values."""
    names = metric_names()
    host_list = hosts(-(-lines // len(names)))
    prefixes = []
    for metric in names:
        kind = "counter" if metric.split("_")[1] in COUNTERS else "gauge"
        for number, host in enumerate(host_list):
            header = f"# HELP {metric} A field of the simulated hosts.\n# TYPE {metric} {kind}\n" if number == 0 else ""
            tags = dict(host.tags)
            prefixes.append(f'{header}{metric}{{hostname="{tags["hostname"]}",region="{tags["region"]}",rack="{tags["rack"]}"}} ')
    walk = Walk(len(prefixes))
    bodies = []
    for _ in range(variants):
        values = walk.next()
        bodies.append("".join(f"{p}{v!r}\n" for p, v in zip(prefixes[:lines], values[:lines].tolist(), strict=True)).encode())
    return bodies
