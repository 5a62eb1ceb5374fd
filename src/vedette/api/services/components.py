"""BotServer's components and resources: what the probes of `health` found, in its document's words.

What was not measured is absent or null, what is not configured says so. Not here: asking (`vedette.health`).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

from vedette.health.check import DEGRADED, HEALTHY, STARTING, UNHEALTHY, State

ABSENT = {"status": "not_configured"}
DOCUMENTED = ("database", "cache", "llm")
"""The components that the document names, besides the storage."""

_SHOWN = {
    "database": ("connection_pool", "version"),
    "cache": ("memory_used_mb", "hit_rate"),
    "llm": ("model_loaded", "model", "requests_per_second"),
}
_RUNS = {HEALTHY: "running", DEGRADED: "degraded", UNHEALTHY: "down", STARTING: "unknown"}


class Traffic(Protocol):
    """What went through a pool since the start; `waiting` and `active` are now."""

    created: int
    closed: int
    waiting: int
    active: int
    slow: int

    @property
    def average_ms(self) -> float | None: ...


class Pool(Protocol):
    """The connections of a pool, now."""

    @property
    def in_use(self) -> int: ...
    @property
    def idle(self) -> int: ...
    @property
    def most(self) -> int: ...
    @property
    def traffic(self) -> Traffic: ...


def components(states: Sequence[State]) -> dict[str, dict[str, Any]]:
    """`/health/detailed`: the document's components, whether configured or not, then all others."""
    known = {state.name: state for state in states}
    found = {name: _shown(known[name]) if name in known else ABSENT for name in DOCUMENTED}
    return {**found, **{state.name: state.shown() for state in states if state.name not in DOCUMENTED}}


def overall(statuses: Sequence[str]) -> str:
    """One word for all: `degraded` where anything is not well."""
    if STARTING in statuses:
        return STARTING
    return HEALTHY if all(status in (HEALTHY, "not_configured") for status in statuses) else DEGRADED


def services(states: Sequence[State]) -> list[dict[str, Any]]:
    """`/status`: the document's services, then all others that are watched."""
    known = {state.name: state for state in states}
    named = {"database": "database", "cache": "cache", "llm_server": "llm"}
    found: list[dict[str, Any]] = []
    for name, component in named.items():
        found.append({"name": name, **(_running(known[component]) if component in known else ABSENT)})
    return [*found, *({"name": s.name, **_running(s)} for s in states if s.name not in DOCUMENTED)]


def database(state: State | None, own: Pool | None) -> dict[str, Any]:
    """`/resources/database`: of the PostgreSQL that is watched, or else of the pool to the records."""
    if state is not None and state.kind == "postgres" and "connections" in state.figures:
        seen, pool = state.figures, state.figures["connection_pool"]
        created = seen["sessions"]
        return {
            "pool": {
                "max_connections": pool["max"],
                "active_connections": pool["active"],
                "idle_connections": pool["idle"],
                "waiting_requests": seen["waiting"],
                "total_created": created,
                "total_closed": created - seen["connections"] if created is not None else None,
            },
            "queries": {
                "active": seen["active_queries"],
                "slow_queries": seen["slow_queries"],
                "average_duration_ms": seen["average_duration_ms"],
            },
        }
    if state is not None and state.kind == "postgres":
        return {"pool": {"status": state.status, "error": state.reason}, "queries": {"status": state.status}}
    if own is None:
        return {"pool": {"status": STARTING}, "queries": {"status": STARTING}}
    figures = {"max_connections": own.most, "active_connections": own.in_use, "idle_connections": own.idle}
    went = own.traffic
    since = {"waiting_requests": went.waiting, "total_created": went.created, "total_closed": went.closed}
    queries = {"active": went.active, "slow_queries": went.slow, "average_duration_ms": went.average_ms}
    return {"pool": {**figures, **since}, "queries": queries}


def cache(state: State | None) -> dict[str, Any]:
    """`/resources/cache`."""
    if state is None:
        return {"cache": ABSENT}
    if "hits" not in state.figures:
        return {"cache": {"status": state.status, **({"error": state.reason} if state.reason else {})}}
    names = ("hits", "misses", "hit_rate", "evictions", "memory_used_mb", "memory_limit_mb", "keys_count")
    return {"cache": {name: state.figures.get(name) for name in names}}


def _shown(state: State) -> dict[str, Any]:
    whole = state.shown()
    kept = ("status", "latency_ms", "error", *_SHOWN[state.name])
    return {name: whole[name] for name in kept if name in whole}


def _running(state: State) -> dict[str, Any]:
    names = ("uptime_seconds", "port", "pid", "version", "memory_used_mb", "model", "process", "state")
    found = {name: state.figures[name] for name in names if name in state.figures}
    return {"status": _RUNS[state.status], **found, **({"error": state.reason} if state.reason else {})}
