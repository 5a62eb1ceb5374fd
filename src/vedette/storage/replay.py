"""From the log back to memory, at start. Damage is skipped, counted and reported, never fatal.

Not here: which segments are already in blocks (`flush.py` deletes them first).
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import numpy as np
import orjson
import structlog
from numpy.typing import NDArray

from vedette.errors import Corrupt
from vedette.kernels.series_table import DROPPED
from vedette.model.histograms import Histograms
from vedette.model.samples import MetricMetadata
from vedette.storage import wal
from vedette.storage.histogram_wal import read_histograms
from vedette.storage.memory import Memory

log = structlog.get_logger(__name__)

_EVER = -(1 << 63)
_ANY_AGE = (1 << 63) - 1


@dataclass(slots=True)
class Replayed:
    """What replay found: whole records and samples, and damage."""

    segments: int = 0
    samples: int = 0
    torn_tails: int = 0
    corrupt_records: int = 0
    orphan_samples: int = 0
    """Samples of series whose own record was lost."""
    last_segment: int = 0
    range: tuple[int, int] = (0, 0)
    """The first and the last segment that there are to read."""
    scopes: list[int] = field(default_factory=list)
    """The scopes that memory holds, in order; `between_scopes` takes away those it has flushed."""


@dataclass(frozen=True, slots=True)
class ReplayProgress:
    """Segments of the log: the first and the last there are, and the one that was read last; 0 where there is none."""

    first: int
    last: int
    current: int
    state: Literal["waiting", "in progress", "done"]


class Replay:
    """One pass over the segments of a directory."""

    def __init__(self, memory: Memory) -> None:
        self.memory = memory
        self.found = Replayed()
        self._scope = -1
        self._ids = np.zeros(0, dtype=np.int64)

    def run(self, directory: Path, *, between_scopes: Callable[[Replayed], None]) -> Replayed:
        """Read all segments in order; `between_scopes` is called where memory holds whole scopes only, and may be flushed."""
        segments = wal.segments(directory)
        if segments:
            self.found.range = segments[0].number, segments[-1].number
        for segment in segments:
            try:
                scope, records = wal.read_segment(segment)
            except Corrupt as damage:
                self._report(damage, tail=segment.size < wal.SEGMENT_HEADER.size)
            else:
                if scope != self._scope:
                    between_scopes(self.found)
                    self._scope, self._ids = scope, np.zeros(0, dtype=np.int64)
                    self.found.scopes.append(scope)
                self._replay(segment, records)
            self.found.segments += 1
            self.found.last_segment = segment.number
        return self.found

    def _replay(self, segment: wal.Segment, records: Iterator[wal.Record | Corrupt]) -> None:
        for item in records:
            if isinstance(item, Corrupt):
                self._report(item, tail="ends inside" in str(item))
                continue
            try:
                self._apply(item)
            except (ValueError, struct.error, UnicodeDecodeError) as error:
                self._report(Corrupt(str(error), path=segment.path, offset=item.offset), tail=False)

    def _report(self, damage: Corrupt, *, tail: bool) -> None:
        # A crash leaves a cut-off record behind, which was never acknowledged; anything else was.
        if tail:
            self.found.torn_tails += 1
            log.info("the log ends in a record that was cut off", path=str(damage.path), offset=damage.offset)
        else:
            self.found.corrupt_records += 1
            log.error("a damaged part of the log was skipped", path=str(damage.path), offset=damage.offset, problem=str(damage))

    def _apply(self, item: wal.Record) -> None:
        if item.kind == wal.SAMPLES:
            self._samples(*wal.read_samples(item))
        elif item.kind == wal.HISTOGRAMS:
            numbers, times, histograms = read_histograms(item)
            self._samples(numbers, times, histograms.sums.view(np.int64), histograms)
        elif item.kind == wal.SERIES:
            self._series(item)
        elif item.kind == wal.METADATA:
            tenant, rows = orjson.loads(item.payload)
            with self.memory.lock:
                self.memory.metadata.learn(tenant, [MetricMetadata(*row) for row in rows])
        else:
            raise ValueError(f"a record of unknown kind {item.kind}")

    def _series(self, item: wal.Record) -> None:
        tenant, numbers, keys, offsets = wal.read_series(item)
        highest = int(numbers.max()) if len(numbers) else -1
        if highest >= len(self._ids):
            grown = np.full(max(highest + 1, len(self._ids) * 3 // 2), DROPPED, dtype=np.int64)
            grown[: len(self._ids)] = self._ids
            self._ids = grown
        with self.memory.lock:
            self._ids[numbers], _ = self.memory.series.register(tenant, keys.copy(), offsets.copy())

    def _samples(
        self, numbers: NDArray[np.uint32], times: NDArray[np.int64], bits: NDArray[np.int64], histograms: Histograms | None = None
    ) -> None:
        known = numbers < len(self._ids)
        ids = np.full(len(numbers), DROPPED, dtype=np.int64)
        ids[known] = self._ids[numbers[known]]
        lost = int((ids == DROPPED).sum())
        if lost:
            self.found.orphan_samples += lost
            log.error("samples were skipped, since the record that names their series is damaged", samples=lost)
        memory = self.memory
        with memory.lock:
            memory.head.reserve(len(memory.series), len(ids))
            offsets = np.arange(len(ids) + 1, dtype=np.int64)
            columns = (ids, offsets, times.copy(), bits.copy())
            kept = memory.head.append(*columns, window=_ANY_AGE, oldest=_EVER, scope=0)
            if histograms is not None:
                memory.head.keep_histograms(histograms, columns, kept)
        self.found.samples += len(kept.ids)


def problem_of(segment: wal.Segment, item: wal.Record) -> Corrupt | None:
    """What keeps a whole record from being replayed; its series' own records are not asked for."""
    try:
        if item.kind == wal.SAMPLES:
            wal.read_samples(item)
        elif item.kind == wal.HISTOGRAMS:
            read_histograms(item)
        elif item.kind == wal.SERIES:
            wal.read_series(item)
        elif item.kind == wal.METADATA:
            tenant, rows = orjson.loads(item.payload)
            [(tenant, MetricMetadata(*row)) for row in rows]
        else:
            raise ValueError(f"a record of unknown kind {item.kind}")
    except (ValueError, TypeError, struct.error, UnicodeDecodeError) as error:
        return Corrupt(str(error), path=segment.path, offset=item.offset)
    return None
