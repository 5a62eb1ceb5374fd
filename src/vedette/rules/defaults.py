"""The five alerts that are there from the first start, as an ordinary rule group with its thresholds as arguments.

They look at what Vedette collects by itself: the host under node_exporter's names (so a real node_exporter is covered,
too), and HTTP requests under `botserver_requests_total` and `botserver_request_duration_seconds`.
"""

from __future__ import annotations

import orjson

from vedette.rules.aliases import CPU_BUSY
from vedette.rules.files import Group, parse
from vedette.rules.settings import Thresholds

NAME = "vedette.defaults"
INTERVAL_MS = 15_000

_DISKS = 'fstype!~"tmpfs|ramfs|squashfs|iso9660|udf|erofs",mountpoint!~"/var/lib/(docker|containers|kubelet)/.*"'


def _rules(given: Thresholds) -> list[dict[str, object]]:
    on = "{{ if $labels.instance }} on {{ $labels.instance }}{{ end }}"
    return [
        {
            "alert": "HighCPUUsage",
            "expr": f"{CPU_BUSY} > {given.cpu:g}",
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
