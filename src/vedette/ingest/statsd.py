"""StatsD over TCP and UDP: what is sent adds up here, and is written every interval as if it were scraped.

A counter begins with a zero, so that its first rise counts; it begins anew with each start of the server, which `rate` knows as a reset.
What came since the last interval is in memory alone: StatsD tells nobody that something was taken. A series that gets nothing for its
time to live ends with a stale marker. Not here: lines (`wire.statsd`), sockets, mapping rules.
"""

from __future__ import annotations

import asyncio
import dataclasses
import functools
from collections import Counter
from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import structlog

from vedette.clock import Clock, now_ms
from vedette.errors import BadInput, LimitExceeded, VedetteError
from vedette.ingest.aggregates import Aggregate, CounterSum, GaugeLast, SetSize, aggregate_of
from vedette.ingest.mapping import Kind, Mapper, labels_for, mapper_of
from vedette.ingest.rounds import Rounds
from vedette.ingest.socket_settings import StatsdSettings
from vedette.ingest.sockets import Lines, Listening, Sockets
from vedette.model.labels import Labels
from vedette.model.samples import STALE, Appended, KeySpace, MetricMetadata, SampleBatch, canonical
from vedette.wire.statsd import KINDS, Bad, Sent, parse_line

log = structlog.get_logger(__name__)

Append = Callable[[SampleBatch], Awaitable[Appended]]

_A_TURN = 1_000
"""Lines, or metrics, that are worked on before whatever else is ready has its turn: about a millisecond."""
_MOST_KNOWN = 100_000
_LONGEST_KNOWN = 512
"""Bytes of the longest line that is remembered: a hundred thousand of the longest there may be would fill the memory."""
_DIGITS = b"0123456789."
_KINDS: dict[str, Kind] = {"c": "counter", "g": "gauge", "ms": "observer", "h": "observer", "d": "observer", "s": "gauge"}


@dataclass(slots=True)
class StatsdCounts:
    """Since the start: lines taken, and what was not taken by reason."""

    lines: int = 0
    dropped: Counter[str] = field(default_factory=Counter)


@dataclass(slots=True, eq=False)
class _Metric:
    """One metric and label set; `scale` is what values are multiplied by, `ttl` in seconds, 0 for ever."""

    labels: Labels
    state: Aggregate
    rows: list[Labels]
    scale: float
    ttl: float
    help: str
    used: float = 0.0
    born: bool = True


class Statsd:
    """The listeners of one tenant and what they add up to. `apply` puts settings in force, `start` writes, `close` ends.

    `run(function, *args)` runs a blocking function on a worker thread; `base` is where a mapping file is looked for.
    """

    def __init__(self, append: Append, clock: Clock, *, run: Callable[..., Awaitable[Any]], base: Path, insecure: bool) -> None:
        self.counts = StatsdCounts()
        self._append = append
        self._clock = clock
        self._run = run
        self._base = base
        self._insecure = insecure
        self._settings = StatsdSettings()
        self._mapper: Mapper | None = None
        self._sockets: Sockets | None = None
        self._keyspace: KeySpace = canonical(self._settings.tenant)
        self._metrics: dict[Labels, _Metric] = {}
        self._names: dict[str, tuple[str, int]] = {}
        # What lines come to: whole ones of counters, since most are the same; of others what stands around the value.
        self._lines: dict[bytes, tuple[_Metric, float]] = {}
        self._forms: dict[tuple[bytes, bytes], tuple[_Metric, float]] = {}
        self._batch: SampleBatch | None = None
        self._ended: list[_Metric] = []
        self._last_ms = now_ms(clock)
        self._last_written = clock.monotonic()
        self._turn = asyncio.Lock()
        self._rounds = Rounds(
            self.write, clock, seconds=lambda: self._settings.interval / 1000, problem="what statsd counted is not written"
        )

    @property
    def failures(self) -> int:
        """Intervals that could not be written."""
        return self._rounds.failures

    @property
    def series(self) -> int:
        """How many metrics, label sets counted apart, are kept now."""
        return len(self._metrics)

    @property
    def ports(self) -> list[int]:
        """The ports listened on: TCP, UDP, of those that there are."""
        return self._sockets.ports if self._sockets is not None else []

    async def apply(self, settings: StatsdSettings) -> None:
        """Listen as the settings say; what was counted goes on.

        Raises `BadInput`, and `LimitExceeded` where what was counted for another tenant cannot be written; then what was in force stays.
        """
        if settings == self._settings and not settings.mapping_file:
            return
        file = self._base / settings.mapping_file if settings.mapping_file else None
        mapper = mapper_of(settings.mappings, file, where="statsd.mappings", strict=settings.strict, observer=settings.observer)
        before = self._settings, self._mapper
        if self._sockets is not None and _ways(settings) == _ways(self._settings):
            # Whoever is connected stays so, and what waits in the system is not lost.
            self._put(settings, mapper)
            return
        await self._listen(listening=False)
        try:
            if settings.tenant != self._settings.tenant:
                await self._forget()
                self._keyspace = canonical(settings.tenant)
            self._put(settings, mapper)
            await self._listen(listening=True)
        except VedetteError:
            self._put(*before)
            self._keyspace = canonical(self._settings.tenant)
            await self._listen(listening=True)
            raise
        if self._sockets is not None and not self._rounds.started:
            self._last_ms = now_ms(self._clock)
            self._rounds.start()

    def _put(self, settings: StatsdSettings, mapper: Mapper | None) -> None:
        self._settings, self._mapper = settings, mapper
        # What lines come to is another thing by other rules.
        self._lines.clear()
        self._forms.clear()

    async def _listen(self, *, listening: bool) -> None:
        if self._sockets is not None:
            await self._sockets.close()
            self._sockets = None
        settings = self._settings
        places = [
            Listening("statsd.tcp", settings.tcp, self.take, lambda: Lines(settings.max_line, self._too_long)),
            Listening("statsd.udp", settings.udp, self.take),
        ]
        places = [one for one in places if one.place]
        if listening and places:
            sockets = Sockets(places, self._clock, allow=settings.allow, insecure=self._insecure, dropped=self.counts.dropped)
            await sockets.start()
            self._sockets = sockets
            log.info("statsd is taken", tcp=settings.tcp or "no", udp=settings.udp or "no")

    def _too_long(self) -> None:
        self._lost("too_long", f"a line of more than {self._settings.max_line} bytes")

    def _lost(self, reason: str, problem: str) -> None:
        if self._sockets is not None:
            self._sockets.lost(reason, 1, problem, protocol="statsd")
        else:
            self.counts.dropped[reason] += 1

    def drops(self) -> dict[str, int]:
        """What was not taken since the start, by reason, what the system dropped included."""
        if self._sockets is not None:
            self._sockets.count_drops()
        return dict(self.counts.dropped)

    async def take(self, data: bytes) -> None:
        """Count whole lines. Of one that is none nothing is taken, of the others all."""
        lines = data.split(b"\n")
        for i in range(0, len(lines), _A_TURN):
            self._take(lines[i : i + _A_TURN], self._clock.monotonic())
            if i + _A_TURN < len(lines):
                await asyncio.sleep(0)

    def _take(self, lines: Iterable[bytes], now: float) -> None:
        known, forms, most = self._lines, self._forms, self._settings.max_line
        taken = 0
        for line in lines:
            hit = known.get(line)
            if hit is not None:
                metric, value = hit
                metric.used = now
                metric.state.total += value  # type: ignore[attr-defined]  # those that are known whole are counters
                taken += 1
                continue
            if not line or line == b"\r":
                continue
            head, _, rest = line.partition(b":")
            text, _, rest = rest.partition(b"|")
            form = forms.get((head, rest))
            try:
                value = float(text)
            except ValueError:  # no number, or several
                form = None
            # Not finite, a change of a gauge, a number as only Python writes it: whatever is odd is looked at closely.
            plain = form is not None and value - value == 0.0 and text[0] in _DIGITS and text[-1] in _DIGITS and b"_" not in text
            if form is not None and plain and len(line) <= most:
                metric, weight = form
                metric.state.take(value * metric.scale, weight, now)
                metric.used = now
                taken += 1
                continue
            try:
                self._parsed(line, (head, rest), now)
                taken += 1
            except Bad as error:
                self._lost(error.problem, error.where or line[:200].decode("utf-8", "replace"))
        self.counts.lines += taken

    def _parsed(self, line: bytes, form: tuple[bytes, bytes], now: float) -> None:
        """A line that is not known: its values are taken, and how it looks is remembered."""
        if len(line) > self._settings.max_line:
            raise Bad("too_long", where=line[:200].decode("utf-8", "replace"))
        found = parse_line(line)
        metrics = [self._metric(sent) for sent in found]
        for sent, metric in zip(found, metrics, strict=True):
            if metric is not None:
                metric.used = now
                _add(metric, sent, now)
        if len(found) > 1 or metrics[0] is None or found[0].kind == "s" or len(line) > _LONGEST_KNOWN:
            return
        if len(self._forms) >= _MOST_KNOWN:
            self._forms.clear()
        self._forms[form] = (metrics[0], found[0].weight)
        if isinstance(metrics[0].state, CounterSum):
            if len(self._lines) >= _MOST_KNOWN:
                self._lines.clear()
            self._lines[line] = (metrics[0], found[0].value * metrics[0].scale * found[0].weight)

    def _metric(self, sent: Sent) -> _Metric | None:
        """Where a value goes, None where the rules drop it. Raises `Bad`."""
        settings = self._settings
        assert self._mapper is not None, "listened for only with one"
        mapped = self._mapper.find(sent.name, _KINDS[sent.kind])
        if mapped is None:
            return None
        try:
            labels = labels_for(mapped, sent.tags, settings.names, settings.labels)
        except BadInput as error:
            raise Bad("bad_tag", where=str(error)) from None
        name = labels.metric
        known, series = self._names.get(name, ("", 0))
        if known and known != _told(sent.kind, known):
            raise Bad("type", where=f"{name} is a {known}, and a {KINDS[sent.kind]} of this name was sent")
        found = self._metrics.get(labels)
        if found is not None:
            return found
        if len(self._metrics) >= settings.max_series:
            raise Bad("max_series", where=f"more than {settings.max_series} metrics are kept (statsd.max_series)")
        state = aggregate_of(sent.kind, mapped.observing, max_points=settings.max_points, max_members=settings.max_members)
        ttl = settings.ttl if mapped.ttl is None else mapped.ttl
        # StatsD's timers are milliseconds, Prometheus' metrics seconds.
        scale = mapped.scale * (0.001 if sent.kind == "ms" else 1.0)
        found = _Metric(labels, state, state.rows(labels), scale, ttl / 1000, mapped.help)
        self._metrics[labels] = found
        self._names[name] = (state.type, series + 1)
        self._batch = None
        return found

    async def write(self) -> None:
        """Write all values, durable when it returns. Raises what storage raises; then all is written the next time."""
        async with self._turn:
            stamp, now = max(now_ms(self._clock), self._last_ms + 2), self._clock.monotonic()
            self._end_idle(now)
            metrics = list(self._metrics.values())
            if not metrics and not self._ended:
                self._last_ms = stamp
                return
            values: list[float] = []
            for i in range(0, len(metrics), _A_TURN):
                for metric in metrics[i : i + _A_TURN]:
                    values += metric.state.values(now)
                    metric.state.written()
                await asyncio.sleep(0)
            born = [metric for metric in metrics if metric.born]
            batch = self._batch
            if batch is None:
                batch = await self._run(_keyed, self._keyspace, metrics)
                # One that came meanwhile has its place only in the next.
                self._batch = batch if len(self._metrics) == len(metrics) else None
            stamps = np.full(len(values), stamp, dtype=np.int64)
            try:
                # First what lies before: behind a later value of its series a zero would be out of order.
                await self._first_and_last(born, stamp)
                await self._append(_partial(dataclasses.replace(batch, timestamps=stamps, values=np.array(values, dtype=np.float64))))
            except VedetteError:
                for state in (metric.state for metric in metrics):
                    if isinstance(state, SetSize):
                        state.unwritten()
                raise
            self._last_ms, self._last_written = stamp, now

    async def _first_and_last(self, born: Sequence[_Metric], stamp: int) -> None:
        """The zeros that what rises began with, just behind the last interval, and the stale markers of what ended."""
        zeros = [row for metric in born for row, rises in zip(metric.rows, metric.state.rises(), strict=True) if rises]
        gone = [row for metric in self._ended for row in metric.rows if metric.labels not in self._metrics]
        times = [self._last_ms + 1] * len(zeros) + [stamp] * len(gone)
        values = [0.0] * len(zeros) + [STALE] * len(gone)
        told = {metric.labels.metric: MetricMetadata(metric.labels.metric, metric.state.type, metric.help) for metric in born}
        if zeros or gone or told:
            made = functools.partial(SampleBatch.of, self._keyspace, [*zeros, *gone], times, values, metadata=list(told.values()))
            await self._append(_partial(await self._run(made)))
        for metric in born:
            metric.born = False
        self._ended.clear()

    def _end_idle(self, now: float) -> None:
        # What came since the last interval is written once at least, however short its time to live.
        last = self._last_written
        ended = [m for m in self._metrics.values() if m.ttl and now - m.used >= m.ttl and m.used <= last and not m.born]
        self._end(ended)

    def _end(self, ended: Sequence[_Metric]) -> None:
        for metric in ended:
            del self._metrics[metric.labels]
            kind, series = self._names[metric.labels.metric]
            if series > 1:
                self._names[metric.labels.metric] = (kind, series - 1)
            else:
                del self._names[metric.labels.metric]
        if ended:
            self._ended += ended
            self._batch = None
            # Lines that are known lead to what is no more.
            self._lines.clear()
            self._forms.clear()

    async def _forget(self) -> None:
        """End all series: they are another tenant's from now on."""
        await self.write()
        self._end(list(self._metrics.values()))
        await self.write()

    async def close(self) -> None:
        """Stop listening, and write what was counted."""
        await self._listen(listening=False)
        if self._rounds.started:
            await self._rounds.close()
            try:
                await self.write()
            except LimitExceeded as error:
                self._rounds.failures += 1
                log.error("what statsd counted last is not written", reason=str(error))


def _ways(settings: StatsdSettings) -> tuple[object, ...]:
    """What listening depends on; for another tenant nothing may come while what was counted for this one is written."""
    return settings.tcp, settings.udp, settings.allow, settings.max_line, settings.tenant


def _add(metric: _Metric, sent: Sent, now: float) -> None:
    state = metric.state
    if isinstance(state, SetSize):
        state.add(sent.text)
    elif sent.relative and isinstance(state, GaugeLast):
        state.change(sent.value * metric.scale)
    else:
        state.take(sent.value * metric.scale, sent.weight, now)


def _told(kind: str, known: str) -> str:
    """What a metric of a kind is called, given what one of its name is: both forms of observations go together."""
    if kind in ("ms", "h", "d"):
        return known if known in ("summary", "histogram") else "summary"
    return "counter" if kind == "c" else "gauge"


def _keyed(keyspace: KeySpace, metrics: Sequence[_Metric]) -> SampleBatch:
    rows = [row for metric in metrics for row in metric.rows]
    return SampleBatch.of(keyspace, rows, np.zeros(len(rows), dtype=np.int64), np.zeros(len(rows)))


def _partial(batch: SampleBatch) -> SampleBatch:
    batch.partial = True
    return batch
