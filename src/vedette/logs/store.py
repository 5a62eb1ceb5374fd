"""The log store: lines in, durable when `append` returns; segments made of them; questions answered.

    logs/wal/         the log of lines that are in no segment yet (`record.py` in the frames of `storage.wal`)
    logs/segments/    Parquet files by tenant (`segments.py`)

Lines gather in memory and become a segment of each tenant once there are enough or they are old enough; small neighbours
are merged; what retention ends is deleted whole. A segment whose checksum is wrong is set aside (`.corrupt`) and reported.
Not here: parsing (`wire`), HTTP.
"""

from __future__ import annotations

import asyncio
import contextlib
import importlib.util
import os
import threading
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

import numpy as np
import structlog

from vedette.clock import Clock
from vedette.errors import Corrupt, LimitExceeded, NotFound
from vedette.logs import copies, trigrams
from vedette.logs import segments as segment_files
from vedette.logs.database import Database, LogRow, Page, Samples, Source, Unreadable
from vedette.logs.memory import Memory
from vedette.logs.query import LogQuery, Reader
from vedette.logs.record import KIND, decode
from vedette.logs.segments import Segment
from vedette.logs.settings import LogSettings
from vedette.logs.writer import LogWriter
from vedette.model.logs import LEVELS, LogBatch
from vedette.storage import wal
from vedette.storage.disk import Disk

T = TypeVar("T")
log = structlog.get_logger(__name__)

_QUERY_THREADS = 2
_WAITING_QUERIES = 32
_WAL_SEGMENT = 64 << 20
_MOST_MERGED_LINES = 2_000_000
_MOST_MERGED_BYTES = 256 << 20
_MOST_SERVICES = 1_000
_RETRIES = 3
_AGAIN_S = 10.0
_WORTH_A_SEGMENT = 10_000
"""Fewer lines can as well be read from the log again after a restart: to open DuckDB for them takes 50 MB."""
_FEW_WAIT_MS, _FEW_WAIT_OF_RETENTION = 86_400_000, 24
"""How long they gather, and which part of the retention they do at the most."""


@dataclass(slots=True)
class Counts:
    """What the store has done since the start; read by the server's own metrics."""

    segments_written: int = 0
    segments_merged: int = 0
    segments_deleted: int = 0
    corrupt: int = 0
    """Segments set aside, and damaged places in the log that were skipped."""
    failures: int = 0
    """Flushes and merges that failed, to be tried again."""
    lines: dict[str, Counter[tuple[str, str]]] = field(default_factory=dict)
    """Lines by tenant, by (service, level); beyond so many services of a tenant the service is `(other)`."""


class LogStore:
    """The store of one directory. `start`, then `append` and queries from one event loop, `close` at the end."""

    def __init__(self, directory: Path, settings: LogSettings, clock: Clock, *, disk: Disk | None = None, threads: int = 2) -> None:
        """Raises `NotFound` where DuckDB is not installed. `threads` are DuckDB's."""
        self.settings = settings
        self.directory = directory
        self.counts = Counts()
        self._clock = clock
        self._disk = disk or Disk()
        self._root = directory / "segments"
        self._logged = directory / "wal"
        self._memory = Memory()
        self._lock = threading.Lock()
        # Segments are made by one at a time: the background thread, or whoever asks for it at once.
        self._making = threading.Lock()
        self._segments: dict[str, list[Segment]] = {}
        self._writer: LogWriter | None = None
        self._flushed_at = self._frozen_at = clock.monotonic()
        self._not_before = 0.0
        self._cut = 0
        self._opened_at = 0
        self._flush_problem = ""
        self._background = ThreadPoolExecutor(1, thread_name_prefix="logs-segments")
        self._queries = ThreadPoolExecutor(_QUERY_THREADS, thread_name_prefix="logs-query")
        self._asking = 0
        self._working = threading.Event()
        self._closing = threading.Event()
        self._watchers: set[Callable[[str], None]] = set()
        self._threads = threads
        self._opened: Database | None = None
        self._opening = threading.Lock()
        if importlib.util.find_spec("duckdb") is None:
            raise NotFound("logs need DuckDB: pip install 'vedette[logs]'")

    # -- life ---------------------------------------------------------------------------------------------------------

    def apply(self, settings: LogSettings) -> None:
        """Put other settings in force; the memory of queries and the room for what waits stay as they were at the start."""
        self.settings = settings
        if self._opened is not None:
            self._opened.timeout_s = settings.query_timeout / 1000

    async def start(self) -> None:
        """Find the segments, read the log again, begin to take lines. Raises `OSError`."""
        await asyncio.to_thread(self._open)

    @property
    def _database(self) -> Database:
        """DuckDB, opened at its first use: half a second and 50 MB that a server without lines is spared."""
        with self._opening:
            if self._opened is None:
                settings = self.settings
                timeout_s = settings.query_timeout / 1000
                self._opened = Database(self.directory, memory=settings.query_memory, timeout_s=timeout_s, threads=self._threads)
            return self._opened

    def _open(self) -> None:
        for path in (self.directory, self._root, self._logged):
            path.mkdir(parents=True, exist_ok=True)
        self._disk.sync_directory(self.directory)
        self._disk.sync_directory(self.directory.parent)
        found, left = segment_files.scan(self._root)
        for path in left:
            self._disk.unlink(path)
        for segment in found:
            self._segments.setdefault(segment.tenant, []).append(segment)
        next_seq = 1 + max((s.last for s in found), default=0)
        next_seq, number = self._replay(next_seq)
        self._opened_at = next_seq
        self._wal = wal.Wal(self._logged, self._disk, segment_size=_WAL_SEGMENT, keep_unsynced=True, next_number=number)
        self._wal.begin_scope()
        self._writer = LogWriter(
            self._memory, self._wal, self.settings, next_seq=next_seq, housekeeping=self._housekeeping, tell=self._committed
        )
        self._writer.start()
        if found:
            self._background.submit(self._scrub)

    def _replay(self, next_seq: int) -> tuple[int, int]:
        """Take what the log holds beyond the segments into memory; (the next line's number, the next file's)."""
        through = {tenant: max(s.last for s in found) for tenant, found in self._segments.items()}
        files = wal.segments(self._logged)
        for file, follower in zip(files, (*files[1:], None), strict=False):
            try:
                scope, records = wal.read_segment(file)
            except Corrupt as error:
                if file.size >= wal.SEGMENT_HEADER.size:
                    self._damaged(error)
                continue
            ended = follower is None or wal.scope_of(follower) != scope
            for item in records:
                if isinstance(item, Corrupt):
                    # At the very end it is a record that a crash cut off: nobody was told that it is stored.
                    if not ended or "ends inside" not in str(item):
                        self._damaged(item)
                elif item.kind == KIND:
                    try:
                        tenant, first, batch = decode(item.payload)
                    except ValueError as error:
                        self._damaged(Corrupt(str(error), path=file.path, offset=item.offset))
                        continue
                    next_seq = max(next_seq, first + len(batch))
                    if first > through.get(tenant, 0):
                        self._memory.add(tenant, first, batch)
        return next_seq, files[-1].number + 1 if files else 1

    def _damaged(self, error: Corrupt) -> None:
        self.counts.corrupt += 1
        log.error("the log of lines is damaged, what can be read is kept", problem=str(error))

    async def close(self) -> None:
        """Make segments of what is in memory, if it is much, sync, end all threads. What is in no segment, the log keeps."""
        if self._writer is None:
            return
        writer = self._writer
        self._closing.set()
        await asyncio.to_thread(writer.stop)
        await asyncio.to_thread(self._close)

    def _close(self) -> None:
        self._background.shutdown(wait=True)
        # A few lines can as well be read from the log again: the server is to stop at once.
        if not self._memory.frozen and self._memory.lines >= _WORTH_A_SEGMENT:
            self._freeze()
        if self._memory.frozen:
            self._flush()
        with contextlib.suppress(OSError):  # already reported where it was owed; what is synced is kept
            self._wal.close()
        self._queries.shutdown(wait=True, cancel_futures=True)
        if self._opened is not None:
            self._opened.close()

    # -- in -----------------------------------------------------------------------------------------------------------

    async def append(self, tenant: str, batch: LogBatch) -> None:
        """Store lines; durable when it returns. Raises `LimitExceeded` where they cannot be taken now."""
        if not len(batch):
            return
        if self._writer is None:
            raise LimitExceeded("the server is starting", retry_after=1.0)
        await self._writer.submit(tenant, batch)
        self._count(tenant, batch)

    def _count(self, tenant: str, batch: LogBatch) -> None:
        found = self.counts.lines.setdefault(tenant, Counter())
        known = {service for service, _ in found}
        by = np.bincount(batch.service_codes.astype(np.int64) * len(LEVELS) + batch.levels)
        for code in np.flatnonzero(by).tolist():
            service = batch.services[code // len(LEVELS)]
            if service not in known:
                service = service if len(known) < _MOST_SERVICES else "(other)"
                known.add(service)
            found[service, LEVELS[code % len(LEVELS)]] += int(by[code])

    def watch(self, told: Callable[[str], None]) -> Callable[[], None]:
        """`told` is called with a tenant, on a thread of the store's, whenever it has new lines; answers how to end that."""
        self._watchers.add(told)
        return lambda: self._watchers.discard(told)

    def _committed(self, tenant: str) -> None:
        for told in list(self._watchers):
            told(tenant)

    @property
    def through(self) -> int:
        """One more than the number of the newest line that a query finds now."""
        return max(self._memory.through, self._opened_at)

    @property
    def lines(self) -> int:
        """Lines stored since the start."""
        return self._writer.lines if self._writer is not None else 0

    @property
    def problem(self) -> str:
        """Why lines cannot be stored now, empty where they can."""
        return self._flush_problem or (self._writer.problem if self._writer is not None else "")

    @property
    def write_failures(self) -> int:
        """Batches that were refused or failed."""
        return self._writer.failures if self._writer is not None else 0

    def sizes(self) -> dict[str, int]:
        """What there is now: segments, their bytes and lines, lines and bytes in memory."""
        with self._lock:
            all_of = [s for found in self._segments.values() for s in found]
        return {
            "segments": len(all_of),
            "segment_bytes": sum(s.size for s in all_of),
            "segment_lines": sum(s.lines for s in all_of),
            "memory_lines": self._memory.lines,
            "memory_bytes": self._memory.held_bytes,
        }

    # -- questions ----------------------------------------------------------------------------------------------------

    async def search(self, tenant: str, query: LogQuery) -> Page:
        """Lines, their total, whether there are more. Raises `LimitExceeded`."""
        return await self._ask(tenant, lambda source: self._database.search(source, query))

    async def counts_by_level(self, tenant: str, query: LogQuery, step: int) -> dict[tuple[int, str], int]:
        """How many lines there are by (start of a span of `step` ns, level)."""
        return await self._ask(tenant, lambda source: self._database.counts(source, query, step))

    async def windows(
        self, tenant: str, query: LogQuery, *, begin: int, width: int, labels: Sequence[tuple[str, Reader]]
    ) -> dict[tuple[str, ...], dict[int, tuple[int, int]]]:
        """(lines, bytes) by texts of labels and by span, as `Database.windows` has it."""
        return await self._ask(tenant, lambda source: self._database.windows(source, query, begin=begin, width=width, labels=labels))

    async def services(self, tenant: str, query: LogQuery) -> dict[str, int]:
        """How many lines each service has."""
        return await self._ask(tenant, lambda source: self._database.services(source, query))

    async def errors(self, tenant: str, query: LogQuery, step: int) -> list[tuple[object, ...]]:
        """Lines of level error and above, grouped as `tracking.grouped` takes them."""
        return await self._ask(tenant, lambda source: self._database.errors(source, query, step))

    async def errors_before(self, tenant: str, query: LogQuery) -> dict[tuple[str, str], int]:
        """When errors were first seen before the query's start, as `Database.errors_before` has it."""
        return await self._ask(tenant, lambda source: self._database.errors_before(source, query))

    async def samples(self, tenant: str, query: LogQuery, *, value: tuple[str, Reader], labels: Sequence[tuple[str, Reader]]) -> Samples:
        """Numbers of a field by texts of labels, as `Database.samples` has it."""
        return await self._ask(tenant, lambda source: self._database.samples(source, query, value=value, labels=labels))

    async def lines_through(self, tenant: str, query: LogQuery, work: Callable[[Iterator[list[LogRow]]], T]) -> T:
        """What `work` makes of all lines of a query, in its order, on a thread; where a segment goes meanwhile it is called again."""
        return await self._ask(tenant, lambda source: work(self._database.scan(source, query)))

    async def _ask(self, tenant: str, question: Callable[[Source], T]) -> T:
        if self._closing.is_set() or self._writer is None:
            raise LimitExceeded("the log store is not open", retry_after=1.0)
        if self._asking >= _WAITING_QUERIES:
            raise LimitExceeded("too many queries of logs at once", retry_after=1.0)
        self._asking += 1
        try:
            return await asyncio.get_running_loop().run_in_executor(self._queries, self._answer, tenant, question)
        finally:
            self._asking -= 1

    def _answer(self, tenant: str, question: Callable[[Source], T]) -> T:
        for _ in range(_RETRIES):
            with self._lock:
                source = Source(list(self._segments.get(tenant, ())), self._memory.chunks(tenant))
            try:
                return question(source)
            except Unreadable as error:
                # A segment was merged into another meanwhile, or it is damaged: then it is set aside, and the rest answers.
                if not self._set_aside_damaged(source.segments):
                    log.warning("a query of logs could not read a segment, and is run again", problem=str(error))
        raise Corrupt("segments of the log store cannot be read", path=self._root, offset=0)

    # -- segments -----------------------------------------------------------------------------------------------------

    def _housekeeping(self) -> None:
        """On the writer's thread."""
        settings, now = self.settings, self._clock.monotonic()
        if self._working.is_set() or now < self._not_before or self._closing.is_set():
            return
        age = (now - self._flushed_at) * 1000
        if not self._memory.frozen:
            full = self._memory.lines >= settings.flush_lines or self._memory.bytes >= settings.flush_bytes
            if not full and age < settings.flush_interval:
                return
            self._flushed_at = now
            if full or self._memory.lines >= _WORTH_A_SEGMENT or (self._memory.lines and self._waited_long(now)):
                self._freeze()
        self._working.set()
        self._background.submit(self._work)

    def _waited_long(self, now: float) -> bool:
        """Whether a few lines have gathered for long enough."""
        settings = self.settings
        most = min(_FEW_WAIT_MS, settings.retention // _FEW_WAIT_OF_RETENTION) if settings.retention else _FEW_WAIT_MS
        return (now - self._frozen_at) * 1000 >= max(most, settings.flush_interval)

    def _freeze(self) -> None:
        self._frozen_at = self._clock.monotonic()
        self._wal.begin_scope()
        self._cut = self._wal.number
        self._memory.freeze()

    def _work(self) -> None:
        """On the background thread: flush, merge, retire."""
        try:
            with self._making:
                if self._memory.frozen:
                    self._flush()
                while not self._closing.is_set() and self._merge_one():
                    pass
                self._retire()
        except Exception:
            log.exception("making segments failed")
            self.counts.failures += 1
        finally:
            if self._memory.frozen:
                self._not_before = self._clock.monotonic() + _AGAIN_S
            self._working.clear()

    def copy(self, into: Path) -> None:
        """Put a copy of what is stored by now into `into`, which is made (`copies.copy`). Raises `OSError`."""
        with self._making:
            copies.copy(self.directory, into, disk=self._disk)

    def flush(self) -> None:
        """Make segments of all lines in memory, now; for tests and tools. Nothing else may be writing."""
        with self._making:
            if not self._memory.frozen:
                self._freeze()
            self._flush()

    def _flush(self) -> None:
        for tenant in self._memory.frozen_tenants():
            chunks = self._memory.frozen_chunks(tenant)
            bounds = (
                int(chunks[0].seqs[0]),
                int(chunks[-1].seqs[-1]),
                min(int(c.batch.times.min()) for c in chunks),
                max(int(c.batch.times.max()) for c in chunks),
                sum(len(c.batch) for c in chunks),
            )
            try:
                bits = trigrams.of_text(c.batch.messages.data for c in chunks)
                segment = self._made(tenant, bounds, bits, lambda path, chunks=chunks: self._database.write(path, chunks))  # type: ignore[misc]
            except OSError as error:
                self.counts.failures += 1
                self._flush_problem = f"segments of log lines cannot be written: {error}"
                log.error("a segment cannot be written; its lines stay in the log", problem=str(error), tenant=tenant)
                return
            with self._lock:
                self._segments.setdefault(tenant, []).append(segment)
                self._memory.forget(tenant)
            self.counts.segments_written += 1
            self._flush_problem = ""
        for file in wal.segments(self._logged):
            if file.number <= self._cut:
                self._disk.unlink(file.path)
        self._disk.sync_directory(self._logged)

    def _made(
        self, tenant: str, bounds: tuple[int, int, int, int, int], bits: trigrams.Bits | None, write: Callable[[Path], None]
    ) -> Segment:
        """A segment that `write` fills, durable under its name. Raises `OSError`."""
        folder = segment_files.folder(self._root, tenant)
        if not folder.is_dir():
            self._disk.mkdir(folder)
            self._disk.sync_directory(self._root)
        aside = folder / f"{bounds[0]:016x}.tmp"
        try:
            write(aside)
            fd = os.open(aside, os.O_RDONLY | os.O_CLOEXEC)  # DuckDB wrote it, and does not sync
            try:
                self._disk.sync(fd)
            finally:
                self._disk.close(fd)
            path = folder / segment_files.name(*bounds, segment_files.checksum(aside))
            if bits is not None:
                self._disk.write_file(path.with_suffix(trigrams.suffix()), trigrams.packed(bits))
            self._disk.rename(aside, path)
            self._disk.sync_directory(folder)
        except OSError:
            aside.unlink(missing_ok=True)
            raise
        segment = segment_files.parsed(path)
        assert segment is not None, path
        return segment

    def _merge_one(self) -> bool:
        for tenant, found in list(self._segments.items()):
            group = segment_files.mergeable(found, most_lines=_MOST_MERGED_LINES, most_bytes=_MOST_MERGED_BYTES)
            if not group:
                continue
            if self._set_aside_damaged(group):
                return True
            bounds = (
                group[0].first,
                group[-1].last,
                min(s.oldest for s in group),
                max(s.newest for s in group),
                sum(s.lines for s in group),
            )
            bits = trigrams.merged(s.bits for s in group)
            merged = self._made(tenant, bounds, bits, lambda path, group=group: self._database.merge(path, group))  # type: ignore[misc]
            gone = {s.path for s in group}
            with self._lock:
                self._segments[tenant] = [merged, *(s for s in self._segments[tenant] if s.path not in gone)]
            for segment in group:
                self._unlink(segment)
            self.counts.segments_merged += len(group)
            return True
        return False

    def _retire(self) -> None:
        """Delete what retention ends, oldest first."""
        with self._lock:
            by_age = sorted((s for found in self._segments.values() for s in found), key=lambda s: s.newest)
        settings = self.settings
        oldest = int(self._clock.now() * 1e9) - settings.retention * 1_000_000
        total = sum(s.size for s in by_age)
        for segment in by_age:
            too_old = settings.retention and segment.newest < oldest
            too_much = settings.retention_size and total > settings.retention_size
            if not too_old and not too_much:
                break
            self._drop(segment)
            self._unlink(segment)
            total -= segment.size
            self.counts.segments_deleted += 1

    def _unlink(self, segment: Segment) -> None:
        self._disk.unlink(segment.path)
        if segment.bits is not None:
            with contextlib.suppress(FileNotFoundError):
                self._disk.unlink(segment.path.with_suffix(trigrams.suffix()))

    def _drop(self, segment: Segment) -> None:
        with self._lock:
            self._segments[segment.tenant] = [s for s in self._segments[segment.tenant] if s.path != segment.path]

    def _scrub(self) -> None:
        """Once after a start: read every segment, so that damage is known before somebody needs the lines."""
        with self._lock:
            everything = [s for found in self._segments.values() for s in found]
        for segment in everything:
            if self._closing.is_set():
                return
            self._set_aside_damaged([segment])

    def _set_aside_damaged(self, found: Sequence[Segment]) -> bool:
        """Put away those segments whose checksum is wrong; whether there were any."""
        damaged = False
        for segment in found:
            try:
                segment.check()
            except FileNotFoundError:
                continue  # merged or retired since
            except (Corrupt, OSError) as error:
                damaged = True
                self.counts.corrupt += 1
                aside = segment.path.with_suffix(".corrupt")
                log.error("a segment of logs is damaged and set aside", problem=str(error), path=str(aside), lines=segment.lines)
                self._drop(segment)
                with contextlib.suppress(FileNotFoundError):
                    self._disk.rename(segment.path, aside)
        return damaged
