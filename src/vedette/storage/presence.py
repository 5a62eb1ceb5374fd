"""Which series have samples in a range, in the head and in blocks, without what was deleted or is kept no longer; and their names.

All as of one moment: what moves from the head to a block while somebody looks is seen once. Not here: samples (`engine.py`).
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Collection, Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from vedette.clock import Clock, now_ms
from vedette.model.labeltable import LabelTable
from vedette.storage.block import Block
from vedette.storage.blocks import Blocks
from vedette.storage.index import Among, IndexView
from vedette.storage.interface import Matchers
from vedette.storage.memory import Memory
from vedette.storage.nearby import Nearby
from vedette.storage.retention import Retention
from vedette.storage.select import block_labels, distinct
from vedette.storage.series import SymbolTable
from vedette.storage.tombstones import Deletions, Gone, Tombstones

_NONE = np.zeros(0, dtype=np.uint32)


class Presence:
    """Looks up series in the head and in blocks. `covered` is the block that holds what the head still has, too, if any."""

    def __init__(
        self,
        memory: Memory,
        blocks: Blocks,
        *,
        nearby: Nearby,
        tombstones: Tombstones,
        retention: Retention,
        covered: Callable[[], Block | None],
        clock: Clock,
    ) -> None:
        self._memory = memory
        self._blocks = blocks
        self._nearby = nearby
        self._tombstones = tombstones
        self._retention = retention
        self._covered = covered
        self._clock = clock

    def gone(self, deletions: Deletions, block: Block, view: IndexView, rows: NDArray[np.uint32]) -> Gone | None:
        """What of a block's rows was deleted, or is kept no longer. Raises `Corrupt`."""
        hidden = self._retention.hidden(view, rows, now_ms(self._clock), block.meta.min_time)
        return Gone.join(deletions.of(block), hidden)

    def uncovered(self) -> Sequence[Block]:
        """The blocks whose samples the head does not hold; under the lock."""
        covered = self._covered()
        return [b for b in self._blocks.all if b is not covered]

    def block_rows(
        self, blocks: Sequence[Block], deletions: Deletions, tenant: str, sets: Sequence[Matchers], start: int, end: int
    ) -> Iterator[tuple[Block, IndexView, NDArray[np.uint32]]]:
        """(block, its index, rows) where any of `sets` (all, where it is empty) has series whose samples' range meets [start, end]."""
        for block in blocks:
            if block.meta.min_time > end or block.meta.max_time < start or (view := block.index(tenant)) is None:
                continue
            whole = self._nearby.matching(block, view, tenant, sets[0]) if len(sets) == 1 else _any_of(view, sets)
            rows = block.within(whole, start, end)
            if (gone := self.gone(deletions, block, view, rows)) is not None:
                rows = gone.remaining(rows, block, start, end)
            if len(rows):
                yield block, view, rows

    def present(
        self, tenant: str, sets: Sequence[Matchers], start: int, end: int
    ) -> tuple[SymbolTable, list[tuple[IndexView, NDArray[np.uint32], Block | None]]]:
        """The symbols, and (index, ids, block or None for the head) of the series that pass any of `sets` and have samples.

        All pass where `sets` is empty.
        """
        deletions = self._tombstones.now
        names, view, ids, blocks = self.head_present(tenant, sets, start, end)
        found: list[tuple[IndexView, NDArray[np.uint32], Block | None]] = [] if view is None else [(view, ids, None)]
        found += [(view, rows, block) for block, view, rows in self.block_rows(blocks, deletions, tenant, sets, start, end)]
        return names, found

    def head_present(
        self, tenant: str, sets: Sequence[Matchers], start: int, end: int
    ) -> tuple[SymbolTable, IndexView | None, NDArray[np.uint32], Sequence[Block]]:
        """As `present`, of the head alone, with the blocks that hold what it does not."""
        while True:
            series, view = self._memory.index(tenant)
            ids = _NONE if view is None else _any_of(view, sets)
            with self._memory.reading:
                if self._memory.series is not series:
                    continue  # the ids went by a table that another has replaced
                head, blocks = self._memory.head, self.uncovered()
                ids = ids[head.present(ids.astype(np.int64), start, end)]
                hidden = None if view is None else self._retention.hidden(view, ids, now_ms(self._clock), head.min_time)
                if hidden is not None:
                    for last in np.unique(hidden.ends).tolist():
                        old = hidden.rows[hidden.ends == last]
                        ids = np.setdiff1d(ids, old[~head.present(old, max(start, last + 1), end)].astype(np.uint32))
                return series.names, view, ids, blocks

    def series_table(self, tenant: str, sets: Sequence[Matchers], start: int, end: int) -> LabelTable:
        """See `Tabling.series_table`."""
        names, parts = self.present(tenant, sets, start, end) if sets else (self._memory.series.names, [])
        tables = [
            view.table(ids) if block is None else block_labels(self._memory, names, block, view.labels(ids)) for view, ids, block in parts
        ]
        return distinct(tables, names.symbols)

    def label_names(self, tenant: str, sets: Sequence[Matchers], start: int, end: int) -> list[str]:
        """See `Storage.label_names`; ranges as in `series`."""
        if not sets and not self._retention.rules:
            return self._texts(tenant, start, end, lambda view, present: view.names_where(present))
        found: set[str] = set()
        for view, ids, _ in self.present(tenant, sets, start, end)[1]:
            found.update(view.symbols.text(s) for s in np.unique(view.labels(ids)[1]).tolist())
        return sorted(found)

    def label_values(self, tenant: str, name: str, sets: Sequence[Matchers], start: int, end: int) -> list[str]:
        """See `Storage.label_values`; ranges as in `series`."""
        if not sets and not self._retention.rules:
            return self._texts(tenant, start, end, lambda view, present: view.values_where(view.symbols.find(name), present))
        found: set[str] = set()
        for view, ids, _ in self.present(tenant, sets, start, end)[1]:
            if (symbol := view.symbols.find(name)) >= 0:
                found.update(view.symbols.text(s) for s in np.unique(view.column(ids, symbol)).tolist() if s >= 0)
        return sorted(found)

    def _texts(self, tenant: str, start: int, end: int, pick: Callable[[IndexView, Among], Collection[int]]) -> list[str]:
        """The texts, ascending, that `pick` takes of each index, given which of its series have samples in [start, end]."""
        deletions = self._tombstones.now
        while True:
            series, view = self._memory.index(tenant)
            with self._memory.lock:
                if self._memory.series is not series:
                    continue  # as above
                head, blocks = self._memory.head, self.uncovered()
                symbols = pick(view, lambda ids: head.present(ids.astype(np.int64), start, end)) if view is not None else ()  # noqa: B023
            break
        found = set() if view is None else {view.symbols.text(s) for s in symbols}
        for block in blocks:
            if block.meta.min_time > end or block.meta.max_time < start or (view := block.index(tenant)) is None:
                continue
            present = functools.partial(_within, block, self.gone(deletions, block, view, view.all_ids), start, end)
            found.update(view.symbols.text(s) for s in pick(view, present))
        return sorted(found)


def _within(block: Block, gone: Gone | None, start: int, end: int, rows: NDArray[np.uint32]) -> NDArray[np.bool_]:
    """Which of a block's `rows` have samples in [start, end] of which not all were deleted."""
    if gone is None and start <= block.meta.min_time and end >= block.meta.max_time:
        return np.ones(len(rows), dtype=np.bool_)
    left = block.within(np.sort(rows), start, end)
    return np.isin(rows, left if gone is None else gone.remaining(left, block, start, end))


def _any_of(view: IndexView, sets: Sequence[Matchers]) -> NDArray[np.uint32]:
    """The series that pass any of `sets`, all where it is empty; ascending."""
    if not sets:
        return view.all_ids
    found = [view.matching(matchers) for matchers in sets]
    return found[0] if len(found) == 1 else np.unique(np.concatenate(found))
