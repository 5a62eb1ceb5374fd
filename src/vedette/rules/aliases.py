"""Short names for what Vedette measures of its machine and its requests, each with the PromQL that it stands for.

They are the names of the service documents' own figures (`memory.usage_percent` is `memory` → `usage_percent` of
`/api/v1/monitoring/metrics`), so that who reads a number there can alert on it. Not here: what rules do with them (`typed.py`).
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping

_DISKS = 'fstype!~"tmpfs|ramfs|squashfs|iso9660|udf|erofs",mountpoint!~"/var/lib/(docker|containers|kubelet)/.*"'
_NICS = 'device!~"lo|veth.*|docker.*|br-.*"'

CPU_BUSY = (
    '100 * (1 - sum without (cpu, mode) (rate(node_cpu_seconds_total{mode="idle"}[5m]))'
    " / sum without (cpu, mode) (rate(node_cpu_seconds_total[5m])))"
)
"""How busy a machine's processors are, in per cent of the time that was counted: right from the second sample on. `rate` divides by all of
its five minutes, also by those before the first sample, so the idle part by itself made a machine busy that is new here, and told of it."""

ALIASES: Mapping[str, str] = {
    "cpu.usage_percent": CPU_BUSY,
    "cpu.load_average": "node_load1",
    "cpu.cores": 'count without (cpu, mode) (node_cpu_seconds_total{mode="idle"})',
    "memory.usage_percent": "100 * (1 - node_memory_MemAvailable_bytes / node_memory_MemTotal_bytes)",
    "memory.total_gb": "node_memory_MemTotal_bytes / 2 ^ 30",
    "memory.used_gb": "(node_memory_MemTotal_bytes - node_memory_MemAvailable_bytes) / 2 ^ 30",
    "memory.free_gb": "node_memory_MemAvailable_bytes / 2 ^ 30",
    "disk.usage_percent": f"100 * (1 - node_filesystem_avail_bytes{{{_DISKS}}} / (node_filesystem_size_bytes > 0))",
    "disk.total_gb": f"node_filesystem_size_bytes{{{_DISKS}}} / 2 ^ 30",
    "disk.used_gb": f"(node_filesystem_size_bytes{{{_DISKS}}} - node_filesystem_avail_bytes) / 2 ^ 30",
    "disk.free_gb": f"node_filesystem_avail_bytes{{{_DISKS}}} / 2 ^ 30",
    "network.bytes_sent": f"sum without (device) (rate(node_network_transmit_bytes_total{{{_NICS}}}[5m]))",
    "network.bytes_received": f"sum without (device) (rate(node_network_receive_bytes_total{{{_NICS}}}[5m]))",
    "network.packets_sent": f"sum without (device) (rate(node_network_transmit_packets_total{{{_NICS}}}[5m]))",
    "network.packets_received": f"sum without (device) (rate(node_network_receive_packets_total{{{_NICS}}}[5m]))",
    "requests.rate_per_second": "sum without (method, status) (rate(botserver_requests_total[5m]))",
    "requests.average_latency_ms": "1000 * rate(botserver_request_duration_seconds_sum[5m])"
    " / (rate(botserver_request_duration_seconds_count[5m]) > 0)",
    "errors.rate_per_hour": 'sum without (method, status) (increase(botserver_requests_total{status=~"5.."}[1h]))',
    "errors.ratio": 'sum without (method, status) (rate(botserver_requests_total{status=~"5.."}[5m]))'
    " / sum without (method, status) (rate(botserver_requests_total[5m]))",
    "sessions.active": "sum(botserver_sessions_active)",
    "conversations.active": "sum(botserver_conversations_active)",
}
"""Alias to expression. Bytes and packets of the network are per second, since a total only ever grows."""

# The same figures as the live stream of the document names them.
_SHORT = {"cpu_usage": "cpu.usage_percent", "memory_usage": "memory.usage_percent", "disk_usage": "disk.usage_percent"}


def expression_of(metric: str) -> str:
    """What an alias stands for; anything else is itself."""
    return ALIASES.get(_SHORT.get(metric, metric), metric)


def is_alias(metric: str) -> bool:
    """Whether a name stands for an expression."""
    return metric in ALIASES or metric in _SHORT


def near(metric: str, known: Iterable[str], *, most: int = 5) -> list[str]:
    """The names that a mistyped one may have meant: metrics that are stored, and aliases; the nearest first."""
    names = [*known, *ALIASES, *_SHORT]
    close = difflib.get_close_matches(metric, names, n=most, cutoff=0.6)
    if len(close) < most:
        parts = [p for p in metric.lower().replace(".", "_").split("_") if len(p) > 3]
        close += [n for n in names if n not in close and any(p in n.lower() for p in parts)][: most - len(close)]
    return list(dict.fromkeys(close))
