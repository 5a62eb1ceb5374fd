"""Whose query runs next: at most so many at once, so many of one tenant, the tenants in turn, and a bounded queue.

A tenant that asks a hundred at once waits behind itself, not others behind it. For one event loop; not thread-safe.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict, deque
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any, TypeVar

from vedette.errors import LimitExceeded
from vedette.model.tenants import DEFAULT_TENANT
from vedette.net.trace import current
from vedette.promql.errors import QueryCanceled

LEFT_THE_QUEUE = "query was canceled in query queue"

T = TypeVar("T")

RETRY_AFTER_S = 1.0


class Turns:
    """Up to `concurrency` turns are given out at once, `per_tenant` to one tenant; `queued` of a tenant may wait."""

    def __init__(self, *, concurrency: int, per_tenant: int, queued: int) -> None:
        self._free = concurrency
        self._per_tenant = min(per_tenant, concurrency)
        self._queued = queued
        self._running: dict[str, int] = {}
        self._waiting: OrderedDict[str, deque[asyncio.Future[None]]] = OrderedDict()
        """The tenants that wait, the one whose turn is next first; each in order of arrival."""

    @property
    def waiting(self) -> int:
        """How many wait, of all tenants."""
        return sum(map(len, self._waiting.values()))

    def take(self, tenant: str) -> bool:
        """Take a turn where one is free at once: then it must be given back."""
        if self.free(tenant):
            self._take(tenant)
            return True
        return False

    def free(self, tenant: str) -> bool:
        """Whether `take` would give a turn."""
        return self._free > 0 and tenant not in self._waiting and self._running.get(tenant, 0) < self._per_tenant

    async def wait(self, tenant: str) -> None:
        """Take a turn when it comes: then it must be given back. Raises `LimitExceeded` where too many of the tenant's wait already."""
        # Since somebody looked whether one is free, all others may have given theirs back: then nobody would wake who waits.
        if self.take(tenant):
            return
        line = self._waiting.setdefault(tenant, deque())
        if len(line) >= self._queued:
            if not line:
                del self._waiting[tenant]
            raise LimitExceeded(
                f"{self._queued} queries wait for their turn already (promql.max_queued_per_tenant)", retry_after=RETRY_AFTER_S
            )
        turn = asyncio.get_running_loop().create_future()
        line.append(turn)
        try:
            await turn
        except asyncio.CancelledError:
            if turn.done() and not turn.cancelled():
                # It was given a turn in the very moment in which it gave up.
                self.give_back(tenant)
            else:
                self._leave(tenant, turn)
            raise

    def _leave(self, tenant: str, turn: asyncio.Future[None]) -> None:
        line = self._waiting.get(tenant)
        if line is None or turn not in line:
            return  # a turn that came between its end and this passed it over
        line.remove(turn)
        if not line:
            del self._waiting[tenant]

    def _take(self, tenant: str) -> None:
        self._free -= 1
        self._running[tenant] = self._running.get(tenant, 0) + 1

    def give_back(self, tenant: str) -> None:
        """End a turn; the next one begins."""
        self._free += 1
        self._running[tenant] -= 1
        if not self._running[tenant]:
            del self._running[tenant]
        while self._free and (tenant := self._next()):
            line = self._waiting[tenant]
            turn = line.popleft()
            # Who has given up stands in line until its task runs again; what it was given would be nobody's.
            if not turn.done():
                self._take(tenant)
                turn.set_result(None)
            if line:
                self._waiting.move_to_end(tenant)
            else:
                del self._waiting[tenant]

    def _next(self) -> str:
        """The tenant whose turn is next, empty where none may have one."""
        return next((t for t in self._waiting if self._running.get(t, 0) < self._per_tenant), "")


async def awaited(turns: Turns, tenant: str, seconds: float | None, *others: Coroutine[Any, Any, object]) -> bool | None:
    """Wait for a turn: True where there is one, which must be given back; None where it took longer than `seconds`, False where any of
    the `others` was over first. Raises `LimitExceeded` where too many of the tenant's wait already.
    """
    turn = asyncio.ensure_future(turns.wait(tenant))
    unless = [asyncio.ensure_future(other) for other in others]
    try:
        await asyncio.wait((turn, *unless), timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
    except asyncio.CancelledError:
        if turn.done() and not turn.cancelled() and turn.exception() is None:
            turns.give_back(tenant)
        raise
    finally:
        over = any(other.done() for other in unless)
        for waited in (turn, *unless):
            waited.cancel()
    if not turn.done():
        return False if over else None
    turn.result()
    return True


class Lane:
    """A `Run` for reads of much at once, such as all series, as lists or as text: some at a time, their tenants in turn.

    They are Python's work more than kernels': many at once would take the interpreter from the loop, and all threads from queries.
    """

    def __init__(self, run: Callable[..., Awaitable[Any]], turns: Turns) -> None:
        self._run, self._turns = run, turns

    async def __call__(self, function: Callable[..., T], /, *args: Any) -> T:
        """What `function` gives, when it is the turn of the tenant whose request this task works for.

        Raises `QueryCanceled` where its client goes before, `LimitExceeded` where too many wait.
        """
        trace = current()
        tenant = (trace.tenant if trace is not None else "") or DEFAULT_TENANT
        if not self._turns.take(tenant):
            gone = [] if trace is None or trace.gone is None else [trace.gone()]
            if not await awaited(self._turns, tenant, None, *gone):
                raise QueryCanceled(LEFT_THE_QUEUE)
        try:
            found: T = await self._run(function, *args)
            return found
        finally:
            self._turns.give_back(tenant)
