"""Live values for many who watch: each question is asked once an interval, whoever asks it, and only what changed is told.

A question is a metric, an alias (`cpu_usage`) or PromQL. Whoever reads too slowly loses the oldest updates and is told how many;
nobody makes another one wait. Updates are numbered, so whoever comes back soon gets what came meanwhile. Not here: WebSocket and
server-sent events (`live.py`).
"""

from __future__ import annotations

import asyncio
import contextlib
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
_KEPT = 1024
"""Updates of one question that are kept for those who come back."""
LINGER_S = 60.0
"""How long a question is still asked after the last one who may come back has gone."""

Told = tuple[int, bytes]
"""An update's number, rising (0 for what is said to one client only), and its JSON."""

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
    """One who watches, and may come `back`. `take` waits for updates; `lost` counts those dropped since it was last told."""

    questions: tuple[Question, ...]
    back: bool = False
    waiting: deque[Told] = field(default_factory=deque)
    lost: int = 0
    woken: asyncio.Event = field(default_factory=asyncio.Event)

    def tell(self, message: bytes, number: int = 0) -> None:
        """Put one update in line; the oldest goes where the line is full."""
        if len(self.waiting) >= _HELD:
            self.waiting.popleft()
            self.lost += 1
        self.waiting.append((number, message))
        self.woken.set()

    async def take(self) -> list[Told]:
        """The updates that wait, at least one; first of all how many were lost."""
        while not self.waiting:
            self.woken.clear()
            await self.woken.wait()
        found = list(self.waiting)
        self.waiting.clear()
        if self.lost:
            found.insert(0, (0, orjson.dumps({"type": "updates_dropped", "count": self.lost})))
            self.lost = 0
        return found


@dataclass(slots=True)
class _Watched:
    """One question of one or more subscriptions: `values` are those last told, by labels.

    `since` is the number of the update before its first, `until` the monotonic second at which it ends where nobody watches.
    """

    since: int
    subscriptions: list[Subscription] = field(default_factory=list)
    values: dict[str, tuple[float, Told]] = field(default_factory=dict)
    kept: deque[Told] = field(default_factory=lambda: deque(maxlen=_KEPT))
    problem: str = ""
    until: float = 0.0

    def missed(self, after: int) -> list[Told]:
        """What one has not seen who was told the update numbered `after`: all updates that are kept, or else the values as they are."""
        if after >= self.since and (len(self.kept) < _KEPT or self.kept[0][0] <= after):
            return [told for told in self.kept if told[0] > after]
        return [told for _, told in self.values.values()]


class Updates:
    """Asks and tells. `start` once, `close` at the end. One event loop's.

    `most` is how many may watch at once. `told` counts updates put in line, `lost` those dropped from one.
    """

    def __init__(self, ask: Ask, clock: Clock, *, interval_ms: int, most: int) -> None:
        self._ask, self._clock, self._interval, self._most = ask, clock, interval_ms / 1000, most
        self._watched: dict[Question, _Watched] = {}
        self._task: asyncio.Task[None] | None = None
        # Numbers go on rising over a restart, unless there are a million updates a second.
        self._number = int(clock.now() * 1_000_000)
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

    async def subscribe(self, questions: Sequence[Question], *, after: int = 0, back: bool = False) -> Subscription:
        """Watch from now on; the values as they are come first, or what one has missed since the update numbered `after`.

        For whoever may come `back` the questions are still asked for `LINGER_S` after they have gone.
        Raises `BadInput` for a question that is none or names too many series, `LimitExceeded` where too many watch already.
        """
        if self.clients >= self._most:
            raise LimitExceeded(f"{self._most} watch already", retry_after=10.0)
        if not 0 < len(questions) <= MOST_QUESTIONS:
            raise BadInput(f"{len(questions)} metrics", where="metric", hint=f"1 to {MOST_QUESTIONS} at once")
        self.clients += 1
        found = Subscription(tuple(questions), back)
        first: list[Told] = []
        with contextlib.ExitStack() as undo:
            undo.callback(self.unsubscribe, found)
            for question in found.questions:
                watched = self._watched.get(question)
                if watched is None:
                    watched = _Watched(self._number)
                    await self._look(question, watched)
                    watched = self._watched.setdefault(question, watched)
                first += watched.missed(after) if after else (told for _, told in watched.values.values())
                watched.subscriptions.append(found)
            undo.pop_all()
        # In the order of their numbers, or one who is cut off here would come back with a number above some not yet seen.
        found.waiting = deque(sorted([*first, *found.waiting]))
        if found.waiting:
            found.woken.set()
        return found

    def empty(self, question: Question) -> bool:
        """Whether a question that is watched found nothing the last time."""
        watched = self._watched.get(question)
        return watched is not None and not watched.values

    def unsubscribe(self, subscription: Subscription) -> None:
        """Watch no more; a question that nobody watches, nor may come back to, is asked no more."""
        self.clients -= 1
        self._lost_by_gone += subscription.lost
        for question in subscription.questions:
            watched = self._watched.get(question)
            if watched is not None and subscription in watched.subscriptions:
                watched.subscriptions.remove(subscription)
            if watched is not None and subscription.back and len(self._watched) <= self._most:
                watched.until = self._clock.monotonic() + LINGER_S
            self._let_go(question)

    def _let_go(self, question: Question) -> None:
        watched = self._watched.get(question)
        if watched is not None and not watched.subscriptions and self._clock.monotonic() >= watched.until:
            del self._watched[question]

    async def _run(self) -> None:
        while True:
            await self._clock.sleep(self._interval)
            for question, watched in list(self._watched.items()):
                self._let_go(question)
                if question not in self._watched:
                    continue
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
            watched.values[key] = (value, self._tell(watched, message))

    def _failed(self, question: Question, watched: _Watched, error: VedetteError) -> None:
        problem = str(error)
        if problem != watched.problem:
            log.warning("a live question cannot be answered now", metric=question.name, reason=problem)
            self._tell(watched, orjson.dumps({"type": "problem", "metric": question.name, "error": problem}))
        watched.problem = problem

    def _tell(self, watched: _Watched, message: bytes) -> Told:
        self._number += 1
        told = self._number, message
        watched.kept.append(told)
        for subscription in watched.subscriptions:
            subscription.tell(message, self._number)
        self.told += len(watched.subscriptions)
        return told


def _update(name: str, labels: dict[str, str], value: float, now: str) -> bytes:
    shown: dict[str, Any] = {"type": "metric_update", "metric": name, "value": value if math.isfinite(value) else None, "timestamp": now}
    return orjson.dumps({**shown, "labels": labels} if labels else shown)
