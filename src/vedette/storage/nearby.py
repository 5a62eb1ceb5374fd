"""Which rows of blocks pass matchers of late, of few series each: a dashboard asks for the same ones again and again.

Blocks never change, so what was found out of one stays true as long as it is there. Not here: what is in memory (`memory.py`), the
samples (`block.py`).
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from vedette.model.labeltable import LabelTable
from vedette.model.matchers import Matcher
from vedette.storage.block import Block
from vedette.storage.index import IndexView
from vedette.storage.memory import Memory
from vedette.storage.select import Part, block_labels
from vedette.storage.series import SymbolTable
from vedette.storage.tiered import overlap

_KEPT, _FEW_ROWS = 8192, 64
"""Of how many blocks and selections rows are kept, and how many of each at the most: 60 MB of labels, if all were different."""

Key = tuple[int, str, tuple[Matcher, ...]]
"""The block's sequence number, the tenant, what is asked for."""


class Paged(NamedTuple):
    """Of rows of a block: how many samples each has (int64[m]), and its page (int32[m]); None where one has several."""

    counts: NDArray[np.int64]
    pages: NDArray[np.int32] | None

    @classmethod
    def of(cls, block: Block, rows: NDArray[np.uint32]) -> Paged:
        """Of some rows. Raises `Corrupt`."""
        return cls(block.counts(rows), block.pages_of(rows))


@dataclass(slots=True)
class _Rows:
    """Rows of a block, uint32 ascending, how many samples they have, and their labels in the engine's symbols `names`, once known."""

    rows: NDArray[np.uint32]
    samples: int = 0
    names: SymbolTable | None = None
    labels: LabelTable | None = None
    paged: Paged | None = None


class Nearby:
    """The rows that were asked for last. Thread-safe."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._rows: OrderedDict[Key, _Rows] = OrderedDict()

    def matching(self, block: Block, view: IndexView, tenant: str, matchers: Sequence[Matcher]) -> NDArray[np.uint32]:
        """The rows of a block that pass all of `matchers`, ascending; `view` is the tenant's index of it."""
        key = block.meta.sequence, tenant, tuple(matchers)
        with self._lock:
            if (kept := self._rows.get(key)) is not None:
                self._rows.move_to_end(key)
                return kept.rows
        rows = view.matching(matchers)
        if len(rows) <= _FEW_ROWS:
            # A copy: what is kept must not keep a whole index.
            made = _Rows(rows.copy(), int(block.counts(rows).sum()))
            with self._lock:
                self._rows[key] = made
                while len(self._rows) > _KEPT:
                    self._rows.popitem(last=False)
        return rows

    def learn(self, block: Block, view: IndexView, key: tuple[str, Sequence[Matcher]], *, memory: Memory, names: SymbolTable) -> None:
        """Keep the labels of the rows that `matching` found for `key`, the tenant and the matchers, where they are few."""
        with self._lock:
            kept = self._rows.get((block.meta.sequence, key[0], tuple(key[1])))
        if kept is not None and kept.names is not names:
            kept.labels = block_labels(memory, names, block, view.labels(kept.rows))
            kept.names = names

    def paged(self, block: Block, key: tuple[str, Sequence[Matcher]], rows: NDArray[np.uint32]) -> Paged:
        """Where `rows` are, all or some of those that `matching` found for the tenant and the matchers. Raises `Corrupt`."""
        kept = self._kept(block, key, rows)
        if kept is None:
            return Paged.of(block, rows)
        if kept.paged is None:
            kept.paged = Paged.of(block, rows)
        return kept.paged

    def labels(
        self,
        block: Block,
        view: IndexView,
        key: tuple[str, Sequence[Matcher]],
        rows: NDArray[np.uint32],
        *,
        memory: Memory,
        names: SymbolTable,
    ) -> LabelTable:
        """The labels of `rows`, as for `paged`, in the engine's symbols. Raises `Corrupt`."""
        kept = self._kept(block, key, rows)
        if kept is None:
            return block_labels(memory, names, block, view.labels(rows))
        # Taken as one: another thread may learn those of another table meanwhile.
        known, of = kept.labels, kept.names
        if known is None or of is not names or known.symbols is not names.symbols:
            known = block_labels(memory, names, block, view.labels(rows))
            kept.labels, kept.names = known, names
        return known

    def _kept(self, block: Block, key: tuple[str, Sequence[Matcher]], rows: NDArray[np.uint32]) -> _Rows | None:
        """What is known of `rows`, where they are all that `matching` found."""
        with self._lock:
            kept = self._rows.get((block.meta.sequence, key[0], tuple(key[1])))
        return kept if kept is not None and kept.rows is rows else None

    def part(
        self, block: Block, key: tuple[str, tuple[Matcher, ...]], start: int, end: int, *, names: SymbolTable, most: int
    ) -> Part | None:
        """What a block has of [start, end] for the tenant and the matchers `key`, without waiting.

        None where that is not known, has to be read or decoded first, or is probably more than `most` samples.
        """
        meta = block.meta
        kept = self._rows.get((meta.sequence, *key))
        if kept is None or meta.histograms or kept.samples * overlap(meta.min_time, meta.max_time, start, end) > most:
            return None
        rows, labels = kept.rows, kept.labels
        if not len(rows):
            none = np.zeros(0, dtype=np.int32)
            empty = np.zeros(1, np.int64), np.zeros(0, np.int64), np.zeros(0, np.int64)
            return Part(LabelTable(names.symbols, empty[0], none, none), *empty)
        if labels is None or kept.names is not names:
            return None
        columns = block.held(rows, start, end)
        return None if columns is None else Part.of(labels, columns)
