"""PostgreSQL: how long a statement takes, and what the server says of its connections and statements."""

from __future__ import annotations

from typing import Any

from vedette.errors import BadInput
from vedette.health.check import HEALTHY, UNHEALTHY, Finding

SLOW_S = 1.0
"""A statement that has run for longer counts as slow."""

# One round trip; every user may read this, of others' statements only that they are there.
_QUESTION = """
SELECT current_setting('server_version') AS version, current_setting('port')::int AS port,
  extract(epoch FROM now() - pg_postmaster_start_time())::bigint AS uptime,
  current_setting('max_connections')::int AS most,
  count(*) FILTER (WHERE backend_type = 'client backend') AS connections,
  count(*) FILTER (WHERE backend_type = 'client backend' AND state = 'idle') AS idle,
  count(*) FILTER (WHERE state = 'active' AND backend_type = 'client backend') AS active,
  count(*) FILTER (WHERE state = 'active' AND backend_type = 'client backend' AND now() - query_start > make_interval(secs => $1)) AS slow,
  count(*) FILTER (WHERE wait_event_type = 'Lock') AS waiting,
  avg(extract(epoch FROM now() - query_start)) FILTER (WHERE state = 'active' AND pid <> pg_backend_pid()) AS running,
  (SELECT sum(sessions) FROM pg_stat_database)::bigint AS sessions
FROM pg_stat_activity
"""


async def postgres(url: str, timeout_s: float) -> Finding:
    """Ask one server. Raises `BadInput` where the client is not installed."""
    try:
        import asyncpg
    except ImportError:
        raise BadInput(
            "asking PostgreSQL needs the package asyncpg", where="health.database_url", hint="pip install 'vedette[postgres]'"
        ) from None
    plain = url.replace("postgresql+asyncpg://", "postgresql://", 1)
    try:
        connection = await asyncpg.connect(plain, timeout=timeout_s)
    except (OSError, TimeoutError, ValueError, asyncpg.PostgresError, asyncpg.InterfaceError) as error:
        # asyncpg names neither password nor address in these.
        return Finding(UNHEALTHY, str(error) or type(error).__name__)
    try:
        row = await connection.fetchrow(_QUESTION, SLOW_S, timeout=timeout_s)
    except (OSError, TimeoutError, asyncpg.PostgresError, asyncpg.InterfaceError) as error:
        return Finding(UNHEALTHY, str(error) or type(error).__name__)
    finally:
        connection.terminate()
    return Finding(HEALTHY, "", figures(dict(row)))


def figures(row: dict[str, Any]) -> dict[str, Any]:
    """The answer in the document's terms; our own connection is not counted."""
    connections, active = int(row["connections"]) - 1, int(row["active"]) - 1
    sessions = row["sessions"]
    return {
        "connection_pool": {"active": max(0, active), "idle": int(row["idle"]), "max": int(row["most"])},
        "version": row["version"],
        "port": int(row["port"]),
        "uptime_seconds": int(row["uptime"]),
        "connections": max(0, connections),
        "waiting": int(row["waiting"]),
        "active_queries": max(0, active),
        "slow_queries": int(row["slow"]),
        "average_duration_ms": round(1000 * float(row["running"]), 3) if row["running"] is not None else None,
        "sessions": int(sessions) if sessions is not None else None,
    }
