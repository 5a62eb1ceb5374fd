"""Tracked metrics: observations that services push one by one, accumulated into series that PromQL can read.

A counter's `value` is an increment, a gauge's its new value, a histogram's and a summary's one observation; what is
stored is what a Prometheus client would expose after it. Requests that wait together are accumulated and appended
together: one sample a series, durable before any of them is answered, and nothing is kept in memory of an append that
failed. A series met for the first time goes on from its last stored value, so a restart is no counter reset.
Values that nobody changes are written again every `collection_interval`, as if they were scraped: else a counter that
moves once in ten minutes would vanish in between and never have a rate. What only rises begins with a zero a minute before
its first observation, since a rise needs two samples: else the first of all requests would never be counted. Not here: JSON
and HTTP (`api`), the storage.
"""

from __future__ import annotations

import asyncio
import copy
import math
from collections import deque
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from vedette.clock import Clock, now_ms
from vedette.errors import BadInput, LimitExceeded, VedetteError
from vedette.ingest.accumulate import KINDS, CounterState, GaugeState, HistogramState, Kind, State, SummaryState, bound_text, part
from vedette.ingest.rounds import Rounds
from vedette.ingest.settings import TrackSettings
from vedette.model.labels import METRIC_NAME, Labels
from vedette.model.matchers import Matcher
from vedette.model.samples import Appended, KeySpace, MetricMetadata, SampleBatch, canonical, is_stale
from vedette.storage.interface import Storage
from vedette.storage.limits import REASONS, SERIES_LIMIT, TenantLimit

_HOUR_MS = 3_600_000
BIRTH_MS = 60_000
"""How long before its first observation a series that only rises begins, at zero."""
_IDLE_S = 24 * 3600.0
_FULL_S = 60.0
"""When to try again where a tenant has as many series as it may: room is looked for each minute."""
_MAX_LABELS = 64
_MAX_TEXT = 4096
# Where a service that is named twice goes: beside the labels, under the first of these names that they leave free.
_SERVICE_LABELS = ("service", "job", "source_service")


@dataclass(frozen=True, slots=True)
class Tracked:
    """What one tenant tracked since the start: observations taken and refused, and its series now.

    `windows` are those of aggregation, within its retention, in which observations came; `fresh` the series that had one there.
    """

    collected: int
    dropped: int
    series: int
    windows: int
    fresh: int


@dataclass(frozen=True, slots=True)
class Observation:
    """One tracked value of one series; `labels` include the metric's name."""

    labels: Labels
    kind: Kind
    value: float


def observation(
    name: str, kind: str, value: float, *, labels: Mapping[str, str], service: str | None = None, tenant_id: str | None = None
) -> Observation:
    """A checked observation. Raises `BadInput` whose `where` is the field at fault (`labels.le`)."""
    if not name:
        raise BadInput("a metric needs a name", where="name")
    _short(name, "name")
    if kind not in KINDS:
        raise BadInput(f"{kind!r} is not a metric type", where="type", hint="expected one of " + ", ".join(KINDS))
    if not math.isfinite(value):
        raise BadInput("not a finite number", where="value")
    if kind == "counter" and value < 0:
        raise BadInput("a counter only goes up", where="value", hint="a counter's value is the increment; track a gauge for what may fall")
    if len(labels) > _MAX_LABELS:
        raise BadInput(f"{len(labels)} labels", where="labels", hint=f"at most {_MAX_LABELS}")
    reserved = {"histogram": "le", "summary": "quantile"}.get(kind, "")
    for label, text in labels.items():
        where = f"labels.{label}"
        if not label or label.startswith("__") or label == reserved:
            raise BadInput(f"{label!r} is not a name for a label of a {kind}", where=where)
        _short(label, where)
        _short(text, where)
    merged = dict(labels)
    if tenant_id:
        _short(tenant_id, "tenant_id")
        if merged.setdefault("tenant_id", tenant_id) != tenant_id:
            raise BadInput("contradicts the label of the same name", where="tenant_id")
    if service:
        _short(service, "service")
        if service not in (merged.get(n) for n in _SERVICE_LABELS):
            free = next((n for n in _SERVICE_LABELS if n not in merged), None)
            if free is None:
                raise BadInput("the labels leave no name for it", where="service", hint="leave one of the labels service and job out")
            merged[free] = service
    return Observation(Labels.of({**merged, METRIC_NAME: name}), kind, value)


def _short(text: str, where: str) -> None:
    if len(text) > _MAX_TEXT:
        raise BadInput(f"{len(text)} characters", where=where, hint=f"at most {_MAX_TEXT}")


_Key = tuple[str, Labels]


@dataclass(slots=True, eq=False)
class _Waiting:
    """A request's observations, and what became of each once `done`: a reason, or None for a stored one."""

    tenant: str
    observations: Sequence[Observation]
    reasons: list[VedetteError | None] = field(default_factory=list)
    failure: VedetteError | None = None
    done: bool = False


class Tracker:
    """Accumulates observations and appends what comes of them.

    `run(function, *args)` runs a blocking function on a worker thread. `collected`, `points`, `dropped` and `failures`
    count observations taken, samples written, observations refused by reason and refreshes that failed, since the start.
    `window` and `retention` are those of aggregates, in ms: what came is counted by them.
    """

    def __init__(
        self,
        storage: Storage,
        append: Callable[[SampleBatch], Awaitable[Appended]],
        *,
        run: Callable[..., Awaitable[Any]],
        clock: Clock,
        settings: TrackSettings,
        window: int = 300_000,
        retention: int = 86_400_000,
    ) -> None:
        self._window, self._retention = window, retention
        self._windows: dict[str, deque[int]] = {}
        self._storage = storage
        self._append = append
        self._run = run
        self._clock = clock
        self._settings = settings
        self._series: dict[_Key, State] = {}
        self._kinds: dict[tuple[str, str], Kind] = {}
        self._keyspaces: dict[str, KeySpace] = {}
        self._waiting: list[_Waiting] = []
        self._turn = asyncio.Lock()
        self._last_ms = 0
        self.points = 0
        self._collected: dict[str, int] = {}
        self._dropped: dict[tuple[str, str], int] = {}
        seconds = settings.collection_interval / 1000
        self._refreshing = Rounds(self.refresh, clock, seconds=lambda: seconds, problem="tracked values not written again")

    @property
    def failures(self) -> int:
        """Rounds in which idle values could not be written again."""
        return self._refreshing.failures

    @property
    def series(self) -> int:
        """How many series are tracked now."""
        return len(self._series)

    @property
    def collected(self) -> int:
        """Observations taken."""
        return sum(self._collected.values())

    @property
    def dropped(self) -> dict[str, int]:
        """Observations refused, by reason."""
        found: dict[str, int] = {}
        for (_, reason), count in self._dropped.items():
            found[reason] = found.get(reason, 0) + count
        return found

    def of(self, tenant: str) -> Tracked:
        """One tenant's counts."""
        dropped = sum(count for (whose, _), count in self._dropped.items() if whose == tenant)
        theirs = [state.used for (whose, _), state in self._series.items() if whose == tenant]
        fresh = sum(used >= self._clock.monotonic() - self._retention / 1000 for used in theirs)
        first = (now_ms(self._clock) - self._retention) // self._window
        windows = sum(window > first for window in self._windows.get(tenant, ()))
        return Tracked(self._collected.get(tenant, 0), dropped, len(theirs), windows, fresh)

    def _came(self, tenant: str) -> None:
        """Note the window that observations came in."""
        found = self._windows.setdefault(tenant, deque(maxlen=-(-self._retention // self._window) + 1))
        now = now_ms(self._clock) // self._window
        if not found or found[-1] != now:
            found.append(now)

    async def track(self, tenant: str, observations: Sequence[Observation]) -> list[VedetteError | None]:
        """For each observation None once it is durable, or why it was not taken. Raises what storage raises; then none was taken."""
        mine = _Waiting(tenant, observations)
        self._waiting.append(mine)
        async with self._turn:
            # Whoever gets the turn commits for all who wait, so one sync of the log serves them together.
            if not mine.done:
                waiting, self._waiting = self._waiting, []
                await self._commit(waiting)
        if mine.failure is not None:
            raise mine.failure
        return mine.reasons

    def start(self) -> None:
        """Begin to write idle values again; needs a running loop."""
        if self._settings.collection_interval:
            self._refreshing.start()

    async def close(self) -> None:
        """Stop writing idle values, and wait for the commit at work."""
        await self._refreshing.close()
        async with self._turn:
            pass

    async def refresh(self) -> None:
        """Write the values of all series that had an observation within the last day once more. Raises what storage raises."""
        async with self._turn:
            since = self._clock.monotonic() - _IDLE_S
            live: dict[str, dict[Labels, State]] = {}
            for (tenant, labels), state in self._series.items():
                if state.used >= since:
                    live.setdefault(tenant, {})[labels] = state
            for tenant, series in live.items():
                await self._store(tenant, series, {})

    async def _commit(self, waiting: Sequence[_Waiting]) -> None:
        failure: VedetteError = LimitExceeded("not stored: the server failed or is closing", retry_after=5.0)
        staged: dict[_Key, State] = {}
        kinds: dict[tuple[str, str], Kind] = {}
        try:
            await self._prepare(waiting, staged, kinds)
            refused: dict[_Key, VedetteError] = {}
            for tenant in {w.tenant for w in waiting}:
                found = await self._store(tenant, {labels: s for (t, labels), s in staged.items() if t == tenant}, kinds)
                refused |= {(tenant, labels): reason for labels, reason in found.items()}
        except VedetteError as error:
            failure = error
        else:
            self._leave_out(waiting, staged, refused)
            for state in staged.values():
                state.born = False
            self._series |= staged
            stored = {(tenant, labels.metric) for tenant, labels in staged}
            self._kinds |= {name: kind for name, kind in kinds.items() if name in stored}
            for request in waiting:
                request.done = True
                taken = sum(reason is None for reason in request.reasons)
                self._collected[request.tenant] = self._collected.get(request.tenant, 0) + taken
                if taken:
                    self._came(request.tenant)
        finally:
            for request in waiting:
                if not request.done:
                    request.done, request.failure = True, failure

    def _leave_out(self, waiting: Sequence[_Waiting], staged: dict[_Key, State], refused: Mapping[_Key, VedetteError]) -> None:
        """Forget what storage did not take, and tell those who sent it."""
        for key in refused:
            del staged[key]
        for request in waiting if refused else ():
            for i, seen in enumerate(request.observations):
                if request.reasons[i] is None and (reason := refused.get((request.tenant, seen.labels))) is not None:
                    request.reasons[i] = reason
                    self._drop(request.tenant, "series_limit" if isinstance(reason, LimitExceeded) else "limit")

    async def _prepare(self, waiting: Sequence[_Waiting], staged: dict[_Key, State], kinds: dict[tuple[str, str], Kind]) -> None:
        """Fill `staged` with what the series come to, and each request's `reasons`."""
        new: dict[_Key, Kind] = {}
        now = self._clock.monotonic()
        for request in waiting:
            for seen in request.observations:
                key = (request.tenant, seen.labels)
                reason = await self._kind_clash(request.tenant, seen, kinds)
                if reason is None and key in self._series:
                    self._series[key].used = now  # before another series of this commit makes it give way
                elif reason is None and key not in new:
                    if self._room(len(new)):
                        new[key] = seen.kind
                    else:
                        reason = LimitExceeded(f"more than {self._settings.max_series} series are tracked", retry_after=None)
                        self._drop(request.tenant, "series_limit")
                request.reasons.append(reason)
        if new:
            staged |= await self._run(self._restore, new)
        for request in waiting:
            for seen, reason in zip(request.observations, request.reasons, strict=True):
                if reason is None:
                    key = (request.tenant, seen.labels)
                    state = staged.get(key) or staged.setdefault(key, copy.copy(self._series[key]))
                    state.observe(seen.value)
                    state.used = now

    async def _kind_clash(self, tenant: str, seen: Observation, kinds: dict[tuple[str, str], Kind]) -> VedetteError | None:
        name = (tenant, seen.labels.metric)
        kind: str | None = kinds.get(name) or self._kinds.get(name)
        if kind is None:
            stored = await self._run(self._storage.metadata, *name)
            kind = next((m.type for m in stored if m.type in KINDS), None) or seen.kind
        if kind != seen.kind:
            self._drop(tenant, "type")
            return BadInput(f"{seen.labels.metric} is a {kind}", where="type", hint="one metric has one type")
        kinds[name] = seen.kind
        return None

    def _drop(self, tenant: str, reason: str) -> None:
        self._dropped[tenant, reason] = self._dropped.get((tenant, reason), 0) + 1

    def _room(self, new: int) -> bool:
        """Whether one more series may be tracked; those idle for a day make room, since storage remembers their values."""
        if len(self._series) + new < self._settings.max_series:
            return True
        since = self._clock.monotonic() - _IDLE_S
        for key in [k for k, state in self._series.items() if state.used < since]:
            del self._series[key]
        return len(self._series) + new < self._settings.max_series

    async def _store(
        self, tenant: str, series: Mapping[Labels, State], kinds: Mapping[tuple[str, str], Kind]
    ) -> dict[Labels, VedetteError]:
        """Append what the series come to; answers those of which something was not taken, and why."""
        if not series:
            return {}
        metadata = [MetricMetadata(metric, kind) for (t, metric), kind in kinds.items() if t == tenant and (t, metric) not in self._kinds]
        batch, owners = await self._run(self._batch, tenant, series, metadata)
        appended = await self._append(batch)
        self.points += appended.samples
        reasons = [reason for reason in REASONS if reason in appended.dropped]
        if not reasons:
            return {}
        if reasons == [SERIES_LIMIT]:
            why: VedetteError = TenantLimit(f"tenant {tenant!r} has as many series as it may (limits: max_series)", retry_after=_FULL_S)
        else:
            why = BadInput("not stored: " + ", ".join(reason.replace("_", " ") for reason in reasons), where="labels", hint="see limits")
        return {owners[row]: why for row in (appended.ids < 0).nonzero()[0].tolist()}

    def _batch(self, tenant: str, series: Mapping[Labels, State], metadata: Sequence[MetricMetadata]) -> tuple[SampleBatch, list[Labels]]:
        """What the series come to now, as samples, and of which of them each row is. Runs on a worker thread: histograms are many rows."""
        made = [(labels, row) for labels, state in series.items() for row in state.samples(labels)]
        zeros = [(labels, zero) for labels, state in series.items() if state.born for zero in _zeros(labels, state)]
        rows, born = [row for _, row in made], [zero for _, zero in zeros]
        # Two commits may fall into one millisecond, and a second value for a time is a duplicate.
        self._last_ms = max(now_ms(self._clock), self._last_ms + 1)
        keyspace = self._keyspaces.setdefault(tenant, canonical(tenant))
        names, values = [*born, *(r[0] for r in rows)], [*(0.0 for _ in born), *(r[1] for r in rows)]
        times = [self._last_ms - BIRTH_MS] * len(born) + [self._last_ms] * len(rows)
        batch = SampleBatch.of(keyspace, names, times, values, metadata=metadata)
        return batch, [labels for labels, _ in zeros] + [labels for labels, _ in made]

    def _restore(self, new: Mapping[_Key, Kind]) -> dict[_Key, State]:
        return {key: self._restored(*key, kind) for key, kind in new.items()}

    def _restored(self, tenant: str, labels: Labels, kind: Kind) -> State:
        """A series' state as storage last had it, or a new one. Runs on a worker thread."""
        settings = self._settings
        if kind == "counter":
            before = self._last(tenant, labels)
            return CounterState(before or 0.0, born=before is None)
        if kind == "gauge":
            return GaugeState()
        total, count = (self._last(tenant, part(labels, suffix)) for suffix in ("_sum", "_count"))
        if kind == "summary":
            return SummaryState(deque(maxlen=settings.max_points), total or 0.0, count or 0.0, born=count is None)
        bounds = settings.metric_buckets.get(labels.metric, settings.buckets)
        fresh = HistogramState(bounds, [0.0] * (len(bounds) + 1), born=count is None)
        if not count:
            return fresh
        stored = [self._last(tenant, part(labels, "_bucket", le=bound_text(b))) for b in (*bounds, math.inf)]
        upto = [b for b in stored if b is not None]
        if len(upto) != len(stored) or upto[-1] != count:
            # Other bounds than before: what is stored cannot be told apart by them, so the histogram begins anew.
            return fresh
        return HistogramState(bounds, [b - a for a, b in zip([0.0, *upto], upto, strict=False)], total or 0.0)

    def _last(self, tenant: str, labels: Labels) -> float | None:
        """The last stored value of exactly this series, None where there is none."""
        now = now_ms(self._clock)
        matchers = [Matcher(n, "=", v) for n, v in labels]
        for start in (now - _HOUR_MS, now - 24 * _HOUR_MS, 0):
            found = self._storage.select(tenant, matchers, start, now + _HOUR_MS)
            for i in range(len(found)):
                values = found.values[found.offsets[i] : found.offsets[i + 1]]
                values = values[~is_stale(values)]
                if len(values) and found.labels.row(i) == labels:
                    return float(values[-1])
        return None


def _zeros(labels: Labels, state: State) -> list[Labels]:
    """The series of a metric that rise from zero: a gauge has none, and no quantile does."""
    if state.kind == "gauge":
        return []
    return [row for row, _ in state.samples(labels) if state.kind != "summary" or "quantile" not in row.as_dict()]
