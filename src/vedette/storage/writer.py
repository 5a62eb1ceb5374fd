"""What the storage's committer does: takes batches into memory, logs them, syncs (`committer.py` runs it on its thread).

What cannot be logged is refused, and nothing later is taken before the log has caught up (`wal.Wal.owed`), or, after a fault, before
a block holds what memory has and the log may not. Not here: what memory and log do.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from concurrent.futures import Future

import structlog

from vedette.clock import Clock, now_ms
from vedette.errors import BadInput, LimitExceeded
from vedette.model.samples import Appended, SampleBatch
from vedette.storage.committer import RETRY_AFTER, Committer
from vedette.storage.limits import Limits
from vedette.storage.memory import Memory
from vedette.storage.setback import SetBack
from vedette.storage.settings import StorageSettings
from vedette.storage.starts import shown_tenant
from vedette.storage.wal import Wal

log = structlog.get_logger(__name__)

_EVER = -(1 << 63)


class Writer:
    """Writes what is submitted. `housekeeping` is called on the committer's thread between groups, at least a few times a second.

    Samples older than `keep` ms (0: none) are refused, and those out of order by more than the window, which is wider by as much as
    the clock was set back. `flush` has what is in memory written to a block, and what comes later named anew.
    """

    def __init__(
        self,
        memory: Memory,
        wal: Wal,
        settings: StorageSettings,
        clock: Clock,
        *,
        keep: int,
        limits: Limits,
        housekeeping: Callable[[], None],
        flush: Callable[[], Future[None]],
    ) -> None:
        self._memory = memory
        self._wal = wal
        self._settings = settings
        self._keep = keep
        self._limits = limits
        self._clock = clock
        self._housekeeping = housekeeping
        self._flush = flush
        self._flushing: Future[None] | None = None
        self._synced_at = clock.monotonic()
        self._set_back = SetBack()
        self._committer: Committer[SampleBatch, Appended] = Committer(
            self, name="storage-writer", what="samples", room=settings.queue_samples
        )
        self.write_failures = 0
        self.problem = ""
        """Why nothing can be written now, empty where it can."""
        self.housekeeping_failures = 0

    @property
    def groups(self) -> int:
        """Groups committed since the start."""
        return self._committer.groups

    @property
    def closing(self) -> bool:
        """Whether nothing is taken any more."""
        return self._committer.closing

    def start(self) -> None:
        """Begin to take batches."""
        self._committer.start()

    def submit(self, batch: SampleBatch) -> asyncio.Future[Appended]:
        """Queue a batch; the future is done when it is durable, or holds why it is not. Called on an event loop."""
        return self._committer.submit(batch, batch.sample_count)

    def stop(self) -> None:
        """Take what is queued, sync, and end the thread; blocks until then."""
        self._committer.stop()

    def wake(self) -> None:
        """Have housekeeping look at once."""
        self._committer.wake()

    def take(self, batch: SampleBatch) -> Appended | Exception:
        """On the thread: into memory and the log; an exception where it is refused."""
        settings = self._settings
        oldest = now_ms(self._clock) - self._keep if self._keep else _EVER
        now = self._memory.head.now
        if now.samples > 3 * settings.head_samples or now.histograms.nbytes > 48 * settings.head_samples:
            # Blocks cannot be written (a full disk), and memory must stay bounded.
            return LimitExceeded("too many samples wait in memory for a block to be written", retry_after=RETRY_AFTER)
        if self._flushing is not None and not self._sound(self._flushing):
            return LimitExceeded("a block is being written of what the log may not hold", retry_after=RETRY_AFTER)
        try:
            self._wal.settle()
            tenant = shown_tenant(batch.keyspace.tenant)
            limits, window = self._limits.of(tenant), self._limits.window(tenant)
            window += self._set_back.by(self._memory.head.max_time, now_ms(self._clock))
            outcome, records = self._memory.take(
                batch, window=window, oldest=oldest, scope=self._wal.scope, limits=limits, zeros=settings.start_zeros
            )
            self._wal.append(records)
        except OSError as error:
            return self._refusal(error)
        except BadInput as error:
            return error
        except Exception as error:  # the edge of the loop: one batch's fault must not end all writing
            log.exception("a batch could not be stored", series=batch.series_count, samples=batch.sample_count)
            self.write_failures += 1
            # Memory may have samples, and know series as logged, that are not: repeated, they would be acknowledged and lost by a crash.
            self._flushing = self._flush()
            return error
        return outcome

    def _sound(self, flushing: Future[None]) -> bool:
        """Whether all that memory has is in a block or in the log again."""
        if not flushing.done():
            return False
        self._flushing = None if flushing.exception() is None else self._flush()
        return self._flushing is None

    def _refusal(self, error: OSError) -> LimitExceeded:
        self.write_failures += 1
        self.problem = f"the log cannot be written: {error.strerror}"
        log.error("the log cannot be written", problem=error.strerror, path=str(self._wal.directory))
        return LimitExceeded(f"the log cannot be written: {error.strerror}", retry_after=RETRY_AFTER)

    def sync(self) -> Exception | None:
        """On the thread: what is in the log is durable after it, where each group is to be."""
        if self._settings.sync == 0:
            try:
                self._wal.sync()
            except OSError as error:
                return self._refusal(error)
        return None

    def committed(self, batches: Sequence[SampleBatch]) -> None:
        """On the thread: these could be written, so others can."""
        self.problem = ""

    def tick(self) -> None:
        """On the thread: sync by the clock where groups are not synced, and what else is to be done from time to time."""
        now = self._clock.monotonic()
        if self._settings.sync > 0 and (now - self._synced_at) * 1000 >= self._settings.sync:
            self._synced_at = now
            try:
                self._wal.sync()
            except OSError as error:
                self._refusal(error)
        try:
            self._housekeeping()
        except Exception:
            log.exception("the storage's housekeeping failed")
            self.housekeeping_failures += 1
