"""The committer of the log store: the one thread that logs batches, syncs, takes them into memory and answers.

Batches that wait together are one group: written one after another, synced once, acknowledged together. What cannot be
logged is refused; it stays owed to the log (`storage.wal`), and nothing later is taken before the log has caught up.
Not here: what memory becomes (`store.py`).
"""

from __future__ import annotations

import asyncio
import queue
import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import structlog

from vedette.errors import LimitExceeded
from vedette.logs.memory import Memory
from vedette.logs.record import KIND, encode
from vedette.logs.settings import LogSettings
from vedette.model.logs import LogBatch
from vedette.storage.wal import Wal, record

log = structlog.get_logger(__name__)

_GROUP = 64
_TICK = 0.25
_RETRY_AFTER = 5.0


@dataclass(slots=True)
class _Waiting:
    tenant: str
    batch: LogBatch
    loop: asyncio.AbstractEventLoop
    done: asyncio.Future[None]
    refusal: Exception | None = None


class LogWriter:
    """Runs the thread. `housekeeping` is called on it between groups, at least a few times a second."""

    def __init__(
        self,
        memory: Memory,
        wal: Wal,
        settings: LogSettings,
        *,
        next_seq: int,
        housekeeping: Callable[[], None],
        committed: Callable[[str], None],
    ) -> None:
        """`committed` is called on the thread with each tenant that has new lines."""
        self._memory = memory
        self._wal = wal
        self._settings = settings
        self._housekeeping = housekeeping
        self._committed = committed
        self._queue: queue.SimpleQueue[_Waiting | Literal["wake", "stop"]] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._run, name="logs-writer", daemon=True)
        # Two counts that only grow, each written by one thread: a difference of them needs no lock.
        self._queued_bytes = 0
        self._taken_bytes = 0
        self.next_seq = next_seq
        self.lines = 0
        self.failures = 0
        self.problem = ""
        self.closing = False

    def start(self) -> None:
        """Begin to take batches."""
        self._thread.start()

    def submit(self, tenant: str, batch: LogBatch) -> asyncio.Future[None]:
        """Queue a batch; the future is done when it is durable, or holds why it is not. Called on an event loop."""
        if self.closing:
            raise LimitExceeded("the log store is closing", retry_after=1.0)
        if self._queued_bytes - self._taken_bytes > self._settings.queue_bytes:
            raise LimitExceeded("more lines are waiting to be stored than the queue takes", retry_after=1.0)
        loop = asyncio.get_running_loop()
        item = _Waiting(tenant, batch, loop, loop.create_future())
        self._queued_bytes += batch.size
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
            try:
                self._housekeeping()
            except Exception:
                log.exception("the log store's housekeeping failed")
                self.failures += 1

    def _commit(self, group: list[_Waiting]) -> None:
        for item in group:
            self._taken_bytes += item.batch.size
            item.refusal = self._take(item)
        try:
            self._wal.sync()
        except OSError as error:
            refusal = self._refusal(error)
            for item in group:
                item.refusal = item.refusal or refusal
        if any(item.refusal is None for item in group):
            self.problem = ""
        for tenant in {item.tenant for item in group}:
            self._committed(tenant)
        for loop in {item.loop for item in group}:
            mine = [item for item in group if item.loop is loop]
            try:
                loop.call_soon_threadsafe(_settle, mine)
            except RuntimeError:
                log.warning("lines were stored for a loop that is gone", batches=len(mine))

    def _take(self, item: _Waiting) -> Exception | None:
        if self._memory.held_bytes > 4 * self._settings.flush_bytes:
            # Segments cannot be written as fast, or at all (a full disk), and memory must stay bounded.
            return LimitExceeded("too many lines wait in memory for a segment to be written", retry_after=_RETRY_AFTER)
        try:
            self._wal.settle()
        except OSError as error:
            return self._refusal(error)
        first, self.next_seq = self.next_seq, self.next_seq + len(item.batch)
        try:
            payload = encode(item.tenant, first, item.batch)
            # Taken before it is logged: a record that cannot be written now is owed, and will be.
            self._memory.add(item.tenant, first, item.batch)
            self.lines += len(item.batch)
            self._wal.append([record(KIND, 0, payload)])
        except OSError as error:
            return self._refusal(error)
        except Exception as error:  # the edge of the loop: one batch's fault must not end all writing
            log.exception("lines could not be stored", lines=len(item.batch))
            self.failures += 1
            return error
        return None

    def _refusal(self, error: OSError) -> LimitExceeded:
        self.failures += 1
        self.problem = f"the log of lines cannot be written: {error.strerror}"
        log.error("the log of lines cannot be written", problem=error.strerror, path=str(self._wal.directory))
        return LimitExceeded(self.problem, retry_after=_RETRY_AFTER)


def _settle(items: list[_Waiting]) -> None:
    """On the loop: hand the outcomes over, unless nobody waits any more."""
    for item in items:
        if item.done.done():
            continue
        if item.refusal is not None:
            item.done.set_exception(item.refusal)
        else:
            item.done.set_result(None)
