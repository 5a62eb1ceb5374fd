"""Selects from the rollup tiers, and from samples where no tier serves: stretch after stretch, as one answer.

Many samples are rolled up as they are read, a day at a time, where that says the same: memory holds a day of them, however long the
range. Where it does not, and samples would do for all of the range, they are left to whoever reads in pieces. Not here: which
days a tier has and may be read (`rollup.py`), which queries may be answered from them (`promql/coarse.py`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from vedette.errors import Corrupt
from vedette.kernels import rollup as kernel
from vedette.model.samples import is_stale
from vedette.model.series import SeriesSet
from vedette.storage.index import IndexView
from vedette.storage.interface import Coarse, Estimate, Matchers, Pieces, Steps, Stretches
from vedette.storage.memory import Memory
from vedette.storage.rollup import COLUMNS, DAY, Present, Rollups, Stretch, hidden_tenant
from vedette.storage.select import Part, block_labels, identities, merge, stacked
from vedette.storage.series import SymbolTable
from vedette.storage.tombstones import Deletions, Gone

_FEW = 1 << 14
"""Samples of a stretch that are taken as they are."""
_MANY = 1 << 20
"""Samples that are read at once, where a tier has not what is needed, though they would do for all of the range."""

_I64 = np.int64
Hidden = Callable[[IndexView, NDArray[np.uint32], int], Gone | None]
"""What of an index's rows is kept no longer; the last argument is the time (ms) of the oldest of their samples."""


class Raw(Protocol):
    """Where the samples themselves are."""

    def select(self, tenant: str, matchers: Matchers, start: int, end: int) -> SeriesSet:
        """See `Storage.select`."""
        ...

    def in_pieces(
        self, tenant: str, matchers: Matchers, start: int, end: int, *, least: int | None = None, keep: bool = True
    ) -> Pieces | None:
        """See `Divisible.in_pieces`, where at least `least` samples are; without `keep` no page of it is kept."""
        ...

    def estimate(self, tenant: str, matchers: Matchers | None, start: int, end: int) -> Estimate:
        """See `Estimating.estimate`."""
        ...


class Found(NamedTuple):
    """A part for each column, none where there are no series, and how many samples were taken as they are."""

    parts: Sequence[Part]
    taken: int = 0


class Names(NamedTuple):
    """The engine's table of names, and what was deleted of tiers, both as of one moment."""

    table: SymbolTable
    deletions: Deletions


class TieredReads:
    """What `interface.Tiered` offers. `present` is what there is besides tiers; `within_budget` raises for too many series, samples."""

    def __init__(
        self,
        rollups: Rollups,
        memory: Memory,
        *,
        raw: Raw,
        present: Callable[[], Present],
        hidden: Hidden,
        within_budget: Callable[[int, int], None],
    ) -> None:
        self._rollups = rollups
        self._memory = memory
        self._raw = raw
        self._present = present
        self._hidden = hidden
        self._within_budget = within_budget

    def _plan(self, start: int, end: int, coarse: Coarse) -> Sequence[Stretch] | None:
        plan = self._rollups.plan(coarse.width, start, end, exact=coarse.exact, present=self._present())
        return None if all(stretch.day is None for stretch in plan) else plan

    def select(self, tenant: str, matchers: Matchers, start: int, end: int, coarse: Coarse) -> Stretches | None:
        """See `Tiered.coarse_select`."""
        deletions = self._rollups.tombstones.now  # before the days: see there
        if (plan := self._plan(start, end, coarse)) is None:
            return None
        names = self._memory.series.names
        columns = _columns(coarse)
        parts: list[list[Part]] = [[] for _ in columns]
        samples, taken = 0, 0
        samples_would_do = all(stretch.day is None or stretch.both for stretch in plan)
        for stretch in _by_days(plan) if coarse.exact else plan:
            try:
                found = self.of_stretch(Names(names, deletions), stretch, tenant, matchers, coarse)
            except Corrupt as damage:
                if stretch.day is None:
                    raise
                self._rollups.set_aside(stretch.day, damage)
                return self.select(tenant, matchers, start, end, coarse)
            if found is None:
                return None
            if found.parts and found.parts[0].labels.symbols is not names.symbols:
                return self.select(tenant, matchers, start, end, coarse)  # another table of names came meanwhile
            taken += found.taken
            if samples_would_do and taken > _MANY:
                return None
            for into, part in zip(parts, found.parts, strict=False):
                into.append(part)
                samples += len(part.times)
                self._within_budget(len(part.labels), samples)
        values = merge(parts[0], names.symbols)
        weights = _weights(values, merge(parts[1], names.symbols), coarse.width) if coarse.weighted else None
        return Stretches(values, weights)

    def of_stretch(self, names: Names, stretch: Stretch, tenant: str, matchers: Matchers, coarse: Coarse) -> Found | None:
        """What is of one stretch, or None where only the samples themselves will do. Raises `Corrupt`."""
        columns = _columns(coarse)
        if stretch.day is not None:
            found = [self._rolled_up(names, stretch, hidden_tenant(tenant, column), matchers) for column in columns]
            if not (stretch.both and columns[0] == "counter" and self._lacks_some(names, stretch, tenant, matchers, found)):
                return Found([part for part in found if part is not None])
        series = self._once(tenant, matchers, stretch) if coarse.exact else self._raw.select(tenant, matchers, stretch.start, stretch.end)
        if series.histograms is not None:
            return None
        if coarse.exact and series.sample_count > _FEW and (made := _rolled(series, stretch, coarse)) is not None:
            return Found(made)
        return Found([_as_column(series, column) for column in columns], series.sample_count)

    def _once(self, tenant: str, matchers: Matchers, stretch: Stretch) -> SeriesSet:
        """The samples of a stretch, of which many do not drive out of the cache what others read."""
        pieces = self._raw.in_pieces(tenant, matchers, stretch.start, stretch.end, least=_FEW, keep=False)
        if pieces is None:
            return self._raw.select(tenant, matchers, stretch.start, stretch.end)
        times, bits = np.empty((2, int(pieces.upto[-1])), dtype=_I64)
        offsets = pieces.rows(0, len(pieces.labels)).read(Steps(stretch.end, 0, 1, stretch.end - stretch.start + 1), times, bits)
        assert offsets is not None, "there is room for all"
        first = int(offsets[0])
        return SeriesSet(pieces.labels, offsets - first, times[first:], bits[first:].view(np.float64))

    def _lacks_some(self, names: Names, stretch: Stretch, tenant: str, matchers: Matchers, found: Sequence[Part | None]) -> bool:
        """Whether some of the series have no column of counters, since they are none."""
        counts = found[1] if len(found) > 1 else self._rolled_up(names, stretch, hidden_tenant(tenant, "count"), matchers)
        return counts is not None and len(counts.labels) > (0 if found[0] is None else len(found[0].labels))

    def _rolled_up(self, names: Names, stretch: Stretch, tenant: str, matchers: Matchers) -> Part | None:
        assert stretch.day is not None
        block = stretch.day.block
        if block is None or (view := block.index(tenant)) is None:
            return None
        rows = block.within(view.matching(matchers), stretch.start, stretch.end)
        columns = block.read(rows, stretch.start, stretch.end)
        gone = Gone.join(names.deletions.of(block), self._hidden(view, rows, block.meta.min_time))
        if gone is not None:
            columns = gone.erase(rows, columns)
        return Part.of(block_labels(self._memory, names.table, block, view.labels(rows)), columns)

    def estimate(self, tenant: str, matchers: Matchers, start: int, end: int, coarse: Coarse) -> Estimate | None:
        """About what `select` would answer; None where that is nothing."""
        if (plan := self._plan(start, end, coarse)) is None:
            return None
        series, samples = 0, 0.0
        for stretch in plan:
            if stretch.day is None:
                raw = self._raw.estimate(tenant, matchers, stretch.start, stretch.end)
                series, samples = max(series, raw.series), samples + raw.samples
            elif stretch.day.block is not None and (view := stretch.day.block.index(hidden_tenant(tenant, coarse.column))) is not None:
                block = stretch.day.block
                rows = block.within(view.matching(matchers), stretch.start, stretch.end)
                series = max(series, len(rows))
                share = overlap(stretch.day.day + 1, stretch.day.day + DAY, stretch.start, stretch.end)
                samples += int(block.counts(rows).sum()) * share
        return Estimate(series, int(samples) * (2 if coarse.weighted else 1))


def _columns(coarse: Coarse) -> Sequence[str]:
    return (coarse.column, "count") if coarse.weighted else (coarse.column,)


def _by_days(plan: Sequence[Stretch]) -> Iterator[Stretch]:
    """The same, stretches of samples cut where days end."""
    for stretch in plan:
        at = stretch.start
        while stretch.day is None and at < stretch.end and (end := (at - 1) // DAY * DAY + DAY) < stretch.end:
            yield Stretch(at, end, None)
            at = end + 1
        yield replace(stretch, start=at)


def overlap(low: int, high: int, start: int, end: int) -> float:
    """The part of [low, high] that lies in [start, end]."""
    return min(1.0, max(0, min(high, end) - max(low, start) + 1) / max(1, high - low + 1))


def _rolled(found: SeriesSet, stretch: Stretch, coarse: Coarse) -> list[Part] | None:
    """Samples as a tier would have them, a part for each column; None where that does not serve all of the series."""
    after, end = stretch.start - 1, stretch.end
    if end % coarse.width or (coarse.column != "last" and after % coarse.width):
        return None  # a part of a tier's stretch would look like the whole
    first, many, made = int(found.offsets[0]), found.sample_count, []
    times, values = found.timestamps[first : first + many], found.values[first : first + many]
    for column in _columns(coarse):
        offsets, out_times, out_values = np.empty(len(found) + 1, dtype=_I64), np.empty(many, dtype=_I64), np.empty(many)
        size = int(
            kernel.roll(found.offsets - first, times, values, after, end, coarse.width, COLUMNS[column], offsets, out_times, out_values)
        )
        if column == "counter" and np.any((offsets[1:] == offsets[:-1]) & (np.diff(found.offsets) > 0)):
            return None  # what is reset often is no counter
        # Copies: memory is to hold what is needed, not what was there.
        made.append(Part.of(found.labels, (offsets, out_times[:size].copy(), out_values[:size].copy().view(_I64))))
    return made


def _as_column(found: SeriesSet, column: str) -> Part:
    """Samples as they stand beside a tier's: each counts for one in the column of counts."""
    first = int(found.offsets[0])
    bits = found.values[first : first + found.sample_count].view(np.int64)
    if column == "count":
        bits = np.where(is_stale(found.values), bits, np.float64(1.0).view(np.int64))
    return Part(found.labels, found.offsets - first, found.timestamps, bits)


def _weights(found: SeriesSet, counts: SeriesSet, width: int) -> NDArray[np.float64]:
    """For how many samples each of `found` stands, float64: `counts` says how many a stretch had."""
    rows = np.full(len(found), -1, dtype=np.int64)
    if len(found) and len(counts):
        numbers, first = identities(stacked([found.labels, counts.labels], found.labels.symbols))
        place = np.full(len(first), -1, dtype=np.int64)
        place[numbers[len(found) :]] = np.arange(len(counts))
        rows = place[numbers[: len(found)]]
    out = np.ones(found.sample_count)
    kernel.weigh(found.offsets, found.timestamps, found.values, counts.offsets, counts.timestamps, counts.values, rows, width, out)
    return out
