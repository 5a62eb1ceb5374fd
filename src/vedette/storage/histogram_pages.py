"""The native histograms of a block: `histogram_pages` holds them, `histograms` says where. `FORMAT.md` draws both.

Blocks without histograms have neither file. Not here: the samples they belong to (`block_writer.py`, `block.py`).
"""

from __future__ import annotations

import os
import struct
import zlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pcodec import ChunkConfig, standalone

from vedette.errors import Corrupt
from vedette.kernels import histograms as kernel
from vedette.model.histograms import SUM, Histograms, LayoutTable
from vedette.storage import histogram_layouts, sections
from vedette.storage.disk import Disk
from vedette.storage.histogram_columns import Found, attached
from vedette.storage.page_cache import PageCache

INDEX, PAGES = "histograms", "histogram_pages"
"""The names of the files."""

MAGIC = b"VDTHST\x00\x01"
HEADER = struct.Struct("<IIIIII")
"""CRC-32 of what follows it, histograms, bytes of the chunks of times, kinds, sums and cells."""

_PAGE_CELLS = 1 << 16
_LEVEL = 8
_I64 = np.int64


class HistogramWriter:
    """Writes both files while a block is written; neither, where there is nothing to write."""

    def __init__(self, directory: Path, disk: Disk) -> None:
        self._directory = directory
        self._disk = disk
        self._fd = -1
        self._size = 0
        self._table = LayoutTable()
        self._pages: list[tuple[int, int, int]] = []
        self._rows: list[NDArray[np.int64]] = []
        self._waiting: list[tuple[NDArray[np.int64], Histograms]] = []
        self._cells = 0
        self.count = 0

    def add(
        self,
        found: Sequence[Found],
        columns: tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]],
        *,
        first_row: int,
    ) -> None:
        """Take those of `found` that belong to samples in `columns` (CSR), whose first row is the block's row `first_row`."""
        placed = attached(found, *columns)
        if placed is None:
            return
        rows, histograms = placed
        self._rows.append(rows + first_row)
        times = columns[1][histograms.at]
        lo = 0
        while lo < len(histograms):
            room = _PAGE_CELLS - self._cells
            hi = max(lo + 1, int(np.searchsorted(histograms.offsets, histograms.offsets[lo] + room, side="right")) - 1)
            part = histograms if (lo, hi) == (0, len(histograms)) else histograms.take(np.arange(lo, hi), np.arange(hi - lo))
            self._waiting.append((times[lo:hi], part))
            self._cells += int(part.offsets[-1])
            if self._cells >= _PAGE_CELLS or hi < len(histograms):
                self._write_page()
            lo = hi

    def _write_page(self) -> None:
        if not self._waiting:
            return
        if self._fd < 0:
            self._fd = self._disk.create(self._directory / PAGES)
            self._write(MAGIC)
        times = np.concatenate([t for t, _ in self._waiting])
        columns = Histograms.joined([h for _, h in self._waiting])
        layout = self._table.numbers(columns.layouts)[columns.layout]
        page = _render(times, layout, columns, self._widths())
        self._pages.append((self.count, self._size, len(page)))
        self._write(page)
        self.count += len(times)
        self._waiting.clear()
        self._cells = 0

    def _widths(self) -> NDArray[np.int64]:
        return np.array([layout.width - 1 for layout in self._table.layouts], dtype=_I64)

    def _write(self, data: bytes) -> None:
        self._disk.write_all(self._fd, data)
        self._size += len(data)

    def finish(self, left: NDArray[np.int64]) -> None:
        """Write what waits and the index, synced; `left` are the rows that stay in the block, which are numbered anew."""
        self._write_page()
        if self._fd < 0:
            return
        self._disk.sync(self._fd)
        self.close()
        of_each = np.concatenate(self._rows)
        rows, begins = np.unique(of_each, return_index=True)
        arrays: dict[str, NDArray[Any]] = {
            "layouts": np.frombuffer(histogram_layouts.render(self._table.layouts), dtype=np.uint8),
            "rows": np.searchsorted(left, rows).astype(_I64),
            "begins": np.append(begins, len(of_each)).astype(_I64),
            "pages": np.array(self._pages, dtype=_I64).reshape(-1),
        }
        self._disk.write_file(self._directory / INDEX, sections.render(arrays))

    def close(self) -> None:
        """Close the file, if it is open."""
        if self._fd >= 0:
            self._disk.close(self._fd)
            self._fd = -1


def _render(times: NDArray[np.int64], layout: NDArray[np.int32], columns: Histograms, widths: NDArray[np.int64]) -> bytes:
    config = ChunkConfig(compression_level=_LEVEL)
    sums = columns.sums
    rest = np.delete(columns.cells, columns.offsets[:-1] + SUM)
    turned = np.empty_like(rest)
    kernel.turn(layout, widths, rest, turned, False)
    kinds = layout.astype(np.uint32) << 2 | columns.hints
    chunks = [standalone.simple_compress(array, config) for array in (times, kinds, sums, turned)]
    tail = struct.pack("<I4I", len(times), *map(len, chunks)) + b"".join(chunks)
    return struct.pack("<I", zlib.crc32(tail)) + tail


class HistogramReader:
    """Reads both files of a block that has them. Raises `Corrupt` from any method that meets damage."""

    def __init__(self, directory: Path, *, key: int = -1) -> None:
        """A cache knows the pages as (`key`, number)."""
        self._path = directory / PAGES
        self._key = key
        try:
            self._index = sections.Sections(directory / INDEX)
            self._fd = os.open(self._path, os.O_RDONLY | os.O_CLOEXEC)
        except OSError as error:
            raise Corrupt(f"cannot be opened: {error.strerror}", path=directory / INDEX, offset=0) from error
        try:
            self.layouts = histogram_layouts.parse(self._index.take("layouts", np.uint8).tobytes())
        except ValueError as error:
            raise Corrupt(str(error), path=directory / INDEX, offset=0) from error
        self._widths = np.array([layout.width - 1 for layout in self.layouts], dtype=_I64)
        self._rows = self._index.take("rows", np.int64)
        self._begins = self._index.take("begins", np.int64)
        self._pages = self._index.take("pages", np.int64).reshape(-1, 3)

    def __del__(self) -> None:
        if (fd := getattr(self, "_fd", -1)) >= 0:
            os.close(fd)

    def read(self, rows: NDArray[np.uint32], start: int, end: int, cache: PageCache) -> Found | None:
        """Those of the block's `rows` (ascending) in [start, end], rows being places in `rows`; None where there are none."""
        wanted = rows.astype(_I64)
        at = np.searchsorted(self._rows, wanted)
        known = np.flatnonzero(at < len(self._rows))
        known = known[self._rows[at[known]] == wanted[known]]
        if not len(known):
            return None
        begins, ends = self._begins[at[known]], self._begins[at[known] + 1]
        lengths = ends - begins
        numbers = np.arange(lengths.sum()) + np.repeat(begins - np.cumsum(lengths) + lengths, lengths)
        owners = np.repeat(known, lengths)
        parts: list[Found] = []
        page_of = np.searchsorted(self._pages[:, 0], numbers, side="right") - 1
        for page in np.unique(page_of).tolist():
            here = page_of == page
            times, columns = self._held(page, cache)
            which = numbers[here] - int(self._pages[page, 0])
            inside = (times[which] >= start) & (times[which] <= end)
            which = which[inside]
            if len(which):
                parts.append(Found(owners[here][inside], times[which], columns.take(which, which)))
        if not parts:
            return None
        joined = Histograms.joined([p.columns for p in parts])
        return Found(np.concatenate([p.rows for p in parts]), np.concatenate([p.times for p in parts]), joined)

    def any_of(self, rows: NDArray[np.uint32]) -> bool:
        """Whether any of the block's `rows` has native histograms, of any time."""
        return bool(np.isin(self._rows, rows).any())

    def damage(self) -> Iterator[Corrupt]:
        """Read every page once; what is wrong, one after another."""
        for entry in self._pages:
            try:
                self._page(entry)
            except Corrupt as damage:
                yield damage

    def _held(self, number: int, cache: PageCache) -> tuple[NDArray[np.int64], Histograms]:
        """A page, decoded once for as long as the cache has room."""
        found: tuple[NDArray[np.int64], Histograms] | None = cache.get((self._key, number))
        if found is None:
            found = self._page(self._pages[number])
            times, columns = found
            arrays = (times, columns.at, columns.layout, columns.offsets, columns.cells, columns.hints)
            cache.put((self._key, number), found, sum(a.nbytes for a in arrays))
        return found

    def _page(self, entry: NDArray[np.int64]) -> tuple[NDArray[np.int64], Histograms]:
        offset, size = int(entry[1]), int(entry[2])
        data = os.pread(self._fd, size, offset)
        if len(data) != size or size < HEADER.size:
            raise Corrupt("the file ends inside a page", path=self._path, offset=offset)
        crc, count, *lengths = HEADER.unpack_from(data)
        if zlib.crc32(memoryview(data)[4:]) != crc or HEADER.size + sum(lengths) != size:
            raise Corrupt("a page does not match its checksum", path=self._path, offset=offset)
        chunks, at = [], HEADER.size
        for length in lengths:
            chunks.append(standalone.simple_decompress(data[at : at + length]))
            at += length
        times, kinds, sums, turned = chunks
        if times is None or kinds is None or sums is None or turned is None or not len(times) == len(kinds) == len(sums) == count:
            raise Corrupt("a page does not hold the histograms it says", path=self._path, offset=offset)
        layout = (kinds >> 2).astype(np.int32)
        if int(layout.max()) >= len(self._widths) or int(self._widths[layout].sum()) != len(turned):
            raise Corrupt("a page does not hold the histograms it says", path=self._path, offset=offset)
        rest = np.empty_like(turned)
        kernel.turn(layout, self._widths, turned, rest, True)
        offsets = np.zeros(count + 1, dtype=_I64)
        np.cumsum(self._widths[layout] + 1, out=offsets[1:])
        cells = np.empty(int(offsets[-1]))
        others = np.ones(len(cells), dtype=np.bool_)
        others[offsets[:-1] + SUM] = False
        cells[offsets[:-1] + SUM] = sums
        cells[others] = rest
        return times, Histograms(np.arange(count), self.layouts, layout, offsets, cells, (kinds & 3).astype(np.uint8))
