"""What becomes of blocks, in the background: merged into larger ones, written again without what was deleted, deleted.

One thread of low priority, which wakes once a minute. A new block is written aside, synced and renamed in, and names those
whose place it takes; only then are they deleted, and a start that finds both deletes them. Not here: what is merged when
(`levels.py`), how (`merging.py`), which series are too old (`retention.py`).
"""

from __future__ import annotations

import os
import shutil
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor

import structlog

from vedette.clock import Clock, now_ms
from vedette.errors import Corrupt, LimitExceeded
from vedette.storage import heap, levels, wal
from vedette.storage.block import Block
from vedette.storage.block_writer import Abandoned, Origin, write_block
from vedette.storage.blocks import Blocks
from vedette.storage.merging import Merged
from vedette.storage.retention import Retention
from vedette.storage.rollup import Present, Rollups
from vedette.storage.settings import StorageSettings
from vedette.storage.tombstones import Gone, Tombstones

log = structlog.get_logger(__name__)

_EVERY = 60.0
_NICE = 10
_WORTH = 0.05
"""The share of a block's series with deletions from which it is written again by itself, as Prometheus has it."""


def _step_back() -> None:
    """Let everything else go first: on Linux a thread has a priority of its own."""
    if hasattr(os, "setpriority"):
        os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), _NICE)


class Compactor:
    """Keeps blocks few, clean and young enough. `covered` gives the block that memory still holds, which is left alone."""

    def __init__(
        self,
        blocks: Blocks,
        tombstones: Tombstones,
        settings: StorageSettings,
        clock: Clock,
        *,
        retention: Retention,
        covered: Callable[[], Block | None],
        rollups: Rollups,
        present: Callable[[], Present],
    ) -> None:
        self._blocks = blocks
        self._tombstones = tombstones
        self._settings = settings
        self._clock = clock
        self._retention = retention
        self._covered = covered
        self._rollups = rollups
        self._present = present
        self._pool = ThreadPoolExecutor(1, thread_name_prefix="storage-compact", initializer=_step_back)
        self._running: Future[None] | None = None
        self._asked: list[tuple[bool, Future[None]]] = []
        self._again = 0.0
        self._stopping = False
        self._damaged: set[int] = set()
        self._outlives: dict[int, int] = {}
        self.compactions = 0
        self.failures = 0

    def run(self, *, clean: bool = False) -> Future[None]:
        """Do now what is due; `clean` writes every block with deletions again, however few. Done when it is, or holds what failed."""
        done: Future[None] = Future()
        if self._stopping:
            done.set_exception(LimitExceeded("the storage is closing"))
        else:
            self._asked.append((clean, done))
        return done

    def tick(self) -> None:
        """Begin what is due; quick. Called on one thread, again and again."""
        now = self._clock.monotonic()
        if self._running is not None and not self._running.done():
            return
        if self._asked or now >= self._again:
            asked, self._asked = self._asked, []
            self._again = now + _EVERY
            self._running = self._pool.submit(self._round, asked)

    def _round(self, asked: Sequence[tuple[bool, Future[None]]]) -> None:
        problem: Exception | None = None
        try:
            self._work(clean=any(clean for clean, _ in asked))
        except Abandoned:
            problem = LimitExceeded("the storage is closing")
        except Exception as error:  # the edge of the loop: it is tried again in a minute, and whoever asked is told
            self.failures += 1
            problem = error
            trace = None if isinstance(error, OSError | Corrupt) else error
            log.error("blocks could not be merged or deleted; it is tried again", problem=str(error), exc_info=trace)
        for _, done in asked:
            done.set_exception(problem) if problem else done.set_result(None)
        heap.give_back()

    def _work(self, *, clean: bool) -> None:
        if self._stopping:
            raise Abandoned
        self._blocks.sweep()
        now = now_ms(self._clock)
        self._expire(now)
        while (run := self._due(now)) is not None:
            self._rewrite(run, now)
        for block in self._idle():
            if self._worth_rewriting(block, now, clean=clean):
                self._rewrite([block], now)
        self._roll_up(now)
        self._tombstones.forget(lambda: self._blocks.all)
        for block in self._blocks.all:
            block.rest()

    def _roll_up(self, now: int) -> None:
        while True:
            before = len(self._damaged)
            try:
                self._rollups.work(self._present(), now, skip=self._damaged, gone_of=self._tombstones.of, stopped=lambda: self._stopping)
                return
            except Corrupt as damage:
                # Reported once; the days of that block are read from what is left of it.
                self._leave_alone(damage, self._blocks.all)
                if len(self._damaged) == before:
                    raise

    def _idle(self) -> list[Block]:
        covered = self._covered()
        return [b for b in self._blocks.all if b is not covered and b.meta.sequence not in self._damaged]

    def _due(self, now: int) -> Sequence[Block] | None:
        """The next run to merge, None where nothing is due or there is no room for it."""
        blocks, covered = self._blocks.all, self._covered()
        fixed = self._damaged if covered is None else self._damaged | {covered.meta.sequence}
        found = levels.due([b.meta for b in blocks], now, fixed=fixed)
        if found is None:
            return None
        run = blocks[slice(*found)]
        return run if self._has_room(run) else None

    def _has_room(self, run: Sequence[Block]) -> bool:
        needed = sum(b.nbytes for b in run)
        # What merging leaves of the disk, the log may need; twice as much is enough for both.
        return shutil.disk_usage(self._blocks.directory).free > 2 * needed

    def _rewrite(self, run: Sequence[Block], now: int) -> None:
        with self._tombstones.lock:
            # Together: a deletion that comes later holds for the new block too, by this number.
            sequence = self._blocks.take_sequence()
            deleted = [self._checked(self._tombstones.of, b) for b in run]
        expired = [self._checked(self._retention.expired, b, now) for b in run]
        gone = [Gone.join(*pair) for pair in zip(deleted, expired, strict=True)]
        level = max(b.meta.level for b in run) + (len(run) > 1)
        scopes = sorted({scope for b in run for scope in b.meta.wal_scopes})
        origin = Origin(sequence, scopes, level, min(b.meta.order for b in run), [b.meta.sequence for b in run])
        try:
            path = write_block(
                self._blocks.directory,
                Merged(run, gone),
                origin,
                disk=self._blocks.disk,
                stopped=lambda: self._stopping,
                discard=self._blocks.discard,
            )
        except Corrupt as damage:
            self._leave_alone(damage, run)
            raise
        made = self._blocks.open(path) if path is not None else None
        self._blocks.replace(run, made)
        self._rollups.merged(run, made)
        self.compactions += 1
        log.debug("blocks were written again", blocks=len(run), path=str(path), bytes=made.nbytes if made else 0)

    def _checked(self, read: Callable[..., Gone | None], block: Block, *arguments: int) -> Gone | None:
        try:
            return read(block, *arguments)
        except Corrupt as damage:
            self._leave_alone(damage, [block])
            raise

    def _leave_alone(self, damage: Corrupt, run: Sequence[Block]) -> None:
        """Never write again what cannot be read whole: what is left of it stays where it is."""
        self._damaged.update(b.meta.sequence for b in run if b.path in damage.path.parents)
        self._blocks.report(damage)

    def _worth_rewriting(self, block: Block, now: int, *, clean: bool) -> bool:
        try:
            gone = self._tombstones.of(block)
            much = gone is not None and (clean or len(gone.rows) > _WORTH * block.meta.series)
            return (much or self._outlived(block, now)) and self._has_room([block])
        except Corrupt as damage:
            self._leave_alone(damage, [block])
            return False

    def _outlived(self, block: Block, now: int) -> bool:
        """Whether series of the block may go, looked at again only when another retention is over for it."""
        if now < self._outlives.get(block.meta.sequence, -(1 << 63)):
            return False
        # Opened for this look alone: the indexes of old blocks must not stay in memory.
        found = self._retention.outlived(Block(block.path, self._blocks.cache), now)
        self._outlives[block.meta.sequence] = self._retention.next_end(block.meta, now)
        return found

    def _expire(self, now: int) -> None:
        blocks, settings = self._idle(), self._settings
        longest = self._retention.longest
        old = [b for b in self._blocks.all if longest and b.meta.max_time < now - longest and b is not self._covered()]
        if most := settings.retention_size:
            excess = sum(b.nbytes for b in self._blocks.all) + sum(s.size for s in wal.segments(settings.data / "wal"))
            excess += self._rollups.nbytes - sum(b.nbytes for b in old) - most
            # Tiers outlive samples by far: beyond half of the room they would leave none for these.
            excess -= self._rollups.shrink(min(excess, self._rollups.nbytes - most // 2))
            for block in sorted(blocks, key=lambda b: b.meta.max_time):
                if excess <= 0:
                    break
                if block not in old:
                    old.append(block)
                    excess -= block.nbytes
            self._rollups.shrink(excess)
        if old:
            self._blocks.remove(old)
            log.info("blocks beyond the retention were deleted", blocks=len(old))

    def stop(self) -> None:
        """Abandon what is running and end the thread; blocks until then."""
        self._stopping = True
        self._pool.shutdown(wait=True)
        asked, self._asked = self._asked, []
        for _, done in asked:
            done.set_exception(LimitExceeded("the storage is closing"))
