"""What the log store's committer does: logs batches of lines, takes them into memory, syncs (`storage.committer` runs it on its thread).

What cannot be logged is refused; it stays owed to the log (`storage.wal`), and nothing later is taken before the log
has caught up. Not here: what memory becomes (`store.py`).
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence

import structlog

from vedette.errors import LimitExceeded
from vedette.logs.memory import Memory
from vedette.logs.record import KIND, encode
from vedette.logs.settings import LogSettings
from vedette.model.logs import LogBatch
from vedette.storage.committer import RETRY_AFTER, Committer
from vedette.storage.wal import Wal, record

log = structlog.get_logger(__name__)

_Lines = tuple[str, LogBatch]


class LogWriter:
    """Writes what is submitted. `housekeeping` is called on the committer's thread between groups, at least a few times a second."""

    def __init__(
        self,
        memory: Memory,
        wal: Wal,
        settings: LogSettings,
        *,
        next_seq: int,
        housekeeping: Callable[[], None],
        tell: Callable[[str], None],
    ) -> None:
        """`tell` is called on the thread with each tenant that has new lines."""
        self._memory = memory
        self._wal = wal
        self._settings = settings
        self._housekeeping = housekeeping
        self._tell = tell
        self._committer: Committer[_Lines, None] = Committer(self, name="logs-writer", what="lines", room=settings.queue_bytes)
        self.next_seq = next_seq
        self.lines = 0
        self.failures = 0
        self.problem = ""

    def start(self) -> None:
        """Begin to take batches."""
        self._committer.start()

    def submit(self, tenant: str, batch: LogBatch) -> asyncio.Future[None]:
        """Queue a batch; the future is done when it is durable, or holds why it is not. Called on an event loop."""
        return self._committer.submit((tenant, batch), batch.size)

    def stop(self) -> None:
        """Take what is queued, sync, and end the thread; blocks until then."""
        self._committer.stop()

    def take(self, lines: _Lines) -> Exception | None:
        """On the thread: into the log and memory; an exception where they are refused."""
        tenant, batch = lines
        if self._memory.held_bytes > 4 * self._settings.flush_bytes:
            # Segments cannot be written as fast, or at all (a full disk), and memory must stay bounded.
            return LimitExceeded("too many lines wait in memory for a segment to be written", retry_after=RETRY_AFTER)
        try:
            self._wal.settle()
        except OSError as error:
            return self._refusal(error)
        first, self.next_seq = self.next_seq, self.next_seq + len(batch)
        try:
            payload = encode(tenant, first, batch)
            # Taken before it is logged: a record that cannot be written now is owed, and will be.
            self._memory.add(tenant, first, batch)
            self.lines += len(batch)
            self._wal.append([record(KIND, 0, payload)])
        except OSError as error:
            return self._refusal(error)
        except Exception as error:  # the edge of the loop: one batch's fault must not end all writing
            log.exception("lines could not be stored", lines=len(batch))
            self.failures += 1
            return error
        return None

    def _refusal(self, error: OSError) -> LimitExceeded:
        self.failures += 1
        self.problem = f"the log of lines cannot be written: {error.strerror}"
        log.error("the log of lines cannot be written", problem=error.strerror, path=str(self._wal.directory))
        return LimitExceeded(self.problem, retry_after=RETRY_AFTER)

    def sync(self) -> Exception | None:
        """On the thread: what is in the log is durable after it."""
        try:
            self._wal.sync()
        except OSError as error:
            return self._refusal(error)
        return None

    def committed(self, batches: Sequence[_Lines]) -> None:
        """On the thread: these could be written, so others can, and whoever follows may look."""
        self.problem = ""
        for tenant in {tenant for tenant, _ in batches}:
            self._tell(tenant)

    def tick(self) -> None:
        """On the thread: what is to be done from time to time."""
        try:
            self._housekeeping()
        except Exception:
            log.exception("the log store's housekeeping failed")
            self.failures += 1
