"""Live values for many who watch: each question is asked once an interval, whoever asks it, and only what changed is told.

A question is a metric, an alias (`cpu_usage`) or PromQL. Whoever reads too slowly loses the oldest updates and is told how many;
nobody makes another one wait. Not here: WebSocket and server-sent events (`live.py`).
"""

from __future__ import annotations

import asyncio
import math
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import orjson
import structlog

from vedette.api.services.shared import shown_time
from vedette.clock import Clock, now_ms
from vedette.errors import BadInput, LimitExceeded, VedetteError
from vedette.model.labels import METRIC_NAME
from vedette.promql.result import QueryResult

MOST_QUESTIONS = 16
"""Of one client."""
MOST_SERIES = 1000
"""That one question may name; more are refused rather than shown in part."""
_HELD = 4096
"""Updates that wait for one client."""

Ask = Callable[[str, str, int], Awaitable[QueryResult]]
"""(tenant, PromQL, time in ms) to the result of an instant query."""

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Question:
    """What is watched: how its client named it, and the PromQL that this stands for."""

    tenant: str
    name: str
    expr: str


@dataclass(slots=True)
class Subscription:
    """One who watches. `take` waits for updates; `lost` counts those dropped since it was last told."""

    questions: tuple[Question, ...]
    waiting: deque[bytes] = field(default_factory=deque)
    lost: int = 0
    woken: asyncio.Event = field(default_factory=asyncio.Event)

    def tell(self, message: bytes) -> None:
        """Put one update in line; the oldest goes where the line is full."""
        if len(self.waiting) >= _HELD:
            self.waiting.popleft()
            self.lost += 1
        self.waiting.append(message)
        self.woken.set()

    async def take(self) -> list[bytes]:
        """The updates that wait, at least one; first of all how many were lost."""
        while not self.waiting:
            self.woken.clear()
            await self.woken.wait()
        found = list(self.waiting)
        self.waiting.clear()
        if self.lost:
            found.insert(0, orjson.dumps({"type": "updates_dropped", "count": self.lost}))
            self.lost = 0
        return found


@dataclass(slots=True)
class _Watched:
    """One question of one or more subscriptions: `values` are those last told, by labels."""

    subscriptions: list[Subscription] = field(default_factory=list)
    values: dict[str, tuple[float, bytes]] = field(default_factory=dict)
    problem: str = ""


class Updates:
    """Asks and tells. `start` once, `close` at the end. One event loop's.

    `most` is how many may watch at once. `told` counts updates put in line, `lost` those dropped from one.
    """

    def __init__(self, ask: Ask, clock: Clock, *, interval_ms: int, most: int) -> None:
        self._ask, self._clock, self._interval, self._most = ask, clock, interval_ms / 1000, most
        self._watched: dict[Question, _Watched] = {}
        self._task: asyncio.Task[None] | None = None
        self.clients = 0
        self.told = 0
        self._lost_by_gone = 0

    @property
    def lost(self) -> int:
        """Updates that clients were too slow for."""
        living = {id(s): s for w in self._watched.values() for s in w.subscriptions}
        return self._lost_by_gone + sum(s.lost for s in living.values())

    def start(self) -> None:
        """Begin to ask."""
        self._task = asyncio.create_task(self._run(), name="live updates")

    async def close(self) -> None:
        """Ask no more."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    async def subscribe(self, questions: Sequence[Question]) -> Subscription:
        """Watch from now on; the values as they are come first.

        Raises `BadInput` for a question that is none or names too many series, `LimitExceeded` where too many watch already.
        """
        if self.clients >= self._most:
            raise LimitExceeded(f"{self._most} watch already", retry_after=10.0)
        if not 0 < len(questions) <= MOST_QUESTIONS:
            raise BadInput(f"{len(questions)} metrics", where="metric", hint=f"1 to {MOST_QUESTIONS} at once")
        self.clients += 1
        found = Subscription(tuple(questions))
        try:
            for question in found.questions:
                watched = self._watched.get(question)
                if watched is None:
                    watched = _Watched()
                    await self._look(question, watched)
                    watched = self._watched.setdefault(question, watched)
                for _, message in watched.values.values():
                    found.tell(message)
                watched.subscriptions.append(found)
        except BaseException:
            self.unsubscribe(found)
            raise
        return found

    def empty(self, question: Question) -> bool:
        """Whether a question that is watched found nothing the last time."""
        watched = self._watched.get(question)
        return watched is not None and not watched.values

    def unsubscribe(self, subscription: Subscription) -> None:
        """Watch no more; a question that nobody watches is asked no more."""
        self.clients -= 1
        self._lost_by_gone += subscription.lost
        for question in subscription.questions:
            watched = self._watched.get(question)
            if watched is not None and subscription in watched.subscriptions:
                watched.subscriptions.remove(subscription)
            if watched is not None and not watched.subscriptions:
                del self._watched[question]

    async def _run(self) -> None:
        while True:
            await self._clock.sleep(self._interval)
            for question, watched in list(self._watched.items()):
                try:
                    await self._look(question, watched)
                except VedetteError as error:
                    self._failed(question, watched, error)
                # A thousand questions must not keep the loop to themselves.
                await asyncio.sleep(0)

    async def _look(self, question: Question, watched: _Watched) -> None:
        """Ask one question and tell what changed."""
        at = now_ms(self._clock)
        result = await self._ask(question.tenant, question.expr, at)
        if result.type not in ("vector", "scalar"):
            raise BadInput(f"a {result.type} where one value of each series is expected", where="metric")
        if len(result) > MOST_SERIES:
            raise BadInput(f"{len(result):,} series", where="metric", hint=f"at most {MOST_SERIES:,}: name fewer, or aggregate")
        labels, values, _ = result.vector()
        now, before = shown_time(at), watched.values
        watched.values, watched.problem = {}, ""
        for i, value in enumerate(values.tolist()):
            row = labels.row(i)
            key = str(row)
            old = before.get(key)
            if old is not None and (old[0] == value or (math.isnan(old[0]) and math.isnan(value))):
                watched.values[key] = old
                continue
            message = _update(question.name, {n: v for n, v in row if n != METRIC_NAME}, value, now)
            watched.values[key] = (value, message)
            self._tell(watched, message)

    def _failed(self, question: Question, watched: _Watched, error: VedetteError) -> None:
        problem = str(error)
        if problem != watched.problem:
            log.warning("a live question cannot be answered now", metric=question.name, reason=problem)
            self._tell(watched, orjson.dumps({"type": "problem", "metric": question.name, "error": problem}))
        watched.problem = problem

    def _tell(self, watched: _Watched, message: bytes) -> None:
        for subscription in watched.subscriptions:
            subscription.tell(message)
        self.told += len(watched.subscriptions)


def _update(name: str, labels: dict[str, str], value: float, now: str) -> bytes:
    shown: dict[str, Any] = {"type": "metric_update", "metric": name, "value": value if math.isfinite(value) else None, "timestamp": now}
    return orjson.dumps({**shown, "labels": labels} if labels else shown)
