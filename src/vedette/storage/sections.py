"""A file of named arrays, each with its checksum: the container of a block's index. `FORMAT.md` draws its bytes.

An array of moderate size stands there compressed and is unpacked when it is taken; a large one stands as it is, so that it is
mapped and memory need not hold it.
"""

from __future__ import annotations

import mmap
import struct
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeVar

import cramjam
import numpy as np
from numpy.typing import NDArray
from pcodec import ChunkConfig, standalone

from vedette.errors import Corrupt

MAGIC = b"VDTIDX\x00\x02"
_READ = (b"VDTIDX\x00\x01", MAGIC)
"""The first knows no packed arrays."""

HEADER = struct.Struct("<8sII")
"""Magic with version, number of sections, CRC-32 of the table that follows."""

ENTRY = struct.Struct("<16sQQII")
"""Name, padded with zeros; offset; bytes; CRC-32; NumPy's type code and what packs it, as four characters."""

PCODEC, ZSTD = "p", "z"
"""What stands behind the type code of a packed array."""

_PACKED_MAX = 16 << 20
_WORTH = 64
_LARGE = 1 << 20
_LEVEL = 8

T = TypeVar("T", bound=np.generic)


def render(arrays: Mapping[str, NDArray[Any]]) -> bytes:
    """The file's bytes. Sections begin at multiples of eight."""
    return b"".join(pieces(arrays))


def pieces(arrays: Mapping[str, NDArray[Any]]) -> list[bytes | memoryview]:
    """The file's bytes, one after another; those of large arrays are the arrays' own, for they take much of the memory there is."""
    at = HEADER.size + ENTRY.size * len(arrays)
    at += -at % 8
    table, bodies = b"", []
    for name, array in arrays.items():
        packing, body = _packed(array)
        kind = (array.dtype.newbyteorder("<").str.lstrip("<|") + packing).encode().ljust(4, b"\0")
        table += ENTRY.pack(name.encode(), at, len(body), zlib.crc32(body), int.from_bytes(kind, "little"))
        bodies += [body, bytes(-len(body) % 8)]
        at += len(body) + -len(body) % 8
    head = HEADER.pack(MAGIC, len(arrays), zlib.crc32(table)) + table
    return [head, bytes(-len(head) % 8), *bodies]


def _packed(array: NDArray[Any]) -> tuple[str, bytes | memoryview]:
    """(what packs it, "" for nothing; the bytes): the smallest."""
    plain = np.ascontiguousarray(array).view(np.uint8).data
    if not _WORTH <= len(plain) <= _PACKED_MAX:
        return "", plain
    found: list[tuple[str, bytes | memoryview]] = [("", plain), (ZSTD, bytes(cramjam.zstd.compress(plain, level=_LEVEL)))]
    if array.dtype.itemsize >= 4:
        found.append((PCODEC, bytes(standalone.simple_compress(np.ascontiguousarray(array), ChunkConfig(compression_level=_LEVEL)))))
    return min(found, key=lambda pair: len(pair[1]))


def _unpacked(packing: str, body: memoryview) -> bytearray | NDArray[Any]:
    """Raises `ValueError` for what is not packed so."""
    try:
        if packing == ZSTD:
            return bytearray(memoryview(cramjam.zstd.decompress(body)))
        found = standalone.simple_decompress(bytes(body))
    except (cramjam.DecompressionError, RuntimeError) as error:
        raise ValueError(str(error)) from error
    if found is None:
        raise ValueError("it holds no numbers")
    numbers: NDArray[Any] = np.require(found, requirements=("C", "W"))
    return numbers


class Sections:
    """The arrays of a file, mapped; each is checked, and unpacked where it is packed, when it is first taken."""

    def __init__(self, path: Path) -> None:
        """Raises `Corrupt` where the table is damaged, `OSError` where the file cannot be read."""
        self.path = path
        with path.open("rb") as file:
            size = path.stat().st_size
            if size < HEADER.size:
                raise Corrupt("the file ends inside its header", path=path, offset=size)
            # A private mapping that may be written to, though nobody does: kernels would be compiled again for read-only arrays.
            self._data = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_COPY)
        magic, count, crc = HEADER.unpack_from(self._data)
        end = HEADER.size + count * ENTRY.size
        if magic not in _READ or end > size or zlib.crc32(self._data[HEADER.size : end]) != crc:
            raise Corrupt("the table of sections is damaged", path=path, offset=0)
        self._entries = {}
        for i in range(count):
            name, *entry = ENTRY.unpack_from(self._data, HEADER.size + i * ENTRY.size)
            self._entries[name.rstrip(b"\0").decode()] = entry
        self._taken: dict[str, NDArray[Any]] = {}

    def take(self, name: str, dtype: type[T]) -> NDArray[T]:
        """A section's array. Raises `Corrupt` where it is damaged, missing or of another type."""
        if name not in self._taken:
            if name not in self._entries:
                raise Corrupt(f"section {name!r} is missing", path=self.path, offset=0)
            offset, size, crc, kind = self._entries[name]
            if offset + size > len(self._data) or zlib.crc32(memoryview(self._data)[offset : offset + size]) != crc:
                raise Corrupt(f"section {name!r} does not match its checksum", path=self.path, offset=offset)
            stored = int(kind).to_bytes(4, "little").rstrip(b"\0").decode()
            if np.dtype("<" + stored[:2]) != np.dtype(dtype):
                raise Corrupt(f"section {name!r} holds {stored}", path=self.path, offset=offset)
            self._taken[name] = self._array(offset, size, dtype, stored[2:])
        array: NDArray[T] = self._taken[name]
        return array

    def _array(self, offset: int, size: int, dtype: type[T], packing: str) -> NDArray[T]:
        if not packing:
            self._let_go(offset, size)
            return np.frombuffer(self._data, dtype=dtype, offset=offset, count=size // np.dtype(dtype).itemsize)
        try:
            array: NDArray[T] = np.frombuffer(_unpacked(packing, memoryview(self._data)[offset : offset + size]), dtype=dtype)
        except ValueError as error:
            raise Corrupt(f"a section cannot be unpacked: {error}", path=self.path, offset=offset) from error
        return array

    def _let_go(self, offset: int, size: int) -> None:
        """The checksum has read all of a large array; what is looked up in it will be read again, the rest need not stay resident."""
        start, stop = -(-offset // mmap.PAGESIZE) * mmap.PAGESIZE, (offset + size) // mmap.PAGESIZE * mmap.PAGESIZE
        if size >= _LARGE and hasattr(mmap, "MADV_DONTNEED"):
            self._data.madvise(mmap.MADV_DONTNEED, start, stop - start)
