"""The scrape loop of one target: when it is asked, what is stored of the answer, and what is stored when there is none.

Every scrape ends in `up` and the `scrape_*` series; series that were there the last time and are not now get stale
markers, and so do all of them when a scrape fails. Not here: how the answer is got (`fetch.py`).
"""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Awaitable, Callable, Coroutine
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
import structlog
from numpy.typing import NDArray

from vedette.clock import Clock, now_ms
from vedette.collect.created import Created
from vedette.collect.families import Families
from vedette.collect.fetch import Fetch, Fetched
from vedette.collect.native import Converter, NativeSettings
from vedette.collect.series import SeriesRules
from vedette.collect.targets import Target
from vedette.errors import BadInput, LimitExceeded, Undeliverable
from vedette.model.labels import METRIC_NAME, Labels
from vedette.model.samples import STALE, Appended, KeySpace, MetricMetadata, SampleBatch
from vedette.wire import exposition_proto
from vedette.wire.exposition import NO_KEYS, Exposition, parse

Append = Callable[[SampleBatch], Awaitable[Appended]]

_log = structlog.get_logger(__name__)
_NO_IDS = np.zeros(0, dtype=np.int64)
_INLINE_BYTES = 16 << 10  # parsed in 0.1 ms, less than a thread's round trip
_FUTURE_MS = 600_000  # as Prometheus: a target's own timestamps may lead ours by ten minutes
_AGAIN_S = 1.0
_TOLERANCE_MS = 2  # as Prometheus: such jitter is rounded away, which makes timestamps compress to nothing

REPORT = (
    "up",
    "scrape_duration_seconds",
    "scrape_samples_scraped",
    "scrape_samples_post_metric_relabeling",
    "scrape_series_added",
)
EXTRA_REPORT = ("scrape_timeout_seconds", "scrape_sample_limit", "scrape_body_size_bytes")
"""Stored as well where `extra_scrape_metrics` is set."""


@dataclass(slots=True)
class TargetState:
    """What is known of a target, for `/api/v1/targets`. Times of the clock in Unix seconds (0: never), durations in seconds.

    `metadata` is what the last answer that was stored said of its metrics, in its order.
    """

    pool: str
    labels: Labels
    discovered: Labels
    url: str
    health: Literal["up", "down", "unknown"] = "unknown"
    last_error: str = ""
    last_scrape: float = 0.0
    last_duration: float = 0.0
    interval_ms: int = 0
    timeout_ms: int = 0
    samples: int = 0
    metadata: tuple[MetricMetadata, ...] = ()


@dataclass(frozen=True, slots=True)
class ScrapeSettings:
    """What a loop does with an answer. `sample_limit` 0 is none."""

    sample_limit: int = 0
    honor_timestamps: bool = True
    track_timestamps: bool = False
    extra_report: bool = False
    native: NativeSettings = field(default_factory=NativeSettings)
    starts: bool = False
    """Whether OpenMetrics' `_created` lines are start timestamps, instead of series."""
    at_once: bool = False
    """Scrape when the loop starts, and a second later, before its place in the interval comes: for what answers at no cost."""


@dataclass(slots=True)
class Seen:
    """The series of the last scrapes by their ids: `tracked` (sorted) are those that get a stale marker when they vanish."""

    tracked: NDArray[np.int64] = field(default_factory=lambda: _NO_IDS)
    stored: NDArray[np.int64] = field(default_factory=lambda: _NO_IDS)
    report: NDArray[np.int64] = field(default_factory=lambda: _NO_IDS)
    _rows: NDArray[np.int64] | None = None

    def update(self, rows: NDArray[np.int64], explicit: NDArray[np.bool_]) -> tuple[NDArray[np.int64], int]:
        """Take in a scrape's ids (int64[n], -1 for none); `explicit` rows are not tracked. Answers (vanished ids, new series)."""
        plain = not explicit.any()
        if plain and self._rows is not None and np.array_equal(rows, self._rows):
            return _NO_IDS, 0  # the steady state costs one comparison
        stored = np.unique(rows[rows >= 0])
        tracked = stored if plain else np.unique(rows[(rows >= 0) & ~explicit])
        vanished = np.setdiff1d(self.tracked, tracked, assume_unique=True)
        added = len(np.setdiff1d(stored, self.stored, assume_unique=True))
        self.tracked, self.stored, self._rows = tracked, stored, rows if plain else None
        return vanished, added

    def lose(self) -> NDArray[np.int64]:
        """All that was tracked, which from now on is not: the scrape failed or the target is gone."""
        lost, self.tracked, self._rows = self.tracked, _NO_IDS, None
        return lost


class ScrapeLoop:
    """Asks one target at its interval until it is stopped.

    `forced_error` (settable) fails every scrape without asking. `scrapes` counts those that ended, well or not, `failures`
    those that broke inside or whose report could not be stored.
    """

    def __init__(
        self,
        pool: str,
        target: Target,
        rules: SeriesRules,
        settings: ScrapeSettings,
        *,
        fetch: Fetch,
        append: Append,
        clock: Clock,
        report_keys: KeySpace,
        families: Families | None = None,
    ) -> None:
        """`families` is shared with the loops whose targets may say the same of their metrics."""
        self.target = target
        self.state = TargetState(
            pool,
            target.labels,
            target.discovered,
            target.url,
            interval_ms=target.interval_ms,
            timeout_ms=target.timeout_ms,
        )
        self.seen = Seen()
        self.forced_error = ""
        self.scrapes = 0
        self.failures = 0
        self._rules = rules
        self._settings = settings
        self._fetch = fetch
        self._append = append
        self._clock = clock
        self._report_keys = report_keys
        self._families = Families() if families is None else families
        self._keyspace = KeySpace(report_keys.tenant, rules.resolve)
        self._metadata_known: int | None = None
        self._keys_known = NO_KEYS
        self._owed = _NO_IDS
        self._kept: dict[bytes, bool] = {}
        self._warm: set[str] = set()
        self._labels_known: dict[bytes, list[str]] = {}
        self._converter = Converter(settings.native.classic_too, settings.native) if settings.native.convert else None
        self._created = Created() if settings.starts else None
        names = REPORT + EXTRA_REPORT if settings.extra_report else REPORT
        self._report = [target.labels.with_({METRIC_NAME: name}) for name in names]

    async def run(self) -> None:
        """Scrape until cancelled. A cancellation waits for what is being stored."""
        interval = self.target.interval_ms / 1000
        due = self._clock.monotonic() + self.first_wait()
        last = 0
        # Twice before its own place in the interval: what asks how fast a counter rises needs two samples, and a start would hide it.
        for wait in (0.0, _AGAIN_S) if self._settings.at_once else ():
            if self._clock.monotonic() + wait < due:
                await self._clock.sleep(wait)
                last = await self._timed(last)
        while True:
            await self._clock.sleep(due - self._clock.monotonic())
            last = await self._timed(last)
            due += interval
            late = self._clock.monotonic() - due
            if late >= interval:
                due += late // interval * interval  # scrapes that could not be are left out, not caught up with

    async def _timed(self, last: int) -> int:
        """Scrape now, and say at which time it is stored (ms), being after the `last`."""
        stamp = self.aligned(last, now_ms(self._clock))
        try:
            await self.scrape(stamp)
        except Exception as error:  # noqa: BLE001 - the loop's edge: whatever broke, the next scrape must come
            self.failures += 1
            self.state.health, self.state.last_error, self.state.last_scrape = "down", f"internal error: {error}", stamp / 1000
            _log.exception("scrape not stored", pool=self.state.pool, url=self.state.url)
        self.scrapes += 1
        return stamp

    def aligned(self, last: int, now: int) -> int:
        """The timestamp (ms) for a scrape at `now`: a whole number of intervals after the `last`, if `now` is as good as that."""
        interval = self.target.interval_ms
        steps = round((now - last) / interval)
        ideal = last + steps * interval
        return ideal if steps > 0 and abs(now - ideal) <= min(_TOLERANCE_MS, interval // 100) else now

    def first_wait(self) -> float:
        """Seconds until the first scrape: each target has its own fixed place in the interval, which spreads the load."""
        interval = self.target.interval_ms
        name = self.target.labels.encode() + self.target.url.encode()
        offset = int.from_bytes(hashlib.blake2b(name, digest_size=8).digest(), "big") % interval
        return ((offset - int(self._clock.now() * 1000)) % interval) / 1000

    async def scrape(self, stamp_ms: int) -> None:
        """One scrape, stored at `stamp_ms`. Never raises for what the target or the storage does."""
        start = self._clock.monotonic()
        exposition: Exposition | None = None
        size = 0
        problem = self.forced_error
        if not problem:
            try:
                fetched = await self._fetch()
                size = len(fetched.body)
                exposition = await self._parsed(fetched, stamp_ms)
            except (BadInput, Undeliverable) as error:
                problem = str(error)
            except Exception as error:  # noqa: BLE001 - whatever a reader of ours raises, the target is down and must be seen to be
                self.failures += 1
                problem = f"internal error: {error}"
                _log.exception("scrape broke", pool=self.state.pool, url=self.state.url)
        await _whole(self._store(stamp_ms, start, exposition, problem, size))

    async def _parsed(self, fetched: Fetched, stamp_ms: int) -> Exposition:
        # The first goes to a thread whatever its size, since kernels may have to be compiled for it.
        if fetched.format in self._warm and len(fetched.body) <= _INLINE_BYTES:
            return self._parse(fetched, stamp_ms)
        parsed = await asyncio.to_thread(self._parse, fetched, stamp_ms)
        self._warm.add(fetched.format)
        return parsed

    def _parse(self, fetched: Fetched, stamp_ms: int) -> Exposition:
        given = (fetched.body, self._keyspace, stamp_ms)
        honor, known = self._settings.honor_timestamps, self._metadata_known
        if fetched.format == "protobuf":
            wanted = self._settings.native.wanted
            found = exposition_proto.parse(*given, wanted=wanted, honor_timestamps=honor, metadata_known=known, known=self._labels_known)
        else:
            openmetrics = fetched.format == "openmetrics"
            found = parse(*given, openmetrics=openmetrics, honor_timestamps=honor, metadata_known=known, keys_known=self._keys_known)
            self._keys_known = found.keys
            if openmetrics and self._created is not None:
                found = self._created.taken(found)
        return found if self._converter is None else self._converter.convert(found)

    async def _store(self, stamp_ms: int, start: float, exposition: Exposition | None, problem: str, size: int) -> None:
        scraped = kept = added = 0
        vanished = _NO_IDS
        if exposition is not None:
            scraped = exposition.batch.sample_count
            self._drop_future(exposition, stamp_ms)
            kept = self._over_limit(exposition.batch)
            if kept:
                problem = f"sample_limit exceeded ({kept} samples, limit {self._settings.sample_limit})"
            else:
                try:
                    appended = await self._append(exposition.batch)
                except (BadInput, LimitExceeded) as error:
                    problem = str(error)
                else:
                    explicit = exposition.explicit
                    if self._settings.track_timestamps:
                        explicit = np.zeros_like(explicit)
                    kept = int(np.count_nonzero(appended.ids >= 0))
                    vanished, added = self.seen.update(appended.ids, explicit)
                    if exposition.metadata_hash != self._metadata_known:
                        self.state.metadata = self._families.shared(exposition.batch.metadata)
                        self._metadata_known = exposition.metadata_hash
        if problem:
            vanished = self.seen.lose()
        duration = self._clock.monotonic() - start
        values = [0.0 if problem else 1.0, duration, float(scraped), float(kept), float(added)]
        if self._settings.extra_report:
            values += [self.target.timeout_ms / 1000, float(self._settings.sample_limit), float(size)]
        state = self.state
        state.health, state.last_error = ("down", problem) if problem else ("up", "")
        state.last_scrape, state.last_duration, state.samples = stamp_ms / 1000, duration, scraped
        await self._finish(stamp_ms, values, vanished)

    def _drop_future(self, exposition: Exposition, stamp_ms: int) -> None:
        """Leave out rows whose own timestamp lies too far ahead: one wrong clock must not move the end of the data."""
        batch = exposition.batch
        good = ~exposition.explicit | (batch.timestamps <= stamp_ms + _FUTURE_MS)
        if good.all():
            return
        _log.warning("samples too far ahead", pool=self.state.pool, url=self.state.url, samples=int(np.count_nonzero(~good)))
        exposition.explicit = exposition.explicit[good]
        exposition.batch = batch.rows(np.flatnonzero(good))

    def _over_limit(self, batch: SampleBatch) -> int:
        """The samples left after relabelling where they are more than the limit, else 0."""
        limit = self._settings.sample_limit
        if not limit or batch.sample_count <= limit:
            return 0
        if not self._rules.relabel_configs:
            return batch.sample_count
        kept = 0
        known: dict[bytes, bool] = {}
        data = batch.buffer.tobytes()
        for start, end in zip(batch.key_start.tolist(), batch.key_end.tolist(), strict=True):
            key = data[start:end]
            keep = self._kept.get(key)
            if keep is None:
                try:
                    keep = self._rules.resolve(key) is not None
                except BadInput:
                    keep = True  # the append refuses it and says why
            known[key] = keep
            kept += keep
        self._kept = known
        return kept if kept > limit else 0

    async def _finish(self, stamp_ms: int, values: list[float], vanished: NDArray[np.int64]) -> None:
        """Store the report and the stale markers; what cannot be stored now is owed, and tried with the next scrape."""
        stale = np.union1d(self._owed, vanished) if len(self._owed) else vanished
        if len(self._owed) and len(self.seen.tracked):
            stale = np.setdiff1d(stale, self.seen.tracked, assume_unique=True)
        try:
            if not len(self.seen.report) or (self.seen.report < 0).any():
                batch = SampleBatch.of(self._report_keys, self._report, [stamp_ms] * len(values), values)
                self.seen.report = (await self._append(batch)).ids
            else:
                ids = np.concatenate([self.seen.report, stale])
                await self._append(self._by_id(ids, stamp_ms, np.concatenate([np.array(values), np.full(len(stale), STALE)])))
                stale = _NO_IDS
            if len(stale):
                await self._append(self._by_id(stale, stamp_ms, np.full(len(stale), STALE)))
            self._owed = _NO_IDS
        except (BadInput, LimitExceeded) as error:
            self._owed = stale
            self.failures += 1
            _log.warning("scrape report not stored", pool=self.state.pool, url=self.state.url, error=str(error))

    def _by_id(self, ids: NDArray[np.int64], stamp_ms: int, values: NDArray[np.float64]) -> SampleBatch:
        return SampleBatch.by_id(self._report_keys, ids, np.full(len(ids), stamp_ms, dtype=np.int64), values)

    async def bury(self, stamp_ms: int) -> None:
        """The target is gone: stale markers for all its series, its report included."""
        ids = np.union1d(np.union1d(self.seen.lose(), self._owed), self.seen.report[self.seen.report >= 0])
        if not len(ids):
            return
        try:
            await self._append(self._by_id(ids, stamp_ms, np.full(len(ids), STALE)))
        except (BadInput, LimitExceeded) as error:
            _log.warning("stale markers not stored", pool=self.state.pool, url=self.state.url, error=str(error))

    def inherit(self, other: ScrapeLoop) -> None:
        """Go on where a loop for the same labels stopped, so that only what really vanishes turns stale."""
        self.seen, self._owed = other.seen, other._owed
        if len(self.seen.report) != len(self._report):
            self.seen.report = _NO_IDS
        self.state.metadata = other.state.metadata

    def close(self) -> None:
        """No more scrapes: storage may forget the target's keys."""
        self._keyspace.close()


async def _whole(work: Coroutine[Any, Any, None]) -> None:
    """Run to the end even when cancelled meanwhile, then be cancelled: half a store would lose track of series."""
    task = asyncio.ensure_future(work)
    try:
        await asyncio.shield(task)
    except asyncio.CancelledError:
        if not task.done():
            await asyncio.wait([task])
        raise
