"""Redis and Valkey: PING, and what INFO says of hits, memory and keys."""

from __future__ import annotations

from typing import Any

from vedette.errors import BadInput
from vedette.health.check import HEALTHY, UNHEALTHY, Finding

_MIB = 1 << 20


async def redis(url: str, timeout_s: float) -> Finding:
    """Ask one server. Raises `BadInput` where the client is not installed."""
    try:
        from redis.asyncio import Redis
        from redis.exceptions import RedisError
    except ImportError:
        raise BadInput("asking a cache needs the package redis", where="health.cache_url", hint="pip install 'vedette[redis]'") from None
    client = Redis.from_url(url, socket_timeout=timeout_s, socket_connect_timeout=timeout_s)
    try:
        info: dict[str, Any] = await client.info()
    except (RedisError, OSError, TimeoutError) as error:
        return Finding(UNHEALTHY, str(error) or type(error).__name__)
    finally:
        await client.aclose()
    return Finding(HEALTHY, "", figures(info))


def figures(info: dict[str, Any]) -> dict[str, Any]:
    """INFO in the document's terms; the hit rate is absent before anything was looked for."""
    hits, misses = int(info.get("keyspace_hits", 0)), int(info.get("keyspace_misses", 0))
    keys = sum(int(v.get("keys", 0)) for k, v in info.items() if k.startswith("db") and isinstance(v, dict))
    limit = int(info.get("maxmemory", 0))
    return {
        "memory_used_mb": round(int(info.get("used_memory", 0)) / _MIB, 3),
        **({"hit_rate": round(hits / (hits + misses), 4)} if hits + misses else {}),
        "hits": hits,
        "misses": misses,
        "evictions": int(info.get("evicted_keys", 0)),
        "memory_limit_mb": round(limit / _MIB, 3) if limit else None,
        "keys_count": keys,
        "uptime_seconds": int(info.get("uptime_in_seconds", 0)),
        "port": int(info.get("tcp_port", 0)),
        "version": str(info.get("redis_version", "")),
    }
