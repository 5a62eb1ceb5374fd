"""The queries that run now, and those that wait for their turn: who asks what since when, and a way to end one. Thread-safe.

A query that waited keeps its number once its evaluation begins. Tenants see only their own.
"""

from __future__ import annotations

import itertools
import threading
import weakref
from collections.abc import Callable
from dataclasses import dataclass
from typing import Self

from vedette.clock import Clock
from vedette.errors import LimitExceeded, NotFound


@dataclass(frozen=True, slots=True)
class RunningQuery:
    """A query as it stands. Times of the query in ms, `began` in Unix seconds, `running_s` in seconds; what it holds now.

    One that waits began to wait then, and has done so for so long.
    """

    id: int
    expr: str
    start: int
    end: int
    step: int
    began: float
    running_s: float
    samples: int
    bytes: int
    waits: bool = False


class Call(threading.Event):
    """A query on its way from its queue to its end: `set`, on any thread, ends it; `leave` is called then, if it is anything."""

    def __init__(self) -> None:
        super().__init__()
        self.id = 0
        """The number under which it is listed, 0 where it never waited."""
        self.leave: Callable[[], object] | None = None

    def set(self) -> None:
        """End it: it waits no longer, or stops at its next check."""
        super().set()
        if (leave := self.leave) is not None:
            leave()


class Waiting:
    """The entry of a query from when it waits for its turn until it ends, while the context lasts."""

    __slots__ = ("_running", "began", "cancel", "expr", "id", "since", "span", "tenant")

    def __init__(self, running: Running, tenant: str, expr: str, span: tuple[int, int, int], *, call: Call, clock: Clock) -> None:
        self._running = running
        self.id, self.tenant, self.expr, self.span, self.cancel = call.id, tenant, expr, span, call
        self.began, self.since = clock.now(), clock.monotonic()

    def __enter__(self) -> Self:
        self._running.add_waiting(self)
        return self

    def __exit__(self, *_: object) -> None:
        self._running.remove_waiting(self)


class Ticket:
    """One query's entry while the context lasts: what it holds, and the event that ends it."""

    __slots__ = ("_running", "began", "bytes", "cancel", "end", "expr", "id", "samples", "since", "start", "step", "tenant")

    def __init__(
        self, running: Running, id_: int, tenant: str, expr: str, span: tuple[int, int, int], *, cancel: threading.Event, clock: Clock
    ) -> None:
        self._running = running
        self.id = id_
        self.tenant = tenant
        self.expr = expr
        self.start, self.end, self.step = span
        self.cancel = cancel
        self.began = clock.now()
        self.since = clock.monotonic()
        self.samples = 0
        self.bytes = 0

    def __enter__(self) -> Self:
        self._running.add(self)
        return self

    def __exit__(self, *_: object) -> None:
        self._running.remove(self)

    def hold(self, samples: int, nbytes: int) -> None:
        """Note what the query holds now. Raises `LimitExceeded` where all together hold more bytes than they may."""
        self.samples = samples
        self._running.hold(self, nbytes)


class Running:
    """All queries under way. Together they may hold `max_bytes` (0: any number)."""

    def __init__(self, clock: Clock, *, max_bytes: int) -> None:
        self._clock = clock
        self._max_bytes = max_bytes
        self._ids = itertools.count(1)
        self._lock = threading.Lock()
        self._tickets: dict[int, Ticket] = {}
        self._line: dict[int, Waiting] = {}
        self._held = 0
        self._answers: list[tuple[weakref.ref[object], int]] = []
        """Large answers that may still be on their way to somebody, and their bytes."""

    def entered(self, tenant: str, expr: str, span: tuple[int, int, int], cancel: threading.Event | None) -> Ticket:
        """The entry of a query from `span` (start, end, step in ms), a context; `cancel` ends the query when set."""
        id_ = (cancel.id if isinstance(cancel, Call) else 0) or next(self._ids)
        return Ticket(self, id_, tenant, expr, span, cancel=cancel or threading.Event(), clock=self._clock)

    def waiting(self, tenant: str, expr: str, span: tuple[int, int, int], call: Call) -> Waiting:
        """The entry of a query from `span` (start, end, step in ms) that waits, a context; `call` ends it when set, and has its number."""
        call.id = next(self._ids)
        return Waiting(self, tenant, expr, span, call=call, clock=self._clock)

    def add_waiting(self, entry: Waiting) -> None:
        """A query begins to wait."""
        with self._lock:
            self._line[entry.id] = entry

    def remove_waiting(self, entry: Waiting) -> None:
        """It has ended."""
        with self._lock:
            del self._line[entry.id]

    def add(self, ticket: Ticket) -> None:
        """A query begins."""
        with self._lock:
            self._tickets[ticket.id] = ticket

    def remove(self, ticket: Ticket) -> None:
        """A query ends."""
        with self._lock:
            del self._tickets[ticket.id]
            self._held -= ticket.bytes

    def hold(self, ticket: Ticket, nbytes: int) -> None:
        """As `Ticket.hold`."""
        with self._lock:
            others = self._held - ticket.bytes
            if self._max_bytes and nbytes > ticket.bytes:
                self._refuse_more(others, nbytes)
            self._held = others + nbytes
            ticket.bytes = nbytes

    def keep(self, answer: object, nbytes: int) -> None:
        """Count a large answer of a query that has ended for as long as somebody holds it: a slow reader takes minutes.

        Raises `LimitExceeded` where all queries and answers together would hold more bytes than they may.
        """
        with self._lock:
            self._answers = [(known, size) for known, size in self._answers if known() is not None]
            if self._max_bytes:
                self._refuse_more(self._held, nbytes)
            self._answers.append((weakref.ref(answer), nbytes))

    def _refuse_more(self, others: int, nbytes: int) -> None:
        if others + nbytes + self._sent() > self._max_bytes:
            # Alone it may fit, so that asking again later helps.
            raise LimitExceeded(
                "the queries that run now hold all the memory that queries may have (promql.max_memory)",
                retry_after=1.0 if nbytes <= self._max_bytes else None,
            )

    def _sent(self) -> int:
        """The bytes of large answers that are still held."""
        # Mostly there are none. Not counted down as they go: that happens at any time, on any thread, the lock held or not.
        return sum(size for known, size in self._answers if known() is not None) if self._answers else 0

    def room(self, nbytes: int) -> bool:
        """Whether another query may hold so many bytes now."""
        return not self._max_bytes or self._held + nbytes + self._sent() <= self._max_bytes

    def __len__(self) -> int:
        return len(self._tickets)

    def list(self, tenant: str) -> list[RunningQuery]:
        """The tenant's queries: those that run, the longest-running first, then those that wait, the longest-waiting first."""
        now = self._clock.monotonic()
        with self._lock:
            found = [t for t in self._tickets.values() if t.tenant == tenant]
            line = [w for w in self._line.values() if w.tenant == tenant and w.id not in self._tickets]
        return [
            *(RunningQuery(t.id, t.expr, t.start, t.end, t.step, t.began, now - t.since, t.samples, t.bytes) for t in found),
            *(RunningQuery(w.id, w.expr, *w.span, w.began, now - w.since, 0, 0, waits=True) for w in line),
        ]

    def cancel(self, tenant: str, id_: int) -> None:
        """End a query of the tenant: it stops at its next check, or waits no longer. Raises `NotFound` where there is none such."""
        with self._lock:
            found = self._tickets.get(id_) or self._line.get(id_)
        if found is None or found.tenant != tenant:
            raise NotFound(f"no query {id_} runs")
        found.cancel.set()
