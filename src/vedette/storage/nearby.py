"""Which rows of blocks pass matchers of late, of few series each: a dashboard asks for the same ones again and again.

Blocks never change, so what was found out of one stays true as long as it is there. Not here: what is in memory (`memory.py`), the
samples (`block.py`).
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from vedette.model.labeltable import LabelTable
from vedette.model.matchers import Matcher
from vedette.storage.block import Block
from vedette.storage.index import IndexView
from vedette.storage.memory import FEW_SERIES, Memory
from vedette.storage.select import Part, block_labels
from vedette.storage.series import SymbolTable
from vedette.storage.tiered import overlap

_KEPT = 8192

Key = tuple[int, str, tuple[Matcher, ...]]
"""The block's sequence number, the tenant, what is asked for."""


@dataclass(slots=True)
class _Rows:
    """Rows of a block, uint32 ascending, how many samples they have, and their labels in the engine's symbols `names`, once known."""

    rows: NDArray[np.uint32]
    samples: int = 0
    names: SymbolTable | None = None
    labels: LabelTable | None = None


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
        if len(rows) <= FEW_SERIES:
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
