"""A queue on disk: what is put in survives `kill -9` and loss of power, and is read back until it is done with.

Segments of the log's own records (`wal.py`), and beside them `position`: up to where all is done. What is done is noted
without a sync, so after loss of power a little may be read again; never less. One thread puts, any may read and finish. Not here: what
the payloads mean, who sends them (`sending.py`).
"""

from __future__ import annotations

import asyncio
import os
import struct
import threading
import zlib
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import structlog

from vedette.errors import Corrupt, LimitExceeded
from vedette.storage import wal
from vedette.storage.disk import Disk

log = structlog.get_logger(__name__)

ITEM = 9
"""The kind of a queue's records."""

_SEGMENT = 16 << 20
_HEAD = struct.Struct("<HHI")
_POSITION = struct.Struct("<QQI")
RETRY_AFTER = 5.0


@dataclass(frozen=True, slots=True)
class Item:
    """What is queued: `body` for `lane` (what one lane holds stays in order) of `tenant`; `samples` is how many it holds."""

    tenant: str
    lane: int
    samples: int
    body: bytes

    def payload(self) -> bytes:
        """As it lies in a record."""
        name = self.tenant.encode()
        return _HEAD.pack(len(name), self.lane, self.samples) + name + self.body

    @classmethod
    def read(cls, payload: bytes | memoryview) -> Item:
        """The inverse of `payload`."""
        name, lane, samples = _HEAD.unpack_from(payload)
        at = _HEAD.size
        return cls(str(payload[at : at + name], "utf-8"), lane, samples, bytes(payload[at + name :]))


@dataclass(slots=True, eq=False)
class Entry:
    """Where a queued item lies, and whom it is for."""

    segment: int
    offset: int
    size: int
    tenant: str
    lane: int
    samples: int
    done: bool = False


class Queue:
    """The queue of one directory, of at most `limit` bytes. `open` first; `added` is told of every entry, old ones at `open`."""

    def __init__(self, directory: Path, *, limit: int, added: Callable[[Sequence[Entry]], None], disk: Disk | None = None) -> None:
        self.directory = directory
        self._limit = limit
        self._added = added
        self._disk = disk or Disk()
        self._entries: deque[Entry] = deque()
        self._segments: dict[int, int] = {}
        self._lock = threading.Lock()
        self._wal: wal.Wal | None = None
        self._position = -1
        self.samples = 0
        """Samples that wait."""
        self.corrupt = 0
        """Records that could not be read back."""

    @property
    def nbytes(self) -> int:
        """Bytes on disk."""
        with self._lock:
            return sum(self._segments.values())

    def open(self) -> None:
        """Read what is there. Raises `OSError`."""
        self.directory.mkdir(parents=True, exist_ok=True)
        self._disk.sync_directory(self.directory.parent)
        path = self.directory / "position"
        done = _position(path.read_bytes()) if path.is_file() else (0, 0)
        self._position = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        found: list[Entry] = []
        last = 0
        for segment in wal.segments(self.directory):
            last = segment.number
            if segment.number < done[0]:
                self._disk.unlink(segment.path)
                continue
            self._segments[segment.number] = segment.size
            found += self._entries_of(segment, done[1] if segment.number == done[0] else 0)
        self._wal = wal.Wal(self.directory, self._disk, segment_size=_SEGMENT, keep_unsynced=True, next_number=max(last, done[0]) + 1)
        self._wal.begin_scope()
        self._entries.extend(found)
        self.samples = sum(e.samples for e in found)
        self._drop_segments()
        self._added(found)

    def _entries_of(self, segment: wal.Segment, start: int) -> list[Entry]:
        found = []
        try:
            _, records = wal.read_segment(segment)
            for record in records:
                if isinstance(record, Corrupt):
                    # At the end of the last segment the trace of a crash: it was never acknowledged.
                    log.warning("a queue's record cannot be read", problem=str(record))
                    self.corrupt += 1
                elif record.kind == ITEM and record.offset >= start:
                    item = Item.read(record.payload)
                    found.append(Entry(segment.number, record.offset, len(record.payload), item.tenant, item.lane, item.samples))
        except (Corrupt, struct.error, ValueError) as error:
            log.warning("a queue's segment cannot be read", path=str(segment.path), problem=str(error))
            self.corrupt += 1
        return found

    def put(self, items: Sequence[Item]) -> None:
        """Add items; durable when it returns. Raises `LimitExceeded` where the queue or the disk is full; then none is in."""
        assert self._wal is not None, "open comes first"
        records = [wal.record(ITEM, 0, item.payload()) for item in items]
        size = sum(map(len, records))
        if self.nbytes + size > self._limit:
            raise LimitExceeded(f"the queue of what is to be sent holds its {self._limit} bytes", retry_after=RETRY_AFTER)
        try:
            self._wal.append(records)
            self._wal.sync()
        except OSError as error:
            raise LimitExceeded(f"the queue cannot be written: {error.strerror}", retry_after=RETRY_AFTER) from error
        end, number = self._wal.size, self._wal.number
        at = end - size
        new = []
        for item, record in zip(items, records, strict=True):
            length = _HEAD.size + len(item.tenant.encode()) + len(item.body)
            new.append(Entry(number, at, length, item.tenant, item.lane, item.samples))
            at += len(record)
        with self._lock:
            self._segments[number] = end
            self._entries.extend(new)
            self.samples += sum(i.samples for i in items)
        self._added(new)

    def read(self, entry: Entry) -> bytes:
        """An entry's body. Raises `Corrupt`, `OSError`."""
        path = self.directory / f"{entry.segment:08d}.wal"
        size = wal.RECORD_HEADER.size + entry.size + -entry.size % 8
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        try:
            data = os.pread(fd, size, entry.offset)
        finally:
            os.close(fd)
        found = wal.record_at(memoryview(data), 0)
        if isinstance(found, str):
            raise Corrupt(found, path=path, offset=entry.offset)
        return Item.read(found.payload).body

    def finish(self, entries: Sequence[Entry]) -> None:
        """These are done with. Raises `OSError`."""
        with self._lock:
            for entry in entries:
                assert not entry.done, "done twice"
                entry.done = True
                self.samples -= entry.samples
            while self._entries and self._entries[0].done:
                self._entries.popleft()
            if self._entries:
                first = (self._entries[0].segment, self._entries[0].offset)
            else:
                last = max(self._segments, default=0)
                first = (last, self._segments.get(last, 0))
            body = struct.pack("<QQ", *first)
            os.pwrite(self._position, body + struct.pack("<I", zlib.crc32(body)), 0)
        self._drop_segments()

    def _drop_segments(self) -> None:
        with self._lock:
            current = self._wal.number if self._wal is not None else 0
            keep = min([e.segment for e in list(self._entries)[:1]] or [current])
            gone = [n for n in self._segments if n < min(keep, current)]
            for number in gone:
                del self._segments[number]
        for number in gone:
            self._disk.unlink(self.directory / f"{number:08d}.wal")

    def close(self) -> None:
        """Let go of the files."""
        if self._wal is not None:
            self._wal.close()
            os.close(self._position)
            self._wal, self._position = None, -1


class Putter:
    """Puts items into a queue from a loop; those that come while a sync is under way share the next one."""

    def __init__(self, queue: Queue) -> None:
        self._queue = queue
        self._waiting: list[tuple[Sequence[Item], asyncio.Future[None]]] = []
        self._running: asyncio.Task[None] | None = None
        self.failures = 0
        self.problem = ""
        """Why nothing can be put in now, empty where it can."""

    async def put(self, items: Sequence[Item]) -> None:
        """Durable when it returns. Raises as `Queue.put`; cancelling the caller does not keep the items out."""
        done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.append((items, done))
        if self._running is None or self._running.done():
            self._running = asyncio.create_task(self._run())
        await asyncio.shield(done)

    async def _run(self) -> None:
        while self._waiting:
            group, self._waiting = self._waiting, []
            outcome: Exception | None = None
            try:
                await asyncio.to_thread(self._queue.put, [item for items, _ in group for item in items])
                self.problem = ""
            except LimitExceeded as error:
                outcome, self.problem = error, str(error)
                self.failures += 1
            except Exception as error:  # the edge of the loop: those who wait must hear of it
                log.exception("samples could not be queued")
                outcome = error
                self.failures += 1
            for _, done in group:
                if done.done():
                    continue
                if outcome is None:
                    done.set_result(None)
                else:
                    done.set_exception(outcome)

    async def finish(self) -> None:
        """Return once what waits is in, or refused."""
        if self._running is not None:
            await asyncio.wait([self._running])


def _position(data: bytes) -> tuple[int, int]:
    """(segment, offset) up to where all is done; a position that was torn is that of the beginning."""
    if len(data) < _POSITION.size:
        return 0, 0
    segment, offset, crc = _POSITION.unpack_from(data)
    return (segment, offset) if crc == zlib.crc32(data[:16]) else (0, 0)
