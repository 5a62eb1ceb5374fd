"""From a source of samples (a generation of the head, older blocks) to an immutable block directory: written aside, synced, renamed in.

Series are sorted by tenant, metric name and labels, so that one metric of a tenant is contiguous; a page holds whole
series, as many as fit 16 k samples. `FORMAT.md` draws the bytes. Not here: reading (`block.py`), when to write.
"""

from __future__ import annotations

import itertools
import secrets
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np
import orjson
from numpy.typing import NDArray

from vedette.kernels import block as kernel
from vedette.kernels import head as head_kernel
from vedette.kernels import postings
from vedette.model.labels import METRIC_NAME
from vedette.storage import sections
from vedette.storage.disk import Disk
from vedette.storage.head import Generation
from vedette.storage.histogram_columns import Found
from vedette.storage.histogram_pages import HistogramWriter
from vedette.storage.pages import PagesWriter
from vedette.storage.series import SeriesTable

FORMAT = 3
FORMATS = (1, 2, FORMAT)
"""What can be read: the first knows neither vectors of times nor rows of whole numbers, nor native histograms; the second has those."""

PAGE_SAMPLES = 16_384
_WHOLE_METRICS = 8192
"""So many samples of a metric are worth a page of their own, so that whoever asks for one metric decodes no other."""

TEMPORARY = "tmp-"
_I64 = np.int64


class Abandoned(Exception):
    """Writing was stopped half way; nothing of it counts."""


@dataclass(frozen=True, slots=True)
class Snapshot:
    """The series table as it was when the generation ended: its columns never change below these lengths."""

    label_offsets: NDArray[np.int64]
    label_at: NDArray[np.int64]
    """Label columns, as `kernels/postings.py` has them."""
    label_names: NDArray[np.int32]
    label_values: NDArray[np.int32]
    tenant_of: NDArray[np.int32]
    tenants: tuple[str, ...]
    metric_symbol: int
    texts: NDArray[np.uint8]
    text_offsets: NDArray[np.int64]

    @classmethod
    def of(cls, series: SeriesTable) -> Snapshot:
        """Taken under the engine's lock."""
        names = series.names
        return cls(
            label_offsets=series.label_offsets.view(),
            label_at=series.label_at.view(),
            label_names=series.label_names.view(),
            label_values=series.label_values.view(),
            tenant_of=series.tenant_of.view(),
            tenants=tuple(series.tenants),
            metric_symbol=names.symbols.find(METRIC_NAME),
            texts=names.texts.view(),
            text_offsets=names.offsets.view(),
        )


@dataclass(frozen=True, slots=True)
class Origin:
    """Where a block comes from. `sequence` numbers blocks as they are begun; `order` is that of the oldest samples in it.

    `wal_scopes` are the log's scopes that it holds whole, `replaces` the sequence numbers of the blocks whose place it takes.
    """

    sequence: int
    wal_scopes: Sequence[int] = ()
    level: int = 1
    order: int = 0
    replaces: Sequence[int] = ()


class Source(Protocol):
    """Samples on their way to a block."""

    @property
    def snapshot(self) -> Snapshot:
        """The labels of all series."""
        ...

    @property
    def ids(self) -> NDArray[np.int64]:
        """The series to write, ascending."""
        ...

    def counts(self, ids: NDArray[np.int64]) -> NDArray[np.int64]:
        """How many samples each of `ids` has at most."""
        ...

    def read(self, ids: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
        """(offsets, times, value bits) of `ids`; times strictly increasing within each. Called in the block's order."""
        ...

    def histograms(self, ids: NDArray[np.int64]) -> Sequence[Found]:
        """The native histograms of `ids` (rows are their places), those that count first; of samples that are not there, too."""
        ...


class GenerationSource:
    """A generation of the head that takes no more samples."""

    def __init__(self, generation: Generation, snapshot: Snapshot) -> None:
        self.snapshot = snapshot
        self.ids = generation.series()
        self._generation = generation

    def counts(self, ids: NDArray[np.int64]) -> NDArray[np.int64]:
        """See `Source`; exact but for repeated times."""
        return self._generation.counts[ids].astype(_I64)

    def read(self, ids: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
        """See `Source`."""
        generation = self._generation
        most = int(self.counts(ids).sum())
        offsets, times, bits = np.empty(len(ids) + 1, _I64), np.empty(most, _I64), np.empty(most, _I64)
        none = Generation.empty()
        everything = (-(1 << 63), (1 << 63) - 1)
        head_kernel.gather(ids, generation.state, generation.arena, none.state, none.arena, *everything, offsets, times, bits)
        return offsets, times[: offsets[-1]], bits[: offsets[-1]]

    def histograms(self, ids: NDArray[np.int64]) -> Sequence[Found]:
        """See `Source`."""
        found = self._generation.histograms.gather(ids, -(1 << 63), (1 << 63) - 1)
        return [] if found is None else [found]


@dataclass(frozen=True, slots=True)
class _Rows:
    """The block's series in its order: `ids` of the source, labels in the block's own symbols; `metric` changes where a metric ends."""

    ids: NDArray[np.int64]
    tenant: NDArray[np.int64]
    metric: NDArray[np.int64]
    offsets: NDArray[np.int64]
    names: NDArray[np.int32]
    values: NDArray[np.int32]
    text_offsets: NDArray[np.int64]
    texts: NDArray[np.uint8]


def _rows(snapshot: Snapshot, ids: NDArray[np.int64]) -> _Rows:
    columns = (snapshot.label_offsets, snapshot.label_at, snapshot.label_names, snapshot.label_values)
    offsets, names, values = _take(ids.astype(np.uint32), *columns)
    there = np.zeros(len(snapshot.text_offsets) - 1, dtype=np.bool_)
    there[names] = there[values] = True
    ordered = kernel.sort_texts(np.flatnonzero(there), snapshot.texts, snapshot.text_offsets)
    rank = np.zeros(len(there), dtype=np.int32)
    rank[ordered] = np.arange(len(ordered), dtype=np.int32)
    # From here on in the block's own symbols; of a million series, each of these takes 44 MB.
    names, values = rank[names], rank[values]
    metric = np.empty(len(ids), dtype=np.int32)
    postings.label_column(ids.astype(np.uint32), *columns, snapshot.metric_symbol, metric)
    # Tenants by name, not by number, so that equal data makes equal blocks.
    tenant_rank = np.argsort(np.argsort(np.array(snapshot.tenants)))
    tenant = snapshot.tenant_of[ids].astype(_I64)
    first = tenant_rank[tenant] << 32 | np.where(metric < 0, 0, rank[metric] + 1)
    order = kernel.sort_series(first, offsets, names, values)
    offsets, names, values = _take(order.astype(np.uint32), offsets, offsets, names, values)
    text_offsets, texts = _texts(snapshot, ordered)
    return _Rows(ids[order], tenant[order], first[order], offsets, names, values, text_offsets, texts)


def _take(
    ids: NDArray[np.uint32], offsets: NDArray[np.int64], at: NDArray[np.int64], names: NDArray[np.int32], values: NDArray[np.int32]
) -> tuple[NDArray[np.int64], NDArray[np.int32], NDArray[np.int32]]:
    out, none = np.empty(len(ids) + 1, dtype=_I64), np.empty(0, dtype=np.int32)
    pairs = int(postings.take_labels(ids, offsets, at, names, values, out, none, none))
    out_names, out_values = np.empty(pairs, dtype=np.int32), np.empty(pairs, dtype=np.int32)
    postings.take_labels(ids, offsets, at, names, values, out, out_names, out_values)
    return out, out_names, out_values


def _texts(snapshot: Snapshot, symbols: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.uint8]]:
    starts, ends = snapshot.text_offsets[symbols], snapshot.text_offsets[symbols + 1]
    offsets = np.zeros(len(symbols) + 1, dtype=_I64)
    np.cumsum(ends - starts, out=offsets[1:])
    at = np.arange(offsets[-1]) + np.repeat(starts - offsets[:-1], ends - starts)
    return offsets, snapshot.texts[at]


def _groups(counts: NDArray[np.int64], metric: NDArray[np.int64]) -> Iterator[tuple[int, int]]:
    """Runs of rows that share a page: `PAGE_SAMPLES` at most, or up to the end of a metric where that are enough."""
    ends = np.flatnonzero(np.diff(metric)) + 1
    lo = 0
    while lo < len(counts):
        sums = np.cumsum(counts[lo : lo + PAGE_SAMPLES])
        hi = lo + max(1, int(np.searchsorted(sums, PAGE_SAMPLES, side="right")))
        enough = lo + int(np.searchsorted(sums, _WHOLE_METRICS)) + 1
        at = int(np.searchsorted(ends, enough))
        if at < len(ends) and ends[at] < hi:
            hi = int(ends[at])
        yield lo, hi
        lo = hi


def write_block(
    directory: Path, source: Source, origin: Origin, *, disk: Disk, stopped: Callable[[], bool], discard: Callable[[Path], None]
) -> Path | None:
    """Write what `source` holds; answers the block's directory, durable when it returns, or None where there are no samples.

    Raises `OSError`, what `source` raises, and `Abandoned` where `stopped()` turns true; nothing is left behind then, or it is
    handed to `discard`: it will be written again under another number, and a start must not find both.
    """
    temporary = directory / f"{TEMPORARY}{origin.sequence:08d}-{secrets.token_hex(4)}"
    with disk.making(temporary):
        name = _write_files(temporary, source, origin, disk, stopped)
        if name is None:
            disk.remove_tree(temporary)
            return None
        final = directory / f"{origin.sequence:08d}-{name}"
        disk.rename(temporary, final)
    try:
        # Sync the directory too, or a crash here forgets the rename after the log was deleted.
        disk.sync_directory(directory)
    except OSError:
        discard(final)
        raise
    return final


def _write_files(temporary: Path, source: Source, origin: Origin, disk: Disk, stopped: Callable[[], bool]) -> str | None:
    """Fill the directory, synced; answers the block's range of time as it stands in its name, None where nothing is left."""
    rows = _rows(source.snapshot, source.ids)
    counts, ranges = np.zeros(len(rows.ids), dtype=_I64), np.zeros((2, len(rows.ids)), dtype=_I64)
    fd = disk.create(temporary / "pages")
    histograms = HistogramWriter(temporary, disk)
    try:
        pages = PagesWriter(lambda data: disk.write_all(fd, data))
        for lo, hi in _groups(source.counts(rows.ids), rows.metric):
            if stopped():
                raise Abandoned
            offsets, times, bits = source.read(rows.ids[lo:hi])
            counts[lo:hi] = np.diff(offsets)
            filled = lo + np.flatnonzero(counts[lo:hi])
            ranges[:, filled] = times[offsets[filled - lo]], times[offsets[filled - lo + 1] - 1]
            pages.add(offsets, times, bits)
            histograms.add(source.histograms(rows.ids[lo:hi]), (offsets, times, bits), first_row=lo)
        histograms.finish(np.flatnonzero(counts))
        pages.finish()
        disk.sync(fd)
    finally:
        histograms.close()
        disk.close(fd)
    left = np.flatnonzero(counts)
    if len(left) == 0:
        return None
    if len(left) < len(counts):
        # What deletion leaves no sample of is no series of the block; the order of the others stays.
        rows, counts, ranges = _rows(source.snapshot, np.sort(rows.ids[left])), counts[left], ranges[:, left]
    places = np.concatenate([np.zeros(1, dtype=_I64), np.cumsum(counts)])
    index = sections.pieces(_index(rows, places, ranges, pages) | _postings(rows))
    meta = _meta(rows, source.snapshot, pages.samples, ranges) | _origin(origin)
    if histograms.count:
        meta["histograms"] = histograms.count
    disk.fill(temporary / "index", lambda fd: disk.write_pieces(fd, index))
    disk.write_file(temporary / "meta.json", render_meta(meta))
    disk.sync_directory(temporary)
    return f"{meta['min_time']}-{meta['max_time']}"


def _index(
    rows: _Rows, places: NDArray[np.int64], ranges: NDArray[np.int64], pages: PagesWriter
) -> dict[str, NDArray[np.int64] | NDArray[np.int32] | NDArray[np.uint8]]:
    return {
        "text_offsets": rows.text_offsets,
        "texts": rows.texts,
        "label_offsets": rows.offsets,
        "label_names": rows.names,
        "label_values": rows.values,
        "places": places,
        "min_times": ranges[0],
        "max_times": ranges[1],
        "pages": np.array(pages.table, dtype=_I64).reshape(-1),
        "time_pages": np.array(pages.time_table, dtype=_I64).reshape(-1),
        "vectors": pages.vectors,
    }


def _postings(rows: _Rows) -> dict[str, NDArray[np.uint64] | NDArray[np.int64] | NDArray[np.uint32]]:
    """Postings of each tenant in turn: keys, where their ids begin, the ids, and the tenants' ranges of rows and keys."""
    keys, starts, ids, tenants = [], [np.zeros(1, dtype=_I64)], [], [(0, 0)]
    for lo, hi in _tenant_runs(rows):
        k, s, i = postings.build(np.arange(lo, hi, dtype=np.uint32), rows.offsets, rows.offsets, rows.names, rows.values)
        keys.append(k)
        starts.append(s[1:] + starts[-1][-1])
        ids.append(i)
        tenants.append((hi, tenants[-1][1] + len(k)))
    return {
        "posting_keys": np.concatenate(keys),
        "posting_starts": np.concatenate(starts),
        "posting_ids": np.concatenate(ids),
        "tenants": np.array(tenants, dtype=_I64).reshape(-1),
    }


def _tenant_runs(rows: _Rows) -> list[tuple[int, int]]:
    cuts = [0, *(np.flatnonzero(np.diff(rows.tenant)) + 1).tolist(), len(rows.ids)]
    return list(itertools.pairwise(cuts))


def render_meta(meta: Mapping[str, object]) -> bytes:
    """`meta.json`, with the checksum of what it says: a bent digit of a time would have the block left out of answers."""
    return orjson.dumps({**meta, "checksum": checksum_of(meta)}, option=orjson.OPT_INDENT_2 | orjson.OPT_SORT_KEYS)


def checksum_of(meta: Mapping[str, object]) -> str:
    """CRC-32, in hexadecimal, of the JSON without blanks, keys sorted, of all but `checksum` itself."""
    said = {name: value for name, value in meta.items() if name != "checksum"}
    return f"{zlib.crc32(orjson.dumps(said, option=orjson.OPT_SORT_KEYS)):08x}"


def _meta(rows: _Rows, snapshot: Snapshot, samples: int, ranges: NDArray[np.int64]) -> dict[str, object]:
    return {
        "format": FORMAT,
        "min_time": int(ranges[0].min()),
        "max_time": int(ranges[1].max()),
        "series": len(rows.ids),
        "samples": samples,
        "tenants": [snapshot.tenants[int(rows.tenant[lo])] for lo, _ in _tenant_runs(rows)],
    }


def _origin(origin: Origin) -> dict[str, object]:
    return {
        "sequence": origin.sequence,
        "level": origin.level,
        "order": origin.order or origin.sequence,
        "replaces": list(origin.replaces),
        "wal_scopes": list(origin.wal_scopes),
    }
