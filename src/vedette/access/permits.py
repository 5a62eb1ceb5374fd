"""What each operation asks of its caller, by method and path; what no line here names is safe by default.

Reading asks for `read`, or for any credential where the answer tells nothing of data, whatever changes something for `alerts` (so for
an operator), and the lines below say what is otherwise. A path below a listed one counts as that one. Not here: who the caller is
(`guard.py`).
"""

from __future__ import annotations

import functools

from vedette.access.principal import Need

SAFE_METHODS = frozenset(("GET", "HEAD", "OPTIONS"))

HEALTH_PATHS = frozenset(("/-/healthy", "/-/ready", "/health", "/ready", "/api/v1/monitoring/health"))
"""Answered without a credential, so that a load balancer can ask."""

OPEN_PATHS = ("/login", "/logout", "/static", "/favicon.ico", "/api/v1/auth/token")
"""What somebody who is not yet known needs in order to become so."""

_ADMIN = (
    "/-/reload",
    "/-/quit",
    "/api/v1/admin",
    "/api/v1/access",
    "/api/v1/audit",
    "/api/v1/monitoring/debug",
    "/api/metrics",
    "/debug",
    "/pushgateway/api/v1/admin",
)
_WRITE = (
    "/api/v1/write",
    "/api/v1/push",
    "/api/put",
    "/api/v1/otlp",
    "/api/v1/import",
    "/api/v1/logs",
    "/api/v1/monitoring/metrics",
    "/api/v1/monitoring/logs",
    "/api/v2/alerts",
    "/api/v2/write",
    "/datadog",
    "/influx/api/v2/write",
    "/influx/query",
    "/influx/write",
    "/loki/api/v1/push",
    "/metrics/job",
    "/metrics/job@base64",
    "/metrics/track",
    "/pushgateway/metrics",
    "/opentsdb/api/put",
    "/prometheus/api/v1/import",
    "/query",
    "/v1/logs",
    "/v1/metrics",
    "/write",
    "/_component_template",
    "/_ilm",
    "/_index_template",
    "/_ingest",
    "/_template",
)
_ASKED_FIRST = (
    "/_cat/health",
    "/_cluster/health",
    "/_component_template",
    "/_data_stream",
    "/_ilm",
    "/_index_template",
    "/_ingest",
    "/_license",
    "/_template",
    "/_xpack",
    "/datadog",
    "/influx/ping",
    "/ping",
    "/loki/api/v1/status/buildinfo",
)
"""What shippers ask before they send, with the key that sends; like `/`, it tells of the server and nothing of anybody's data."""

_BULK = frozenset(("_bulk", "_create", "_doc"))
_OWN = ("/api/v1/auth",)

SERVER_PATHS = (
    "/-/reload",
    "/-/quit",
    "/api/v1/admin/tsdb/snapshot",
    "/api/v1/access/tenants",
    "/api/v1/scrape_pools",
    "/api/v1/status/config",
    "/api/v1/status/flags",
    "/api/v1/status/tsdb",
    "/api/v1/status/walreplay",
    "/api/v1/targets",
    "/api/v2/status",
)
"""What tells of the whole server, or of what its default tenant collects: other tenants find nothing there."""


def _below(path: str, listed: tuple[str, ...]) -> bool:
    return (path + "/").startswith(_folders(listed))


@functools.cache
def _folders(listed: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(one + "/" for one in listed)


def need_of(method: str, path: str, *, reading_posts: frozenset[str]) -> Need:
    """What a request needs. `reading_posts` are paths whose POST changes nothing."""
    if path in HEALTH_PATHS or method == "OPTIONS" or _below(path, OPEN_PATHS):
        return "nothing"
    if _below(path, _ADMIN):
        return "admin"
    if method in SAFE_METHODS and (path == "/" or _below(path, _ASKED_FIRST)):
        return "known"
    if method in SAFE_METHODS or path in reading_posts or _below(path, _OWN):
        return "read"
    if _below(path, _WRITE) or not _BULK.isdisjoint(path.split("/", 3)[1:3]):
        return "write"
    return "alerts"


def of_server(path: str) -> bool:
    """Whether a path tells of the whole server rather than of one tenant."""
    return _below(path, SERVER_PATHS)
