"""An event loop on a thread of its own, for backends that talk over the network.

Reads of a storage are synchronous and come from many threads, appends come from the server's loop; a backend whose
client is asynchronous runs it here, and both reach it. Not here: what is asked.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Coroutine
from typing import Any, TypeVar

from vedette.errors import LimitExceeded

T = TypeVar("T")


class LoopThread:
    """The thread; it begins with `start` and ends with `stop`, which cancels what is left."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread: threading.Thread | None = None

    @property
    def running(self) -> bool:
        """Whether coroutines are taken."""
        return self._loop is not None

    def start(self) -> None:
        """Begin to run coroutines."""
        loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._run, args=(loop,), name=self._name, daemon=True)
        self._thread.start()
        self._loop = loop

    @staticmethod
    def _run(loop: asyncio.AbstractEventLoop) -> None:
        asyncio.set_event_loop(loop)
        loop.run_forever()
        rest = asyncio.all_tasks(loop)
        for task in rest:
            task.cancel()
        loop.run_until_complete(asyncio.gather(*rest, return_exceptions=True))
        loop.run_until_complete(loop.shutdown_asyncgens())
        loop.close()

    def call(self, work: Coroutine[Any, Any, T]) -> T:
        """Run a coroutine there and wait for what it gives; for threads. Raises `LimitExceeded` where the loop does not run."""
        if self._loop is None:
            work.close()
            raise LimitExceeded("the storage is not running", retry_after=1.0)
        return asyncio.run_coroutine_threadsafe(work, self._loop).result()

    async def ask(self, work: Coroutine[Any, Any, T]) -> T:
        """The same for coroutines of another loop. Cancelling the caller does not cancel the work."""
        if self._loop is None:
            work.close()
            raise LimitExceeded("the storage is not running", retry_after=1.0)
        return await asyncio.shield(asyncio.wrap_future(asyncio.run_coroutine_threadsafe(work, self._loop)))

    def stop(self) -> None:
        """End the thread; blocks until then."""
        loop, self._loop = self._loop, None
        if loop is not None:
            assert self._thread is not None
            loop.call_soon_threadsafe(loop.stop)
            self._thread.join()
