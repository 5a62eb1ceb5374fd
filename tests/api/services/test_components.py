"""What probes found, in BotServer's words: the shapes of its document, and nothing that was not measured."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import pytest

from vedette.api.services import components
from vedette.health.check import DEGRADED, HEALTHY, STARTING, UNHEALTHY, State
from vedette.records.traffic import Traffic


def state(name: str, kind: str, status: str = HEALTHY, reason: str = "", **figures: Any) -> State:
    return State(name, kind, status, reason, figures, 0.002, 100.0, 50.0)


POSTGRES = state(
    "database",
    "postgres",
    connection_pool={"active": 5, "idle": 15, "max": 20},
    version="14.5",
    port=5432,
    uptime_seconds=172800,
    connections=15,
    waiting=0,
    active_queries=2,
    slow_queries=1,
    average_duration_ms=15.0,
    sessions=100,
)
CACHE = state(
    "cache",
    "redis",
    memory_used_mb=256,
    hit_rate=0.89,
    hits=45678,
    misses=5678,
    evictions=234,
    memory_limit_mb=512,
    keys_count=1234,
    port=6379,
    uptime_seconds=86400,
)
LLM = state("llm", "llm", model_loaded=True, model="local-model")


@dataclass
class Pool:
    in_use: int = 1
    idle: int = 4
    most: int = 15
    traffic: Traffic = field(default_factory=lambda: Traffic(7, 2, 3, 0, 1, 20, 1, 0.5))


def test_the_documents_detailed_health() -> None:
    assert components.components([POSTGRES, CACHE, LLM]) == {
        "database": {"status": "healthy", "latency_ms": 2.0, "connection_pool": {"active": 5, "idle": 15, "max": 20}, "version": "14.5"},
        "cache": {"status": "healthy", "latency_ms": 2.0, "memory_used_mb": 256, "hit_rate": 0.89},
        "llm": {"status": "healthy", "latency_ms": 2.0, "model_loaded": True, "model": "local-model"},
    }


def test_what_is_not_configured_says_so_and_others_are_added() -> None:
    found = components.components([state("billing", "http", UNHEALTHY, "server returned HTTP status 503")])
    assert found["cache"] == {"status": "not_configured"}
    assert found["billing"] == {"status": "unhealthy", "latency_ms": 2.0, "error": "server returned HTTP status 503"}


@pytest.mark.parametrize(
    ("statuses", "word"),
    [
        ([HEALTHY, "not_configured"], HEALTHY),
        ([HEALTHY, UNHEALTHY], DEGRADED),
        ([HEALTHY, DEGRADED], DEGRADED),
        ([UNHEALTHY, STARTING], STARTING),
        ([], HEALTHY),
    ],
)
def test_one_word_for_all(statuses: list[str], word: str) -> None:
    assert components.overall(statuses) == word


def test_the_documents_services() -> None:
    found = {
        s["name"]: s for s in components.services([POSTGRES, CACHE, LLM, state("ssh", "port", UNHEALTHY, "nobody listens on port 22")])
    }
    assert found["database"] == {"name": "database", "status": "running", "uptime_seconds": 172800, "port": 5432, "version": "14.5"}
    assert found["cache"]["memory_used_mb"] == 256
    assert found["llm_server"] == {"name": "llm_server", "status": "running", "model": "local-model"}
    assert found["ssh"] == {"name": "ssh", "status": "down", "error": "nobody listens on port 22"}
    assert components.services([])[0] == {"name": "database", "status": "not_configured"}


def test_the_documents_database() -> None:
    assert components.database(POSTGRES, Pool()) == {
        "pool": {
            "max_connections": 20,
            "active_connections": 5,
            "idle_connections": 15,
            "waiting_requests": 0,
            "total_created": 100,
            "total_closed": 85,
        },
        "queries": {"active": 2, "slow_queries": 1, "average_duration_ms": 15.0},
    }


def test_without_one_the_records_pool() -> None:
    found = components.database(state("database", "own"), Pool())
    assert found["pool"] == {
        "max_connections": 15,
        "active_connections": 1,
        "idle_connections": 4,
        "waiting_requests": 3,
        "total_created": 7,
        "total_closed": 2,
    }
    assert found["queries"] == {"active": 1, "slow_queries": 1, "average_duration_ms": 25.0}
    assert components.database(None, None)["pool"] == {"status": "starting"}
    gone = state("database", "postgres", UNHEALTHY, "connection refused")
    assert components.database(gone, Pool())["pool"] == {"status": "unhealthy", "error": "connection refused"}


def test_the_documents_cache() -> None:
    assert components.cache(CACHE) == {
        "cache": {
            "hits": 45678,
            "misses": 5678,
            "hit_rate": 0.89,
            "evictions": 234,
            "memory_used_mb": 256,
            "memory_limit_mb": 512,
            "keys_count": 1234,
        }
    }
    assert components.cache(None) == {"cache": {"status": "not_configured"}}
    assert components.cache(state("cache", "redis", UNHEALTHY, "gone")) == {"cache": {"status": "unhealthy", "error": "gone"}}
