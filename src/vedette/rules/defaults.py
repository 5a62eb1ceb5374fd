"""The five alerts that are there from the first start, as an ordinary rule group with its thresholds as arguments.

They look at what Vedette collects by itself: the host under node_exporter's names (so a real node_exporter is covered,
too), and HTTP requests under `botserver_requests_total` and `botserver_request_duration_seconds`.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import orjson

from vedette.configfile import option
from vedette.errors import BadInput
from vedette.rules.files import Group, parse

NAME = "vedette.defaults"
INTERVAL_MS = 15_000


def _threshold(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not math.isfinite(value) or value < 0:
        raise BadInput(f"not a threshold: {text!r}", hint="expected a number of at least 0")
    return value


def _percentage(text: str) -> float:
    value = _threshold(text)
    if value > 100:
        raise BadInput(f"not a percentage: {text!r}", hint="expected a number from 0 to 100")
    return value


def _ratio(text: str) -> float:
    value = _threshold(text)
    if value > 1:
        raise BadInput(f"not a ratio: {text!r}", hint="expected a number from 0 to 1, such as 0.05 for 5 %")
    return value


@dataclass(frozen=True, slots=True, kw_only=True)
class Thresholds:
    """From where on the default alerts fire: `cpu`, `memory`, `disk` in per cent, `error_rate` as a ratio, `response_time` in seconds."""

    cpu: float = option(80.0, convert=_percentage)
    memory: float = option(80.0, convert=_percentage)
    disk: float = option(80.0, convert=_percentage)
    error_rate: float = option(0.05, convert=_ratio)
    response_time: float = option(1.0, convert=_threshold)


_DISKS = 'fstype!~"tmpfs|ramfs|squashfs|iso9660|udf|erofs",mountpoint!~"/var/lib/(docker|containers|kubelet)/.*"'


def _rules(given: Thresholds) -> list[dict[str, object]]:
    on = "{{ if $labels.instance }} on {{ $labels.instance }}{{ end }}"
    return [
        {
            "alert": "HighCPUUsage",
            "expr": f'100 * (1 - avg without (cpu, mode) (rate(node_cpu_seconds_total{{mode="idle"}}[5m]))) > {given.cpu:g}',
            "for": "1m",
            "labels": {"severity": "warning"},
            "annotations": {
                "summary": f"CPU usage is high{on}",
                "description": f'CPU usage{on} is {{{{ printf "%.1f" $value }}}} %, above {given.cpu:g} %, for more than a minute.',
            },
        },
        {
            "alert": "HighMemoryUsage",
            "expr": f"100 * (1 - node_memory_MemAvailable_bytes / node_memory_MemTotal_bytes) > {given.memory:g}",
            "for": "1m",
            "labels": {"severity": "warning"},
            "annotations": {
                "summary": f"Memory usage is high{on}",
                "description": f'Memory usage{on} is {{{{ printf "%.1f" $value }}}} %, above {given.memory:g} %, for more than a minute.',
            },
        },
        {
            "alert": "HighDiskUsage",
            # Read-only images (snap, squashfs, ISO) are always full and nobody's worry; containers' mounts are their host's.
            "expr": f"100 * (1 - node_filesystem_avail_bytes{{{_DISKS}}} / (node_filesystem_size_bytes > 0)) > {given.disk:g}",
            "for": "1m",
            "labels": {"severity": "warning"},
            "annotations": {
                "summary": f"{{{{ $labels.mountpoint }}}} is filling up{on}",
                "description": f'{{{{ $labels.mountpoint }}}}{on} is {{{{ printf "%.1f" $value }}}} % full, above {given.disk:g} %.',
            },
        },
        {
            "alert": "HighErrorRate",
            "expr": 'sum without (method, status) (rate(botserver_requests_total{status=~"5.."}[5m])) '
            f"/ sum without (method, status) (rate(botserver_requests_total[5m])) > {given.error_rate:g}",
            "for": "1m",
            "labels": {"severity": "critical"},
            "annotations": {
                "summary": f"Many requests fail{on}",
                "description": "{{ humanizePercentage $value }} of the requests"
                f"{on} fail with a 5xx status, above {100 * given.error_rate:g} %.",
            },
        },
        {
            "alert": "SlowResponseTime",
            "expr": "rate(botserver_request_duration_seconds_sum[5m]) "
            f"/ (rate(botserver_request_duration_seconds_count[5m]) > 0) > {given.response_time:g}",
            "for": "1m",
            "labels": {"severity": "warning"},
            "annotations": {
                "summary": f"Requests are slow{on}",
                "description": f"Requests{on} take {{{{ humanizeDuration $value }}}} on average, "
                f"above {{{{ humanizeDuration {given.response_time!r} }}}}.",
            },
        },
    ]


def default_groups(thresholds: Thresholds | None = None, *, interval_ms: int = INTERVAL_MS) -> list[Group]:
    """The group of the default alerts; it comes through the same door as a file, so it is checked as one."""
    document = {"groups": [{"name": NAME, "rules": _rules(thresholds or Thresholds())}]}
    return parse(orjson.dumps(document), name=NAME, interval_ms=interval_ms)
