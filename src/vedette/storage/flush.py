"""When memory becomes a block.

A generation of the head ends after `head_span` or `head_samples`, and is written to a block on a thread of its own;
then its part of the log is deleted. It stays readable in memory for some minutes, so that an instant query rarely
touches a block. `tick` is called on the writer's thread. Not here: how a block is written (`block_writer.py`), what becomes
of blocks (`compaction.py`).
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import structlog

from vedette.clock import Clock
from vedette.errors import Corrupt, LimitExceeded
from vedette.kernels.chunks import UNIT_BYTES
from vedette.model.samples import MetricMetadata
from vedette.storage import heap, sealed, wal
from vedette.storage.block import Block
from vedette.storage.block_writer import Abandoned, GenerationSource, Origin, Snapshot, write_block
from vedette.storage.blocks import Blocks
from vedette.storage.forgetting import Forgetting
from vedette.storage.head import Generation
from vedette.storage.limits import Limits
from vedette.storage.memory import Memory
from vedette.storage.replay import Replayed
from vedette.storage.settings import StorageSettings

log = structlog.get_logger(__name__)

_KEEP_BEFORE = 600.0
"""Seconds for which a generation that is in a block stays in memory: twice what an instant query looks back."""

_KEEP_BYTES = 64 << 20
"""What is larger goes as soon as it is in a block: of so many series, an instant query reads a page or two of each anyway."""

_RETRY_EVERY = 10.0


@dataclass(slots=True)
class _Job:
    """A generation on its way to a block, with the scopes and the last segment of the log that it holds."""

    generation: Generation
    snapshot: Snapshot
    scopes: list[int]
    segment: int
    waiting: list[Future[None]]
    """Who asked for it."""
    written: bool = False
    """Whether the block is there, and only the log behind it is still to be deleted."""


class Flusher:
    """Moves samples from memory to blocks. `covered` is the block whose samples the head still holds."""

    def __init__(self, memory: Memory, blocks: Blocks, settings: StorageSettings, clock: Clock, *, limits: Limits) -> None:
        self._memory = memory
        self._blocks = blocks
        self._settings = settings
        self._clock = clock
        self._wal: wal.Wal | None = None
        self._wake: Callable[[], None] = lambda: None
        self._asked: list[Future[None]] = []
        self._pool = ThreadPoolExecutor(1, thread_name_prefix="storage-flush")
        self._running: Future[None] | None = None
        self._job: _Job | None = None
        self._scopes: list[int] = []
        self._began = clock.monotonic()
        self._rotated = self._began
        self._retry_at = 0.0
        self._stopping = False
        self.covered: Block | None = None
        self.forgetting = Forgetting(memory, settings, clock, limits=limits)
        self.failures = 0
        self.flushes = 0

    def recover(self) -> None:
        """At start, before replay: find the blocks, delete what of the log they hold, read the metadata. Raises `OSError`."""
        self._blocks.load()
        done = self._blocks.wal_scopes
        for segment in wal.segments(self._settings.data / "wal"):
            if wal.scope_of(segment) in done:
                self._blocks.disk.unlink(segment.path)
        path = self._settings.data / "metadata.json"
        if path.exists():
            try:
                for tenant, known in read_metadata(path).items():
                    self._memory.metadata.learn(tenant, known)
            except Corrupt as damage:
                # Types and help texts come again with the next scrape; the samples matter more than they do.
                self._blocks.report(damage)

    def between_scopes(self, replayed: Replayed) -> None:
        """During replay: write what memory holds to a block where it is more than a generation should be."""
        if self._memory.head.now.samples >= self._settings.head_samples:
            with self._memory.lock:
                job = _Job(self._memory.head.freeze(), Snapshot.of(self._memory.series), list(replayed.scopes), replayed.last_segment, [])
            self._write(job)
            with self._memory.lock:
                self._memory.head.drop_before()
                self.covered = None
            replayed.scopes.clear()

    def begin(self, log_: wal.Wal, replayed: Replayed, *, wake: Callable[[], None]) -> None:
        """After replay: from now on `tick` is called, soon after each `wake`, and the log grows."""
        self._wal = log_
        self._wake = wake
        self._scopes = [*replayed.scopes, log_.scope]
        self._began = self._clock.monotonic()

    def flush(self) -> Future[None]:
        """Have what is in memory written to a block now; done when it is, or holds why it could not be this time."""
        done: Future[None] = Future()
        self._asked.append(done)
        self._wake()
        return done

    def tick(self) -> None:
        """Begin, retry or finish what is due; quick."""
        now = self._clock.monotonic()
        if self._running is not None and self._running.done():
            self._finish(now)
        if self._running is None:
            if self._job is not None:
                # Who asks now waits for more than this job holds: they are answered by the next one, or told that this one failed.
                if now >= self._retry_at or self._asked:
                    self._submit(self._write, self._job)
            elif self._due(now) or self._asked:
                self._rotate(now)
            else:
                self._forget(now)
        if self.covered is not None and (now - self._rotated >= _KEEP_BEFORE or self._memory.head.before.held_bytes > _KEEP_BYTES):
            self.release()

    def _due(self, now: float) -> bool:
        head = self._memory.head.now
        if head.samples == 0:
            self._began = now
            return False
        # Chunks, some nearly empty or of samples that are no decimal numbers; but of those with which every series begins, another
        # block would make no fewer.
        crowded = head.units * UNIT_BYTES >= self._settings.head_samples * 16 and 2 * head.units > 3 * len(self._memory.series)
        crowded = crowded or head.histograms.nbytes >= self._settings.head_samples * 16
        if now < self._retry_at:
            return False
        return head.samples >= self._settings.head_samples or crowded or (now - self._began) * 1000 >= self._settings.head_span

    def _submit(self, work: Callable[..., None], *arguments: Any) -> None:
        self._running = self._pool.submit(work, *arguments)
        self._running.add_done_callback(lambda _: self._wake())

    def _rotate(self, now: float) -> None:
        """End the generation that takes samples and have it written."""
        assert self._wal is not None
        asked, self._asked = self._asked, []
        if self._memory.head.now.samples == 0:
            for done in asked:
                done.set_result(None)
            return
        error = self._begin_scope(now)
        if error is not None:
            for done in asked:
                done.set_exception(error)
            return
        segment = self._wal.number
        with self._memory.lock:
            self._memory.series.forget_closed()
            self._job = _Job(self._memory.head.freeze(), Snapshot.of(self._memory.series), self._scopes, segment, asked)
            self.covered = None
        self._scopes = [self._wal.scope]
        self._began = self._rotated = now
        self._submit(self._write, self._job)

    def _forget(self, now: float) -> None:
        if self.forgetting.prepared:
            if now >= self._retry_at and self._begin_scope(now) is None:
                assert self._wal is not None
                self._scopes.append(self._wal.scope)
                self.forgetting.finish()
        elif self.forgetting.due():
            self._submit(self.forgetting.prepare)

    def _begin_scope(self, now: float) -> OSError | None:
        assert self._wal is not None
        try:
            self._wal.begin_scope()
        except OSError as error:
            # The log refuses appends until it can be written; the scope ends after that.
            log.error("the log cannot begin a new scope", problem=error.strerror)
            self.failures += 1
            self._retry_at = now + _RETRY_EVERY
            return error
        return None

    def _finish(self, now: float) -> None:
        assert self._running is not None
        error, self._running = self._running.exception(), None
        job = self._job
        if job is not None:
            for done in job.waiting:
                done.set_exception(error) if error else done.set_result(None)
            job.waiting.clear()
        if error is None:
            self._job = None
        elif not isinstance(error, Abandoned):
            for done in self._asked:
                done.set_exception(error)
            self._asked.clear()
            self.failures += 1
            self._retry_at = now + _RETRY_EVERY
            trace = None if isinstance(error, OSError) else error
            log.error("the storage's background work failed; it is tried again", problem=str(error), exc_info=trace)

    def _write(self, job: _Job) -> None:
        if not job.written:
            self._write_block(job)
            job.written = True
        directory = self._settings.data / "wal"
        for segment in wal.segments(directory):
            if segment.number <= job.segment:
                self._blocks.disk.unlink(segment.path)
        self._blocks.disk.sync_directory(directory)

    def _write_block(self, job: _Job) -> None:
        memory, disk = self._memory, self._blocks.disk
        with memory.lock:
            known = {t: [[m.metric, m.type, m.help, m.unit] for m in items.values()] for t, items in memory.metadata.known.items()}
        disk.replace_file(self._settings.data / "metadata.json", sealed.render(known))
        path = write_block(
            self._blocks.directory,
            GenerationSource(job.generation, job.snapshot),
            Origin(self._blocks.take_sequence(), job.scopes),
            disk=disk,
            stopped=lambda: self._stopping,
            discard=self._blocks.discard,
        )
        assert path is not None, "a generation is never empty"
        block = self._blocks.open(path)
        with memory.lock:
            self._blocks.add(block)
            self.covered = block
        self.flushes += 1
        heap.give_back()
        log.debug("a block was written", path=str(path), series=block.meta.series, samples=block.meta.samples, bytes=block.nbytes)

    def release(self) -> None:
        """Let go of samples in memory that are in a block; from any thread."""
        with self._memory.lock:
            # Under the lock, since a generation that has no block yet must stay.
            if self.covered is not None:
                self._memory.head.drop_before()
                self.covered = None

    def stop(self) -> None:
        """Abandon what is running (the log still has it) and end the thread; blocks until then."""
        self._stopping = True
        self._pool.shutdown(wait=True, cancel_futures=True)
        waiting = [*self._asked, *(self._job.waiting if self._job else ())]
        for done in waiting:
            if not done.done():
                done.set_exception(LimitExceeded("the storage is closing"))


def read_metadata(path: Path) -> dict[str, list[MetricMetadata]]:
    """What `metadata.json` says of each tenant's metrics. Raises `Corrupt`, `OSError`."""
    content = sealed.read(path, "the list of types and help texts", bare=True)
    try:
        return {str(tenant): [MetricMetadata(*row) for row in rows] for tenant, rows in content.items()}
    except (ValueError, TypeError, AttributeError) as error:
        raise Corrupt(f"the list of types and help texts cannot be read: {error}", path=path, offset=0) from error
