"""Sends what a queue holds: several lanes at once, each in order, with back-off, until the receiver has it or refuses it.

A lane takes what waits in it as one request, up to a number of samples. What the receiver refuses as bad goes to `dead/`,
one file each, with a log line and a count: sending it again would not help, and what comes after it must not wait for ever.
Not here: HTTP (`post`).
"""

from __future__ import annotations

import asyncio
import itertools
import json
import random
import threading
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import cramjam
import structlog

from vedette.clock import Clock
from vedette.errors import BadInput, Corrupt, Undeliverable
from vedette.storage.disk import Disk
from vedette.storage.queue import Entry, Queue

log = structlog.get_logger(__name__)

Post = Callable[[str, bytes], Awaitable[None]]
"""(tenant, snappy body) delivered when it returns. Raises `Undeliverable`, `BadInput` for a credential file that cannot be read."""


@dataclass(frozen=True, slots=True)
class SendSettings:
    """How requests are made and repeated; times in seconds."""

    max_samples: int = 10_000
    min_backoff_s: float = 0.03
    max_backoff_s: float = 5.0
    max_dead: int = 1000
    """How many refused requests are kept; of more the oldest are deleted."""


@dataclass(slots=True)
class Sent:
    """What has become of what was queued, since the start."""

    requests: int = 0
    samples: int = 0
    retries: int = 0
    refused_requests: int = 0
    refused_samples: int = 0
    unreadable: int = 0
    failures: int = 0


class Sender:
    """The lanes of one queue. `add` is the queue's `added`; `start` and `close` on the loop that sends."""

    def __init__(self, post: Post, clock: Clock, dead: Path, settings: SendSettings | None = None, *, disk: Disk | None = None) -> None:
        self._post = post
        self._clock = clock
        self._dead = dead
        self._settings = settings or SendSettings()
        self._disk = disk or Disk()
        self._keeping = threading.Lock()
        self._letters = itertools.count(1)
        self._lanes: dict[tuple[str, int], deque[Entry]] = {}
        self._tasks: dict[tuple[str, int], asyncio.Task[None]] = {}
        self._queue: Queue | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._waiting: list[Entry] = []
        self.sent = Sent()
        self.problem = ""
        """Why nothing gets through now, empty where it does."""

    def start(self, queue: Queue) -> None:
        """Begin to send."""
        self._queue = queue
        self._loop = asyncio.get_running_loop()
        waiting, self._waiting = self._waiting, []
        self._take(waiting)

    def add(self, entries: Sequence[Entry]) -> None:
        """These have been queued; from any thread."""
        if self._loop is None:
            self._waiting.extend(entries)
        else:
            self._loop.call_soon_threadsafe(self._take, list(entries))

    def _take(self, entries: Sequence[Entry]) -> None:
        for entry in entries:
            key = (entry.tenant, entry.lane)
            self._lanes.setdefault(key, deque()).append(entry)
            if key not in self._tasks:
                self._tasks[key] = asyncio.create_task(self._run(key))

    async def _run(self, key: tuple[str, int]) -> None:
        lane = self._lanes[key]
        while lane:
            taken = [lane.popleft()]
            samples = taken[0].samples
            while lane and samples + lane[0].samples <= self._settings.max_samples:
                taken.append(lane.popleft())
                samples += taken[-1].samples
            try:
                await self._deliver(key[0], taken)
            except Exception:  # the edge of the loop: what was taken must not be forgotten
                log.exception("what is queued could not be sent, and is sent again", samples=samples)
                self.sent.failures += 1
                lane.extendleft(reversed([e for e in taken if not e.done]))
                await self._clock.sleep(self._settings.max_backoff_s)
        # Nothing was added since the last look: all this happens on one loop.
        del self._tasks[key], self._lanes[key]

    async def _deliver(self, tenant: str, entries: Sequence[Entry]) -> None:
        assert self._queue is not None, "start comes first"
        bodies: list[bytes] = []
        whole: list[Entry] = []
        for entry in entries:
            try:
                bodies.append(bytes(cramjam.snappy.decompress_raw(self._queue.read(entry))))
                whole.append(entry)
            except (Corrupt, OSError, cramjam.DecompressionError) as error:
                log.error("what was to be sent cannot be read back", problem=str(error), samples=entry.samples)
                self.sent.unreadable += 1
                self._queue.finish([entry])
        if not whole:
            return
        samples = sum(e.samples for e in whole)
        # Requests of protobuf messages one after the other are one request with all of them.
        refusal = await self._insist(tenant, b"".join(bodies))
        if refusal is not None and len(whole) > 1:
            # One of them is bad: the others must not share its fate.
            for entry in whole:
                await self._deliver(tenant, [entry])
            return
        if refusal is not None:
            await self._bury(tenant, bodies[0], samples, refusal)
        else:
            self.sent.requests += 1
            self.sent.samples += samples
        self._queue.finish(whole)

    async def _insist(self, tenant: str, body: bytes) -> str | None:
        """Send until it is taken (None) or refused for good (why)."""
        packed = bytes(cramjam.snappy.compress_raw(body))
        wait = self._settings.min_backoff_s
        while True:
            asked: float | None = None
            try:
                await self._post(tenant, packed)
                self.problem = ""
                return None
            except Undeliverable as error:
                if error.reason == "status" and not error.retryable:
                    self.problem = ""
                    return str(error)
                problem, asked = str(error), error.retry_after
            except BadInput as error:  # a credential file that is not there now may be there later
                problem = str(error)
            if self.problem != problem:
                log.warning("what is queued cannot be sent, and is sent again", problem=problem)
            self.problem = problem
            self.sent.retries += 1
            # Spread, so that lanes and servers do not come back all at once.
            await self._clock.sleep(asked if asked is not None else wait * (0.5 + random.random() / 2))  # noqa: S311 - no secret
            wait = min(wait * 2, self._settings.max_backoff_s)

    async def _bury(self, tenant: str, body: bytes, samples: int, why: str) -> None:
        """Keep what was refused, however long the disk refuses it in turn: it is in the queue until then."""
        now = self._clock.now()
        name = f"{int(now * 1000):015d}-{next(self._letters):06d}"
        about = {"tenant": tenant, "samples": samples, "reason": why, "time": now, "body": "remote write 1.0, snappy"}
        log.error("the receiver refuses samples for good; they are kept", reason=why, samples=samples, path=str(self._dead / name))
        while True:
            try:
                await asyncio.to_thread(self._keep, name, body, about)
                break
            except OSError as error:
                problem = f"refused samples cannot be kept: {error}"
                if self.problem != problem:
                    log.error("refused samples cannot be kept, and are kept later", problem=str(error), path=str(self._dead))
                self.problem = problem
            await self._clock.sleep(self._settings.max_backoff_s)
        self.problem = ""
        # Counted once they are there: who sees the count finds the files.
        self.sent.refused_requests += 1
        self.sent.refused_samples += samples

    def _keep(self, name: str, body: bytes, about: dict[str, object]) -> None:
        """Write the two files of a dead letter, durable when it returns. Raises `OSError`."""
        with self._keeping:
            if not self._dead.is_dir():
                self._dead.mkdir(parents=True)
                self._disk.sync_directory(self._dead.parent)
            self._disk.replace_file(self._dead / f"{name}.snappy", bytes(cramjam.snappy.compress_raw(body)))
            self._disk.replace_file(self._dead / f"{name}.json", json.dumps(about).encode())
            for old in sorted(self._dead.glob("*.json"))[: -self._settings.max_dead]:
                self._disk.unlink(old)
                old.with_suffix(".snappy").unlink(missing_ok=True)

    async def close(self) -> None:
        """Stop sending; what is not sent yet is still queued."""
        tasks = list(self._tasks.values())
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks)
