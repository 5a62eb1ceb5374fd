"""Reads: which series there are, by SQL over `vedette_series`; their samples, by COPY into columns.

Coroutines of the backend's loop ask, plain functions on the caller's thread make columns of what comes. Not here: connections
(`engine.py`), what matchers become (`lookups.py`).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vedette.model.histograms import Histograms
from vedette.model.labels import Labels
from vedette.model.labeltable import LabelTable, Symbols
from vedette.model.samples import MetricMetadata
from vedette.model.series import SeriesSet
from vedette.storage.interface import Matchers
from vedette.storage.postgres import binary, lookups
from vedette.storage.postgres.histograms import Reader as HistogramReader
from vedette.storage.postgres.known import Known

_I64 = np.int64

Ids = NDArray[np.int32]
"""Ids of series."""

_TIMEOUT_S = 120.0
_PROBES_AT_ONCE = 50_000
_LOW, _HIGH = -(1 << 63), (1 << 63) - 1


async def matching(connection: Any, tenant: str, sets: Sequence[Matchers]) -> Ids:
    """The ids of the tenant's series that pass any of `sets` (all, where it is empty), ascending."""
    found = [await _passing(connection, tenant, matchers) for matchers in sets or [()]]
    return np.unique(np.concatenate(found))


async def _passing(connection: Any, tenant: str, matchers: Matchers) -> Ids:
    arguments: list[object] = [tenant]

    async def values(name: str, held: Sequence[str], given: list[object]) -> list[str]:
        given.append(name)
        own = f"${len(given)}::text"
        where = " AND ".join(["tenant = $1", f"jsonb_exists(labels, {own})", *held])
        rows = await connection.fetch(f"SELECT DISTINCT labels ->> {own} AS v FROM vedette_series WHERE {where}", *given)  # noqa: S608
        return [row["v"] for row in rows]

    where = " AND ".join(["tenant = $1", *await lookups.conditions(matchers, arguments, values)])
    rows = await connection.fetch(f"SELECT id FROM vedette_series WHERE {where}", *arguments)  # noqa: S608
    return np.array([row[0] for row in rows], dtype=np.int32)


async def with_samples(connection: Any, ids: Ids, start: int, end: int) -> Ids:
    """Those of `ids` that have samples in [start, end]."""
    found: list[int] = []
    for lo in range(0, len(ids), _PROBES_AT_ONCE):
        # LIMIT keeps this a look into the index for each series: as a join it would read every sample of the range.
        rows = await connection.fetch(
            """SELECT i.id FROM unnest($1::int[]) AS i (id) CROSS JOIN LATERAL
               (SELECT 1 FROM vedette_samples s WHERE s.series_id = i.id AND s.ts BETWEEN $2 AND $3 LIMIT 1) AS one""",
            *(ids[lo : lo + _PROBES_AT_ONCE].tolist(), max(start, _LOW), min(end, _HIGH)),
        )
        found += [row[0] for row in rows]
    return np.sort(np.array(found, dtype=np.int32))


async def introduce(connection: Any, known: Known, tenant: str, ids: Ids) -> None:
    """Have `known` know these series' labels."""
    strangers = ids[known.numbers_of(ids) < 0]
    if len(strangers):
        rows = await connection.fetch("SELECT id, key FROM vedette_series WHERE id = ANY($1::int[])", strangers.tolist())
        if rows:
            known.learn(tenant, [row["key"] for row in rows], np.array([row["id"] for row in rows], dtype=np.int32))


async def samples(connection: Any, ids: Ids, start: int, end: int, most: int) -> bytes:
    """The binary COPY stream of (series, time, value) of these series in [start, end]; of no more than `most` samples."""
    parts: list[bytes] = []

    async def take(part: bytes) -> None:
        parts.append(part)

    # COPY takes no arguments; whole numbers can be nothing but numbers.
    which = ",".join(map(str, ids.tolist()))
    span = f"ts BETWEEN '{max(start, _LOW)}' AND '{min(end, _HIGH)}'"
    query = f"SELECT series_id, ts, value FROM vedette_samples WHERE series_id = ANY('{{{which}}}'::int[]) AND {span} LIMIT {most}"  # noqa: S608
    await connection.copy_from_query(query, output=take, format="binary", timeout=_TIMEOUT_S)
    return b"".join(parts)


async def row_ids(connection: Any, series: Ids, times: NDArray[np.int64]) -> NDArray[np.int64]:
    """The id of the sample of each series at its time, 0 where there is none."""
    rows = await connection.fetch(
        """SELECT coalesce(s.id, 0) FROM unnest($1::int[], $2::bigint[]) WITH ORDINALITY AS t (series, ts, n)
           LEFT JOIN vedette_samples s ON s.series_id = t.series AND s.ts = t.ts AND s.ts BETWEEN $3 AND $4 ORDER BY t.n""",
        *(series.tolist(), times.tolist(), int(times.min()), int(times.max())),
    )
    return np.array([row[0] for row in rows], dtype=np.int64)


async def native(connection: Any, ids: Ids, start: int, end: int) -> list[Any]:
    """(series, time, bytes) of the native histograms of these series in [start, end]."""
    found: list[Any] = await connection.fetch(
        """SELECT series_id, ts, histogram FROM vedette_samples
           WHERE series_id = ANY($1::int[]) AND ts BETWEEN $2 AND $3 AND histogram IS NOT NULL ORDER BY series_id, ts""",
        *(ids.tolist(), max(start, _LOW), min(end, _HIGH)),
    )
    return found


def series_set(known: Known, stream: bytes, histograms: Sequence[Any]) -> SeriesSet:
    """The columns of a stream that `samples` gave, with what `native` gave."""
    series, times, values = binary.decode(stream, "i4", "i8", "f8")
    if len(series) == 0:
        none = np.zeros(0, dtype=np.int32)
        empty = LabelTable(Symbols(), np.zeros(1, _I64), none, none)
        return SeriesSet(empty, np.zeros(1, _I64), np.zeros(0, _I64), np.zeros(0, np.float64))
    in_order = (series[1:] > series[:-1]) | ((series[1:] == series[:-1]) & (times[1:] > times[:-1]))
    if not in_order.all():
        order = np.lexsort((times, series))
        series, times, values = series[order], times[order], values[order]
    begins = np.flatnonzero(np.concatenate([[True], series[1:] != series[:-1]]))
    offsets = np.append(begins, len(series)).astype(_I64)
    numbers = known.numbers_of(series[begins])
    found = SeriesSet(known.labels(numbers), offsets, times, values)
    return _with_histograms(found, series[begins], histograms) if histograms else found


def _with_histograms(found: SeriesSet, ids: Ids, rows: Sequence[Any]) -> SeriesSet:
    reader = HistogramReader()
    at, read = [], []
    for series, time, data in rows:
        row = int(np.searchsorted(ids, series))
        if row == len(ids) or ids[row] != series:
            continue
        lo, hi = int(found.offsets[row]), int(found.offsets[row + 1])
        place = lo + int(np.searchsorted(found.timestamps[lo:hi], time))
        if place < hi and found.timestamps[place] == time:
            at.append(place)
            read.append(reader.parse(data))
    return SeriesSet(found.labels, found.offsets, found.timestamps, found.values, Histograms.of(at, read) if at else None)


def label_sets(known: Known, ids: Ids, limit: int) -> list[Labels]:
    """The label sets of series that `known` knows, sorted, at most `limit` unless 0."""
    numbers = known.numbers_of(ids)
    found = sorted(known.labels(numbers[numbers >= 0]))
    return found[:limit] if limit else found


async def names(connection: Any, ids: Ids) -> list[str]:
    """The label names of these series, sorted."""
    rows = await connection.fetch(
        "SELECT DISTINCT n FROM vedette_series, LATERAL jsonb_object_keys(labels) AS n WHERE id = ANY($1::int[])", ids.tolist()
    )
    return sorted(row[0] for row in rows)


async def values(connection: Any, ids: Ids, name: str) -> list[str]:
    """The values of a label among these series, sorted."""
    if "\0" in name:
        return []
    rows = await connection.fetch(
        "SELECT DISTINCT labels ->> $2::text FROM vedette_series WHERE id = ANY($1::int[]) AND jsonb_exists(labels, $2::text)",
        *(ids.tolist(), name),
    )
    return sorted(row[0] for row in rows)


async def metadata(connection: Any, tenant: str, metric: str | None) -> list[MetricMetadata]:
    """What is known of one metric or of all."""
    if metric is not None and "\0" in metric:
        return []
    rows = await connection.fetch(
        "SELECT metric, type, help, unit FROM vedette_metadata WHERE tenant = $1 AND ($2::text IS NULL OR metric = $2)", tenant, metric
    )
    return sorted((MetricMetadata(*row) for row in rows), key=lambda m: m.metric)
