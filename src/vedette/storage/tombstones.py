"""What was deleted and still lies in blocks: matchers and ranges, kept in a file, applied to whatever is read.

A deletion concerns what was stored before it: it holds for the blocks up to a sequence number, and is forgotten once none
of them is left, since a block that is written again leaves out what was deleted. Not here: samples in memory, which are
written to a block first (`engine.py`); writing blocks again (`compaction.py`).
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from vedette.errors import BadInput, Corrupt
from vedette.kernels import block as kernel
from vedette.model.matchers import Matcher
from vedette.storage import sealed
from vedette.storage.block import Block, Columns
from vedette.storage.disk import Disk

FOREVER = 1 << 62
"""Ranges end at plus or minus this at most, so that one may be added to an end."""


@dataclass(frozen=True, slots=True)
class Tombstone:
    """All samples in [start, end] (ms) of a tenant's series that pass `matchers`, in blocks up to the sequence number `upto`."""

    tenant: str
    matchers: tuple[Matcher, ...]
    start: int
    end: int
    upto: int


@dataclass(frozen=True, slots=True)
class Gone:
    """Deleted ranges of a block's rows: `rows` int64 ascending, `starts` and `ends` int64, inclusive, by start within a row."""

    rows: NDArray[np.int64]
    starts: NDArray[np.int64]
    ends: NDArray[np.int64]

    @classmethod
    def of(cls, ranges: Iterable[tuple[NDArray[np.uint32], int, int]]) -> Gone | None:
        """From (rows, start, end); None where no row is concerned."""
        found = [(rows.astype(np.int64), max(start, -FOREVER), min(end, FOREVER)) for rows, start, end in ranges if len(rows)]
        if not found:
            return None
        rows = np.concatenate([rows for rows, _, _ in found])
        starts = np.concatenate([np.full(len(rows), start, dtype=np.int64) for rows, start, _ in found])
        ends = np.concatenate([np.full(len(rows), end, dtype=np.int64) for rows, _, end in found])
        return cls._sorted(rows, starts, ends)

    @classmethod
    def join(cls, a: Gone | None, b: Gone | None) -> Gone | None:
        """What either says is deleted."""
        if a is None or b is None:
            return b if a is None else a
        return cls._sorted(*(np.concatenate(pair) for pair in ((a.rows, b.rows), (a.starts, b.starts), (a.ends, b.ends))))

    @classmethod
    def _sorted(cls, rows: NDArray[np.int64], starts: NDArray[np.int64], ends: NDArray[np.int64]) -> Gone:
        order = np.lexsort((starts, rows))
        return cls(rows[order], starts[order], ends[order])

    def erase(self, rows: NDArray[np.uint32], columns: Columns) -> Columns:
        """`columns`, the samples of `rows`, without what was deleted; the arrays are changed."""
        offsets, times, bits = columns
        left = int(kernel.erase(rows.astype(np.int64), offsets, times, bits, self.rows, self.starts, self.ends))
        return offsets, times[:left], bits[:left]

    def remaining(self, rows: NDArray[np.uint32], block: Block, start: int, end: int) -> NDArray[np.uint32]:
        """Those of `rows` of whose range of time something within [start, end] is left."""
        out = np.empty(len(rows), dtype=np.bool_)
        firsts, lasts = block.ranges(rows)
        kernel.remaining(rows.astype(np.int64), firsts, lasts, start, end, self.rows, self.starts, self.ends, out)
        return rows[out]


class Deletions:
    """The deletions in force at one moment. They hold for the blocks of that moment, however many are forgotten later."""

    def __init__(self, items: tuple[Tombstone, ...]) -> None:
        self.items = items
        self._gone: dict[int, Gone | None] = {}

    def of(self, block: Block) -> Gone | None:
        """What was deleted of a block's rows, None where nothing was. Raises `Corrupt`."""
        sequence = block.meta.sequence
        if sequence not in self._gone:
            self._gone[sequence] = Gone.of(_ranges(self.items, block))
        return self._gone[sequence]

    def none_of(self, block: Block) -> bool:
        """Whether it is known already that nothing of a block was deleted."""
        return not self.items or self._gone.get(block.meta.sequence, self) is None


class Tombstones:
    """The deletions in force, in a file that is replaced whole.

    Whoever reads several blocks takes `now` before the list of blocks: a block that was written again meanwhile is answered from
    without its deletions being known any more, the one in whose place it came only with them.
    """

    def __init__(self, path: Path, disk: Disk) -> None:
        self.path = path
        self._disk = disk
        self.lock = threading.Lock()
        """Held while the deletions change, and by whoever must know all of them up to a sequence number."""
        self.now = Deletions(())
        self._concerned: dict[tuple[Tombstone, int], bool] = {}

    def __len__(self) -> int:
        return len(self.now.items)

    def load(self) -> None:
        """Read the file, if there is one. Raises `Corrupt`, `OSError`."""
        if self.path.exists():
            self.now = Deletions(read(self.path))

    def add(self, tenant: str, sets: Sequence[Sequence[Matcher]], start: int, end: int, *, upto: Callable[[], int]) -> None:
        """Put deletions in force, durably. Raises `OSError`; none is in force then."""
        with self.lock:
            last = upto()
            self._keep((*self.now.items, *(Tombstone(tenant, tuple(matchers), start, end, last) for matchers in sets)))

    def forget(self, blocks: Callable[[], Sequence[Block]]) -> None:
        """Drop the deletions that concern none of `blocks()`, all there are. Raises `OSError`."""
        with self.lock:
            # Asked for under the lock: a deletion that is added meanwhile may concern none but the newest block.
            there = blocks()
            left = tuple(t for t in self.now.items if any(self._concerns(t, block) for block in there))
            if left != self.now.items:
                self._keep(left)

    def _concerns(self, tombstone: Tombstone, block: Block) -> bool:
        key = (tombstone, block.meta.sequence)
        if key not in self._concerned:
            try:
                self._concerned[key] = any(len(rows) for rows, _, _ in _ranges([tombstone], block))
            except Corrupt:
                return True
        return self._concerned[key]

    def _keep(self, items: tuple[Tombstone, ...]) -> None:
        rows = [[t.tenant, [[m.name, m.op, m.value] for m in t.matchers], t.start, t.end, t.upto] for t in items]
        self._disk.replace_file(self.path, sealed.render(rows))
        self.now = Deletions(items)
        self._concerned = {}

    def of(self, block: Block) -> Gone | None:
        """What was deleted of a block's rows, None where nothing was. Raises `Corrupt`."""
        return self.now.of(block)


def _ranges(tombstones: Iterable[Tombstone], block: Block) -> Iterator[tuple[NDArray[np.uint32], int, int]]:
    """(rows of the block, start, end) of those deletions that hold for it."""
    meta = block.meta
    for t in tombstones:
        if t.upto >= meta.sequence and t.start <= meta.max_time and t.end >= meta.min_time and (view := block.index(t.tenant)) is not None:
            yield view.matching(t.matchers), t.start, t.end


def read(path: Path) -> tuple[Tombstone, ...]:
    """The deletions in a file. Raises `Corrupt`, `OSError`."""
    rows = sealed.read(path, "the list of deletions")
    try:
        return tuple(
            Tombstone(tenant, tuple(Matcher(*m) for m in matchers), start, end, upto) for tenant, matchers, start, end, upto in rows
        )
    except (ValueError, TypeError, BadInput) as error:
        raise Corrupt(f"the list of deletions cannot be read: {error}", path=path, offset=9) from error
