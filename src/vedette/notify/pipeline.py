"""From a group that is due to a channel that was told: one list of stages, each of which may say why nothing is sent.

    group:    inhibited, outside_active_times, in_mute_times, silenced, acknowledged
    channel:  dedup, send

Alertmanager's order, with what we add at its end. What was sent, failed or kept quiet is noted in the log of notifications, in
the transaction that makes it so. Not here: which group is due (`notifier.py`).
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

import structlog

from vedette.clock import Clock, now_ms
from vedette.errors import BadInput, LimitExceeded, Undeliverable
from vedette.notify.groups import AlertGroup
from vedette.notify.held import Held
from vedette.notify.history import History
from vedette.notify.intervals import NamedIntervals
from vedette.notify.notice import Channel, Notice, Receipt
from vedette.notify.quiet import Quieting, Reason
from vedette.notify.route import Route
from vedette.notify.told import News, Place, begun, ended, news, waiting
from vedette.records.rows import DeliveryRow, NotificationRow

if TYPE_CHECKING:
    from vedette.records.database import Records

log = structlog.get_logger(__name__)

MIN_DEADLINE_S = 10.0
UNANSWERED_S = 1.0
"""After how long without an answer a notification no longer counts as told if the process dies."""

_BACKOFF_S, _BACKOFF_FACTOR, _BACKOFF_MAX_S = 0.5, 1.5, 60.0


WhyMuted = Callable[[Held], Reason | None]
"""Why an alert is to say nothing, None where it may."""


@dataclass(slots=True)
class Flush:
    """One flush of one group on its way through the stages."""

    group: AlertGroup
    alerts: Sequence[Held]
    now: int
    quieting: Quieting
    muted: dict[Reason, list[Held]] = field(default_factory=dict)
    channel_name: str = ""
    channel: Channel | None = None
    firing: frozenset[str] = frozenset()
    resolved: frozenset[str] = frozenset()
    entry: NotificationRow | None = None
    why: News = News.NONE


@dataclass(slots=True)
class Counts:
    """What the pipeline did, for metrics: notifications by channel kind, failures and muted alerts by reason."""

    sent: Counter[str] = field(default_factory=Counter)
    failed: Counter[str] = field(default_factory=Counter)
    muted: Counter[str] = field(default_factory=Counter)


def named(channels: Sequence[Channel]) -> list[tuple[str, Channel]]:
    """A receiver's channels by the names under which the log knows them."""
    # Counted within its kind, so that a channel of another kind beside it does not make it a stranger to the log.
    seen: Counter[str] = Counter()
    found = []
    for channel in channels:
        found.append((f"{channel.kind}/{seen[channel.kind]}", channel))
        seen[channel.kind] += 1
    return found


class Pipeline:
    """The stages with what they need. `quieting` gives what keeps alerts quiet at a time; `outcome` hears how each
    notification ended: its entry, and the reason of its failure or "".
    """

    def __init__(
        self,
        records: Records,
        clock: Clock,
        *,
        tenant: str,
        external_url: str,
        quieting: Callable[[int], Quieting],
        history: History,
        intervals: Mapping[str, NamedIntervals],
        told: dict[Place, NotificationRow],
        counts: Counts,
        outcome: Callable[[NotificationRow, str], None] = lambda _entry, _why: None,
    ) -> None:
        self.records, self.clock = records, clock
        self.tenant, self.external_url = tenant, external_url
        self.quieting, self.history, self.intervals = quieting, history, intervals
        self.told, self.counts, self.outcome = told, counts, outcome

    async def flush(self, group: AlertGroup, channels: Sequence[Channel], alerts: Sequence[Held], now: int) -> bool:
        """Send a group through all stages; whether every channel knows now what there is to know."""
        flush = Flush(group, alerts, now, self.quieting(now))
        reason = None
        for stage in GROUP_STAGES:
            reason = await stage(self, flush)
            if reason is not None:
                break
        await self._note_muted(flush)
        if reason is not None:
            return True
        ways = [replace(flush, channel=channel, channel_name=name) for name, channel in named(channels)]
        return all(await asyncio.gather(*map(self._to, ways)))

    async def _to(self, flush: Flush) -> bool:
        for stage in CHANNEL_STAGES:
            reason = await stage(self, flush)
            if reason is not None:
                if reason.stage == "failed":
                    return False
                break
        return True

    async def _note_muted(self, flush: Flush) -> None:
        place = (flush.group.route.receiver, "", flush.group.key)
        muted = {reason: [h.alert for h in alerts] for reason, alerts in flush.muted.items()}
        rows = self.history.muted({(r.stage, r.detail): alerts for r, alerts in muted.items()}, place=place, at=flush.now)
        if rows:
            try:
                await self.records.save(rows)
            except LimitExceeded:
                self.history.unsaid(place)
                raise

    def place(self, flush: Flush) -> Place:
        """The log entry a flush is about."""
        return Place(self.tenant, flush.group.key, flush.group.route.receiver, flush.channel_name)

    async def note(self, entry: NotificationRow, *more: DeliveryRow) -> None:
        """Commit a log entry, then hold it. One that is held already is on disk."""
        place = Place(entry.tenant, entry.group_key, entry.receiver, entry.channel)
        if more or self.told.get(place) != entry:
            await self.records.save([entry, *more])
            self.told[place] = entry


Stage = Callable[[Pipeline, Flush], Awaitable[Reason | None]]


async def inhibited(pipeline: Pipeline, flush: Flush) -> Reason | None:
    """Leaves out alerts that a weightier one silences."""
    return None if flush.quieting.inhibitor.idle else _leave_out(pipeline, flush, flush.quieting.inhibited)


def why_outside_active_times(route: Route, intervals: Mapping[str, NamedIntervals], now: int) -> Reason | None:
    """Why a route is quiet at `now` since none of the times in which it is active holds."""
    names = route.active_time_intervals
    if not names or any(intervals[name].holds(now) for name in names):
        return None
    return Reason("outside_active_times", f"none of the active time intervals holds: {', '.join(names)}")


def why_in_mute_times(route: Route, intervals: Mapping[str, NamedIntervals], now: int) -> Reason | None:
    """Why a route is quiet at `now` since a time in which it is muted holds."""
    holding = [name for name in route.mute_time_intervals if intervals[name].holds(now)]
    return Reason("in_mute_times", f"muted by the time interval {', '.join(holding)}") if holding else None


async def outside_active_times(pipeline: Pipeline, flush: Flush) -> Reason | None:
    """Ends where the route is active at other times only."""
    return _whole(pipeline, flush, why_outside_active_times(flush.group.route, pipeline.intervals, flush.now))


async def in_mute_times(pipeline: Pipeline, flush: Flush) -> Reason | None:
    """Ends where the route is muted at this time."""
    return _whole(pipeline, flush, why_in_mute_times(flush.group.route, pipeline.intervals, flush.now))


async def silenced(pipeline: Pipeline, flush: Flush) -> Reason | None:
    """Leaves out alerts that somebody asked for quiet about."""
    return None if flush.quieting.hush.empty else _leave_out(pipeline, flush, flush.quieting.silenced)


async def acknowledged(pipeline: Pipeline, flush: Flush) -> Reason | None:
    """Leaves out alerts that somebody deals with, until they resolve."""
    return None if not len(flush.quieting.acknowledgements) else _leave_out(pipeline, flush, flush.quieting.acknowledged)


def _whole(pipeline: Pipeline, flush: Flush, reason: Reason | None) -> Reason | None:
    if reason is not None:
        pipeline.counts.muted[reason.stage] += len(flush.alerts)
        flush.muted[reason] = list(flush.alerts)
    return reason


def _leave_out(pipeline: Pipeline, flush: Flush, why: WhyMuted) -> Reason | None:
    kept, last = [], None
    for held in flush.alerts:
        reason = why(held)
        if reason is None:
            kept.append(held)
        else:
            last = reason
            pipeline.counts.muted[reason.stage] += 1
            flush.muted.setdefault(reason, []).append(held)
    flush.alerts = kept
    return None if kept else last


async def dedup(pipeline: Pipeline, flush: Flush) -> Reason | None:
    """Ends where the channel has been told all this before, and not too long ago."""
    assert flush.channel is not None
    flush.firing = frozenset(h.alert.fingerprint for h in flush.alerts if not h.resolved(flush.now))
    flush.resolved = frozenset(h.alert.fingerprint for h in flush.alerts if h.resolved(flush.now))
    flush.entry = pipeline.told.get(pipeline.place(flush))
    flush.why = news(
        flush.entry,
        flush.firing,
        flush.resolved,
        flush.now,
        repeat_ms=flush.group.route.repeat_interval,
        send_resolved=flush.channel.send_resolved,
    )
    return None if flush.why.told else Reason("dedup", flush.why.value)


async def send(pipeline: Pipeline, flush: Flush) -> Reason | None:
    """Tells the channel, committing before the first byte and after the answer; tries until the group's next flush is due."""
    channel, route = flush.channel, flush.group.route
    assert channel is not None
    place = pipeline.place(flush)
    alerts = [h.alert for h in flush.alerts if channel.send_resolved or not h.resolved(flush.now)]
    entry = begun(place, flush.entry, flush.firing, flush.resolved, flush.now)
    rows: list[DeliveryRow] = []
    keep: str | None = None
    if alerts:
        notice = Notice(
            *(route.receiver, flush.group.key, flush.group.labels, alerts, flush.now, pipeline.external_url, entry.attempt),
            route_labels=route.labels,
            kept=entry.kept,
        )
        told = await _try(pipeline, entry, notice, channel, seconds=max(route.group_interval / 1000, MIN_DEADLINE_S))
        if isinstance(told, Reason):
            return told
        keep = told.keep
        pipeline.counts.sent[channel.kind] += 1
        log.info("notified", receiver=route.receiver, channel=flush.channel_name, alerts=len(alerts), why=flush.why.value)
        now = now_ms(pipeline.clock)
        rows.append(
            pipeline.history.delivery("sent", flush.why.value, "", place=_where(entry), alerts=alerts, at=now, attempt=entry.attempt)
        )
    done = ended(entry, now_ms(pipeline.clock), repeat_ms=route.repeat_interval, kept=keep)
    # Held before it is committed: should the records refuse now, the channel still has been told.
    pipeline.told[place] = done
    await pipeline.records.save([done, *rows])
    if rows:
        pipeline.outcome(done, "")
    return None


def _where(entry: NotificationRow) -> tuple[str, str, str]:
    return entry.receiver, entry.channel, entry.group_key


async def _try(pipeline: Pipeline, entry: NotificationRow, notice: Notice, channel: Channel, *, seconds: float) -> Reason | Receipt:
    clock = pipeline.clock
    deadline, pause, said = clock.monotonic() + seconds, _BACKOFF_S, ""
    while True:
        try:
            return await _deliver(pipeline, entry, notice, channel, seconds=deadline - clock.monotonic())
        except (Undeliverable, BadInput) as error:
            why = error.reason if isinstance(error, Undeliverable) else "config"
            pipeline.counts.failed[why] += 1
            wait = max(pause, (error.retry_after or 0.0) if isinstance(error, Undeliverable) else 0.0)
            final = not isinstance(error, Undeliverable) or not error.retryable or clock.monotonic() + wait >= deadline
            rows = []
            if final or why != said:
                detail = str(error) if final else f"{error}; tried again"
                rows.append(
                    pipeline.history.delivery(
                        "failed", why, detail, place=_where(entry), alerts=notice.alerts, at=now_ms(clock), attempt=notice.attempt
                    )
                )
            said = why
            await pipeline.note(waiting(entry), *rows)
            say = log.error if final else log.warning
            say("notification failed", receiver=entry.receiver, channel=entry.channel, reason=why, error=str(error), final=final)
            if final:
                pipeline.outcome(entry, f"{why}: {error}")
                return Reason("failed", str(error))
        await clock.sleep(wait)
        pause = min(pause * _BACKOFF_FACTOR, _BACKOFF_MAX_S)


async def _deliver(pipeline: Pipeline, entry: NotificationRow, notice: Notice, channel: Channel, *, seconds: float) -> Receipt:
    """One try. Where the answer takes long, the log says so meanwhile, since dying now would leave it open who knows."""
    left = asyncio.Event()

    async def leaving() -> None:
        await pipeline.note(entry)
        left.set()

    async def unanswered() -> None:
        # Counted from when it left: what has not left yet is not in doubt.
        await left.wait()
        await pipeline.clock.sleep(UNANSWERED_S)
        try:
            await pipeline.note(waiting(entry))
        except LimitExceeded as error:
            log.warning("an unanswered notification was not noted as such", receiver=entry.receiver, error=str(error))

    watch = asyncio.create_task(unanswered(), name=f"flush {notice.group_key} unanswered")
    try:
        return await channel.deliver(notice, seconds=seconds, leaving=leaving)
    finally:
        watch.cancel()


GROUP_STAGES: list[Stage] = [inhibited, outside_active_times, in_mute_times, silenced, acknowledged]
CHANNEL_STAGES: list[Stage] = [dedup, send]
