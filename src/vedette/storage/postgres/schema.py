"""The tables, their history, and their day partitions.

`vedette_series` names each series by its tenant and the digest of its canonical key; `vedette_samples` holds one row a
sample, in a partition for each day (UTC), so that old days go by dropping tables. All may be read by anybody's SQL. Not here:
rows (`engine.py`).
"""

from __future__ import annotations

from typing import Any

import numpy as np
import structlog
from numpy.typing import NDArray

from vedette.errors import BadInput

log = structlog.get_logger(__name__)

DAY = 86_400_000
"""Milliseconds of a partition."""

IDS_AT_ONCE = 1 << 20
"""How many ids of samples one step of their sequence stands for."""

_LEAST, _MOST = -(1 << 63), (1 << 63) - 1

MIGRATIONS: tuple[tuple[str, ...], ...] = (
    (
        """CREATE TABLE vedette_series (
            id integer GENERATED ALWAYS AS IDENTITY PRIMARY KEY, tenant text NOT NULL, digest bytea NOT NULL,
            labels jsonb NOT NULL, key bytea NOT NULL, UNIQUE (tenant, digest))""",
        "CREATE INDEX vedette_series_labels ON vedette_series USING gin (labels jsonb_path_ops)",
        """CREATE TABLE vedette_samples (
            ts bigint NOT NULL, value double precision NOT NULL, id bigint NOT NULL, series_id integer NOT NULL,
            histogram bytea, PRIMARY KEY (series_id, ts)) PARTITION BY RANGE (ts)""",
        "CREATE INDEX vedette_samples_histograms ON vedette_samples (series_id, ts) WHERE histogram IS NOT NULL",
        f"CREATE SEQUENCE vedette_sample_ids MINVALUE 0 START 0 INCREMENT {IDS_AT_ONCE}",
        """CREATE TABLE vedette_metadata (
            tenant text NOT NULL, digest bytea NOT NULL, metric text NOT NULL, type text NOT NULL, help text NOT NULL,
            unit text NOT NULL, PRIMARY KEY (tenant, digest))""",
    ),
)
"""Each entry is applied once, in order; an entry that was released is never changed."""

TEMPORARY = """CREATE TEMPORARY TABLE IF NOT EXISTS vedette_incoming (
    n integer NOT NULL, ts bigint NOT NULL, value double precision NOT NULL, id bigint NOT NULL, series_id integer NOT NULL,
    histogram bytea) ON COMMIT DELETE ROWS"""
"""Where samples wait that may be there already."""

LOCK = 0x56444D4554524943
"""The advisory lock of whoever writes to the database."""


async def migrate(connection: Any) -> None:
    """Bring the schema up to date. Raises `BadInput` where a newer version has written it."""
    async with connection.transaction():
        await connection.execute("SELECT pg_advisory_xact_lock($1)", LOCK + 1)
        await connection.execute("CREATE TABLE IF NOT EXISTS vedette_storage_version (version integer PRIMARY KEY)")
        found = await connection.fetchval("SELECT coalesce(max(version), 0) FROM vedette_storage_version")
        if found > len(MIGRATIONS):
            problem = f"the samples' schema has version {found}, this Vedette knows {len(MIGRATIONS)}"
            raise BadInput(problem, where="storage.url", hint="start the newer version")
        for version, statements in enumerate(MIGRATIONS[found:], found + 1):
            for statement in statements:
                await connection.execute(statement)
            await connection.execute("INSERT INTO vedette_storage_version (version) VALUES ($1)", version)


def table_of(day: int) -> str:
    """The name of a day's partition; days count from 1970-01-01."""
    return f"vedette_samples_{'b' if day < 0 else 'd'}{abs(day)}"


def _day_of(table: str) -> int:
    sign, number = table.removeprefix("vedette_samples_")[:1], table.removeprefix("vedette_samples_")[1:]
    return -int(number) if sign == "b" else int(number)


async def days(connection: Any) -> list[int]:
    """The days that have a partition, ascending."""
    rows = await connection.fetch(
        "SELECT c.relname FROM pg_inherits i JOIN pg_class c ON c.oid = i.inhrelid WHERE i.inhparent = 'vedette_samples'::regclass"
    )
    return sorted(_day_of(row["relname"]) for row in rows)


async def add_day(connection: Any, day: int) -> None:
    """Make a day's partition, unless it is there."""
    table = table_of(day)
    # Attached and not made in place: that would wait for every query that runs, and hold up those after it.
    low, high = max(day * DAY, _LEAST), (day + 1) * DAY
    bound = "MAXVALUE" if high > _MOST else f"'{high}'"
    async with connection.transaction():
        await connection.execute("SELECT pg_advisory_xact_lock($1)", LOCK + 1)
        if await connection.fetchval("SELECT to_regclass($1) IS NOT NULL", table):
            return
        await connection.execute(f"CREATE TABLE {table} (LIKE vedette_samples INCLUDING ALL)")
        await connection.execute(f"ALTER TABLE vedette_samples ATTACH PARTITION {table} FOR VALUES FROM ('{low}') TO ({bound})")


async def drop_days(connection: Any, before: int) -> list[int]:
    """Drop the partitions all of whose samples are older than `before` (ms); answers their days."""
    gone = [day for day in await days(connection) if (day + 1) * DAY <= before]
    for day in gone:
        async with connection.transaction():
            # Rather later than hold up every query behind this one, which waits for those that run.
            await connection.execute("SET LOCAL lock_timeout = '2s'")
            await connection.execute(f"DROP TABLE {table_of(day)}")
        log.info("a day of samples is beyond the retention and was dropped", table=table_of(day))
    return gone


async def drop_empty_series(connection: Any) -> NDArray[np.int32]:
    """Delete the series that have no samples; answers their ids. Nobody may be about to write samples of new ones."""
    rows = await connection.fetch(
        """DELETE FROM vedette_series WHERE id IN (
               SELECT v.id FROM vedette_series v LEFT JOIN LATERAL
               (SELECT 1 AS one FROM vedette_samples s WHERE s.series_id = v.id LIMIT 1) AS any_ ON true WHERE any_.one IS NULL)
           RETURNING id"""
    )
    return np.array([row["id"] for row in rows], dtype=np.int32)
