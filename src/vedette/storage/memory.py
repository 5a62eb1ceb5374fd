"""What the engine holds in memory: series, their samples and metadata, and the lock over them.

`take` is the whole way of a batch through memory: names to ids, samples to chunks, and the log records that make
it durable. Not here: files, threads.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import orjson
from numpy.typing import NDArray

from vedette.kernels.series_table import DROPPED, MISSING
from vedette.model.histograms import Histograms
from vedette.model.labeltable import LabelTable
from vedette.model.matchers import Matcher
from vedette.model.samples import Appended, MetricMetadata, SampleBatch
from vedette.storage import wal
from vedette.storage.head import Head, Kept
from vedette.storage.histogram_wal import histograms_record
from vedette.storage.index import IndexView, TenantIndex
from vedette.storage.limits import BUILT_IN, SERIES_LIMIT, TenantLimits
from vedette.storage.oversize import too_large
from vedette.storage.series import SeriesTable, writable
from vedette.storage.starts import Zeros, shown_tenant, with_zeros

_FEW_SERIES = 256
"""Of so many series it is kept which ones pass some matchers."""
_SELECTIONS_KEPT = 512
_VIEWS_KEPT = 64
"""Of so many tenants the index is kept as it was asked last: with the pairs that were looked up, a megabyte each at the most."""
_MANY_SERIES, _MANY_BYTES = 1 << 17, 8 << 20
"""Of more than a few, up to so many, it is kept as well, with their labels, as long as all of these together take no more memory."""

_Key = tuple[str, tuple[Matcher, ...]]
"""A tenant, and what its series are to pass."""

Refused = dict[str, NDArray[np.int64]]
"""Rows of a batch that limits keep out, by reason."""


class Metadata:
    """What is known of each tenant's metrics; of two reports the later counts."""

    def __init__(self) -> None:
        self.known: dict[str, dict[str, MetricMetadata]] = {}
        self._last: dict[int, Sequence[MetricMetadata]] = {}

    def learn(self, tenant: str, items: Sequence[MetricMetadata], *, source: int = 0) -> list[MetricMetadata]:
        """Which of `items` say something new; `source` (a key space's id) makes the same list again free."""
        if source and self._last.get(source) is items:
            return []
        self._last[source] = items
        known = self.known.setdefault(tenant, {})
        changed = [m for m in items if known.get(m.metric) != m]
        known.update((m.metric, m) for m in changed)
        return changed

    def forget(self, sources: Sequence[int]) -> None:
        """These key spaces send no more."""
        for source in sources:
            self._last.pop(source, None)


def metadata_record(tenant: str, items: Sequence[MetricMetadata]) -> bytes:
    """The log record of metadata."""
    return wal.record(wal.METADATA, 0, orjson.dumps([tenant, [[m.metric, m.type, m.help, m.unit] for m in items]]))


@dataclass(frozen=True, slots=True)
class _Named:
    """The series `ids` int64[n] and their canonical keys, end to end, with offsets int64[n + 1]."""

    tenant: str
    ids: NDArray[np.int64]
    keys: NDArray[np.uint8]
    offsets: NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Selection:
    """The series `ids` uint32[n] of `series` that pass some matchers, and the index that told, or their labels where it was not asked."""

    series: SeriesTable
    ids: NDArray[np.uint32]
    view: IndexView | None
    known: LabelTable | None = None

    @property
    def nbytes(self) -> int:
        """What is held in memory."""
        known = () if self.known is None else (self.known.offsets, self.known.names, self.known.values)
        return self.ids.nbytes + sum(array.nbytes for array in known)

    @property
    def labels(self) -> LabelTable:
        """The label sets of `ids`."""
        if self.known is not None:
            return self.known
        assert self.view is not None, "one of both is there"
        return self.view.table(self.ids)


class Behind:
    """A lock as queries take it: of all that want it so, one at a time stands in line with those that take the lock itself."""

    __slots__ = ("_line", "_lock")

    def __init__(self, lock: threading.Lock) -> None:
        self._lock = lock
        self._line = threading.Lock()

    def __enter__(self) -> None:
        with self._line:
            self._lock.acquire()

    def __exit__(self, *_: object) -> None:
        self._lock.release()


class Memory:
    """Series, head and metadata. `lock` is held by whoever changes them, and by readers while a kernel runs.

    Queries take it as `reading`. A lock goes to any of those that wait: beside fifteen queries, a write that was one of sixteen waited a
    minute.
    """

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.reading = Behind(self.lock)
        self.series = SeriesTable()
        self.head = Head()
        self.metadata = Metadata()
        self.samples_appended = 0
        self.refused_series = 0
        """How often a series was kept out because its tenant had as many as it may."""
        self._indexes: dict[str, TenantIndex] = {}
        self._selections: OrderedDict[_Key, tuple[int, Selection]] = OrderedDict()
        """What was selected of late, of few series each, and of how many series of the tenant: the latest last."""
        self._many: OrderedDict[_Key, tuple[int, Selection]] = OrderedDict()
        """The same of more series."""
        self._views: dict[str, IndexView] = {}
        """Each tenant's index as it was last asked for; none once a series comes, since its arrays may be replaced by others then."""

    def take(
        self, batch: SampleBatch, *, window: int, oldest: int, scope: int, limits: TenantLimits = BUILT_IN, zeros: bool = False
    ) -> tuple[Appended, list[bytes]]:
        """Take a batch; answers what became of it and the records that must be logged before it is acknowledged.

        `zeros` puts samples in at start timestamps (`starts.with_zeros`), which nobody sent and nobody is told of. What `limits` keep out
        is among what was dropped. Raises `BadInput` where a new key names no valid series; nothing is changed then.
        """
        ids, new, named, refused = self._ids(batch, limits)
        added = Zeros(batch, 0, 0)
        if zeros and batch.starts is not None:
            added = with_zeros(batch, self.head.newest(ids), oldest=oldest)
            batch = added.batch
        offsets, times, bits = _columns(batch)
        with self.lock:
            self.head.reserve(len(self.series), len(times))
            kept = self.head.append(ids, offsets, times, bits, window=window, oldest=oldest, scope=scope)
            self.samples_appended += len(kept.ids) if shown_tenant(batch.keyspace.tenant) == batch.keyspace.tenant else 0
            native = None
            if batch.histograms or (kept.same and self.head.has_histograms):
                native = self.head.keep_histograms(batch.histograms, (ids, offsets, times, bits), kept)
        records = self._records(kept, named, native)
        if batch.metadata:
            with self.lock:
                changed = self.metadata.learn(batch.keyspace.tenant, batch.metadata, source=batch.keyspace.id)
            if changed:
                records.append(metadata_record(batch.keyspace.tenant, changed))
        dropped = _by_reason(kept.dropped, batch, refused) if refused else kept.dropped
        histograms = 0 if batch.histograms is None else len(native or ()) if dropped else len(batch.histograms)
        return Appended(
            self.series.handles(ids), len(kept.ids) + kept.same - added.samples, new, histograms - added.histograms, dropped=dropped
        ), records

    def _ids(self, batch: SampleBatch, limits: TenantLimits) -> tuple[NDArray[np.int64], int, _Named | None, Refused]:
        """(the series of each row, how many are new, what is known of the names of rows that were met first, rows refused by reason)."""
        if batch.ids is not None:
            return self.series.ids_by(writable(batch.ids, np.int64)), 0, None, {}
        ids, missing = self.series.find(batch)
        if not missing:
            return ids, 0, None, {}
        rows = np.flatnonzero(ids == MISSING)
        # Parsed before the lock is taken and before anything changes: one bad series refuses the batch.
        keys, offsets = self.series.canonical(batch, rows)
        refused = {why: rows[beyond] for why, beyond in too_large(limits, keys, offsets).items()}
        if limits.max_series and len(beyond := self.series.beyond(batch.keyspace.tenant, keys, offsets, limits.max_series)):
            self.refused_series += len(beyond)
            large = np.concatenate([np.zeros(0, np.int64), *refused.values()])
            refused[SERIES_LIMIT] = np.setdiff1d(rows[beyond], large)
        if refused:
            # They are not learned, so that they are looked at again the next time, and their sender hears of it again.
            out = np.concatenate(list(refused.values()))
            ids[out] = DROPPED
            kept = ~np.isin(rows, out)
            rows, keys, offsets = rows[kept], *_some(keys, offsets, kept)
        with self.lock:
            ids[rows], new = self.series.learn(batch, rows, keys, offsets)
            self._views.clear()
        return ids, new, _Named(batch.keyspace.tenant, ids[rows], keys, offsets), refused

    def _records(self, kept: Kept, named: _Named | None, native: Histograms | None) -> list[bytes]:
        records: list[bytes] = []
        if named is not None and np.array_equal(kept.defined, named.ids):
            # A batch of new series alone, as they come in bulk: their keys were just made.
            records.append(wal.series_record(named.tenant, kept.defined, named.keys, named.offsets))
        elif len(kept.defined):
            tenants = self.series.tenant_of.view()[kept.defined]
            for number in np.unique(tenants).tolist():
                ids = kept.defined[tenants == number]
                keys, offsets = self.series.canonical_of(ids.astype(np.int64))
                records.append(wal.series_record(self.series.tenants[number], ids, keys, offsets))
        ids, times, bits = kept.ids, kept.times, kept.bits
        if native is not None:
            records.append(histograms_record(ids[native.at], times[native.at], native))
            plain = np.ones(len(ids), dtype=np.bool_)
            plain[native.at] = False
            ids, times, bits = ids[plain], times[plain], bits[plain]
        if len(ids):
            records.append(wal.samples_record(ids, times, bits))
        return records

    def index(self, tenant: str) -> tuple[SeriesTable, IndexView | None]:
        """(the series table as it is now, the tenant's index over it, None where it has no series).

        The ids of the index mean something as long as `series` is that table: look again under the lock.
        """
        with self.reading:
            series = self.series
            number = series.tenant_number(tenant)
            if number < 0:
                return series, None
            ids = series.ids_of[number].view()
            if (known := self._views.get(tenant)) is not None and len(known.all_ids) == len(ids):
                return series, known
            index = self._indexes.setdefault(tenant, TenantIndex())
            columns = series.label_columns()
        made = index.view(series.names.symbols, ids, *columns)
        with self.reading:
            if self.series is series and len(series.ids_of[number]) == len(ids):
                if len(self._views) >= _VIEWS_KEPT:
                    self._views.clear()
                self._views[tenant] = made
        return series, made

    def selected(self, tenant: str, matchers: Sequence[Matcher], *, view: bool, few: int | None = None) -> Selection | None:
        """The tenant's series that pass `matchers`, None where it has no series at all; with `view`, the index is asked in any case.

        None also where more than `few` would have to be looked at one by one. As for `index`, look again whether `series` is still the
        table.
        """
        key = tenant, tuple(matchers)
        if not view:
            with self.reading:
                # Until another series comes the same ones pass: a dashboard asks for them again and again.
                for among in (self._selections, self._many):
                    if (kept := self._still(among, key)) is not None:
                        among.move_to_end(key)
                        return kept
        series, index = self.index(tenant)
        if index is None:
            return None
        ids = index.soon_matching(matchers, few)
        if ids is None:
            return None
        if len(ids) > (_FEW_SERIES if view or few is not None else _MANY_SERIES):
            return Selection(series, ids, index)
        # Copies: what is kept must not keep a whole index.
        ids, known = ids.copy(), index.table(ids)
        self._keep(key, len(index.all_ids), Selection(series, ids, None, known))
        return Selection(series, ids, index, known)

    def kept(self, tenant: str, matchers: tuple[Matcher, ...]) -> Selection | None:
        """What was selected of late, of few series, as long as that is true. Under the lock."""
        return self._still(self._selections, (tenant, matchers))

    def _still(self, among: Mapping[_Key, tuple[int, Selection]], key: _Key) -> Selection | None:
        kept = among.get(key)
        if kept is None or kept[1].series is not self.series or kept[0] != self.series.of_tenant(key[0]):
            return None
        return kept[1]

    def _keep(self, key: _Key, of: int, found: Selection) -> None:
        with self.reading:
            if self.series is not found.series:
                return  # a table that another has replaced would be held for nothing
            among = self._selections if len(found.ids) <= _FEW_SERIES else self._many
            among[key] = of, found
            among.move_to_end(key)
            if among is self._selections:
                while len(among) > _SELECTIONS_KEPT:
                    among.popitem(last=False)
                return
            # To add all of these up takes as long as to look a few series up: only where one more is among them.
            while sum(one.nbytes for _, one in among.values()) > _MANY_BYTES:
                among.popitem(last=False)

    def idle(self, since: int) -> NDArray[np.bool_]:
        """Which series have no sample in memory, and had their last before `since` (ms): bool[n]."""
        return self.head.idle(since)[: len(self.series)]

    def succeed(self, series: SeriesTable, new_ids: NDArray[np.int64], since: int) -> None:
        """Put `series` (`SeriesTable.without`), from which series that were idle are left out, in the place of the present table."""
        with self.lock:
            old_ids = series.succeed(self.series, new_ids, np.flatnonzero(~self.idle(since)))
            self.head.renumber(old_ids)
            self.series = series
            self._indexes = {}
            self._views.clear()
            self._selections.clear()
            self._many.clear()

    @property
    def hidden_series(self) -> int:
        """How many of the series hold start timestamps."""
        named = zip(list(self.series.tenants), self.series.ids_of, strict=False)
        return sum(len(ids) for tenant, ids in named if shown_tenant(tenant) != tenant)

    @property
    def nbytes(self) -> int:
        """Bytes held by series and samples."""
        return self.series.nbytes + self.head.nbytes


def _columns(batch: SampleBatch) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
    values = writable(batch.values, np.float64)
    return writable(batch.offsets, np.int64), writable(batch.timestamps, np.int64), values.view(np.int64)


def _some(keys: NDArray[np.uint8], offsets: NDArray[np.int64], kept: NDArray[np.bool_]) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    """Of keys end to end those that are `kept`."""
    lengths = np.diff(offsets)
    some = np.zeros(int(kept.sum()) + 1, dtype=np.int64)
    np.cumsum(lengths[kept], out=some[1:])
    return keys[np.repeat(kept, lengths)], some


def _by_reason(dropped: dict[str, int], batch: SampleBatch, refused: Refused) -> dict[str, int]:
    """`dropped`, where what was refused counts as if relabelling had dropped it, with what was refused under its own reason."""
    lengths = np.diff(batch.offsets)
    reasons = {why: samples for why, rows in refused.items() if (samples := int(lengths[rows].sum()))}
    relabelled = dropped.get("relabelled", 0) - sum(reasons.values())
    others = {why: count for why, count in dropped.items() if why != "relabelled"}
    return others | ({"relabelled": relabelled} if relabelled > 0 else {}) | reasons
