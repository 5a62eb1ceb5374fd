"""Series of a select that lie in blocks, and maybe in the head too, read a few rows at a time: `interface.Pieces` of both.

Blocks never change, and stay readable for whoever holds them, so what is read is what was there when it was asked for. Pages are
decoded into memory that is used again; what is wanted of each row is counted, and then goes straight to its place. Of a row that is
read from its last windows to its first, a page that the next windows want too is held until then. In memory at a time, for each
thread: the pages of one read. Not here: what is in a page (`block.py`), when reading this way is worth it (`engine.py`).
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from vedette.kernels import block as kernel
from vedette.model.labeltable import LabelTable
from vedette.storage.block import Block, Page, PageRoom
from vedette.storage.block_meta import Meta
from vedette.storage.block_writer import PAGE_SAMPLES
from vedette.storage.interface import Steps
from vedette.storage.nearby import Paged
from vedette.storage.pieces import HeadRows, Surveyed

_I64 = np.int64
Columns = tuple[NDArray[np.int64], NDArray[np.int64]]
"""Times and value bits."""
_LAST = 1 << 62
"""The rank of the head: of two samples at one time that of a block counts."""
_NEVER = -(1 << 63)
_EVER = Steps(1 << 61, 0, 1, 1 << 62)


class BlockRows(NamedTuple):
    """What a block has of the rows `targets` (int32[m], ascending): its own `rows` (int64[m]), so many samples each, in `pages` (int32[m]).

    `rank` is the block's place in the order of storing: of equal times the lowest counts.
    """

    block: Block
    targets: NDArray[np.int32]
    rows: NDArray[np.int64]
    counts: NDArray[np.int64]
    pages: NDArray[np.int32]
    rank: int

    @classmethod
    def of(cls, block: Block, targets: NDArray[np.int64], rows: NDArray[np.uint32], paged: Paged, rank: int) -> BlockRows | None:
        """Rows of a block, where they are, and which ones of all they are; None where one is longer than a page may be."""
        if paged.pages is None:
            return None
        numbers, own, counts, pages = targets.astype(np.int32), rows.astype(_I64), paged.counts, paged.pages
        if not (numbers[1:] > numbers[:-1]).all():
            order = np.argsort(numbers, kind="stable")
            numbers, own, counts, pages = numbers[order], own[order], counts[order], pages[order]
        return cls(block, numbers, own, counts, pages, rank)


class _InPages:
    """What a block has of the rows [lo, hi) of all, page by page: the number of each, which of these rows are in it, and as what."""

    def __init__(self, part: BlockRows, lo: int, hi: int) -> None:
        a, z = part.targets.searchsorted((lo, hi)).tolist()
        self.block, self.rank = part.block, part.rank
        targets, rows, numbers = part.targets[a:z] - np.int32(lo), part.rows[a:z], part.pages[a:z].tolist()
        cuts = [0, *(i for i in range(1, len(numbers)) if numbers[i] != numbers[i - 1]), len(numbers)] if numbers else []
        self.pages = [(numbers[i], targets[i:k], rows[i:k]) for i, k in itertools.pairwise(cuts)]


@dataclass(frozen=True, slots=True)
class HeadPart:
    """What the head has: of each of all rows where its samples are, and the time before which it has none (ms)."""

    found: Surveyed
    oldest: int

    @classmethod
    def of(cls, found: Surveyed, targets: NDArray[np.int64], n: int, oldest: int) -> HeadPart:
        """`targets` int64 says which of all n rows those `found` are."""
        (tails, held, newest, old_tails), there = np.zeros((4, n), _I64), np.zeros(n, dtype=np.bool_)
        for column, known in ((tails, found.tails), (held, found.held), (newest, found.newest), (old_tails, found.old_tails)):
            column[targets] = known
        there[targets] = found.there
        counts = np.zeros(n, dtype=_I64)
        counts[targets] = np.diff(found.upto)
        upto = np.concatenate([np.zeros(1, dtype=_I64), np.cumsum(counts)])
        return cls(Surveyed(tails, held, newest, old_tails, there, upto, found.arena, found.old_arena), oldest)


class _Room:
    """Memory that the pages of one read are decoded into, used again by the next read."""

    def __init__(self) -> None:
        self._memory = PageRoom.of(PAGE_SAMPLES)
        self._used = 0
        self._waiting = np.empty(0, dtype=_I64), np.empty(0, dtype=_I64)

    def begin(self) -> None:
        """What was decoded so far is not wanted any more."""
        self._used = 0

    def waiting(self, samples: int) -> Columns:
        """Memory for times and value bits of so many samples."""
        if len(self._waiting[0]) < samples:
            self._waiting = np.empty(samples, dtype=_I64), np.empty(samples, dtype=_I64)
        return self._waiting[0][:samples], self._waiting[1][:samples]

    def of(self, samples: int) -> PageRoom:
        """Memory for another page of so many samples."""
        begin, memory = self._used, self._memory
        if begin + samples > len(memory.times):
            # Whoever has pages in what there was keeps it.
            self._memory = memory = PageRoom.of(max(samples, 2 * len(memory.times)))
            begin = 0
        self._used = begin + samples
        return PageRoom(memory.times[begin : self._used], memory.bits[begin : self._used], memory.streams)

    def fresh(self, samples: int) -> PageRoom:
        """Memory for a page that is needed after this read."""
        return PageRoom(np.empty(samples, _I64), np.empty(samples, _I64), self._memory.streams)


class _Rooms:
    """Rooms that are used again and again, one by each thread. Thread-safe, as lists are."""

    def __init__(self) -> None:
        self._free: list[_Room] = []

    @contextmanager
    def lent(self) -> Iterator[_Room]:
        """A room, while the context lasts."""
        try:
            room = self._free.pop()
        except IndexError:
            room = _Room()
        room.begin()
        try:
            yield room
        finally:
            self._free.append(room)


class BlockPieces:
    """See `interface.Pieces`."""

    def __init__(self, labels: LabelTable, parts: Sequence[BlockRows], head: HeadPart | None, *, share: float) -> None:
        """`parts` are of blocks in the order of storing; they and `head` number the rows as `labels` does. Raises `Corrupt`."""
        self.labels = labels
        self.share = share
        counts = np.diff(head.found.upto) if head is not None else np.zeros(len(labels), dtype=_I64)
        for part in parts:
            counts[part.targets] += part.counts
        self.upto: NDArray[np.int64] = np.concatenate([np.zeros(1, dtype=_I64), np.cumsum(counts)])
        self.begins = _begins(parts, len(labels))
        self.parts = sorted(parts, key=lambda part: part.block.meta.min_time)
        # A year has hundreds of blocks, of which each read wants a few.
        self.firsts = np.array([part.block.meta.min_time for part in self.parts], dtype=_I64)
        self.lasts = np.array([part.block.meta.max_time for part in self.parts], dtype=_I64)
        self.head = head
        self.tangled = _tangled(self.parts, head, len(labels))
        self.counts = np.zeros(len(labels), dtype=_I64)
        self.rooms = _Rooms()

    @property
    def sample_count(self) -> int:
        """See `interface.Pieces`."""
        return int(self.counts.sum())

    def rows(self, lo: int, hi: int) -> Rows:
        """See `interface.Pieces`."""
        return Rows(self, lo, hi)

    def chains(self, lo: int, hi: int) -> None:
        """See `interface.Pieces`."""


def _begins(parts: Sequence[BlockRows], n: int) -> NDArray[np.int64] | None:
    """Where, in most blocks, a page begins: int64, from 0 to n; None where nearly every row has one of its own."""
    if not parts:
        return None
    targets, pages = np.concatenate([part.targets for part in parts]), np.concatenate([part.pages for part in parts])
    begin = np.ones(len(targets), dtype=np.bool_)
    np.not_equal(pages[1:], pages[:-1], out=begin[1:])
    begin[np.cumsum([0, *(len(part.targets) for part in parts[:-1])])] = True
    begun, there = np.bincount(targets[begin], minlength=n), np.bincount(targets, minlength=n)
    begins = np.flatnonzero(2 * begun >= there)
    if 4 * len(begins) > 3 * n:
        return None
    return np.union1d(begins, np.array([0, n]))


def _tangled(parts: Sequence[BlockRows], head: HeadPart | None, n: int) -> NDArray[np.bool_]:
    """Which rows have segments that may overlap, or that are not in the order of `parts`, the head's being last."""
    found, newest = np.zeros(n, dtype=np.bool_), np.full(n, _NEVER, dtype=_I64)
    ends = [part.block.meta.max_time for part in parts]
    begins = [part.block.meta.min_time for part in parts] + [head.oldest if head is not None else -(_NEVER + 1)]
    # Mostly each block ends before the next one, and the head, begins: then there is no need to look at rows.
    if all(end < begin for end, begin in zip(itertools.accumulate(ends, max), begins[1:], strict=True)):
        return found
    for part in parts:
        first, last = part.block.ranges(part.rows)
        found[part.targets] |= first <= newest[part.targets]
        newest[part.targets] = np.maximum(newest[part.targets], last)
    if head is not None:
        found |= head.found.there & (newest >= head.oldest)
    return found


def _touches(steps: Steps, meta: Meta) -> bool:
    """Whether any of the windows reaches into the times of a block."""
    first, step, n, range_ms = steps
    if meta.max_time <= first - range_ms or meta.min_time > first + (n - 1) * step:
        return False
    # The last window that begins before the newest: the others end before it does.
    return n == 1 or first + min(n - 1, (meta.max_time - first + range_ms - 1) // step) * step >= meta.min_time


class _Source(NamedTuple):
    """Where samples of some of the rows that are read are: see `kernels.block.measure_wanted`. All of the head's are wanted."""

    times: NDArray[np.int64]
    bits: NDArray[np.int64]
    stamps: NDArray[np.int64]
    begins: NDArray[np.int64]
    ends: NDArray[np.int64]
    targets: NDArray[np.int32]
    rank: int
    steps: Steps

    @classmethod
    def of_head(cls, offsets: NDArray[np.int64], columns: Columns) -> _Source:
        """What the head gave of all rows."""
        begins, ends = offsets[:-1], offsets[1:]
        return cls(*columns, begins, begins, ends, np.arange(len(begins), dtype=np.int32), _LAST, _EVER)


def _put(sources: Sequence[_Source], columns: Columns, tangled: NDArray[np.bool_]) -> tuple[NDArray[np.int64], bool] | None:
    """Copy what is wanted to the end of `columns`: offsets int64[rows + 1], and whether stale markers are among it. None without room.

    `sources` come in the order of their times, but for rows that are `tangled`.
    """
    n = len(tangled)
    totals, sizes = np.zeros(n, dtype=_I64), [np.empty(len(source.targets), dtype=_I64) for source in sources]
    for source, own in zip(sources, sizes, strict=True):
        kernel.measure_wanted(source.times, source.stamps, source.begins, source.ends, source.targets, *source.steps, own, totals)
    offsets = np.full(n + 1, len(columns[0]), dtype=_I64)
    offsets[:-1] -= totals[::-1].cumsum()[::-1]
    if offsets[0] < 0:
        return None
    found, stale, cursor = list(zip(sources, sizes, strict=True)), False, offsets[1:].copy()
    if any_tangled := bool(tangled.any()):
        found.sort(key=lambda pair: pair[0].rank)
    for source, own in reversed(found):
        stale |= kernel.put_wanted(*source[:6], *source.steps, own, cursor, *columns)
    if any_tangled:
        kernel.untangle(*columns, offsets)
    return offsets, stale


class Rows:
    """See `interface.PieceRows`."""

    def __init__(self, pieces: BlockPieces, lo: int, hi: int) -> None:
        """Rows [lo, hi) of `pieces`."""
        self._pieces, self._span = pieces, (lo, hi)
        self._parts: dict[int, _InPages] = {}
        self._n = hi - lo
        self._rooms = pieces.rooms
        self._tangled = pieces.tangled[lo:hi]
        self._counts = pieces.counts[lo:hi]
        head = pieces.head
        # What the head's rows count is counted here.
        self._head = None if head is None else HeadRows(head.found, lo, hi, np.empty(hi - lo, dtype=_I64))
        self._oldest = 0 if head is None else head.oldest
        self._held: dict[tuple[int, int], Page] = {}
        self._begun = False
        self.doubtful = False

    def read(
        self, steps: Steps, times: NDArray[np.int64], bits: NDArray[np.int64], *, resume: int | None = None
    ) -> NDArray[np.int64] | None:
        """See `interface.PieceRows`. Raises `Corrupt`."""
        head = self._head if steps.last >= self._oldest else None
        parts = self._near(steps)
        if head is not None and not parts:
            offsets = head.read(steps, times, bits, resume=resume)
            if offsets is None:
                return None
            self._held, self.doubtful = {}, head.doubtful
        else:
            with self._rooms.lent() as room:
                before = None if head is None else head.chains
                put = self._put_together(head, parts, room, steps, (times, bits), resume)
            if put is None:
                if head is not None and before is not None:
                    head.chains = before
                return None
            offsets, self.doubtful = put
        if self._begun:
            self._counts += np.diff(offsets)
        else:
            self._counts[:] = np.diff(offsets)
        self._begun = True
        return offsets

    def _put_together(
        self, head: HeadRows | None, parts: Sequence[_InPages], room: _Room, steps: Steps, columns: Columns, resume: int | None
    ) -> tuple[NDArray[np.int64], bool] | None:
        """As `_put`, of what blocks and the head have."""
        held: dict[tuple[int, int], Page] = {}
        sources, doubtful = [], False
        for part in parts:
            meta = part.block.meta
            again = resume is not None and meta.min_time <= resume
            for number, targets, rows in part.pages:
                key = meta.sequence, number
                page = self._held.get(key) or part.block.page(number, room.fresh if again else room.of)
                if again:
                    held[key] = page
                sources.append(_Source(page.times, page.bits, *page.spans(rows), targets, part.rank, steps))
        if head is not None:
            waiting = room.waiting(len(columns[0]))
            offsets = head.read(steps, *waiting, resume=resume)
            if offsets is None:
                return None
            sources.append(_Source.of_head(offsets, waiting))
            doubtful = head.doubtful
        put = _put(sources, columns, self._tangled)
        if put is None:
            return None
        self._held = held
        return put[0], put[1] or doubtful

    def _near(self, steps: Steps) -> list[_InPages]:
        """What blocks have of the rows that any of the windows reaches into, in the order of their times; kept until the next read."""
        pieces, before, found = self._pieces, self._parts, {}
        for i in np.flatnonzero((pieces.firsts <= steps.last) & (pieces.lasts > steps.first - steps.range)).tolist():
            if _touches(steps, pieces.parts[i].block.meta):
                found[i] = before.get(i) or _InPages(pieces.parts[i], *self._span)
        self._parts = found
        return [part for part in found.values() if part.pages]
