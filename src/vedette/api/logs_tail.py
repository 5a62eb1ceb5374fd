"""New lines as they come, for whoever follows: server-sent events (`logs.py`) and Loki's WebSocket (`logs_loki_tail.py`).

A follower is asked for before more is read, so that a slow one costs no memory: it is told what it missed. Not here: what is sent.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

from vedette.errors import VedetteError
from vedette.logs.store import LogStore

T = TypeVar("T")
_EVERY_S = 0.2
_QUIET_S = 1.0


@dataclass(frozen=True, slots=True)
class Fresh(Generic[T]):
    """New lines, oldest first, the number of the newest, how many more there were, or why none could be read."""

    lines: Sequence[T] = ()
    newest: int = 0
    missed: int = 0
    problem: str = ""


async def followed(
    store: LogStore, tenant: str, fresh: Callable[[int], Awaitable[Fresh[T]]], *, ending: Callable[[], bool], since: int | None = None
) -> AsyncGenerator[Fresh[T]]:
    """What `fresh` finds from a line's number on, whenever the tenant has new lines; an empty one after each second without any."""
    loop, woken = asyncio.get_running_loop(), asyncio.Event()

    def told(who: str) -> None:
        if who == tenant and not loop.is_closed():
            loop.call_soon_threadsafe(woken.set)

    end_watch = store.watch(told)
    since = store.through if since is None else since
    try:
        while not ending():
            try:
                async with asyncio.timeout(_QUIET_S):
                    await woken.wait()
            except TimeoutError:
                yield Fresh()
                continue
            woken.clear()
            through = store.through
            try:
                found = await fresh(since)
            except VedetteError as error:
                yield Fresh(problem=str(error))
            else:
                since = max(through, 1 + found.newest)
                yield found
            await asyncio.sleep(_EVERY_S)
    finally:
        end_watch()
