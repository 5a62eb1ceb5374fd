"""DuckDB over segments and the lines in memory: writes segments, merges them, answers queries.

The database itself holds nothing. It may touch no file outside the store's directory, load no extension and change no
setting; memory and time of a query are bounded. All methods block and may be called from several threads. Not here:
which files and lines there are (`store.py`).
"""

# ruff: noqa: S608 - all SQL here is put together from the constants of this module and of `query.py`; values are bound

from __future__ import annotations

import itertools
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vedette.errors import LimitExceeded
from vedette.logs import trigrams
from vedette.logs.arrow import Lines
from vedette.logs.literals import required
from vedette.logs.memory import Chunk
from vedette.logs.query import MIN_TIME, LogQuery, Place, Reader, text_of, where_of
from vedette.logs.segments import Segment
from vedette.model.logs import LEVELS

ROW_GROUP = 30_720
"""Lines of a row group: what DuckDB reads at once, or leaves out by its times. Of a word that few lines have, each line of a page
costs one: a quarter of DuckDB's own 122,880 halves that for half a percent more disk."""

_COLUMNS = "time, seq, level, service, message, fields"
# What kind of error a line tells of: what its sender says, or else a name in it that looks like an exception's.
_KIND = (
    "coalesce("
    + ", ".join(
        f"json_extract_string(fields, '{path}')"
        for path in ("/exception.type", "/error.type", "/error/type", "/exception/type", "/error_type", "/exception_type", "/exc_type")
    )
    + r", nullif(regexp_extract(message, '\b([A-Za-z_][\w.]*(?:Error|Exception|Timeout))\b', 1), ''), '')"
)
# What makes two messages of one error differ: quoted parts, and words with a digit in them (numbers, ids, addresses, hex).
_PATTERN = (
    r"""regexp_replace(regexp_replace(left(message, 500), '(^|\W)("[^"]*"|''[^'']*''|`[^`]*`)', '\1<…>', 'g'),"""
    r""" '[\w-]*\d[\w.-]*|\b[0-9a-fA-F]{8,}\b', '#', 'g')"""
)
_GRAVE = "level in ('error', 'fatal')"
_TRACKED = f"case when {_GRAVE} then {_PATTERN} end as pattern, case when {_GRAVE} then {_KIND} end as kind"
_RECENT = f"(select {_COLUMNS}, {_TRACKED} from recent)"
_STORED = "read_parquet(?)"
_WRITTEN = f"(format parquet, compression zstd, parquet_version v2, row_group_size {ROW_GROUP})"
_SORTED = "order by time desc, seq desc"
_MOST_GROUPS = 200_000
_MOST_TIMES = 1_000
_MOST_ENDS = 20_000
_AT_ONCE = 20_000


class Unreadable(Exception):
    """A segment could not be read: it is gone, or damaged."""


@dataclass(frozen=True, slots=True)
class LogRow:
    """A line as it is answered; `fields` is a JSON object."""

    time: int
    seq: int
    level: str
    service: str
    message: str
    fields: str

    @property
    def place(self) -> Place:
        """Where a page ends that ends with this line."""
        return Place(self.time, self.seq)


@dataclass(frozen=True, slots=True)
class Page:
    """Lines in the query's order, how many there are in all (from `after` on), and whether more follow."""

    rows: tuple[LogRow, ...]
    total: int
    more: bool


@dataclass(frozen=True, slots=True)
class Samples:
    """Numbers of fields by the texts of labels: times int64[n], ascending, and values float64[n]. `misread` is one that is none."""

    by: Mapping[tuple[str, ...], tuple[NDArray[np.int64], NDArray[np.float64]]]
    misread: str


@dataclass(frozen=True, slots=True)
class Source:
    """What one query reads: the segments, and the chunks in memory."""

    segments: Sequence[Segment]
    chunks: Sequence[Chunk]

    def within(self, query: LogQuery) -> Source:
        """Without the segments and chunks in which nothing can be that the query asks for."""
        start, end = query.start, query.end
        if query.after is not None and query.newest_first:
            end = min(end, query.after.time + 1)
        elif query.after is not None:
            start = max(start, query.after.time)
        segments = [s for s in self.segments if s.newest >= start and s.oldest < end and s.last >= query.since_seq]
        for line in query.lines:
            if not line.negated:
                text = line.text if line.kind == "contains" else required(line.text)
                segments = [s for s in segments if trigrams.may_hold(s.bits, text)]
        return Source(segments, [c for c in self.chunks if int(c.seqs[-1]) >= query.since_seq])


def _spelt(query: LogQuery, segments: Sequence[Segment]) -> LogQuery:
    """The query with the spellings of its texts that these segments can hold: where there are few, RE2 is spared each line."""
    if not any(line.kind == "contains" and not line.heed_case for line in query.lines):
        return query
    bits = trigrams.merged(s.bits for s in segments)
    told = [
        replace(line, spellings=tuple(trigrams.spellings(bits, line.text))) if line.kind == "contains" and not line.heed_case else line
        for line in query.lines
    ]
    return replace(query, lines=tuple(told))


class Database:
    """One DuckDB for one store. `memory` in bytes, `timeout_s` for each query."""

    def __init__(self, root: Path, *, memory: int, timeout_s: float, threads: int) -> None:
        import duckdb  # optional: the store looks whether it is installed

        self._duckdb = duckdb
        self.timeout_s = timeout_s
        root = root.resolve()
        self._base: Any = duckdb.connect(
            config={
                "threads": threads,
                "memory_limit": f"{memory}B",
                "temp_directory": str(root / "tmp"),
                "autoload_known_extensions": False,
                "autoinstall_known_extensions": False,
                "python_enable_replacements": False,
                "preserve_insertion_order": True,
            }
        )
        # A SET takes no bound value. The path is the operator's own.
        self._base.execute("set allowed_directories = ['" + f"{root}/".replace("'", "''") + "']")
        self._base.execute("set enable_external_access = false")
        self._base.execute("set parquet_metadata_cache = true")
        self._base.execute("set lock_configuration = true")

    def close(self) -> None:
        """Let go of everything."""
        self._base.close()

    def write(self, path: Path, chunks: Sequence[Chunk]) -> None:
        """A segment's file of these lines, not yet synced. Raises `OSError`."""
        with self._cursor(chunks) as cursor:
            self._wrote(cursor, f"copy (select * from {_RECENT} {_SORTED}) to ? {_WRITTEN}", [str(path)])

    def merge(self, path: Path, segments: Sequence[Segment]) -> None:
        """A segment's file of all lines of `segments`. Raises `OSError`, or `Unreadable`."""
        with self._cursor(()) as cursor:
            files = [str(s.path) for s in segments]
            self._wrote(cursor, f"copy (select {_COLUMNS}, pattern, kind from {_STORED} {_SORTED}) to ? {_WRITTEN}", [files, str(path)])

    def _wrote(self, cursor: Any, sql: str, values: list[Any]) -> None:
        try:
            cursor.execute(sql, values)
        except self._duckdb.Error as error:
            raise OSError(0, f"a segment cannot be written: {error}") from None

    def search(self, source: Source, query: LogQuery) -> Page:
        """The lines that a query asks for. Raises `LimitExceeded` where that takes too long, `Unreadable`."""
        source = source.within(query)
        rows, total = self._stored_rows(source.segments, query)
        where = where_of(query)
        direction = "desc" if query.newest_first else "asc"
        if source.chunks:
            sql = f"select {_COLUMNS} from recent where {where.sql} order by time {direction}, seq {direction} limit ?"
            counting = f"select count(*) from recent where {where.sql}"
            with self._cursor(source.chunks) as cursor:
                rows += [LogRow(*r) for r in self._all(cursor, sql, [*where.values, query.limit + 1])]
                total += self._all(cursor, counting, where.values)[0][0] if query.total else 0
        rows.sort(key=lambda r: (r.time, r.seq), reverse=query.newest_first)
        return Page(tuple(rows[: query.limit]), total if query.total else len(rows), len(rows) > query.limit)

    def _stored_rows(self, segments: Sequence[Segment], query: LogQuery) -> tuple[list[LogRow], int]:
        """(the first `limit + 1` lines of segments, how many there are in all).

        The first pass reads only what the conditions name; of each row group it tells how many lines fulfil them, and the times of
        those that may be answered. So the second reads whole only the row groups of the lines that are.
        """
        if not segments:
            return [], 0
        query = _spelt(query, segments)
        where = where_of(query)
        wanted = query.limit + 1
        ends = f"{'max' if query.newest_first else 'min'}(time, {min(wanted, _MOST_ENDS)})"
        counting = (
            f"select file_index, file_row_number // {ROW_GROUP} as part, count(*), {ends}"
            f" from read_parquet(?, file_row_number = true) where {where.sql} group by all"
        )
        with self._cursor(()) as cursor:
            paths = [str(s.path) for s in segments]
            groups = self._all(cursor, counting, [paths, *where.values])
            total = sum(g[2] for g in groups)
            if not total:
                return [], 0
            files, narrow = sorted({paths[g[0]] for g in groups}), where
            if wanted <= _MOST_ENDS:
                times = set(sorted((t for g in groups for t in g[3]), reverse=query.newest_first)[:wanted])
                files = sorted({paths[g[0]] for g in groups if not times.isdisjoint(g[3])})
                narrow = where_of(replace(query, start=max(query.start, min(times)), end=min(query.end, max(times) + 1)))
                if len(times) <= _MOST_TIMES:
                    narrow.add(f"time in ({', '.join('?' * len(times))})", *times)
            direction = "desc" if query.newest_first else "asc"
            sql = f"select {_COLUMNS} from {_STORED} where {narrow.sql} order by time {direction}, seq {direction} limit ?"
            found = self._all(cursor, sql, [files, *narrow.values, wanted])
        return [LogRow(*r) for r in found], total

    def counts(self, source: Source, query: LogQuery, step: int) -> dict[tuple[int, str], int]:
        """How many lines there are by (start of a span of `step` ns, level)."""
        key = "(time // ?) * ? as span, level"
        return {(r[0], r[1]): r[2] for r in self._grouped(source, query, f"{key}, count(*)", [step, step])}

    def windows(
        self, source: Source, query: LogQuery, *, begin: int, width: int, labels: Sequence[tuple[str, Reader]]
    ) -> dict[tuple[str, ...], dict[int, tuple[int, int]]]:
        """(lines, bytes of their messages) by the texts of `labels` and by span: k is (begin + (k - 1) width, begin + k width].

        A label is a column (`service`, `level`) or a field, with its parser.
        """
        texts, values = [], []
        for name, parser in labels:
            sql, bound = _label(name, parser)
            texts.append(sql)
            values += bound
        chosen = ", ".join(["(time - ? + ? - 1) // ? as span", *texts, "count(*)", "sum(strlen(message))::bigint"])
        found: dict[tuple[str, ...], dict[int, tuple[int, int]]] = {}
        for span, *rest in self._grouped(source, query, chosen, [begin, width, width, *values]):
            spans = found.setdefault(tuple(rest[:-2]), {})
            lines, size = spans.get(span, (0, 0))
            spans[span] = (lines + rest[-2], size + rest[-1])
        return found

    def services(self, source: Source, query: LogQuery) -> dict[str, int]:
        """How many lines each service has, `` included."""
        found: dict[str, int] = {}
        for service, n in self._grouped(source, query, "service, count(*)", []):
            found[service] = found.get(service, 0) + n
        return found

    def errors(self, source: Source, query: LogQuery, step: int) -> list[tuple[Any, ...]]:
        """Lines of level error and above: (pattern, kind, service, span, count, first ns, last ns, its last message)."""
        grave = replace(query, levels=tuple(v for v in LEVELS[-2:] if not query.levels or v in query.levels))
        chosen = "pattern, kind, service, (time // ?) * ? as span, count(*), min(time), max(time), left(arg_max(message, time), 2000)"
        return self._grouped(source, grave, chosen, [step, step])

    def errors_before(self, source: Source, query: LogQuery) -> dict[tuple[str, str], int]:
        """When each error (pattern, kind) was first seen among all lines older than the query's; its other conditions hold."""
        older = replace(query, start=MIN_TIME, end=query.start, after=None, lines=(), fields=())
        grave = replace(older, levels=tuple(v for v in LEVELS[-2:] if not query.levels or v in query.levels))
        found: dict[tuple[str, str], int] = {}
        for pattern, kind, first in self._grouped(source, grave, "pattern, kind, min(time)", []):
            found[pattern, kind] = min(first, found.get((pattern, kind), first))
        return found

    def _grouped(self, source: Source, query: LogQuery, chosen: str, first: list[Any]) -> list[tuple[Any, ...]]:
        """`chosen` grouped by what of it is no aggregate, from segments and from memory one after another."""
        source = source.within(query)
        where = where_of(query)
        found: list[tuple[Any, ...]] = []
        with self._cursor(source.chunks) as cursor:
            if source.segments:
                files = [str(s.path) for s in source.segments]
                sql = f"select {chosen} from {_STORED} where {where.sql} group by all limit {_MOST_GROUPS + 1}"
                found += self._all(cursor, sql, [*first, files, *where.values])
            if source.chunks:
                sql = f"select {chosen} from {_RECENT} where {where.sql} group by all limit {_MOST_GROUPS + 1}"
                found += self._all(cursor, sql, [*first, *where.values])
        if len(found) > _MOST_GROUPS:
            raise _too_many_groups()
        return found

    def scan(self, source: Source, query: LogQuery) -> Iterator[list[LogRow]]:
        """All lines that a query asks for, in its order, some tens of thousands at a time; its limit is not heeded.

        Raises `LimitExceeded` where all of it, what is done between included, takes too long; `Unreadable`.
        """
        ends = time.monotonic() + self.timeout_s
        source = source.within(query)
        query = _spelt(query, source.segments) if source.segments else query
        where = where_of(query)
        direction = "desc" if query.newest_first else "asc"
        parts = [part for c in source.chunks for part in _parts(c.batch.times)]
        files = [str(s.path) for s in source.segments]
        with self._cursor(source.chunks) as cursor:
            if files:
                sql = f"select count(*), min(time), max(time), file_index, file_row_number // {ROW_GROUP} as part"
                sql += f" from read_parquet(?, file_row_number = true) where {where.sql} group by all"
                parts += [g[:3] for g in self._all(cursor, sql, [files, *where.values])]
            for start, end in _slices(parts, newest_first=query.newest_first):
                if time.monotonic() > ends:
                    raise self._too_long()
                within = where_of(replace(query, start=max(query.start, start), end=min(query.end, end)))
                found: list[LogRow] = []
                for table, bound in ((_STORED, [files]), ("recent", [])) if files else (("recent", []),):
                    sql = f"select {_COLUMNS} from {table} where {within.sql} order by time {direction}, seq {direction}"
                    found += [LogRow(*r) for r in self._all(cursor, sql, [*bound, *within.values])]
                found.sort(key=lambda r: (r.time, r.seq), reverse=query.newest_first)
                yield found

    def samples(self, source: Source, query: LogQuery, *, value: tuple[str, Reader], labels: Sequence[tuple[str, Reader]]) -> Samples:
        """The numbers that the field `value` (a name with its parser) is, by the texts of `labels` (as `windows` has them).

        Lines in which it is absent count for nothing; `misread` is one in which it is no number.
        """
        source = source.within(query)
        where = where_of(query)
        texts: list[str] = []
        bound: list[str] = []
        for name, parser in labels:
            sql, values = _label(name, parser)
            texts.append(f"{sql} as l{len(texts)}")
            bound += values
        raw, values = text_of(*value)
        chosen = ", ".join(["time", "seq", *texts, f"{raw} as raw", "try_cast(raw as double) as v"])
        files = [str(s.path) for s in source.segments]
        tables = [(_STORED, [files])] if files else []
        tables += [("recent", [])] if source.chunks else []
        if not tables:
            return Samples({}, "")
        rows = " union all ".join(f"select {chosen} from {table} where {where.sql}" for table, _ in tables)
        keys = [f"l{i}" for i in range(len(labels))]
        columns = ["list(time order by time, seq) as times", "list(v order by time, seq) as vs"]
        grouped = ", ".join([*keys, *columns, "min(raw) filter (where v is null) as misread"])
        sql = f"select {grouped} from ({rows}) where raw <> '' group by all limit {_MOST_GROUPS + 1}"
        every = [v for _, own in tables for v in (*bound, *values, *own, *where.values)]
        with self._cursor(source.chunks) as cursor:
            found = self._asked(cursor, sql, every, lambda: cursor.fetchnumpy())
        if len(found["times"]) > _MOST_GROUPS:
            raise _too_many_groups()
        misread = np.flatnonzero(~np.ma.getmaskarray(found["misread"]))
        if len(misread):
            return Samples({}, str(found["misread"][misread[0]]))
        by = zip(*(found[k].tolist() for k in keys), strict=True) if keys else [()] * len(found["times"])
        pairs = zip(found["times"], found["vs"], strict=True)
        return Samples({tuple(k): (_plain(t, np.int64), _plain(v, np.float64)) for k, (t, v) in zip(by, pairs, strict=True)}, "")

    def _all(self, cursor: Any, sql: str, values: Sequence[Any]) -> list[Any]:
        found: list[Any] = self._asked(cursor, sql, values, lambda: cursor.fetchall())
        return found

    def _too_long(self) -> LimitExceeded:
        return LimitExceeded(f"the query took longer than {self.timeout_s:g} s: ask for a shorter time, or for one service")

    def _asked(self, cursor: Any, sql: str, values: Sequence[Any], fetch: Callable[[], Any]) -> Any:
        errors = self._duckdb
        timer = threading.Timer(self.timeout_s, cursor.interrupt)
        timer.daemon = True
        timer.start()
        try:
            cursor.execute(sql, values)
            return fetch()
        except errors.InterruptException:
            raise self._too_long() from None
        except errors.OutOfMemoryException:
            raise LimitExceeded("the query needs more memory than logs.query_memory allows") from None
        except errors.Error as error:
            raise Unreadable(str(error)) from None
        finally:
            timer.cancel()

    @contextmanager
    def _cursor(self, chunks: Sequence[Chunk]) -> Iterator[Any]:
        """A connection of its own, on which `recent` is the table of these chunks."""
        cursor = self._base.cursor()
        try:
            cursor.register("recent", Lines([(c.batch, c.seqs) for c in chunks]))
            yield cursor
        finally:
            cursor.unregister("recent")
            cursor.close()


def _label(name: str, parser: Reader) -> tuple[str, list[str]]:
    return (name, []) if name in ("service", "level") else text_of(name, parser)


def _too_many_groups() -> LimitExceeded:
    return LimitExceeded(f"more than {_MOST_GROUPS:,} groups: ask for a shorter time, or for one service")


def _plain(found: Any, dtype: Any) -> NDArray[Any]:
    return np.ascontiguousarray(np.ma.getdata(found), dtype)


def _parts(times: NDArray[np.int64]) -> Iterator[tuple[int, int, int]]:
    """(lines, oldest, newest) of some thousands of lines after others: what is in memory is walked in pieces, too."""
    ordered = np.sort(times)
    for start in range(0, len(ordered), _AT_ONCE):
        part = ordered[start : start + _AT_ONCE]
        yield len(part), int(part[0]), int(part[-1])


def _slices(parts: Sequence[tuple[int, int, int]], *, newest_first: bool) -> Iterator[tuple[int, int]]:
    """Spans of time [from, to), one after another, that hold about `_AT_ONCE` lines of the (lines, oldest, newest) each."""
    left = sorted(parts, key=lambda p: -p[2]) if newest_first else sorted(parts, key=lambda p: p[1])
    if not left:
        return
    bound = left[0][2] + 1 if newest_first else left[0][1]
    have = 0
    for part, follower in itertools.pairwise(left):
        have += part[0]
        edge = follower[2] + 1 if newest_first else follower[1]
        if have >= _AT_ONCE and edge != bound:
            yield (edge, bound) if newest_first else (bound, edge)
            bound, have = edge, 0
    yield (min(p[1] for p in left), bound) if newest_first else (bound, max(p[2] for p in left) + 1)
