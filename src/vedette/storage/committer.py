"""Group commit: one thread takes batches in the order they came, makes each group durable at once, and answers.

Batches that wait together are one group: taken one after another, synced once, acknowledged together. Samples and log
lines are stored by it alike. Not here: what taking and syncing mean (`storage/writer.py`, `logs/writer.py`).
"""

from __future__ import annotations

import asyncio
import queue
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Generic, Literal, Protocol, TypeVar

import structlog

from vedette.errors import LimitExceeded

log = structlog.get_logger(__name__)

_GROUP = 64
_TICK = 0.25
RETRY_AFTER = 5.0
"""Seconds after which a sender may try again when the log could not be written."""

Batch = TypeVar("Batch")
Answer = TypeVar("Answer")
_B = TypeVar("_B", contravariant=True)
_A = TypeVar("_A", covariant=True)


class Work(Protocol[_B, _A]):
    """What is done with batches; all of it on the committer's thread, none of it raises."""

    def take(self, batch: _B) -> _A | Exception:
        """Take a batch; an exception is the answer to whoever sent it."""

    def sync(self) -> Exception | None:
        """Make durable what was taken; an exception is the answer to all of the group."""

    def committed(self, batches: Sequence[_B]) -> None:
        """These are durable, and not answered yet."""

    def tick(self) -> None:
        """Called between groups, at least a few times a second."""


@dataclass(slots=True)
class _Waiting(Generic[Batch, Answer]):
    batch: Batch
    weight: int
    loop: asyncio.AbstractEventLoop
    done: asyncio.Future[Answer]
    outcome: Answer | Exception | None = None

    def settle(self) -> None:
        """On the loop: hand the outcome over, unless nobody waits any more."""
        if self.done.done():
            return
        if isinstance(self.outcome, Exception):
            self.done.set_exception(self.outcome)
        else:
            self.done.set_result(self.outcome)  # type: ignore[arg-type]  # an answer may itself be None


class Committer(Generic[Batch, Answer]):
    """Runs the thread. `room` is how much may wait, in the unit of the `weight` that `submit` is told."""

    def __init__(self, work: Work[Batch, Answer], *, name: str, what: str, room: int) -> None:
        """`what` waits, in the words of a refusal: `samples`."""
        self._work = work
        self._what = what
        self._room = room
        self._queue: queue.SimpleQueue[_Waiting[Batch, Answer] | Literal["wake", "stop"]] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)
        # Two counts that only grow, each written by one thread: a difference of them needs no lock.
        self._queued = 0
        self._taken = 0
        self.groups = 0
        self.closing = False

    @property
    def waiting(self) -> int:
        """The weight of what is queued and not yet taken."""
        return self._queued - self._taken

    def start(self) -> None:
        """Begin to take batches."""
        self._thread.start()

    def submit(self, batch: Batch, weight: int) -> asyncio.Future[Answer]:
        """Queue a batch; the future is done when it is durable, or holds why it is not. Called on an event loop.

        Raises `LimitExceeded` where too much waits, or nothing is taken any more.
        """
        if self.closing:
            raise LimitExceeded(f"the store of {self._what} is closing", retry_after=1.0)
        if self.waiting > self._room:
            raise LimitExceeded(f"more {self._what} are waiting to be stored than the queue takes", retry_after=1.0)
        loop = asyncio.get_running_loop()
        item: _Waiting[Batch, Answer] = _Waiting(batch, weight, loop, loop.create_future())
        self._queued += weight
        self._queue.put(item)
        return item.done

    def stop(self) -> None:
        """Take what is queued, sync, and end the thread; blocks until then."""
        self.closing = True
        self._queue.put("stop")
        self._thread.join()

    def wake(self) -> None:
        """Have `tick` called at once."""
        self._queue.put("wake")

    def _run(self) -> None:
        running = True
        while running:
            group: list[_Waiting[Batch, Answer]] = []
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
            self._work.tick()

    def _commit(self, group: list[_Waiting[Batch, Answer]]) -> None:
        self.groups += 1
        for item in group:
            self._taken += item.weight
            item.outcome = self._work.take(item.batch)
        refusal = self._work.sync()
        taken = []
        for item in group:
            if not isinstance(item.outcome, Exception):
                item.outcome = refusal or item.outcome
                taken.append(item.batch)
        if taken and refusal is None:
            self._work.committed(taken)
        # Almost always one loop: one wake-up for the whole group.
        for loop in {item.loop for item in group}:
            mine = [item for item in group if item.loop is loop]
            try:
                loop.call_soon_threadsafe(_settle, mine)
            except RuntimeError:
                log.warning("what was stored was sent from a loop that is gone", what=self._what, batches=len(mine))


def _settle(items: Sequence[_Waiting[Batch, Answer]]) -> None:
    for item in items:
        item.settle()
