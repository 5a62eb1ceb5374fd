"""Exemplars of the last while: a bounded store, oldest out first, in memory and in a log on disk.

What is kept and refused is what Prometheus keeps and refuses: label sets of up to 128 characters, rising times a series. What
`keep` has counted survives `kill -9` and loss of power. Not here: reading them from what senders sent (`wire`).
"""

from __future__ import annotations

import asyncio
import struct
import threading
from collections import Counter, OrderedDict, deque
from collections.abc import Sequence
from pathlib import Path

import structlog

from vedette.errors import BadInput, Corrupt, LimitExceeded
from vedette.ingest.settings import MOST_EXEMPLARS
from vedette.model.exemplars import Exemplar
from vedette.model.labels import Labels
from vedette.model.matchers import Matcher, match_labels
from vedette.model.samples import SampleBatch
from vedette.storage.disk import Disk
from vedette.storage.queue import Entry, Item, Putter, Queue

log = structlog.get_logger(__name__)

_LABELS_LENGTH = 128
_KEYS = 50_000

_LOG_BYTES = 4 << 30
"""The log is bounded by how many exemplars it holds; this is for the case that they are all as large as they may be."""

_LENGTHS = struct.Struct("<IHdq")
"""Before the labels of a series and those of an exemplar: their lengths, its value and its time."""

Series = tuple[str, Labels]
"""A tenant and the labels of one of its series."""


class Exemplars:
    """The store; safe from any thread. `most` exemplars are kept, 0 keeps none.

    With a `directory` they are kept there, too: `start` reads what is there, `close` lets go of it.
    """

    def __init__(self, most: int = MOST_EXEMPLARS, directory: Path | None = None, *, disk: Disk | None = None) -> None:
        self._most = most
        self._queue = None if directory is None else Queue(directory, limit=_LOG_BYTES, added=self._logged, disk=disk)
        self._putter = None if self._queue is None else Putter(self._queue)
        self._entries: deque[Entry] = deque()
        self._in_log = 0
        self._lock = threading.Lock()
        self._found: dict[Series, deque[Exemplar]] = {}
        self._order: deque[Series] = deque()
        self._names: OrderedDict[tuple[int, bytes], Labels | None] = OrderedDict()
        self.appended = 0
        self.dropped: Counter[str] = Counter()
        """Those not kept, by reason: `out_of_order`, `too_long`; and `not_logged`, which are lost if the server dies now."""

    def __len__(self) -> int:
        return len(self._order)

    @property
    def series(self) -> int:
        """How many series have exemplars."""
        return len(self._found)

    def resize(self, most: int) -> None:
        """Keep `most` from now on."""
        with self._lock:
            self._most = most
            self._shrink()

    async def start(self) -> None:
        """Read what is on disk. Raises `BadInput` where that is not possible."""
        if self._queue is None:
            return
        try:
            self._queue.directory.parent.mkdir(parents=True, exist_ok=True)
            await asyncio.to_thread(self._restore, self._queue)
        except OSError as error:
            raise BadInput(f"the exemplars cannot be read: {error.strerror}", where=str(self._queue.directory)) from error

    def _restore(self, queue: Queue) -> None:
        queue.open()
        for entry in list(self._entries):
            try:
                found = _read(queue.read(entry))
            except (Corrupt, struct.error, ValueError) as error:
                log.error("exemplars cannot be read back", problem=str(error), exemplars=entry.samples)
                continue
            with self._lock:
                for labels, exemplar in found:
                    self._take((entry.tenant, labels), exemplar)
                self._shrink()
        self.dropped.clear()  # what has been counted before

    async def close(self) -> None:
        """Let go of the files; what was counted is in them."""
        if self._queue is not None and self._putter is not None:
            await self._putter.finish()
            await asyncio.to_thread(self._queue.close)

    async def keep(self, batch: SampleBatch, ids: Sequence[int]) -> int:
        """`add`, and log them: how many were kept, durably. Where the disk is full they are kept in memory, and not counted."""
        taken = self._add(batch, ids)
        if not taken or self._putter is None:
            return len(taken)
        body = b"".join(_written(labels, exemplar) for (_, labels), exemplar in taken)
        try:
            await self._putter.put([Item(batch.keyspace.tenant, 0, len(taken), body)])
        except LimitExceeded:  # told by `storage.queue`, and by samples that are refused for the same reason
            self.dropped["not_logged"] += len(taken)
            return 0
        return len(taken)

    def _logged(self, entries: Sequence[Entry]) -> None:
        """These are in the log; what is older than all that is kept goes out of it."""
        self._entries.extend(entries)
        self._in_log += sum(e.samples for e in entries)
        gone = []
        while self._entries and self._in_log - self._entries[0].samples >= self._most:
            gone.append(self._entries.popleft())
            self._in_log -= gone[-1].samples
        if gone and self._queue is not None:
            self._queue.finish(gone)

    def add(self, batch: SampleBatch, ids: Sequence[int]) -> int:
        """Take a batch's exemplars, whose rows were stored as `ids` (below 0: dropped); how many were kept, in memory."""
        return len(self._add(batch, ids))

    def _add(self, batch: SampleBatch, ids: Sequence[int]) -> list[tuple[Series, Exemplar]]:
        taken: list[tuple[Series, Exemplar]] = []
        with self._lock:
            for exemplar in sorted(batch.exemplars, key=lambda e: (e.row, e.timestamp, e.value)):
                labels = self._labels(batch, exemplar.row) if exemplar.row >= 0 and ids[exemplar.row] >= 0 else None
                if labels is not None and self._take(series := (batch.keyspace.tenant, labels), exemplar):
                    taken.append((series, exemplar))
            self._shrink()
            self.appended += len(taken)
        return taken

    def _labels(self, batch: SampleBatch, row: int) -> Labels | None:
        key = (batch.keyspace.id, batch.buffer[batch.key_start[row] : batch.key_end[row]].tobytes())
        if key not in self._names:
            try:
                self._names[key] = batch.keyspace.resolve(key[1])
            except BadInput:
                self._names[key] = None  # storage has refused the series, and said so
            while len(self._names) > _KEYS:
                self._names.popitem(last=False)
        return self._names[key]

    def _take(self, series: Series, exemplar: Exemplar) -> bool:
        if sum(len(name) + len(value) for name, value in exemplar.labels) > _LABELS_LENGTH:
            self.dropped["too_long"] += 1
            return False
        mine = self._found.get(series)
        if mine:
            newest = mine[-1]
            if newest[1:] == exemplar[1:]:
                return False  # scraped again: no news, and no mistake
            if (exemplar.timestamp, exemplar.value) < (newest.timestamp, newest.value):
                self.dropped["out_of_order"] += 1
                return False
        self._found.setdefault(series, deque()).append(exemplar)
        self._order.append(series)
        return True

    def _shrink(self) -> None:
        while len(self._order) > self._most:
            series = self._order.popleft()
            mine = self._found[series]
            mine.popleft()
            if not mine:
                del self._found[series]

    def select(self, tenant: str, sets: Sequence[Sequence[Matcher]], start: int, end: int) -> list[tuple[Labels, list[Exemplar]]]:
        """The exemplars in [start, end] (ms) of the series that pass any of `sets`, by series, rising in time."""
        with self._lock:
            mine = [(labels, list(found)) for (owner, labels), found in self._found.items() if owner == tenant]
        chosen = ((labels, found) for labels, found in mine if any(match_labels(tuple(m), labels) for m in sets))
        inside = ((labels, [e for e in found if start <= e.timestamp <= end]) for labels, found in chosen)
        return sorted(((labels, found) for labels, found in inside if found), key=lambda pair: pair[0])


def _written(labels: Labels, exemplar: Exemplar) -> bytes:
    """A series and its exemplar as the log has them."""
    series, own = labels.encode(), exemplar.labels.encode()
    return _LENGTHS.pack(len(series), len(own), exemplar.value, exemplar.timestamp) + series + own


def _read(body: bytes) -> list[tuple[Labels, Exemplar]]:
    """The inverse of `_written`, of many end to end. Raises `struct.error`, `ValueError`."""
    found = []
    at = 0
    while at < len(body):
        series, own, value, time = _LENGTHS.unpack_from(body, at)
        at += _LENGTHS.size
        if series + own > len(body) - at:
            raise ValueError("an entry ends inside its labels")
        labels = Labels.decode(body[at : at + series])
        found.append((labels, Exemplar(0, Labels.decode(body[at + series : at + series + own]), value, time)))
        at += series + own
    return found
