"""The committer: the one thread that takes batches into memory, logs them, syncs and answers.

Batches that wait together are one group: appended one after another, written, synced once, acknowledged together.
What cannot be logged is refused, and nothing later is taken before the log has caught up (`wal.Wal.owed`). Not
here: what memory and log do.
"""

from __future__ import annotations

import asyncio
import queue
import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import structlog

from vedette.clock import Clock, now_ms
from vedette.errors import BadInput, LimitExceeded
from vedette.model.samples import Appended, SampleBatch
from vedette.storage.limits import Limits
from vedette.storage.memory import Memory
from vedette.storage.settings import StorageSettings
from vedette.storage.wal import Wal

log = structlog.get_logger(__name__)

_GROUP = 64
_EVER = -(1 << 63)
_TICK = 0.25
RETRY_AFTER = 5.0
"""Seconds after which a sender may try again when the log could not be written."""


@dataclass(slots=True)
class _Waiting:
    batch: SampleBatch
    loop: asyncio.AbstractEventLoop
    done: asyncio.Future[Appended]
    outcome: Appended | Exception | None = None

    def settle(self) -> None:
        """On the loop: hand the outcome over, unless nobody waits any more."""
        if self.done.done():
            return
        if isinstance(self.outcome, Exception):
            self.done.set_exception(self.outcome)
        else:
            assert self.outcome is not None
            self.done.set_result(self.outcome)


class Writer:
    """Runs the thread. `housekeeping` is called on it between groups, at least a few times a second.

    Samples older than `keep` ms (0: none) are refused.
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
    ) -> None:
        self._memory = memory
        self._wal = wal
        self._settings = settings
        self._keep = keep
        self._limits = limits
        self._clock = clock
        self._housekeeping = housekeeping
        self._queue: queue.SimpleQueue[_Waiting | Literal["wake", "stop"]] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._run, name="storage-writer", daemon=True)
        self._synced_at = clock.monotonic()
        # Two counts that only grow, each written by one thread: a difference of them needs no lock.
        self._queued_samples = 0
        self._taken_samples = 0
        self.write_failures = 0
        self.problem = ""
        """Why nothing can be written now, empty where it can."""
        self.housekeeping_failures = 0
        self.groups = 0
        self.closing = False

    @property
    def waiting_samples(self) -> int:
        """How many samples are queued and not yet taken."""
        return self._queued_samples - self._taken_samples

    def start(self) -> None:
        """Begin to take batches."""
        self._thread.start()

    def submit(self, batch: SampleBatch) -> asyncio.Future[Appended]:
        """Queue a batch; the future is done when it is durable, or holds why it is not. Called on an event loop."""
        if self.closing:
            raise LimitExceeded("the storage is closing")
        if self.waiting_samples > self._settings.queue_samples:
            raise LimitExceeded("more samples are waiting to be stored than the queue takes", retry_after=1.0)
        loop = asyncio.get_running_loop()
        item = _Waiting(batch, loop, loop.create_future())
        self._queued_samples += batch.sample_count
        self._queue.put(item)
        return item.done

    def stop(self) -> None:
        """Take what is queued, sync, and end the thread; blocks until then."""
        self.closing = True
        self._queue.put("stop")
        self._thread.join()

    def wake(self) -> None:
        """Have housekeeping look at once."""
        self._queue.put("wake")

    def _run(self) -> None:
        running = True
        while running:
            group: list[_Waiting] = []
            try:
                item = self._queue.get(timeout=_TICK)
                while isinstance(item, _Waiting):
                    group.append(item)
                    if len(group) == _GROUP:
                        break
                    item = self._queue.get_nowait()
                running = item != "stop"
            except queue.Empty:
                pass
            if group:
                self._commit(group)
            self._tick()

    def _commit(self, group: list[_Waiting]) -> None:
        self.groups += 1
        for item in group:
            self._taken_samples += item.batch.sample_count
            item.outcome = self._take(item.batch)
        if self._settings.sync == 0:
            try:
                self._wal.sync()
            except OSError as error:
                refusal = self._refusal(error)
                for item in group:
                    if not isinstance(item.outcome, Exception):
                        item.outcome = refusal
        if any(isinstance(item.outcome, Appended) for item in group):
            self.problem = ""
        # Almost always one loop: one wake-up for the whole group.
        for loop in {item.loop for item in group}:
            mine = [item for item in group if item.loop is loop]
            try:
                loop.call_soon_threadsafe(_settle_all, mine)
            except RuntimeError:
                log.warning("batches were stored for a loop that is gone", batches=len(mine))

    def _take(self, batch: SampleBatch) -> Appended | Exception:
        settings = self._settings
        oldest = now_ms(self._clock) - self._keep if self._keep else _EVER
        now = self._memory.head.now
        if now.samples > 3 * settings.head_samples or now.histograms.nbytes > 48 * settings.head_samples:
            # Blocks cannot be written (a full disk), and memory must stay bounded.
            return LimitExceeded("too many samples wait in memory for a block to be written", retry_after=RETRY_AFTER)
        try:
            self._wal.settle()
            limits, window = self._limits.of(batch.keyspace.tenant), self._limits.window(batch.keyspace.tenant)
            outcome, records = self._memory.take(batch, window=window, oldest=oldest, scope=self._wal.scope, limits=limits)
            self._wal.append(records)
        except OSError as error:
            return self._refusal(error)
        except BadInput as error:
            return error
        except Exception as error:  # the edge of the loop: one batch's fault must not end all writing
            log.exception("a batch could not be stored", series=batch.series_count, samples=batch.sample_count)
            self.write_failures += 1
            return error
        return outcome

    def _refusal(self, error: OSError) -> LimitExceeded:
        self.write_failures += 1
        self.problem = f"the log cannot be written: {error.strerror}"
        log.error("the log cannot be written", problem=error.strerror, path=str(self._wal.directory))
        return LimitExceeded(f"the log cannot be written: {error.strerror}", retry_after=RETRY_AFTER)

    def _tick(self) -> None:
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


def _settle_all(items: list[_Waiting]) -> None:
    for item in items:
        item.settle()
