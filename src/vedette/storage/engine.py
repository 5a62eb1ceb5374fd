"""The embedded engine: `storage.interface.Storage` over one data directory.

`lock` takes the directory, `start` replays the log and begins to take appends, `close` finishes. Reads work from
any thread. Not here: HTTP, limits of tenants, PromQL.
"""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from vedette.clock import Clock, now_ms
from vedette.errors import BadInput, Corrupt, LimitExceeded
from vedette.model.labels import Labels
from vedette.model.labeltable import LabelTable
from vedette.model.matchers import Matcher
from vedette.model.ordering import in_order
from vedette.model.samples import Appended, MetricMetadata, SampleBatch
from vedette.model.series import SeriesSet
from vedette.storage import snapshots, wal
from vedette.storage.block import Block
from vedette.storage.block_pieces import BlockPieces, BlockRows, HeadPart
from vedette.storage.blocks import Blocks
from vedette.storage.chained import Asked, ChainCache
from vedette.storage.committer import RETRY_AFTER
from vedette.storage.compaction import Compactor
from vedette.storage.directory import DirectoryLock
from vedette.storage.disk import Disk
from vedette.storage.flush import Flusher
from vedette.storage.head import FAR_FUTURE, LARGE
from vedette.storage.interface import Coarse, Estimate, Matchers, Pieces, StorageStats, Stretches
from vedette.storage.limits import Limits
from vedette.storage.memory import Memory
from vedette.storage.nearby import Nearby
from vedette.storage.pieces import HeadPieces, Surveyed, reader
from vedette.storage.presence import Presence
from vedette.storage.replay import Replay, Replayed, ReplayProgress
from vedette.storage.retention import Retention, RetentionRule
from vedette.storage.rollup import Present, Rollups
from vedette.storage.select import Part, block_labels, merge, unified, with_starts
from vedette.storage.series import SymbolTable
from vedette.storage.settings import StorageSettings
from vedette.storage.starts import Starts, hidden_tenant, shown_tenant
from vedette.storage.statistics import BlockFigures, Growth, GrowthFigures, IndexFigures, growth_figures, index_figures
from vedette.storage.tiered import TieredReads, overlap
from vedette.storage.tombstones import Deletions, Tombstones
from vedette.storage.writer import Writer

_NONE = np.zeros(0, dtype=np.uint32)
_NO_COLUMNS = np.zeros(1, dtype=np.int64), np.zeros(0, dtype=np.int64), np.zeros(0)
"""The samples of no series; nobody writes."""
_PIECE = 1 << 20
_CACHED = 32
"""Bytes of the page cache that a sample takes which is to stay there, and as many for others."""
_EIGHTH = 3
"""Of what memory must have for reading in pieces to be worth it, as a shift: what suffices where blocks have some of it (`storage.md`)."""
_MOSTLY = 0.5
"""The part of what blocks have of whose samples chains are made at the first read."""
_FIGURES_EVERY = 15.0
"""Seconds between two counts of what makes the index large."""


@dataclass(frozen=True, slots=True)
class _Survey:
    """What a select finds at one moment: the series of the head, by `names`, and the blocks that hold what it does not.

    `share` is about which part of the head's samples is wanted, `oldest` the time before which it has none (ms).
    """

    names: SymbolTable
    labels: LabelTable
    found: Surveyed
    blocks: Sequence[Block]
    share: float
    oldest: int


class Engine:
    """Samples in memory and in a log, later in blocks."""

    def __init__(
        self,
        settings: StorageSettings,
        clock: Clock,
        *,
        retention: Sequence[RetentionRule] = (),
        limits: Limits | None = None,
        disk: Disk | None = None,
    ) -> None:
        """`retention` is what `settings.retention_by_selector` says, its selectors parsed; `limits` are the tenants'.

        `disk` takes every change of files.
        """
        self.settings = settings
        self.clock = clock
        self.replayed: Replayed | None = None
        self._replaying = Replayed()
        self.limits = limits or Limits(window=settings.out_of_order_window)
        self._memory = Memory()
        self._nearby = Nearby()
        self._disk = disk or Disk()
        self._blocks = Blocks(settings.data / "blocks", self._disk, page_cache=settings.page_cache)
        self._flusher = Flusher(self._memory, self._blocks, settings, clock, limits=self.limits)
        self._chains = ChainCache(self._blocks.cache)
        self._tombstones = Tombstones(settings.data / "tombstones", self._disk)
        self._retention = Retention(settings.retention, retention)
        self._presence = Presence(
            self._memory,
            self._blocks,
            nearby=self._nearby,
            tombstones=self._tombstones,
            retention=self._retention,
            covered=lambda: self._flusher.covered,
            clock=clock,
        )
        self._rollups = Rollups(settings.data / "rollups", self._disk, keep=settings.rollups, page_cache=settings.page_cache // 4)
        self._compactor = Compactor(
            self._blocks,
            self._tombstones,
            settings,
            clock,
            retention=self._retention,
            covered=lambda: self._flusher.covered,
            rollups=self._rollups,
            present=self._present_now,
        )
        self._tiers = TieredReads(
            self._rollups,
            self._memory,
            raw=self,
            present=self._present_now,
            hidden=lambda view, rows, oldest: Retention(0, retention).hidden(view, rows, now_ms(clock), oldest),
            within_budget=self._within_budget,
        )
        self._starts = Starts()
        self._lock = DirectoryLock(settings.data, self._disk)
        self._writer: Writer | None = None
        self._wal: wal.Wal | None = None
        self._growth = Growth(clock.monotonic())
        self._figures = IndexFigures()
        self._figures_of = 0
        self._figures_again = clock.monotonic()

    def lock(self) -> None:
        """Take the data directory. Raises `BadInput`, one line, where another process holds it or it cannot be written."""
        if not self._lock.held:
            self._lock.take()

    def load(self) -> None:
        """Read the log and answer from now on, but take nothing and merge nothing: for whoever only reads. Raises as `start`."""
        self.lock()
        self.replayed = self._replay()

    async def start(self) -> None:
        """Replay the log, on a thread, and begin to take appends. Raises `BadInput` where the data cannot be read."""
        self.lock()
        self.replayed = await asyncio.to_thread(self._replay)
        self._wal = wal.Wal(
            self.settings.data / "wal",
            self._disk,
            segment_size=self.settings.segment_size,
            keep_unsynced=self.settings.sync == 0,
            next_number=self.replayed.last_segment + 1,
        )
        self._wal.begin_scope()
        self._writer = Writer(
            self._memory,
            self._wal,
            self.settings,
            self.clock,
            keep=self._retention.longest,
            limits=self.limits,
            housekeeping=self._housekeeping,
            flush=self._flusher.flush,
        )
        self._flusher.begin(self._wal, self.replayed, wake=self._writer.wake)
        self._writer.start()

    @property
    def replay_progress(self) -> ReplayProgress:
        """How far the reading of the log has come."""
        first, last = self._replaying.range
        state: Literal["waiting", "in progress", "done"] = "in progress" if last else "waiting"
        return ReplayProgress(first, last, self._replaying.last_segment, "done" if self.replayed is not None else state)

    def _housekeeping(self) -> None:
        self._growth.mark(self.clock.monotonic(), self._memory.series.handed_out)
        self._flusher.tick()
        self._compactor.tick()

    def _replay(self) -> Replayed:
        try:
            self._flusher.recover()
            self._load_tombstones()
            self._rollups.load(self._blocks.all)
            replay = Replay(self._memory)
            self._replaying = replay.found
            return replay.run(self.settings.data / "wal", between_scopes=self._flusher.between_scopes)
        except OSError as error:
            where = str(error.filename or self.settings.data)
            raise BadInput(f"the stored data cannot be read: {error.strerror}", where=where, hint="see --data") from error

    def _load_tombstones(self) -> None:
        try:
            self._tombstones.load()
        except Corrupt as damage:
            # What was deleted is seen again; the file is kept, so that somebody may say what it was.
            self._blocks.report(damage)
            self._disk.rename(self._tombstones.path, self._tombstones.path.with_name("tombstones.damaged"))

    async def append(self, batch: SampleBatch) -> Appended:
        """See `Storage.append`. `LimitExceeded` too before `start` has replayed the log."""
        if self._writer is None:
            raise LimitExceeded("the storage is still reading its log", retry_after=1.0)
        starts = self._starts.of(batch) if self.settings.start_timestamps else None
        if starts is None:
            return await self._writer.submit(batch)
        # Of one group, nearly always: both or none are durable. A sender that hears of neither sends both again.
        both = self._writer.submit(batch), self._writer.submit(starts)
        appended, kept = await asyncio.gather(*both, return_exceptions=True)
        for outcome in (appended, kept):
            if isinstance(outcome, BaseException):
                raise outcome
        assert isinstance(appended, Appended)
        return appended

    async def flush(self) -> None:
        """Write what is in memory to a block now. Raises `OSError` where it cannot be written; it is tried again later.

        `LimitExceeded` where the engine is not running.
        """
        if self._writer is None or self._writer.closing:
            raise LimitExceeded("the storage is not running")
        await asyncio.wrap_future(self._flusher.flush())

    async def compact(self, *, clean: bool = False) -> None:
        """Merge and delete blocks as is due now; `clean` also writes every block again of which something was deleted.

        Raises `LimitExceeded` where the engine is not running or cannot write, `Corrupt` where a block cannot be read.
        """
        if self._writer is None or self._writer.closing:
            raise LimitExceeded("the storage is not running")
        self._flusher.release()
        done = self._compactor.run(clean=clean)
        self._writer.wake()
        with _writing():
            await asyncio.wrap_future(done)

    async def delete(self, tenant: str, sets: Sequence[Matchers], start: int, end: int) -> None:
        """Delete what is stored now in [start, end] of the series that pass any of `sets`; durable when it returns.

        Raises `LimitExceeded` where the engine is not running or cannot write.
        """
        with _writing():
            if await asyncio.to_thread(self._in_memory, tenant, sets, start, end):
                # To a block first: a deletion then concerns nothing that is still in the log, or in memory.
                await self.flush()
                self._flusher.release()
            # First these: a crash in between has them made anew for nothing, the other way round they would show what was deleted.
            await asyncio.to_thread(self._rollups.delete, tenant, sets, start, end)
            hidden = hidden_tenant(tenant)
            for owner in (tenant, hidden) if self._knows(hidden) else (tenant,):
                await asyncio.to_thread(self._tombstones.add, owner, sets, start, end, upto=lambda: self._blocks.last_sequence)

    async def snapshot(self, *, skip_head: bool = False, beside: Callable[[Path], None] | None = None) -> str:
        """Take a snapshot of what is stored now (with `skip_head`, of what is in blocks); answers its name under `snapshots/`.

        `beside` puts what else belongs into it, on a thread, into the directory that it is given, before that has its name.
        Raises `LimitExceeded` where the engine is not running or cannot write.
        """
        with _writing():
            if not skip_head:
                await self.flush()
            when = datetime.fromtimestamp(self.clock.now(), UTC).strftime("%Y%m%dT%H%M%SZ")
            name = f"{when}-{secrets.token_hex(8)}"
            await asyncio.to_thread(self._snapshot, name, beside)
        return name

    def _snapshot(self, name: str, beside: Callable[[Path], None] | None) -> None:
        with self._blocks.files, self._rollups.lock:
            rollups = [d.block.path for d in self._rollups.days if d.block is not None]
            blocks = [b.path for b in self._blocks.all]
            snapshots.take(self.settings.data, name, blocks, disk=self._disk, rollups=rollups, beside=beside)

    def _in_memory(self, tenant: str, sets: Sequence[Matchers], start: int, end: int) -> bool:
        return bool(sets) and len(self._presence.head_present(tenant, sets, start, end)[2]) > 0

    def select(self, tenant: str, matchers: Matchers, start: int, end: int) -> SeriesSet:
        """See `Storage.select`."""
        deletions = self._tombstones.now  # before the blocks: see there
        names, head, blocks = self._head_part(tenant, matchers, start, end)
        series = len(head.labels) if head else 0
        samples = _weight(head) if head else 0
        self._within_budget(series, samples)
        parts: list[Part] = []
        for block, view, found in self._presence.block_rows(blocks, deletions, tenant, [matchers], start, end):
            self._within_budget(series + len(found), samples)
            for rows in _in_pieces(block, found, self.settings.select_samples - samples):
                columns = block.read(rows, start, end)
                if (gone := self._presence.gone(deletions, block, view, rows)) is not None:
                    columns = gone.erase(rows, columns)
                native = block.histograms(rows, start, end)
                parts.append(Part.of(block_labels(self._memory, names, block, view.labels(rows)), columns, [native] if native else ()))
                self._nearby.learn(block, view, (tenant, matchers), memory=self._memory, names=names)
                samples += _weight(parts[-1])
                self._within_budget(series, samples)
        # The head last: of two samples at one time, the one that came first counts.
        return merge([*parts, head] if head else parts, names.symbols)

    def at_hand(self, tenant: str, matchers: tuple[Matcher, ...], start: int, end: int, most: int) -> SeriesSet | None:
        """See `AtHand.at_hand`."""
        memory = self._memory
        deletions = self._tombstones.now  # before the blocks: see there
        if self._retention.rules or not memory.lock.acquire(blocking=False):
            return None
        try:
            found, head = memory.kept(tenant, matchers), memory.head
            if found is None or found.known is None:
                return None
            covered = self._flusher.covered
            blocks = [b for b in self._blocks.all if b.meta.max_time >= start and b.meta.min_time <= end and b is not covered]
            if not (len(found.ids) or blocks):
                return SeriesSet(found.known, *_NO_COLUMNS)
            ids = found.ids.astype(np.int64)
            bound, most = head.bound(ids), min(most, self.settings.select_samples)
            if len(ids) > self.settings.select_series or bound >= LARGE:
                return None
            # What is gathered is what is asked for, from the newest on: of two hours of a hundred series, five minutes are few.
            if bound > most and bound * head.share(start, end) > most:
                return None
            if head.has_histograms and head.histograms(ids, start, end):
                return None
            columns = head.gather(ids, start, end, bound=bound)
        finally:
            memory.lock.release()
        if len(columns[1]) > most:
            return None
        only = Part.of(found.known, columns)
        if not blocks:
            return SeriesSet(only.labels, only.offsets, only.times, only.bits.view(np.float64))
        names, parts = found.series.names, []
        for block in blocks:
            if tenant not in block.meta.tenants:
                continue
            part = self._nearby.part(block, (tenant, matchers), start, end, names=names, most=most) if deletions.none_of(block) else None
            if part is None:
                return None
            parts.append(part)
        made = merge([*parts, only], names.symbols)
        return made if len(made) <= self.settings.select_series and made.sample_count <= most else None

    def look(self, tenant: str, matchers: tuple[Matcher, ...], *, few: int | None = None) -> bool:
        """See `AtHand.look`."""
        return not self._retention.rules and self._memory.selected(tenant, matchers, view=False, few=few) is not None

    def in_pieces(
        self, tenant: str, matchers: Matchers, start: int, end: int, *, least: int | None = None, keep: bool = True
    ) -> Pieces | None:
        """See `Divisible.in_pieces`: of numbers that came to the head in order, of which nothing was deleted, by one rule of retention.

        Fewer samples than `least` (None: `LARGE`; an eighth of it where blocks have some) are not worth it.
        What most is asked of, or is asked for again, is kept for the next reader (`chained.py`), unless `keep` is False. Raises `Corrupt`.
        """
        least = LARGE if least is None else least
        if self._retention.rules:
            return None
        deletions = self._tombstones.now  # before the blocks: see there
        held = self._surveyed(tenant, matchers, start, end, least)
        if held is None:
            return None
        if not held.blocks:
            surveyed = held.found
            labels = held.labels if surveyed.there.all() else held.labels.take(np.flatnonzero(surveyed.there))
            return HeadPieces(labels, surveyed.filled(), share=held.share) if surveyed.there.any() else None
        asked = Asked(tenant, tuple(matchers), held.blocks, start, end, deletions.items, held.names)
        kept = self._chains.of(asked) if keep else None

        def read(of: Asked, least: int = 0) -> BlockPieces | HeadPieces | None:
            nothing = replace(held, found=Surveyed.none(), labels=LabelTable.from_labels([], held.names.symbols))
            return self._of_blocks(nothing, deletions, of, least=least)

        if kept is None and keep and asked.share >= _MOSTLY:
            # To make chains takes no longer than to read most of what there is.
            kept = self._chains.grown(asked, read) or self._chains.make(asked, lambda of: read(of, least), plain=True)
        if kept is None:
            pieces = self._of_blocks(held, deletions, asked, least=least)
            if not keep or not isinstance(pieces, BlockPieces):
                return pieces
            kept = self._chains.grown(asked, read) or (self._chains.make(asked, read) if self._chains.again(asked) else None)
            if kept is None:
                return pieces
        found = kept.pieces(held.found, held.labels, held.share, start, end)
        return self._of_blocks(held, deletions, asked, least=least) if found is None or not self._fits(found, least) else found

    def _fits(self, found: HeadPieces, least: int) -> bool:
        """Whether chains of blocks are to be read: `_of_blocks` asks the same."""
        most = int(found.upto[-1])
        return self._worth(most, found.share * most, least) and len(found.labels) <= self.settings.select_series

    def _worth(self, most: int, wanted: float, least: int) -> bool:
        """Whether about `wanted` of so many samples, some of blocks, are to be read in pieces."""
        # Few samples of many are found in decoded pages when they are asked for again, where the cache has room for those.
        few = wanted < most / 4 and _CACHED * most <= self._blocks.cache.limit
        return not few and wanted >= least >> _EIGHTH and most <= self.settings.select_samples

    def _surveyed(self, tenant: str, matchers: Matchers, start: int, end: int, least: int) -> _Survey | None:
        """What the head holds and the blocks that hold what it does not, as of one moment; None where that is not to be read in pieces."""
        while True:
            found = self._memory.selected(tenant, matchers, view=False)
            with self._memory.reading:
                if found is not None and self._memory.series is not found.series:
                    continue  # as in `_head_part`
                head, names = self._memory.head, self._memory.series.names
                there = self._presence.uncovered()
                blocks = [b for b in there if b.meta.min_time <= end and b.meta.max_time >= start and tenant in b.meta.tenants]
                ids = np.zeros(0, dtype=np.int64) if found is None else found.ids.astype(np.int64)
                if len(ids) > self.settings.select_series or not (len(ids) or blocks):
                    return None
                most, share = head.bound(ids), overlap(head.min_time, head.max_time, start, end)
                wanted = most * share + sum(b.meta.samples * overlap(b.meta.min_time, b.meta.max_time, start, end) for b in blocks)
                enough = least >> _EIGHTH if blocks else least
                if wanted < enough or most > self.settings.select_samples or head.any_histograms(ids):
                    return None
                surveyed = Surveyed.of(head, ids, start, end)
                oldest = head.min_time
            if surveyed is None:
                return None
            labels = LabelTable.from_labels([], names.symbols) if found is None else found.labels
            return _Survey(names, labels, surveyed, blocks, share, oldest)

    def _of_blocks(self, held: _Survey, deletions: Deletions, asked: Asked, *, least: int) -> BlockPieces | HeadPieces | None:
        """As `in_pieces`, where there are blocks."""
        key, start, end = (asked.tenant, asked.matchers), asked.start, asked.end
        rows = list(self._presence.block_rows(asked.blocks, deletions, key[0], [key[1]], start, end))
        paged = [self._nearby.paged(block, key, ids) for block, _, ids in rows]
        shares = [overlap(block.meta.min_time, block.meta.max_time, start, end) for block, _, _ in rows]
        counts = [(int(found.counts.sum()), share) for found, share in zip(paged, shares, strict=True)]
        counts.append((int(held.found.upto[-1]), held.share))
        most, wanted = sum(n for n, _ in counts), sum(n * share for n, share in counts)
        if not self._worth(most, wanted, least):
            return None
        for block, _, ids in rows:
            gone = deletions.of(block)
            if block.any_histograms(ids) or (gone is not None and np.isin(gone.rows, ids).any()):
                return None
        there = np.flatnonzero(held.found.there)
        tables = [self._nearby.labels(block, view, key, ids, memory=self._memory, names=held.names) for block, view, ids in rows]
        tables += [held.labels.take(there)] if len(there) else []
        if not tables:
            return None
        labels, targets, first = unified(tables, held.names.symbols)
        if len(first) > self.settings.select_series:
            return None
        of = np.split(targets, np.cumsum([len(table) for table in tables])[:-1])
        parts = [BlockRows.of(block, of[rank], ids, paged[rank], rank) for rank, (block, _, ids) in enumerate(rows)]
        known = [part for part in parts if part is not None]
        if len(known) < len(parts):
            return None
        head = HeadPart.of(held.found.filled(), of[-1], len(first), held.oldest) if len(there) else None
        return BlockPieces(labels.take(first), known, head, share=wanted / most)

    def with_starts(self, tenant: str, matchers: Matchers, start: int, end: int, found: SeriesSet) -> SeriesSet:
        """See `Starting.with_starts`."""
        hidden = hidden_tenant(tenant)
        while self._knows(hidden):
            made = with_starts(found, self.select(hidden, matchers, start, end))
            if made is not None:
                return made
            found = self.select(tenant, matchers, start, end)  # another table of names came meanwhile
        return found

    def _knows(self, tenant: str) -> bool:
        """Whether there is anything of a tenant."""
        return self._memory.series.tenant_number(tenant) >= 0 or any(tenant in block.meta.tenants for block in self._blocks.all)

    def estimate(self, tenant: str, matchers: Matchers | None, start: int, end: int, coarse: Coarse | None = None) -> Estimate:
        """See `Estimating.estimate`. Samples are taken to lie evenly within a block, and within the head."""
        if matchers is None:
            every = [*self._blocks.all, *(d.block for d in self._rollups.days if d.block is not None)]
            held = self._memory.head.held
            return Estimate(len(self._memory.series) + sum(b.meta.series for b in every), held + sum(b.meta.samples for b in every))
        if coarse is not None and (found := self._tiers.estimate(tenant, matchers, start, end, coarse)) is not None:
            return found
        deletions = self._tombstones.now
        _, _, ids, blocks = self._presence.head_present(tenant, [matchers], start, end)
        series, head = len(ids), self._memory.head
        samples = head.bound(ids.astype(np.int64)) * overlap(head.min_time, head.max_time, start, end) if len(ids) else 0.0
        for block, _, rows in self._presence.block_rows(blocks, deletions, tenant, [matchers], start, end):
            series = max(series, len(rows))
            samples += int(block.counts(rows).sum()) * overlap(block.meta.min_time, block.meta.max_time, start, end)
        return Estimate(series, int(samples))

    def _present_now(self) -> Present:
        """What rollups are made of, and stand in for."""
        with self._memory.reading:
            head = self._memory.head
            unflushed = head.now.min_time if self._flusher.covered is not None else head.min_time
            blocks = self._blocks.all
        keep = self._retention.keep
        return Present(blocks, unflushed, now_ms(self.clock) - keep if keep else -(1 << 62))

    def rolled_up(self, start: int, end: int) -> bool:
        """See `Tiered.rolled_up`."""
        return self._rollups.any_of(start, end)

    def coarse_select(self, tenant: str, matchers: Matchers, start: int, end: int, coarse: Coarse) -> Stretches | None:
        """See `Tiered.coarse_select`."""
        return self._tiers.select(tenant, matchers, start, end, coarse)

    def _within_budget(self, series: int, samples: int) -> None:
        settings = self.settings
        if series > settings.select_series:
            raise LimitExceeded(f"the query selects {series} series, more than {settings.select_series}; narrow its matchers")
        if samples > settings.select_samples:
            raise LimitExceeded(f"the query reads {samples} samples, more than {settings.select_samples}; narrow its matchers or its range")

    def _head_part(self, tenant: str, matchers: Matchers, start: int, end: int) -> tuple[SymbolTable, Part | None, Sequence[Block]]:
        """The symbols, the head's rows, and the blocks that hold what the head does not: all as of one moment."""
        while True:
            found = self._memory.selected(tenant, matchers, view=bool(self._retention.rules))
            if found is None:
                with self._memory.reading:
                    return self._memory.series.names, None, self._presence.uncovered()
            ids = found.ids.astype(np.int64)
            self._within_budget(len(ids), 0)
            with self._memory.reading:
                if self._memory.series is not found.series:
                    continue  # the ids went by a table that another has replaced
                read = reader(self._memory.head, ids, start, end)
                native = self._memory.head.histograms(ids, start, end)
                blocks = self._presence.uncovered()
            columns = read()
            if found.view is not None:
                hidden = self._retention.hidden(found.view, found.ids, now_ms(self.clock), self._memory.head.min_time)
                columns = columns if hidden is None else hidden.erase(found.ids, columns)
            self._within_budget(len(ids), len(columns[1]))
            return found.series.names, Part.of(found.labels, columns, native), blocks

    def series(self, tenant: str, sets: Sequence[Matchers], start: int, end: int, limit: int = 0) -> list[Labels]:
        """See `Storage.series`. In blocks, the range of a series' samples counts, whatever gaps it has."""
        rows = in_order(list(self.series_table(tenant, sets, start, end)))
        return rows[:limit] if limit else rows

    def series_table(self, tenant: str, sets: Sequence[Matchers], start: int, end: int) -> LabelTable:
        """See `Tabling.series_table`."""
        return self._presence.series_table(tenant, sets, start, end)

    def label_names(self, tenant: str, sets: Sequence[Matchers], start: int, end: int) -> list[str]:
        """See `Storage.label_names`; ranges as in `series`."""
        return self._presence.label_names(tenant, sets, start, end)

    def label_values(self, tenant: str, name: str, sets: Sequence[Matchers], start: int, end: int) -> list[str]:
        """See `Storage.label_values`; ranges as in `series`."""
        return self._presence.label_values(tenant, name, sets, start, end)

    def metadata(self, tenant: str, metric: str | None = None) -> list[MetricMetadata]:
        """See `Storage.metadata`."""
        with self._memory.lock:
            known = self._memory.metadata.known.get(tenant, {})
            if metric is not None:
                return [known[metric]] if metric in known else []
            return [known[name] for name in sorted(known)]

    def stats(self) -> StorageStats:
        """See `Storage.stats`. Blocks' sizes are on disk, the log's is what is not in blocks yet."""
        memory, head, blocks = self._memory, self._memory.head, self._blocks.all
        series = len(memory.series)
        now = self.clock.monotonic()
        if self._figures_of != series and now >= self._figures_again:
            # What is ranked changes only with the series; while they come in, a scrape every second must not count them all.
            self._figures, self._figures_of, self._figures_again = index_figures(memory), series, now + _FIGURES_EVERY
        oldest = min([head.min_time, *(b.meta.min_time for b in blocks)])
        newest = max([head.max_time, *(b.meta.max_time for b in blocks)])
        return StorageStats(
            series=series - memory.hidden_series,
            chunks=head.now.chunks + head.before.chunks,
            label_pairs=self._figures.label_pairs,
            min_time=oldest if oldest != FAR_FUTURE else 0,
            max_time=newest if newest != -FAR_FUTURE else 0,
            samples_appended=memory.samples_appended,
            wal_bytes=sum(s.size for s in wal.segments(self.settings.data / "wal")),
            block_bytes=sum(b.nbytes for b in blocks),
            blocks=len(blocks),
            replayed=self._writer is not None,
            series_by_metric=self._figures.series_by_metric,
            values_by_label=self._figures.values_by_label,
            memory_by_label=self._figures.memory_by_label,
            series_by_pair=self._figures.series_by_pair,
        )

    @property
    def problem(self) -> str:
        """Why nothing can be written now, empty where it can: what health tells."""
        return self._writer.problem if self._writer is not None else ""

    def figures(self, top: int) -> IndexFigures:
        """What makes the index large, `top` of each ranking; counted at each call."""
        return index_figures(self._memory, top=top)

    def block_figures(self) -> list[BlockFigures]:
        """What each block holds, in the order in which their samples were stored."""
        metas = ((block.path.name, block.meta) for block in self._blocks.all)
        return [BlockFigures(name, m.min_time, m.max_time, m.series, m.samples, m.histograms, m.level) for name, m in metas]

    def growth(self, top: int) -> GrowthFigures:
        """What series that came in the last hour brought, `top` of each ranking; counted at each call."""
        since, first = self._growth.before(self.clock.monotonic())
        return growth_figures(self._memory, first=first, since=since, top=top)

    def busy(self) -> bool:
        """See `Locking.busy`."""
        return self._memory.lock.locked()

    def tenant_series(self) -> dict[str, int]:
        """How many series each tenant has in memory."""
        with self._memory.lock:
            series = self._memory.series
            named = zip(series.tenants, series.ids_of, strict=True)
            return {tenant: len(ids) for tenant, ids in named if shown_tenant(tenant) == tenant}

    def counters(self) -> dict[str, int]:
        """Counts since the start, by name, for the server's own metrics."""
        replayed, writer, cache = self.replayed or Replayed(), self._writer, self._blocks.cache
        return {
            "groups_committed": writer.groups if writer else 0,
            "write_failures": writer.write_failures if writer else 0,
            "housekeeping_failures": writer.housekeeping_failures if writer else 0,
            "flushes": self._flusher.flushes,
            "flush_failures": self._flusher.failures,
            "wal_torn_tails": replayed.torn_tails,
            "wal_corrupt_records": replayed.corrupt_records,
            "wal_orphan_samples": replayed.orphan_samples,
            "forgotten_series": self._flusher.forgetting.forgotten,
            "compactions": self._compactor.compactions,
            "compaction_failures": self._compactor.failures,
            "tombstones": len(self._tombstones),
            "damaged_blocks": self._blocks.damaged,
            "rolled_up_days": self._rollups.made,
            "damaged_rollups": self._rollups.damaged,
            "rollup_bytes": self._rollups.nbytes,
            "page_cache_hits": cache.hits,
            "page_cache_misses": cache.misses,
            "page_cache_bytes": cache.nbytes,
            "memory_bytes": self._memory.nbytes,
        }

    async def close(self) -> None:
        """Finish what is in flight, sync, release the directory. Appends after it raise `LimitExceeded`."""
        if self._writer is not None and not self._writer.closing:
            await asyncio.to_thread(self._stop)
        self._lock.release()

    def _stop(self) -> None:
        assert self._writer is not None
        assert self._wal is not None
        self._writer.stop()
        self._flusher.stop()
        self._compactor.stop()
        self._wal.close()


def _weight(part: Part) -> int:
    """For how many samples a part counts: a native histogram for as many as would take its memory."""
    return len(part.times) + sum(len(found.columns.cells) // 2 for found in part.histograms)


def _in_pieces(block: Block, rows: NDArray[np.uint32], left: int) -> Iterator[NDArray[np.uint32]]:
    """The rows, at once where they have no more than `left` samples, else some at a time: what is far too much is not read first."""
    counts = block.counts(rows)
    if int(counts.sum()) <= left and not block.meta.histograms:
        yield rows
        return
    pieces = np.cumsum(counts) // max(_PIECE, left // 8)
    yield from np.split(rows, np.flatnonzero(np.diff(pieces)) + 1)


@contextmanager
def _writing() -> Iterator[None]:
    """Turns what the disk refuses into `LimitExceeded`."""
    try:
        yield
    except OSError as error:
        raise LimitExceeded(f"the data directory cannot be written: {error.strerror}", retry_after=RETRY_AFTER) from error
