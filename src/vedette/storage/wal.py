"""The log: what was acknowledged and is not yet in a block. `FORMAT.md` draws its bytes.

A segment is a header and records of series, samples and metadata; series are named by numbers that mean something
only within the segment's scope (a random number: no two runs or generations share one). A record that cannot be
written is owed (`owed`) and goes first when writing works again, so nothing that the head holds is ever missing
before what comes later. One thread writes. Not here: what records mean to the head (`replay.py`), when to sync
(`writer.py`).
"""

from __future__ import annotations

import secrets
import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from vedette.errors import Corrupt
from vedette.storage.disk import Disk

MAGIC = b"VDTWAL\x00\x01"
SEGMENT_HEADER = struct.Struct("<8sQQI4x")
"""Magic with version, sequence number, scope, CRC-32 of what precedes it."""

RECORD_MAGIC = 0x4C415756
RECORD_HEADER = struct.Struct("<IIIBBH")
"""Magic, payload bytes, CRC-32 of what follows it, kind, form, padding bytes at the payload's end."""

SERIES, SAMPLES, METADATA, HISTOGRAMS = 1, 2, 3, 4
"""Kinds of records."""

ONE_TIME = 1
"""The form of a samples record whose samples share one timestamp."""

_PAYLOAD_MAX = 1 << 30


@dataclass(frozen=True, slots=True)
class Segment:
    """A file of the log."""

    path: Path
    number: int
    size: int = 0


@dataclass(frozen=True, slots=True)
class Record:
    """A record that was read whole; `offset` is where it stands in its segment."""

    kind: int
    form: int
    payload: memoryview
    offset: int


def record(kind: int, form: int, *parts: bytes | NDArray[np.generic]) -> bytes:
    """A record's bytes, padded to a multiple of eight."""
    pieces = [p if isinstance(p, bytes) else p.tobytes() for p in parts]
    size = sum(map(len, pieces))
    padding = -size % 8
    body = b"".join((*pieces, bytes(padding)))
    tail = struct.pack("<BBH", kind, form, padding)
    crc = zlib.crc32(body, zlib.crc32(tail))
    return RECORD_HEADER.pack(RECORD_MAGIC, len(body), crc, kind, form, padding) + body


def samples_record(ids: NDArray[np.uint32], times: NDArray[np.int64], bits: NDArray[np.int64]) -> bytes:
    """The record of samples, not empty."""
    count = struct.pack("<Q", len(ids))
    if int(times.min()) == int(times.max()):
        return record(SAMPLES, ONE_TIME, count, times[:1], bits, ids)
    return record(SAMPLES, 0, count, times, bits, ids)


def read_samples(item: Record) -> tuple[NDArray[np.uint32], NDArray[np.int64], NDArray[np.int64]]:
    """(ids, timestamps, value bits) of a samples record. Raises `ValueError` where its lengths do not fit."""
    (n,) = struct.unpack_from("<Q", item.payload)
    times = 1 if item.form == ONE_TIME else n
    if n == 0 or 8 + 8 * times + 12 * n != len(item.payload):
        raise ValueError("a samples record whose count does not fit its length")
    data = np.frombuffer(item.payload, dtype=np.int64, count=1 + times + n)
    stamps = np.full(n, data[1]) if item.form == ONE_TIME else data[1 : 1 + n]
    ids = np.frombuffer(item.payload, dtype=np.uint32, offset=8 + 8 * times + 8 * n, count=n)
    return ids, stamps, data[1 + times :]


def series_record(tenant: str, ids: NDArray[np.uint32], keys: NDArray[np.uint8], offsets: NDArray[np.int64]) -> bytes:
    """The record that says which series `ids` are: their tenant and their canonical keys."""
    name = tenant.encode()
    return record(SERIES, 0, struct.pack("<II", len(ids), len(name)), offsets, ids, name, keys)


def read_series(item: Record) -> tuple[str, NDArray[np.uint32], NDArray[np.uint8], NDArray[np.int64]]:
    """(tenant, ids, canonical keys, offsets) of a series record. Raises `ValueError` where its lengths do not fit."""
    n, name = struct.unpack_from("<II", item.payload)
    at = 8 + 8 * (n + 1) + 4 * n
    if at + name > len(item.payload):
        raise ValueError("a series record whose count does not fit its length")
    offsets = np.frombuffer(item.payload, dtype=np.int64, offset=8, count=n + 1)
    ids = np.frombuffer(item.payload, dtype=np.uint32, offset=8 + 8 * (n + 1), count=n)
    keys = np.frombuffer(item.payload, dtype=np.uint8, offset=at + name)
    if offsets[0] != 0 or offsets[-1] != len(keys) or np.any(offsets[1:] < offsets[:-1]):
        raise ValueError("a series record whose offsets do not fit its keys")
    return str(item.payload[at : at + name], "utf-8"), ids, keys, offsets


def segments(directory: Path) -> list[Segment]:
    """The segments there, in order of their number."""
    found = [Segment(p, int(p.stem), p.stat().st_size) for p in directory.glob("*.wal") if p.stem.isdecimal()]
    return sorted(found, key=lambda s: s.number)


def read_segment(segment: Segment) -> tuple[int, Iterator[Record | Corrupt]]:
    """(scope, records) of a segment, in which a `Corrupt` stands for bytes that were skipped.

    Raises `Corrupt` where the header is damaged. A cut-off record at the end is a `Corrupt` too: whether that is
    damage or the trace of a crash, the caller knows.
    """
    data = bytearray(segment.path.read_bytes())
    if len(data) < SEGMENT_HEADER.size:
        raise Corrupt("the segment ends inside its header", path=segment.path, offset=len(data))
    magic, number, scope, crc = SEGMENT_HEADER.unpack_from(data)
    if magic != MAGIC or crc != zlib.crc32(data[:24]) or number != segment.number:
        raise Corrupt("not the header of this segment", path=segment.path, offset=0)
    return scope, _records(segment.path, memoryview(data))


def _records(path: Path, data: memoryview) -> Iterator[Record | Corrupt]:
    at = SEGMENT_HEADER.size
    while at < len(data):
        found = _record_at(data, at)
        if isinstance(found, str):
            after = _next_record(data, at + 8)
            yield Corrupt(f"{found}; {after - at} bytes skipped", path=path, offset=at)
            at = after
        else:
            yield found
            at = found.offset + RECORD_HEADER.size + len(found.payload) + -len(found.payload) % 8


def _record_at(data: memoryview, at: int) -> Record | str:
    """The record at `at`, or what is wrong with it."""
    if len(data) - at < RECORD_HEADER.size:
        return "the segment ends inside a record's header"
    magic, size, crc, kind, form, padding = RECORD_HEADER.unpack_from(data, at)
    if magic != RECORD_MAGIC:
        return "not a record"
    start = at + RECORD_HEADER.size
    if size > len(data) - start:
        return "the segment ends inside a record"
    if zlib.crc32(data[start : start + size], zlib.crc32(data[start - 4 : start])) != crc:
        return "a record's checksum does not match"
    return Record(kind, form, data[start : start + size - padding], at)


def record_at(data: memoryview, at: int) -> Record | str:
    """The record that begins at `at`, or what is wrong with it."""
    return _record_at(data, at) if at < len(data) else "the segment ends before the record"


def _next_record(data: memoryview, at: int) -> int:
    """Where the next whole record begins, from `at` on: records stand at multiples of eight. The end where there is none."""
    words = np.frombuffer(data, dtype=np.uint32, offset=at, count=(len(data) - at) // 4) if at < len(data) else np.zeros(0, np.uint32)
    for word in np.flatnonzero(words[::2] == RECORD_MAGIC).tolist():
        if not isinstance(_record_at(data, at + 8 * word), str):
            return at + 8 * word
    return len(data)


class Wal:
    """The writing end of the log."""

    def __init__(self, directory: Path, disk: Disk, *, segment_size: int, keep_unsynced: bool, next_number: int = 1) -> None:
        """`keep_unsynced` keeps what is written until it is synced, so that a failed sync can be made good elsewhere."""
        self.directory = directory
        self._disk = disk
        self.scope = 0
        self.number = next_number - 1
        self.bytes_written = 0
        self._segment_size = segment_size
        self._keep = keep_unsynced
        self._fd = -1
        self._size = 0
        self._owed: list[bytes] = []
        self._unsynced: list[bytes] = []

    @property
    def size(self) -> int:
        """Bytes of the segment that is being written."""
        return self._size

    @property
    def owed(self) -> bool:
        """Whether something could not be written yet."""
        return bool(self._owed)

    def begin_scope(self) -> None:
        """Records from now on belong to a new scope; the segment is closed, synced. Raises `OSError`, the scope as it was."""
        self.settle()
        self._end_segment()
        self.scope = secrets.randbits(62) | 1

    def append(self, records: list[bytes]) -> None:
        """Write records, after what is owed. Raises `OSError`; the records are then owed."""
        self._owed.extend(records)
        self.settle()

    def settle(self) -> None:
        """Write what is owed. Raises `OSError`; what was not written whole is still owed."""
        while self._owed:
            if self._fd < 0 or self._size >= self._segment_size:
                self._begin_segment()
            data = b"".join(self._owed)
            self._write(data)
            if self._keep:
                self._unsynced.append(data)
            self._owed.clear()

    def sync(self) -> None:
        """Make all that is written durable. Raises `OSError`; what was not synced is then owed to a new segment."""
        if self._fd < 0:
            return
        try:
            self._disk.sync(self._fd)
        except OSError:
            # After a failed sync the kernel may have thrown the pages away and a second one would succeed: write them again.
            self._abandon()
            raise
        self._unsynced.clear()

    def _write(self, data: bytes) -> None:
        try:
            self._disk.write_all(self._fd, data)
        except OSError:
            self._cut_back()
            raise
        self._size += len(data)
        self.bytes_written += len(data)

    def _cut_back(self) -> None:
        """Take a half-written record away again."""
        try:
            self._disk.truncate(self._fd, self._size)
        except OSError:
            # The half record stays and replay skips it; what is not synced goes to a new segment with what is owed.
            self._abandon()
            raise

    def _abandon(self) -> None:
        """Give up the segment: what it may have lost is owed again. Records written twice do no harm."""
        self._owed[:0] = self._unsynced
        self._unsynced.clear()
        fd, self._fd = self._fd, -1
        self._disk.close(fd)

    def _begin_segment(self) -> None:
        self._end_segment()
        number = self.number + 1
        path = self.directory / f"{number:08d}.wal"
        header = SEGMENT_HEADER.pack(MAGIC, number, self.scope, 0)[:24]
        fd = self._disk.create(path)
        try:
            self._disk.write_all(fd, header + struct.pack("<I4x", zlib.crc32(header)))
            self._disk.sync_directory(self.directory)
        except OSError:
            self._disk.close(fd)
            raise
        self._fd, self._size, self.number = fd, SEGMENT_HEADER.size, number

    def _end_segment(self) -> None:
        if self._fd < 0:
            return
        self.sync()
        self._disk.close(self._fd)
        self._fd = -1

    def close(self) -> None:
        """Sync and close. Raises `OSError`."""
        self._end_segment()


def scope_of(segment: Segment) -> int:
    """The scope a segment belongs to, -1 where its header is damaged. Raises `OSError`."""
    with segment.path.open("rb") as file:
        header = file.read(SEGMENT_HEADER.size)
    if len(header) < SEGMENT_HEADER.size:
        return -1
    magic, number, scope, crc = SEGMENT_HEADER.unpack(header)
    return int(scope) if magic == MAGIC and number == segment.number and crc == zlib.crc32(header[:24]) else -1
