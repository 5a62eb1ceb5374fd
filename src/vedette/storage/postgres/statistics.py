"""Figures of the database, as `/api/v1/status/tsdb` shows them. Not here: what this process has written (`writer.py`)."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from vedette.clock import Clock
from vedette.storage.interface import StorageStats
from vedette.storage.postgres import schema
from vedette.storage.postgres.writer import Written

_EVERY_S = 15.0
# Counting costs the database at most this part of its time.
_SHARE = 20
_TOP = 10

_PAIRS = "SELECT id, p.key AS name, p.value FROM vedette_series, LATERAL jsonb_each_text(labels) AS p"


@dataclass(slots=True)
class _Figures:
    series: int = 0
    label_pairs: int = 0
    days: int = 0
    nbytes: int = 0
    by_metric: list[tuple[str, int]] = field(default_factory=list)
    by_label: list[tuple[str, int]] = field(default_factory=list)
    memory: list[tuple[str, int]] = field(default_factory=list)
    by_pair: list[tuple[str, int]] = field(default_factory=list)


class Statistics:
    """The figures as they were counted last."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._again = clock.monotonic()
        self._figures = _Figures()
        self._counted: tuple[int, int] | None = None
        self._first: int | None = None
        self._last: int | None = None

    async def begin(self, connection: Any) -> None:
        """Find the range of what is there, to the day."""
        days = await schema.days(connection)
        if days:
            self._first, self._last = days[0] * schema.DAY, (days[-1] + 1) * schema.DAY - 1

    def due(self, written: Written) -> bool:
        """Whether to count again: something was written since, and a while has passed."""
        return self._clock.monotonic() >= self._again and self._counted != (written.samples, written.series)

    async def count(self, connection: Any, written: Written) -> None:
        """Count. The time until the next count grows with what this one took."""
        began = self._clock.monotonic()
        counted = (written.samples, written.series)
        figures = _Figures(series=await connection.fetchval("SELECT count(*) FROM vedette_series"))
        figures.label_pairs = await connection.fetchval(f"SELECT count(*) FROM (SELECT DISTINCT name, value FROM ({_PAIRS}) AS q) AS d")  # noqa: S608

        async def ranked(query: str) -> list[tuple[str, int]]:
            rows = await connection.fetch(f"{query} GROUP BY 1 ORDER BY 2 DESC, 1 LIMIT {_TOP}")
            return sorted(((row[0], int(row[1])) for row in rows), key=lambda pair: (-pair[1], pair[0]))

        figures.by_metric = await ranked(
            "SELECT labels ->> '__name__', count(*) FROM vedette_series WHERE jsonb_exists(labels, '__name__')"
        )
        figures.by_label = await ranked(f"SELECT name, count(DISTINCT value) FROM ({_PAIRS}) AS q")  # noqa: S608
        figures.memory = await ranked(f"SELECT name, sum(octet_length(value)) FROM ({_PAIRS}) AS q")  # noqa: S608
        figures.by_pair = await ranked(f"SELECT name || '=' || value, count(*) FROM ({_PAIRS}) AS q")  # noqa: S608
        sizes = await connection.fetchrow(
            """SELECT count(*), coalesce(sum(pg_total_relation_size(inhrelid)), 0)::bigint FROM pg_inherits
               WHERE inhparent = 'vedette_samples'::regclass"""
        )
        figures.days, figures.nbytes = sizes
        self._figures, self._counted = figures, counted
        now = self._clock.monotonic()
        self._again = now + max(_EVERY_S, _SHARE * (now - began))

    def of(self, written: Written) -> StorageStats:
        """The figures, with what this process has written since."""
        figures = self._figures
        starts = [t for t in (self._first, written.min_time) if t is not None]
        ends = [t for t in (self._last, written.max_time) if t is not None]
        return StorageStats(
            series=figures.series + (written.series - self._counted[1] if self._counted else 0),
            label_pairs=figures.label_pairs,
            min_time=min(starts, default=0),
            max_time=max(ends, default=0),
            samples_appended=written.samples,
            block_bytes=figures.nbytes,
            blocks=figures.days,
            series_by_metric=figures.by_metric,
            values_by_label=figures.by_label,
            memory_by_label=figures.memory,
            series_by_pair=figures.by_pair,
        )
