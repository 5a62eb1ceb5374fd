"""The pages of a block: samples, compressed, and back. `FORMAT.md` draws the bytes.

A page of values holds whole rows: each reduced to small integers (`kernels/pages.py`), rows that are alike sharing a `pcodec`
stream. The times of rows are vectors: what was scraped together has the same times, which stand in the block once. Not here:
which rows share a page, the index over them (`block_writer.py`), caching (`block.py`).
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Callable
from itertools import accumulate
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from pcodec import ChunkConfig, standalone

from vedette.kernels import pages as kernel
from vedette.kernels.hashing import hash_regions
from vedette.storage.columns import Column
from vedette.storage.series import KeyTable

MAGIC = b"VDTPAG\x00\x02"
FIRST_HEADER = struct.Struct("<IIII")
"""Of a page of format 1: CRC-32 of what follows it, samples, bytes of the timestamps' chunk, bytes of the values' chunk."""

HEADER = struct.Struct("<IIIII")
"""CRC-32 of what follows it, samples, rows, bytes of the rows' fields, streams."""

STREAM = struct.Struct("<III")
"""What a stream holds (INTEGERS, FLOATS), how many, its bytes."""

TIMES_HEADER = struct.Struct("<II")
"""CRC-32 of what follows it, samples."""

INTEGERS, FLOATS = 0, 1
TIMES_SAMPLES = 16_384
LARGEST = 1 << 20
"""Samples of a row in one page at most."""

_PROBLEMS = ("", "its fields are cut off", "its exceptions are cut off", "its rows do not match their streams")
"""What `kernels.pages.restore` says."""

_LEVEL = 8
_TENS = kernel.powers()
_FIELDS = 8
_I64 = np.int64
Array = NDArray[np.int64]


class PagesWriter:
    """The pages of a block while they are written; `write` takes their bytes, one after another.

    `table` and `time_table` are (first sample, offset, bytes) of each page, `vectors` says where each vector of times begins.
    """

    def __init__(self, write: Callable[[bytes], None]) -> None:
        self._write = write
        self._at = 0
        self._known = KeyTable(64)
        self._times: list[Array] = []
        self._vectors: Column[np.int64] = Column(np.int64)
        self._vectors.extend(np.zeros(1, dtype=_I64))
        self._timed = 0
        self.samples = 0
        self.table: list[tuple[int, int, int]] = []
        self.time_table: list[tuple[int, int, int]] = []
        self._put(MAGIC)

    @property
    def vectors(self) -> Array:
        """Where each vector of times begins among all, and where the last one ends."""
        return self._vectors.view()

    def add(self, offsets: Array, times: Array, bits: Array) -> None:
        """A page of the rows `offsets[i]:offsets[i + 1]`, several where one row is longer than a page may be."""
        filled = np.concatenate([offsets[:1], offsets[1:][offsets[1:] > offsets[:-1]]])
        if len(filled) == 2 and filled[1] - filled[0] > LARGEST:
            for lo in range(int(filled[0]), int(filled[1]), LARGEST):
                hi = min(lo + LARGEST, int(filled[1]))
                self._page(np.array([0, hi - lo]), times[lo:hi], bits[lo:hi])
        elif len(filled) > 1:
            self._page(filled - filled[0], times[filled[0] : filled[-1]], bits[filled[0] : filled[-1]])

    def _page(self, offsets: Array, times: Array, bits: Array) -> None:
        rows = len(offsets) - 1
        fields, classes, wholes = np.zeros((rows, _FIELDS), _I64), np.empty(rows, _I64), np.empty_like(bits)
        at, odd = np.empty_like(bits), np.empty_like(bits)
        exceptions = int(kernel.encode(offsets, bits, bits.view(np.float64), _TENS, fields, classes, wholes, at, odd))
        fields[:, kernel.VECTOR] = self._vectors_of(offsets, times)
        streams = [(INTEGERS, np.ascontiguousarray(fields[:, kernel.BASE]))]
        for kind in np.unique(classes[classes >= 0]).tolist():
            fields[classes == kind, kernel.STREAM] = len(streams)
            count = int(kernel.collect(offsets, classes, kind, wholes, out := np.empty_like(wholes)))
            streams.append((FLOATS if kind == kernel.RAW_CLASS else INTEGERS, out[:count]))
        # The vectors of neighbours follow one another.
        fields[1:, kernel.VECTOR] = np.diff(fields[:, kernel.VECTOR])
        numbers = np.concatenate([*(fields[:, k] for k in range(kernel.BASE)), at[:exceptions], odd[:exceptions]])
        packed = np.empty(10 * len(numbers), dtype=np.uint8)
        head = _deflated(packed[: int(kernel.pack(numbers, packed))].tobytes())
        bodies = [_compressed(kind, array) for kind, array in streams]
        sizes = b"".join(STREAM.pack(kind, len(array), len(body)) for (kind, array), body in zip(streams, bodies, strict=True))
        rest = b"".join((HEADER.pack(0, len(bits), rows, len(head), len(streams))[4:], sizes, head, *bodies))
        self.table.append((self.samples, self._at, 4 + len(rest)))
        self._put(struct.pack("<I", zlib.crc32(rest)) + rest)
        self.samples += len(bits)

    def _vectors_of(self, offsets: Array, times: Array) -> Array:
        """The vector of each row; new ones are kept to be written."""
        hashes = hash_regions(np.ascontiguousarray(times).view(np.uint8), offsets[:-1] * 8, offsets[1:] * 8, np.uint64(0))
        found, new = self._known.find_or_add(hashes, len(self._vectors) - 1)
        for row in new.tolist():
            self._times.append(times[offsets[row] : offsets[row + 1]])
            self._timed += len(self._times[-1])
            self._vectors.extend(self._vectors.view()[-1:] + len(self._times[-1]))
            if self._timed >= TIMES_SAMPLES:
                self._put_times()
        return found

    def _put_times(self) -> None:
        body = _compressed(INTEGERS, np.concatenate(self._times))
        rest = struct.pack("<I", self._timed) + body
        self.time_table.append((int(self.vectors[-1]) - self._timed, self._at, 4 + len(rest)))
        self._put(struct.pack("<I", zlib.crc32(rest)) + rest)
        self._times.clear()
        self._timed = 0

    def finish(self) -> None:
        """Write what is left."""
        if self._timed:
            self._put_times()

    def _put(self, data: bytes) -> None:
        self._write(data)
        self._at += len(data)


def _compressed(kind: int, array: Array) -> bytes:
    if kind == FLOATS:
        return bytes(standalone.simple_compress(array.view(np.float64), ChunkConfig(compression_level=_LEVEL)))
    return bytes(standalone.simple_compress(array, ChunkConfig(compression_level=_LEVEL)))


def _deflated(data: bytes) -> bytes:
    made = zlib.compressobj(6, zlib.DEFLATED, -15)
    return made.compress(data) + made.flush()


class Opened(NamedTuple):
    """A page of values unpacked, its rows not made yet: the fields (`head`, packed), the streams (int64) end to end, their bounds."""

    samples: int
    rows: int
    head: NDArray[np.uint8]
    streams: Array
    bounds: Array


def open_values(data: bytes, scratch: Array | None = None) -> Opened:
    """Unpack a page of values; arguments and errors are those of `read_values`."""
    if len(data) < HEADER.size:
        raise ValueError("it ends inside its header")
    crc, samples, rows, size, count = HEADER.unpack_from(data)
    at = HEADER.size + count * STREAM.size
    if zlib.crc32(memoryview(data)[4:]) != crc or at + size > len(data) or rows > samples or count < 1:
        raise ValueError("it does not match its checksum")
    try:
        # A bytearray, since kernels would be compiled a second time for an array that is read-only.
        head = np.frombuffer(bytearray(zlib.decompress(data[at : at + size], -15)), dtype=np.uint8)
    except zlib.error as error:
        raise ValueError(f"its fields cannot be read: {error}") from error
    sizes = list(STREAM.iter_unpack(data[HEADER.size : at]))
    bounds = [0, *accumulate(n for _, n, _ in sizes)]
    many = bounds[-1]
    if many > 2 * samples or at + size + sum(s for _, _, s in sizes) != len(data):
        raise ValueError("it holds more than it says")
    streams = scratch[:many] if scratch is not None and many <= len(scratch) else np.empty(many, dtype=_I64)
    at += size
    for (kind, _, length), lo, hi in zip(sizes, bounds, bounds[1:], strict=False):
        _decompress(data[at : at + length], streams[lo:hi].view(np.float64) if kind == FLOATS else streams[lo:hi])
        at += length
    return Opened(samples, rows, head, streams, np.array(bounds, dtype=_I64))


def read_values(data: bytes, out: Array | None = None, scratch: Array | None = None) -> tuple[Array, Array, Array]:
    """(vector of each row, samples of each row, value bits) of a page; the bits in `out`, where it is given, as long as the page.

    `scratch` is memory to work in, where it is long enough: fresh memory takes longer to come by than a page to decode.
    Raises `ValueError` where it is not what was written.
    """
    samples, rows, head, streams, bounds = open_values(data, scratch)
    vectors, counts = np.empty((2, rows), dtype=_I64)
    out = np.empty(samples, dtype=_I64) if out is None else out
    problem = 3
    if len(out) == samples:
        problem = kernel.restore(head, streams, bounds, _TENS, vectors, counts, out, out.view(np.float64))
    if problem:
        raise ValueError(_PROBLEMS[problem])
    return vectors, counts, out


def _decompress(data: bytes, out: NDArray[np.int64] | NDArray[np.float64]) -> None:
    try:
        done = standalone.simple_decompress_into(data, out)
    except (RuntimeError, TypeError) as error:
        raise ValueError(f"a stream cannot be read: {error}") from error
    if done.n_processed != len(out) or not done.finished:
        raise ValueError("a stream holds more or less than it says")


def read_times(data: bytes) -> Array:
    """The times in a page of times. Raises `ValueError`."""
    if len(data) < TIMES_HEADER.size:
        raise ValueError("it ends inside its header")
    crc, samples = TIMES_HEADER.unpack_from(data)
    if zlib.crc32(memoryview(data)[4:]) != crc:
        raise ValueError("it does not match its checksum")
    out = np.empty(samples, dtype=_I64)
    _decompress(data[TIMES_HEADER.size :], out)
    return out


def read_first(data: bytes) -> tuple[Array, Array]:
    """(times, value bits) of a page of format 1. Raises `ValueError`."""
    if len(data) < FIRST_HEADER.size:
        raise ValueError("it ends inside its header")
    crc, count, stamps, numbers = FIRST_HEADER.unpack_from(data)
    at = FIRST_HEADER.size
    if zlib.crc32(memoryview(data)[4:]) != crc or at + stamps + numbers != len(data):
        raise ValueError("it does not match its checksum")
    times, values = np.empty(count, dtype=_I64), np.empty(count, dtype=np.float64)
    _decompress(data[at : at + stamps], times)
    _decompress(data[at + stamps :], values)
    return times, values.view(_I64)
