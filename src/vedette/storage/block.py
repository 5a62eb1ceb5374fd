"""An immutable block directory, read: its index mapped and checked when first used, its pages decoded on demand.

Safe from any number of threads. A block that was deleted stays readable for whoever holds it. Not here: writing
(`block_writer.py`), what its `meta.json` says (`block_meta.py`), which blocks there are (`blocks.py`).
"""

from __future__ import annotations

import contextlib
import os
import threading
from bisect import bisect_right
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from vedette.errors import Corrupt
from vedette.kernels import block as kernel
from vedette.kernels import chaining
from vedette.kernels import pages as kernel_pages
from vedette.kernels.series_table import join_canonical
from vedette.storage import pages
from vedette.storage.block_meta import Texts, read_meta
from vedette.storage.block_writer import PAGE_SAMPLES
from vedette.storage.histogram_columns import Found
from vedette.storage.histogram_pages import HistogramReader
from vedette.storage.index import IndexView, Postings
from vedette.storage.page_cache import PageCache
from vedette.storage.sections import Sections
from vedette.storage.series import SymbolTable

_I64 = np.int64
FIRST_WITH_VECTORS = 3
"""The format from which on times stand in pages of their own."""

_TIMES_HELD = 16 << 20
_BYTES = 16
"""Of a decoded sample."""

Columns = tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]
"""Offsets, timestamps and value bits of rows, as CSR."""


@dataclass(frozen=True, slots=True)
class PageRoom:
    """Memory that a page is decoded into: its times and value bits, and what decoding works in; int64."""

    times: NDArray[np.int64]
    bits: NDArray[np.int64]
    streams: NDArray[np.int64]

    @classmethod
    def of(cls, samples: int) -> PageRoom:
        """For a page of so many samples."""
        return cls(np.empty(samples, _I64), np.empty(samples, _I64), np.empty(2 * samples, _I64))


class Page(NamedTuple):
    """A decoded page: its value bits, those of the rows from `row` on end to end, row `row + i` at `bounds[i]:bounds[i + 1]`; their times.

    Where `stamps` is None, the times are as the values are, else row `row + i` has those from `stamps[i]` on. Nobody changes them.
    """

    times: NDArray[np.int64]
    bits: NDArray[np.int64]
    bounds: NDArray[np.int64]
    row: int
    stamps: NDArray[np.int64] | None = None

    def spans(self, rows: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
        """Of each of the block's `rows`: where its times begin, where its values begin and end."""
        own = rows - self.row
        begins = self.bounds[own]
        return begins if self.stamps is None else self.stamps[own], begins, self.bounds[own + 1]


class Coded(NamedTuple):
    """A page whose rows were not made yet: what `kernels.chaining.chain` is told of it. Row i has the `times` from `begins[i]` on."""

    fields: NDArray[np.int64]
    exceptions: NDArray[np.int64]
    streams: NDArray[np.int64]
    starts: NDArray[np.int64]
    times: NDArray[np.int64]
    begins: NDArray[np.int64]


class Block:
    """One block. Raises `Corrupt` from any method that meets damage."""

    def __init__(self, path: Path, cache: PageCache) -> None:
        """Reads `meta.json` and opens the pages; the index waits for its first use."""
        self.path = path
        self.meta = read_meta(path)
        self._cache = cache
        self._lock = threading.Lock()
        self._sections: Sections | None = None
        self._histograms: HistogramReader | None = None
        self._symbols: Texts | None = None
        self._times: tuple[NDArray[np.int64], NDArray[np.int64], list[int]] | None = None
        self._views: dict[str, IndexView] = {}
        self.to_engine: tuple[SymbolTable, NDArray[np.int64]] | None = None
        """The engine's symbol (of that table) for each of the block's, -1 where none is known yet; filled under the engine's lock."""
        self._used = self._doomed = False
        try:
            self._fd = os.open(path / "pages", os.O_RDONLY | os.O_CLOEXEC)
            self.nbytes = sum(f.stat().st_size for f in path.iterdir())
        except OSError as error:
            raise Corrupt(f"cannot be opened: {error.strerror}", path=path / "pages", offset=0) from error

    def __del__(self) -> None:
        if (fd := getattr(self, "_fd", -1)) >= 0:
            os.close(fd)

    def _take(self, name: str, dtype: type[np.generic]) -> NDArray[Any]:
        with self._lock:
            self._used = True
            return self._mapped().take(name, dtype)

    def _mapped(self) -> Sections:
        """The index, mapped where it is not yet; under the lock."""
        if self._sections is None:
            try:
                self._sections = Sections(self.path / "index")
            except OSError as error:
                raise Corrupt(f"cannot be opened: {error.strerror}", path=self.path / "index", offset=0) from error
        return self._sections

    @property
    def symbols(self) -> Texts:
        """The block's texts."""
        symbols = self._symbols
        if symbols is None:
            self._symbols = symbols = Texts(self._take("text_offsets", np.int64), self._take("texts", np.uint8))
        return symbols

    def doom(self) -> None:
        """The files are about to be deleted: keep what whoever holds this block may still read."""
        with self._lock, contextlib.suppress(Corrupt):
            self._doomed = True
            self._mapped()
            if self.meta.histograms:
                self._reader()

    def rest(self) -> None:
        """Let go of the index where nobody has used it since the last call; the next reader maps it again."""
        with self._lock:
            used, self._used = self._used, False
            if not used and not self._doomed:
                self._sections = self._symbols = self.to_engine = self._histograms = self._times = None
                self._views = {}

    def index(self, tenant: str) -> IndexView | None:
        """One tenant's index, ids being rows of the block; None where it has no series here."""
        views = self._views
        if (known := views.get(tenant)) is not None:
            self._used = True
            return known
        if tenant not in self.meta.tenants:
            return None
        at = 2 * self.meta.tenants.index(tenant)
        row_lo, key_lo, row_hi, key_hi = self._take("tenants", np.int64)[at : at + 4].tolist()
        starts = self._take("posting_starts", np.int64)[key_lo : key_hi + 1]
        postings = Postings(self._take("posting_keys", np.uint64)[key_lo:key_hi], starts, self._take("posting_ids", np.uint32))
        columns = self._labels()
        views[tenant] = view = IndexView(self.symbols, [postings], np.arange(row_lo, row_hi, dtype=np.uint32), *columns)
        return view

    def _labels(self) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int32], NDArray[np.int32]]:
        offsets = self._take("label_offsets", np.int64)
        return offsets, offsets, self._take("label_names", np.int32), self._take("label_values", np.int32)

    def within(self, rows: NDArray[np.uint32], start: int, end: int) -> NDArray[np.uint32]:
        """Those of `rows` whose samples' range meets [start, end]."""
        if start <= self.meta.min_time and end >= self.meta.max_time:
            return rows
        first, last = self.ranges(rows)
        return rows[(first <= end) & (last >= start)]

    def ranges(self, rows: NDArray[np.uint32] | NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """(first, last) timestamp of each of `rows`."""
        return self._take("min_times", np.int64)[rows], self._take("max_times", np.int64)[rows]

    def counts(self, rows: NDArray[np.uint32]) -> NDArray[np.int64]:
        """How many samples each of `rows` has."""
        places = self._take("places", np.int64)
        wanted = rows.astype(_I64)
        counts: NDArray[np.int64] = places[wanted + 1] - places[wanted]
        return counts

    def canonical(self, rows: NDArray[np.uint32]) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
        """The canonical keys of `rows`, end to end, with offsets int64[n + 1]."""
        columns = self._labels()
        texts = (self._take("text_offsets", np.int64), self._take("texts", np.uint8))
        wanted = rows.astype(_I64)
        offsets = np.empty(len(rows) + 1, dtype=_I64)
        size = int(join_canonical(wanted, *columns, *texts, offsets, np.empty(0, np.uint8)))
        keys = np.empty(size, dtype=np.uint8)
        join_canonical(wanted, *columns, *texts, offsets, keys)
        return keys, offsets

    def read(self, rows: NDArray[np.uint32], start: int, end: int, *, cache: PageCache | None = None) -> Columns:
        """The samples of `rows` (ascending) in [start, end]. `cache` takes the place of the block's own."""
        cache = self._cache if cache is None else cache
        places = self._take("places", np.int64)
        table = self._take("pages", np.int64).reshape(-1, 3)
        most = int(self.counts(rows).sum())
        offsets, times, bits = np.zeros(len(rows) + 1, _I64), np.empty(most, _I64), np.empty(most, _I64)
        row, at, page, wanted = 0, 0, -1, rows.astype(_I64)
        firsts, scratch = np.ascontiguousarray(table[:, 0]), np.empty(4 * PAGE_SAMPLES, _I64)
        # What is more than the cache would keep goes straight to its place, and does not drive all else out.
        straight = 2 * _BYTES * most > cache.limit and start <= self.meta.min_time and end >= self.meta.max_time
        while row < len(rows):
            # The page where the row begins, or the next one where the row goes on.
            page = max(page + 1, int(firsts.searchsorted(places[wanted[row]], side="right")) - 1)
            if straight and (whole := _whole_page(firsts[page : page + 2], places, wanted[row:])):
                first, stop = int(firsts[page]), int(places[wanted[row] + whole])
                out = (times[at : at + stop - first], bits[at : at + stop - first])
                self._decode(table[page], cache, out=out, scratch=scratch)
                offsets[row + 1 : row + whole + 1] = places[wanted[row] + 1 : wanted[row] + whole + 1] - first + at
                row, at = row + whole, at + stop - first
                continue
            page_times, page_bits = self._page(page, table[page], cache)
            row, at = kernel.copy_rows(
                *(page_times, page_bits, int(table[page, 0]), wanted, row, places, start, end, at, offsets, times, bits)
            )
        return offsets, times[:at], bits[:at]

    def pages_of(self, rows: NDArray[np.uint32]) -> NDArray[np.int32] | None:
        """The page of each of `rows`; None where one is so long that it has several."""
        places, firsts = self._take("places", np.int64), np.ascontiguousarray(self._take("pages", np.int64)[::3])
        numbers = firsts.searchsorted(places[rows], side="right") - 1
        if np.any(firsts.searchsorted(places[rows.astype(_I64) + 1] - 1, side="right") - 1 != numbers):
            return None
        return numbers.astype(np.int32)

    def first_rows(self, numbers: NDArray[np.int32]) -> NDArray[np.int64]:
        """The first row of each of some pages."""
        found: NDArray[np.int64] = self._take("places", np.int64).searchsorted(self._take("pages", np.int64)[3 * numbers])
        return found

    def page(self, number: int, room: Callable[[int], PageRoom]) -> Page:
        """A page: taken from the cache where it is there, else decoded into what `room` gives for so many samples."""
        table, places = self._take("pages", np.int64).reshape(-1, 3), self._take("places", np.int64)
        first = int(table[number, 0])
        stop = int(table[number + 1, 0]) if number + 1 < len(table) else int(places[-1])
        row, end = places.searchsorted((first, stop)).tolist()
        bounds = places[row : end + 1] - first
        if (held := self._cache.peek((self.meta.sequence, number))) is not None:
            return Page(held[0], held[1], bounds, row)
        size, memory = stop - first, room(stop - first)
        times, bits = memory.times[:size], memory.bits[:size]
        if self.meta.format < FIRST_WITH_VECTORS:
            self._decode(table[number], self._cache, out=(times, bits))
            return Page(times, bits, bounds, row)
        offset = int(table[number, 1])
        try:
            vectors, counts, bits = pages.read_values(self._raw(offset, int(table[number, 2])), bits, memory.streams)
            if (found := self._at_times(vectors, counts, self._cache)) is not None:
                return Page(found[0], bits, bounds, row, found[1])
            self._lay_times(vectors, counts, times, self._cache)
        except ValueError as error:
            raise self._damaged(offset, "page", error) from error
        return Page(times, bits, bounds, row)

    def coded(self, number: int, scratch: NDArray[np.int64] | None = None) -> Coded | None:
        """A page as `kernels.chaining.chain` wants it, decoded in `scratch` (int64) where that is long enough.

        None of earlier formats, and where the times of its rows stand in several pages.
        """
        if self.meta.format < FIRST_WITH_VECTORS:
            return None
        table = self._take("pages", np.int64)
        offset, size = table[3 * number + 1 : 3 * number + 3].tolist()
        try:
            page = pages.open_values(self._raw(offset, size), scratch)
            fields = np.empty((page.rows, kernel_pages.FIELDS), dtype=_I64)
            exceptions = chaining.unfold(page.head, fields, page.samples)
            if len(exceptions) % 2:
                raise ValueError("its fields are cut off")
            found = self._at_times(fields[:, kernel_pages.VECTOR].copy(), fields[:, kernel_pages.COUNT].copy(), self._cache)
        except ValueError as error:
            raise self._damaged(offset, "page", error) from error
        return None if found is None else Coded(fields, exceptions, page.streams, page.bounds, *found)

    def any_histograms(self, rows: NDArray[np.uint32]) -> bool:
        """Whether any of `rows` has native histograms, of any time."""
        if not self.meta.histograms:
            return False
        with self._lock:
            self._used = True
            reader = self._reader()
        return reader.any_of(rows)

    def held(self, rows: NDArray[np.uint32], start: int, end: int) -> Columns | None:
        """As `read`, from memory alone; None where the index or a page would have to be read first. Raises `Corrupt`."""
        if self._sections is None:
            return None
        lowest, highest = self.ranges(rows)
        near = (lowest <= end) & (highest >= start)
        places, firsts = self._take("places", np.int64), np.ascontiguousarray(self._take("pages", np.int64).reshape(-1, 3)[:, 0])
        wanted = rows[near].astype(_I64)
        most = int((places[wanted + 1] - places[wanted]).sum())
        offsets, times, bits = np.zeros(len(wanted) + 1, _I64), np.empty(most, _I64), np.empty(most, _I64)
        row, at, page = 0, 0, -1
        while row < len(wanted):
            page = max(page + 1, int(firsts.searchsorted(places[wanted[row]], side="right")) - 1)
            columns = self._cache.get((self.meta.sequence, page))
            if columns is None:
                return None
            row, at = kernel.copy_rows(*(*columns, int(firsts[page]), wanted, row, places, start, end, at, offsets, times, bits))
        if len(wanted) < len(rows):
            every = np.zeros(len(rows) + 1, dtype=_I64)
            every[1:][near] = offsets[1:] - offsets[:-1]
            offsets = np.cumsum(every)
        return offsets, times[:at], bits[:at]

    def histograms(self, rows: NDArray[np.uint32], start: int, end: int, *, cache: PageCache | None = None) -> Found | None:
        """The native histograms of `rows` (ascending) in [start, end]; None where there are none. `cache` as for `read`."""
        if not self.meta.histograms:
            return None
        with self._lock:
            self._used = True
            reader = self._reader()
        return reader.read(rows, start, end, self._cache if cache is None else cache)

    def _reader(self) -> HistogramReader:
        """What reads the histograms; under the lock."""
        if self._histograms is None:
            # Beside the pages of samples of all blocks, whose numbers are not below 0.
            self._histograms = HistogramReader(self.path, key=-1 - self.meta.sequence)
        return self._histograms

    def _page(self, number: int, entry: NDArray[np.int64], cache: PageCache) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        key = (self.meta.sequence, number)
        page: tuple[NDArray[np.int64], NDArray[np.int64]] | None = cache.get(key)
        if page is None:
            page = self._decode(entry, cache)
            cache.put(key, page, page[0].nbytes + page[1].nbytes)
        return page

    def _decode(
        self,
        entry: NDArray[np.int64],
        cache: PageCache,
        *,
        out: tuple[NDArray[np.int64], NDArray[np.int64]] | None = None,
        scratch: NDArray[np.int64] | None = None,
    ) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """(times, value bits) of a page, in `out` where that is given."""
        offset, size = int(entry[1]), int(entry[2])
        try:
            if self.meta.format < FIRST_WITH_VECTORS:
                found = pages.read_first(self._raw(offset, size))
                if out is not None:
                    out[0][:], out[1][:] = found
                return found
            vectors, counts, bits = pages.read_values(self._raw(offset, size), out[1] if out else None, scratch)
            times = out[0] if out else np.empty(len(bits), dtype=_I64)
            self._lay_times(vectors, counts, times, cache)
        except ValueError as error:
            raise self._damaged(offset, "page", error) from error
        return times, bits

    def _lay_times(self, vectors: NDArray[np.int64], counts: NDArray[np.int64], times: NDArray[np.int64], cache: PageCache) -> None:
        """Fill `times` with those of the rows of a page, end to end. Raises `ValueError` where they do not fit."""
        places, table, firsts = self._timetable()
        only = self._time_page_of(vectors, places, firsts)
        numbers = [only] if only >= 0 else np.unique(np.searchsorted(table[:, 0], places[vectors], side="right") - 1).tolist()
        laid = 0
        for number in numbers:
            held = self._time_page(number, table[number], cache)
            laid += max(0, int(kernel_pages.lay_times(vectors, counts, places, firsts[number], held, times)))
        if laid != len(times):
            raise ValueError("its times do not match its values")

    def _at_times(
        self, vectors: NDArray[np.int64], counts: NDArray[np.int64], cache: PageCache
    ) -> tuple[NDArray[np.int64], NDArray[np.int64]] | None:
        """The page of times that has those of all rows of a page, and where each row's begin; None where they are in several.

        Raises `ValueError` where they do not fit.
        """
        places, table, firsts = self._timetable()
        number = self._time_page_of(vectors, places, firsts)
        if number < 0:
            return None
        held, begins = self._time_page(number, table[number], cache), np.empty(len(vectors), dtype=_I64)
        if not kernel_pages.find_times(vectors, counts, places, firsts[number], held, begins):
            raise ValueError("its times do not match its values")
        return held, begins

    @staticmethod
    def _time_page_of(vectors: NDArray[np.int64], places: NDArray[np.int64], firsts: list[int]) -> int:
        """The page of times where all the vectors are, -1 where they are in several. Raises `ValueError` where there are none such."""
        least, most = kernel_pages.spread(vectors) if len(vectors) else (0, 0)
        if not 0 <= least <= most < len(places) - 1:
            raise ValueError("it names times that the block does not have")
        lo, hi = bisect_right(firsts, int(places[least])) - 1, bisect_right(firsts, int(places[most])) - 1
        return lo if lo == hi else -1

    def _timetable(self) -> tuple[NDArray[np.int64], NDArray[np.int64], list[int]]:
        """Where each vector of times begins; (first time, offset, bytes) of each page of times; the first times again."""
        known = self._times
        if known is None:
            table = self._take("time_pages", np.int64).reshape(-1, 3)
            self._times = known = (self._take("vectors", np.int64), table, table[:, 0].tolist())
        return known

    def _time_page(self, number: int, entry: NDArray[np.int64], cache: PageCache) -> NDArray[np.int64]:
        # Beside the pages of values, which count up from 0.
        key = (self.meta.sequence, -1 - number)
        page: NDArray[np.int64] | None = cache.get(key)
        if page is None:
            offset = int(entry[1])
            try:
                page = pages.read_times(self._raw(offset, int(entry[2])))
            except ValueError as error:
                raise self._damaged(offset, "page of times", error) from error
            cache.put(key, page, page.nbytes)
        return page

    def _raw(self, offset: int, size: int) -> bytes:
        data = os.pread(self._fd, size, offset)
        if len(data) != size:
            raise ValueError("the file ends inside it")
        return data

    def _damaged(self, offset: int, what: str, error: ValueError) -> Corrupt:
        """What is found to be damaged, and where it is."""
        return Corrupt(f"a {what} cannot be read: {error}", path=self.path / "pages", offset=offset)

    def verify(self) -> None:
        """Read everything once. Raises `Corrupt`."""
        for damage in self.damage():
            raise damage

    def damage(self) -> Iterator[Corrupt]:
        """Read everything once; what is wrong, one after another."""
        try:
            for tenant in self.meta.tenants:
                self.index(tenant)
            later = ("vectors", "time_pages") if self.meta.format >= FIRST_WITH_VECTORS else ()
            for name in ("places", "min_times", "max_times", *later):
                self._take(name, np.int64)
            table = self._take("pages", np.int64).reshape(-1, 3)
        except Corrupt as damage:
            yield damage
            return
        times, told = PageCache(_TIMES_HELD), set()
        for entry in table:
            try:
                self._decode(entry, times)
            except Corrupt as damage:
                # A page of times that is damaged is met by all pages that need it.
                if damage.offset not in told:
                    told.add(damage.offset)
                    yield damage
        if self.meta.histograms:
            try:
                with self._lock:
                    reader = self._reader()  # the one that is kept where the files are about to be deleted
                yield from reader.damage()
            except Corrupt as damage:
                yield damage


def _whole_page(firsts: NDArray[np.int64], places: NDArray[np.int64], wanted: NDArray[np.int64]) -> int:
    """How many of the rows `wanted`, from the first on, make up a page whole, 0 where they do not.

    `firsts` are the first samples of the page and, where there is one, of the next.
    """
    stop = firsts[1] if len(firsts) > 1 else places[-1]
    count = int(places.searchsorted(stop)) - int(wanted[0])
    whole = places[wanted[0]] == firsts[0] and 0 < count <= len(wanted) and wanted[count - 1] == wanted[0] + count - 1
    return count if whole and places[wanted[0] + count] == stop else 0
