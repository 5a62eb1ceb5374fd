"""Samples of blocks that are asked for, kept as chains of chunks: the bytes, and the speed, that the head has them at.

A decoded page takes eight bytes a sample and its times; chunks take one or two, and a rate over long windows looks at few of them. What
some matchers select in some blocks becomes chains when most of it is first asked for, right from the whole numbers that pages have of it;
or, of what is asked for in part, or is no whole numbers, the second time, of late. It stays in the page cache until others need the room.
Blocks never change, so nor does what is kept of them. Not here: what is read once and not kept (`block_pieces.py`), when a select goes
this way (`engine.py`).
"""

from __future__ import annotations

import itertools
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from vedette.errors import Corrupt
from vedette.kernels import chaining
from vedette.kernels import head as kernel
from vedette.kernels.chunks import MOST_SAMPLES, UNIT_BYTES, UNIT_WORDS
from vedette.model.labeltable import LabelTable
from vedette.model.matchers import Matcher
from vedette.storage import heap
from vedette.storage.block import Block, Coded, Page, PageRoom
from vedette.storage.block_meta import Meta
from vedette.storage.block_pieces import BlockPieces, BlockRows, HeadPart
from vedette.storage.block_writer import PAGE_SAMPLES
from vedette.storage.head import FAR_FUTURE, LARGE, Generation
from vedette.storage.interface import PieceRows, Steps
from vedette.storage.page_cache import PageCache
from vedette.storage.pieces import HeadPieces, HeadRows, Surveyed
from vedette.storage.select import unified
from vedette.storage.series import SymbolTable
from vedette.storage.tiered import overlap
from vedette.storage.tombstones import Tombstone

_I64 = np.int64
_AT_ONCE = 1 << 16
"""Samples that are read from pages, and chained, at once; more of a row that is longer in one block."""
_PIECE = 1 << 14
"""Samples that are chained at once: for each there must be room for a chunk, most of which is never touched."""
_STREAMS = 4 * PAGE_SAMPLES
"""Numbers that there is room for to decode a page to; one that has more gets its own."""
_LEAST = 4
"""Bytes that a sample is reckoned with: one or two are usual, ten are possible, of numbers of many digits."""
_USUAL = 2
"""Bytes that most samples take less than."""
_RANGES = 4
"""Ranges of time of which chains are kept for the same matchers: a panel that compares this week with the last one has two."""
_FEW = 8
"""A part of the cache, and of what the blocks have, that the head may have where its samples have to be chained anew."""
_EVER = Steps(1 << 61, 0, 1, 1 << 62)


class Asked(NamedTuple):
    """What is asked for: series by matchers, in the `blocks` (as `Blocks.all` has them) that may have samples of [start, end] (ms).

    `deletions` are those in force, `names` the engine's symbols.
    """

    tenant: str
    matchers: tuple[Matcher, ...]
    blocks: Sequence[Block]
    start: int
    end: int
    deletions: tuple[Tombstone, ...]
    names: SymbolTable

    @property
    def key(self) -> tuple[str, tuple[Matcher, ...]]:
        """What chains are kept by."""
        return self.tenant, self.matchers

    @property
    def share(self) -> float:
        """About which share of what the blocks have lies in the range."""
        metas = [block.meta for block in self.blocks]
        wanted = sum(meta.samples * overlap(meta.min_time, meta.max_time, self.start, self.end) for meta in metas)
        return wanted / max(1, sum(meta.samples for meta in metas))

    @property
    def sequences(self) -> list[int]:
        """The blocks' numbers."""
        return [block.meta.sequence for block in self.blocks]


class _Part(NamedTuple):
    """How many samples a block has of the rows `targets` (int64[m]): int64[m]."""

    meta: Meta
    targets: NDArray[np.int64]
    counts: NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Chained:
    """All samples that some `blocks` have of some series, as one chain each; `parts` are of those that have any.

    `generation` is what they go on with.
    """

    labels: LabelTable
    generation: Generation
    found: Surveyed
    parts: Sequence[_Part]
    blocks: Sequence[Meta]
    deletions: tuple[Tombstone, ...]
    names: SymbolTable

    @property
    def nbytes(self) -> int:
        """What keeping it takes."""
        found, labels = self.found, self.labels
        columns = [*_columns(found), found.upto, found.arena, labels.offsets, self.generation.state]
        size = sum(column.nbytes for column in columns) + found.there.nbytes + labels.names.nbytes + labels.values.nbytes
        return size + sum(part.targets.nbytes + part.counts.nbytes for part in self.parts)

    @property
    def span(self) -> tuple[int, int]:
        """The first and last time of its blocks (ms)."""
        return _span(self.blocks)

    def lacks(self, asked: Asked) -> Sequence[Block] | None:
        """Which blocks it lacks, all of them newer than it is, to have all samples that are asked for, and none that have gone.

        None where it is no beginning of them.
        """
        if self.names is not asked.names or self.deletions is not asked.deletions or self.labels.symbols is not asked.names.symbols:
            return None
        near, wanted = [m.sequence for m in self.blocks if m.min_time <= asked.end and m.max_time >= asked.start], asked.sequences
        if not near or near != wanted[: len(near)]:
            return None
        lacking, newest = asked.blocks[len(near) :], self.span[1]
        return lacking if all(block.meta.min_time > newest for block in lacking) else None

    def within(self, start: int, end: int) -> tuple[int, float, NDArray[np.int64]]:
        """(the samples of the blocks that may have some of [start, end]; about how many of these lie there; the most of each row)."""
        whole = np.diff(self.found.upto)
        near = [p for p in self.parts if p.meta.min_time <= end and p.meta.max_time >= start]
        sums = [int(p.counts.sum()) for p in near]
        wanted = sum(n * overlap(p.meta.min_time, p.meta.max_time, start, end) for n, p in zip(sums, near, strict=True))
        if len(near) == len(self.parts):
            return sum(sums), wanted, whole
        # A chunk may begin in a block before: there must be room to decode all of it.
        most = np.full(len(whole), MOST_SAMPLES, dtype=_I64)
        for part in near:
            most[part.targets] += part.counts
        return sum(sums), wanted, np.minimum(whole, most)

    def pieces(self, head: Surveyed, labels: LabelTable, share: float, start: int, end: int) -> HeadPieces | None:
        """What is asked for of [start, end], with what the `head` has of the series `labels`, about a `share` of which is wanted.

        None where that would take longer than to read pages.
        """
        samples, wanted, most = self.within(start, end)
        there = np.flatnonzero(head.there)
        if not len(there):
            found = Surveyed(*_columns(self.found), self.found.there, _upto(most), self.found.arena, self.found.old_arena)
            return HeadPieces(self.labels, found, share=wanted / samples if samples else 0.0)
        table, targets, first = unified([self.labels, labels.take(there)], self.names.symbols)
        rows = len(self.labels)
        own = HeadPart.of(head.filled(), targets[rows:], len(first), FAR_FUTURE).found
        added = int(own.upto[-1])
        if own.old_tails.any():
            # Of three arenas the kernels know two.
            if added * _FEW > samples:
                return None
            own = _chained_anew(own)
        old_tails, counts = np.zeros(len(first), dtype=_I64), np.diff(own.upto)
        old_tails[targets[:rows]] = self.found.tails
        counts[targets[:rows]] += most
        found = Surveyed(
            own.tails, own.held, own.newest, old_tails, np.ones(len(first), np.bool_), _upto(counts), own.arena, self.found.arena
        )
        names = self.labels if len(first) == rows else table.take(first)
        return HeadPieces(names, found, share=(wanted + added * share) / max(1, samples + added))


class ChainCache:
    """Chains that are kept, in the room of a page cache: those of some matchers take half of it at the most. Thread-safe."""

    def __init__(self, cache: PageCache) -> None:
        self._cache = cache
        self._most = cache.limit // 2
        self._lock = threading.Lock()
        self._making: set[tuple[str, tuple[Matcher, ...]]] = set()
        # Begun when much is first read, gone with the cache.
        self._other = ThreadPoolExecutor(max_workers=1, thread_name_prefix="chains")

    def of(self, asked: Asked) -> Chained | None:
        """What is kept of it."""
        for one in self._kept(asked):
            if (lacking := one.lacks(asked)) is not None and not lacking:
                return one
        return None

    def grown(self, asked: Asked, read: Callable[[Asked], BlockPieces | HeadPieces | None]) -> Chained | None:
        """What is kept, with the few blocks that came since: made at once, lest whoever asks all the time waits for all of it again."""
        for one in self._kept(asked):
            if (lacking := one.lacks(asked)) is not None and not lacking:
                return one  # another thread was quicker
            if lacking and sum(block.meta.samples for block in lacking) * _FEW <= sum(meta.samples for meta in one.blocks):
                return self._make(asked, asked._replace(blocks=lacking), read, one)
        return None

    def _kept(self, asked: Asked) -> tuple[Chained, ...]:
        kept: tuple[Chained, ...] | None = self._cache.peek(("chains", asked.key))
        return kept or ()

    def again(self, asked: Asked) -> bool:
        """Whether it was asked for before, of late, and may be worth to be kept."""
        return self._cache.asked(("chains", asked.key, *asked.sequences)) and self._cache.peek(_refused(asked)) is None

    def make(self, asked: Asked, read: Callable[[Asked], BlockPieces | HeadPieces | None], *, plain: bool = False) -> Chained | None:
        """Chain all samples that its blocks have of it, and keep them; `read` finds what is asked.

        None where another thread does so now, where there are too many, or some cannot be read; with `plain` also where that takes longer
        than to read them once.
        """
        if plain and (self._cache.peek(_refused(asked)) or self._cache.peek(_refused(asked, "not plain"))):
            return None
        return self._make(asked, asked, read, None, plain=plain)

    def _make(
        self,
        asked: Asked,
        lacking: Asked,
        read: Callable[[Asked], BlockPieces | HeadPieces | None],
        since: Chained | None,
        *,
        plain: bool = False,
    ) -> Chained | None:
        with self._lock:
            if asked.key in self._making:
                return None
            self._making.add(asked.key)
        try:
            start, end = _span([block.meta for block in lacking.blocks])
            pieces = read(lacking._replace(start=start, end=end))
            made = None
            if isinstance(pieces, BlockPieces):
                made = _chained(pieces, lacking, since, self._other, most=self._most, plain=plain)
        except Corrupt:
            # In a page that may not be wanted at all. Whoever reads those that are is told.
            made = None
        finally:
            with self._lock:
                self._making.discard(asked.key)
        # What was freed on the way is as much as what was made.
        heap.give_back()
        if made is not None:
            self._keep(asked, made)
        elif since is None:
            refused = _refused(asked, "not plain" if plain else "refused")
            self._cache.put(refused, True, sys.getsizeof(refused))
        return made

    def _keep(self, asked: Asked, made: Chained) -> None:
        kept, room = [made], self._most - made.nbytes
        for one in self._kept(asked):
            # Of one range within another, one has been superseded.
            apart = not (_within(one.span, made.span) or _within(made.span, one.span))
            if apart and len(kept) < _RANGES and one.nbytes <= room:
                kept.append(one)
                room -= one.nbytes
        self._cache.put(("chains", asked.key), tuple(kept), self._most - room)


def _refused(asked: Asked, how: str = "refused") -> tuple[object, ...]:
    """By what it is remembered that it is not worth another attempt."""
    return how, asked.key, *asked.sequences


def _within(a: tuple[int, int], b: tuple[int, int]) -> bool:
    return b[0] <= a[0] and a[1] <= b[1]


def _span(blocks: Sequence[Meta]) -> tuple[int, int]:
    return min(meta.min_time for meta in blocks), max(meta.max_time for meta in blocks)


def _upto(counts: NDArray[np.int64]) -> NDArray[np.int64]:
    return np.concatenate([np.zeros(1, dtype=_I64), np.cumsum(counts)])


def _columns(found: Surveyed) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
    return found.tails, found.held, found.newest, found.old_tails


class _Chains:
    """Chains that are being written, of n rows, the first of which go on where those of `since` end."""

    def __init__(self, n: int, since: Generation | None = None) -> None:
        self._n = n
        # Its arena is copied before anything is written, since there is no room in it.
        self._made = Generation.empty() if since is None else Generation(since.state.copy(), since.arena, since.units)
        self._none = Generation.empty()

    def add(self, ids: NDArray[np.int64], offsets: NDArray[np.int64], times: NDArray[np.int64], bits: NDArray[np.int64]) -> None:
        """Samples of the rows `ids`, as CSR, newer than all that these have."""
        lo, rows = 0, len(ids)
        while lo < rows:
            hi = max(lo + 1, int(offsets.searchsorted(offsets[lo] + _PIECE, side="right")) - 1)
            begin, end = int(offsets[lo]), int(offsets[hi])
            if end - begin <= _PIECE:
                self._append(ids[lo:hi], offsets[lo : hi + 1], times, bits)
            else:
                for at in range(begin, end, _PIECE):
                    self._append(ids[lo:hi], np.array([at, min(at + _PIECE, end)]), times, bits)
            lo = hi

    def _append(self, ids: NDArray[np.int64], offsets: NDArray[np.int64], times: NDArray[np.int64], bits: NDArray[np.int64]) -> None:
        made, none, n = self._made, self._none, int(offsets[-1] - offsets[0])
        made.reserve(self._n, n)
        tally = np.zeros(10, dtype=_I64)
        tally[kernel.UNITS] = made.units
        log = np.empty(n, np.uint32), *np.empty((2, n), _I64), np.empty(len(ids), np.uint32)
        # What the head does with samples, without a window for late ones, or a log.
        kernel.append(
            *(ids, offsets, times, bits, made.state, made.arena, none.state, none.arena),
            *(0, kernel.NEVER, 0, *log, tally),
        )
        made.units = int(tally[kernel.UNITS])

    def beginning(self) -> _Chains:
        """Chains of the same rows that are to be put behind these (`join`)."""
        made = _Chains(self._n)
        made._made.reserve(self._n, 0)
        made._made.state.view(np.int32)[:, kernel.TAIL] = -1 - np.arange(self._n)
        return made

    def join(self, later: _Chains) -> bool:
        """Put behind these what `later`, which was their `beginning`, has; False where that is not newer."""
        made, behind = self._made, later._made
        made.reserve(self._n, behind.units // kernel.MOST_UNITS + 1)
        newer = bool(chaining.join(made.state, made.arena, made.units, behind.state, behind.arena, behind.units))
        made.units += behind.units - 1
        return newer

    def expect(self, samples: int) -> None:
        """So many samples are to come: what there is is not to be copied again and again."""
        self._made.reserve(self._n, samples * _USUAL // UNIT_BYTES // kernel.MOST_UNITS)

    def chain(self, page: Coded, run: _Run) -> int:
        """Some rows right from their page: see `kernels.chaining.chain`."""
        made = self._made
        made.reserve(self._n, run.samples)
        told = np.array([made.units], dtype=_I64)
        done = int(chaining.chain(*page, run.own, run.ids, run.samples, made.state, made.arena, told))
        made.units = int(told[0])
        return done

    @property
    def nbytes(self) -> int:
        """What it takes so far."""
        return self._made.held_bytes

    def found(self) -> tuple[Generation, Surveyed]:
        """All of it, in no more memory than it takes."""
        made, none = self._made, self._none
        made.reserve(self._n, 0)
        # One unit more, since reading leaps a little ahead.
        kept = Generation(made.state.copy(), made.arena[: (made.units + 1) * UNIT_WORDS].copy(), made.units)
        return kept, Surveyed.of_generations(kept, none, np.arange(self._n, dtype=_I64))


def _chained(
    pieces: BlockPieces, asked: Asked, since: Chained | None, other: ThreadPoolExecutor, *, most: int, plain: bool
) -> Chained | None:
    """What `since` has, and then the `pieces` of all that the blocks of `asked` have; None where that would take more than `most` bytes.

    With `plain` also where some rows have to be made first. Raises `Corrupt`.
    """
    labels, rows, parts, blocks = pieces.labels, np.arange(len(pieces.labels), dtype=_I64), [], [block.meta for block in asked.blocks]
    if since is not None:
        table, targets, first = unified([since.labels, labels], asked.names.symbols)
        rows, parts, blocks = targets[len(since.labels) :], [*since.parts], [*since.blocks, *blocks]
        labels = since.labels if len(first) == len(since.labels) else table.take(first)
    if int(pieces.upto[-1]) * _LEAST > most:
        return None
    before = None if since is None else since.generation
    made = None
    if not pieces.tangled.any():
        made = _by_pages(pieces, rows, _Chains(len(labels), before), other, most=most, plain=plain)
    if made is None and not plain:
        made = _by_rows(pieces, rows, _Chains(len(labels), before), most=most)
    if made is None:
        return None
    parts += [_Part(part.block.meta, rows[part.targets], part.counts) for part in pieces.parts]
    return Chained(labels, *made.found(), parts, blocks, asked.deletions, asked.names)


class _Run(NamedTuple):
    """Some `rows` (int64, ascending) of a page of a block, as rows of that page, and whose they are (`ids`); so many `samples` of them."""

    block: Block
    number: int
    rows: NDArray[np.int64]
    own: NDArray[np.int64]
    ids: NDArray[np.int64]
    samples: int


def _runs(pieces: BlockPieces, ids: NDArray[np.int64]) -> Iterator[_Run]:
    """Page by page, what is asked for; each block after the ones before it. Raises `Corrupt`."""
    for part in pieces.parts:
        order = np.argsort(part.rows, kind="stable")
        rows, numbers, its, counts = part.rows[order], part.pages[order], ids[part.targets[order]], part.counts[order]
        own = rows - part.block.first_rows(numbers)
        for lo, hi in itertools.pairwise([0, *(np.flatnonzero(numbers[1:] != numbers[:-1]) + 1).tolist(), len(numbers)]):
            if lo < hi:
                yield _Run(part.block, int(numbers[lo]), rows[lo:hi], own[lo:hi], its[lo:hi], int(counts[lo:hi].sum()))


def _by_pages(
    pieces: BlockPieces, ids: NDArray[np.int64], made: _Chains, other: ThreadPoolExecutor, *, most: int, plain: bool
) -> _Chains | None:
    """Chains from pages, in which row i is `ids[i]`; none of these has samples that overlap. None where that is not to be had.

    Raises `Corrupt`.
    """
    runs = list(_runs(pieces, ids))
    upto = np.cumsum([run.samples for run in runs])
    if len(runs) < 2 or int(upto[-1]) < LARGE:
        return made if _read(runs, made, most=most, plain=plain) else None
    # The newer half by another thread, where one is free.
    half = max(1, int(upto.searchsorted(int(upto[-1]) // 2)))
    later = made.beginning()
    task = other.submit(_read, runs[half:], later, most=most, plain=plain)
    try:
        done = _read(runs[:half], made, most=most, plain=plain)
        if task.cancel():
            return made if done and _read(runs[half:], made, most=most, plain=plain) else None
    finally:
        if not task.cancel():
            wait([task])
    return made if task.result() and done and made.join(later) and made.nbytes <= most else None


def _read(runs: Sequence[_Run], made: _Chains, *, most: int, plain: bool) -> bool:
    """Add what is in some pages; False where that is not to be had. Raises `Corrupt`."""
    made.expect(sum(run.samples for run in runs))
    scratch = np.empty(max(_STREAMS, 2 * max(run.samples for run in runs)), dtype=_I64)
    for run in runs:
        page = run.block.coded(run.number, scratch)
        told = chaining.UNSUITED if page is None else made.chain(page, run)
        if told == chaining.UNSUITED and not plain:
            made.add(run.ids, *_columns_of(run.block.page(run.number, PageRoom.of), run.rows))
        elif told != chaining.DONE:
            return False
        if made.nbytes > most:
            return False
    return True


def _columns_of(page: Page, rows: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
    """Some of a page's rows: offsets, times and bits, as CSR."""
    stamps, begins, ends = page.spans(rows)
    offsets = _upto(ends - begins)
    within = np.arange(offsets[-1]) - np.repeat(offsets[:-1], ends - begins)
    return offsets, page.times[np.repeat(stamps, ends - begins) + within], page.bits[np.repeat(begins, ends - begins) + within]


def _by_rows(pieces: BlockPieces, rows: NDArray[np.int64], made: _Chains, *, most: int) -> _Chains | None:
    """Chains from samples as `pieces` reads them, wherever they lie; as `_by_pages`."""
    room = np.empty((2, _AT_ONCE), dtype=_I64)
    for lo, hi, steps in _reads(pieces):
        while (offsets := pieces.rows(lo, hi).read(steps, room[0], room[1])) is None:
            room = np.empty((2, 2 * len(room[0])), dtype=_I64)
        made.add(rows[lo:hi], offsets, room[0], room[1])
        if made.nbytes > most:
            return None
    return made


def _reads(pieces: BlockPieces) -> Iterator[tuple[int, int, Steps]]:
    """Which rows to read of which stretch of time, each with some `_AT_ONCE` samples, of all stretches in order of time."""
    before = -(1 << 61)
    for part in pieces.parts:
        newest = part.block.meta.max_time
        if newest <= before:
            continue  # all of it lies within the stretches of others
        steps, before = Steps(newest, 0, 1, newest - before), newest
        for lo, hi in itertools.pairwise(_cuts(part, len(pieces.labels))):
            yield lo, hi, steps


def _cuts(part: BlockRows, n: int) -> list[int]:
    """Where to cut the n rows so that a block has some `_AT_ONCE` samples in between, where one of its pages begins."""
    begins = np.flatnonzero(part.pages[1:] != part.pages[:-1]) + 1
    upto = np.cumsum(part.counts)
    cuts, taken = [0], 0
    for at, following in itertools.pairwise([*begins.tolist(), len(upto)]):
        if upto[following - 1] - taken > _AT_ONCE:
            cuts.append(int(part.targets[at]))
            taken = int(upto[at - 1])
    return [*cuts, n]


def _chained_anew(found: Surveyed) -> Surveyed:
    """Samples in two generations as one chain each."""
    n, most = len(found.tails), int(found.upto[-1])
    made, room, rows = _Chains(n), np.empty((2, most), dtype=_I64), np.empty(n, dtype=_I64)
    reader: PieceRows = HeadRows(found, 0, n, rows)
    offsets = reader.read(_EVER, room[0], room[1])
    assert offsets is not None, "there is room for all of it"
    made.add(np.arange(n, dtype=_I64), offsets, room[0], room[1])
    return made.found()[1]
