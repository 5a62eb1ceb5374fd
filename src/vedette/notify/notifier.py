"""Alerts in, notifications out: holds alerts, sorts them into groups, and flushes each group when it is due.

What was accepted is on disk when `accept` returns, and what was told before anybody is told again, so a restart neither
loses nor repeats. Without a configuration there is nobody to tell, and alerts are only held.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import structlog

from vedette.clock import Clock, now_ms
from vedette.errors import VedetteError
from vedette.model.alerts import Alert
from vedette.model.labels import Labels
from vedette.model.samples import DEFAULT_TENANT
from vedette.net import HttpClient, HttpConfig
from vedette.notify import held as held_alerts
from vedette.notify import told as notification_log
from vedette.notify.channels.posting import Http
from vedette.notify.channels.table import channels_of
from vedette.notify.config import Config
from vedette.notify.groups import AlertGroup, GroupKey, Timing, group_key
from vedette.notify.held import Held
from vedette.notify.inhibition import Inhibition, Inhibitor
from vedette.notify.notice import Channel
from vedette.notify.pipeline import Counts, Pipeline, Reason, named, why_in_mute_times, why_outside_active_times
from vedette.notify.route import Route, build, match
from vedette.notify.silences import Silences
from vedette.notify.template import Templates
from vedette.notify.told import Place
from vedette.records.rows import HeldAlertRow, NotificationRow

if TYPE_CHECKING:
    from vedette.records.database import Records

log = structlog.get_logger(__name__)

RESOLVE_TIMEOUT_MS = 300_000
MAINTENANCE_MS = 60_000
KEEP_RESOLVED_MS = 15 * 60_000
FORGET_MS = 5 * 86_400_000
"""After how long a notification that never arrived is forgotten, once nobody tries any more."""
_CLOSE_S = 5.0


def channel_client(config: HttpConfig) -> Http:
    """The HTTP client of a channel: the path of most webhooks is a secret, so it stays out of errors."""
    return HttpClient(config, hide_path=True)


@dataclass(frozen=True, slots=True)
class AlertView:
    """An alert as it stands: who is told of it, and by which silences (ids) and alert (fingerprint, "" for none) it is kept quiet."""

    held: Held
    receivers: tuple[str, ...]
    silenced_by: tuple[str, ...]
    inhibited_by: str


@dataclass(frozen=True, slots=True)
class GroupView:
    """A group as it stands. Times are Unix ms; `muted_by` are the time intervals that keep it quiet now."""

    key: str
    receiver: str
    labels: Labels
    alerts: tuple[Held, ...]
    next_flush: int
    muted_by: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class ChannelView:
    """What a channel knows of a group: when it was last told (Unix ms, 0: never), and whether the next flush has news for it, and why."""

    name: str
    told_at: int
    phase: str
    has_news: bool
    news: str


@dataclass(frozen=True, slots=True)
class RouteView:
    """An alert on its way to one receiver. `reasons` keep this alert quiet now; `next_flush` is Unix ms, 0 for none planned."""

    receiver: str
    route: str
    group_key: str
    group_labels: Labels
    next_flush: int
    reasons: tuple[Reason, ...]
    channels: tuple[ChannelView, ...]


class Notifier:
    """The notifications of one tenant. Call `start` once, `close` at the end."""

    def __init__(
        self,
        config: Config | None,
        records: Records,
        clock: Clock,
        http: Callable[[HttpConfig], Http] = channel_client,
        *,
        external_url: str = "",
        tenant: str = DEFAULT_TENANT,
    ) -> None:
        self._records, self._clock, self._http = records, clock, http
        self._external_url, self._tenant = external_url.rstrip("/"), tenant
        self.silences = Silences(records, clock, tenant=tenant)
        self._alerts: dict[Labels, Held] = {}
        self._told: dict[Place, NotificationRow] = {}
        self._groups: dict[GroupKey, AlertGroup] = {}
        self._flushes: set[asyncio.Task[None]] = set()
        self._wake = asyncio.Event()
        self._loop: asyncio.Task[None] | None = None
        self._maintained = now_ms(clock)
        self._paused = False
        self.counts = Counts()
        """What was sent, failed and muted since the start."""
        self._configure(config)

    def _configure(self, config: Config | None) -> None:
        self._config = config
        self._route: Route | None = build(config.route) if config and config.route else None
        self._channels: dict[str, list[Channel]] = {}
        if config:
            templates = Templates.load(config.templates)
            for receiver in config.receivers:
                self._channels[receiver.name] = channels_of(receiver, config.global_, self._http, templates)
        self._resolve_timeout = config.global_.resolve_timeout if config else RESOLVE_TIMEOUT_MS
        self._inhibitions = [Inhibition.of(r) for r in config.inhibit_rules if r is not None] if config else []
        self._intervals = config.intervals if config else {}
        self._pipeline = Pipeline(
            self._records,
            self._clock,
            tenant=self._tenant,
            external_url=self._external_url,
            inhibitions=self._inhibitions,
            standing=self._standing,
            silences=self.silences,
            intervals=self._intervals,
            told=self._told,
            counts=self.counts,
        )

    async def start(self) -> None:
        """Take up where the records left off, and begin."""
        now = now_ms(self._clock)
        await self.silences.start()
        for entry in await self._records.load(NotificationRow, tenant=self._tenant):
            place = Place(entry.tenant, entry.group_key, entry.receiver, entry.channel)
            self._told[place] = notification_log.restored(entry)
        for row in await self._records.load(HeldAlertRow, tenant=self._tenant):
            held = held_alerts.restored(row, now)
            self._alerts[held.alert.labels] = held
            self._sort(held, now)
        self._loop = asyncio.create_task(self._run(), name="notifications")

    async def accept(self, alerts: Sequence[Alert]) -> None:
        """Take news of alerts; they are on disk when this returns. Raises `LimitExceeded` where they cannot be."""
        now = now_ms(self._clock)
        joined: dict[Labels, Held] = {}
        saved: dict[Labels, HeldAlertRow] = {}
        for alert in alerts:
            old = joined.get(alert.labels) or self._alerts.get(alert.labels)
            new = held_alerts.received(alert, now, resolve_timeout=self._resolve_timeout)
            new = held_alerts.merged(old, new, now)
            if held_alerts.worth_saving(old, new, now):
                saved[alert.labels] = held_alerts.row_of(self._tenant, new)
            joined[alert.labels] = new
        await self._records.save(list(saved.values()))
        for labels, held in joined.items():
            self._alerts[labels] = held
            self._sort(held, now)
        self._wake.set()

    def _sort(self, held: Held, now: int) -> None:
        """Put an alert into its groups, new ones if need be."""
        if self._route is None:
            return
        for route in match(self._route, held.alert.labels):
            labels = route.group_labels(held.alert.labels)
            group = self._groups.get((route.path, labels))
            if group is None:
                group = self._groups[route.path, labels] = AlertGroup(route, labels, Timing(now + route.group_wait))
            group.insert(held, now)

    async def apply(self, config: Config | None) -> None:
        """Put a configuration in place of the one in force. Alerts stay; what was told is not told again."""
        self._paused = True
        try:
            # A flush of the old groups beside one of the new would tell things twice.
            await self._end_flushes()
            old = [channel for channels in self._channels.values() for channel in channels]
            self._configure(config)
            self._groups = {}
            now = now_ms(self._clock)
            for held in self._alerts.values():
                self._sort(held, now)
        finally:
            self._paused = False
            self._wake.set()
        for channel in old:
            await channel.close()

    async def _end_flushes(self) -> None:
        """Let flushes under way end, for a few seconds; what was cut off is told again by the next flush."""
        if not self._flushes:
            return
        _, pending = await asyncio.wait(self._flushes, timeout=_CLOSE_S)
        for task in pending:
            task.cancel()
        await asyncio.gather(*pending, return_exceptions=True)

    def alerts(self) -> list[Held]:
        """All alerts that are held, those that ended a short while ago included."""
        return list(self._alerts.values())

    def views(self) -> Callable[[Held], AlertView]:
        """How each alert stands now: a function to be asked of many alerts, right away."""
        now = now_ms(self._clock)
        inhibitor = Inhibitor(self._inhibitions, self._standing(now) if self._inhibitions else ())
        hush = self.silences.hush(now)

        def view(held: Held) -> AlertView:
            labels = held.alert.labels
            by = inhibitor.inhibited_by(labels)
            routes = match(self._route, labels) if self._route is not None else []
            inhibited_by = f"{by.fingerprint():016x}" if by is not None else ""
            return AlertView(held, tuple(r.receiver for r in routes), tuple(hush.of(labels)), inhibited_by)

        return view

    def _standing(self, now: int) -> Iterator[Labels]:
        return (h.alert.labels for h in self._alerts.values() if not h.resolved(now))

    def groups(self) -> list[GroupView]:
        """All groups as they stand, in order of their labels and receiver."""
        now = now_ms(self._clock)
        views = [
            GroupView(g.key, g.route.receiver, g.labels, tuple(g.snapshot()), g.timing.next_flush, self._muted_by(g.route, now))
            for g in self._groups.values()
        ]
        return sorted(views, key=lambda v: (v.labels, v.receiver, v.key))

    def _muted_by(self, route: Route, now: int) -> tuple[str, ...]:
        if why_outside_active_times(route, self._intervals, now) is not None:
            return route.active_time_intervals
        return tuple(name for name in route.mute_time_intervals if self._intervals[name].holds(now))

    def explain(self, held: Held) -> list[RouteView]:
        """Why each receiver of an alert is told of it or is not, by the stages that notifications go through."""
        if self._route is None:
            return []
        now, view = now_ms(self._clock), self.views()(held)
        found = []
        for route in match(self._route, held.alert.labels):
            labels = route.group_labels(held.alert.labels)
            group = self._groups.get((route.path, labels))
            reasons = [Reason("inhibited", f"inhibited by the alert {view.inhibited_by}")] if view.inhibited_by else []
            times = (why_outside_active_times(route, self._intervals, now), why_in_mute_times(route, self._intervals, now))
            reasons += [r for r in times if r is not None]
            reasons += [Reason("silenced", f"silenced by {', '.join(view.silenced_by)}")] if view.silenced_by else []
            key = group_key(route, labels)
            channels = tuple(self._channel_view(name, c, route, key, group) for name, c in named(self._channels.get(route.receiver, [])))
            next_flush = group.timing.next_flush if group else 0
            found.append(RouteView(route.receiver, route.key, key, labels, next_flush, tuple(reasons), channels))
        return found

    def _channel_view(self, name: str, channel: Channel, route: Route, key: str, group: AlertGroup | None) -> ChannelView:
        now = now_ms(self._clock)
        entry = self._told.get(Place(self._tenant, key, route.receiver, name))
        alerts = group.snapshot() if group else []
        firing = frozenset(h.alert.fingerprint for h in alerts if not h.resolved(now))
        resolved = frozenset(h.alert.fingerprint for h in alerts if h.resolved(now))
        repeat, sends = route.repeat_interval, channel.send_resolved
        news = notification_log.news(entry, firing, resolved, now, repeat_ms=repeat, send_resolved=sends)
        return ChannelView(name, entry.sent_at if entry else 0, entry.phase if entry else "", news.told, news.value)

    def receivers(self) -> list[str]:
        """The names of all receivers."""
        return [r.name for r in self._config.receivers] if self._config else []

    async def _run(self) -> None:
        while True:
            self._wake.clear()
            try:
                self.flush_due()
                await self._maintain()
            except Exception:
                # The loop's edge: what breaks one round must not end all notifications.
                self.counts.failed["internal"] += 1
                log.exception("notification round failed")
            await self._sleep(self._next())

    def _next(self) -> int:
        due = [g.timing.next_flush for g in self._groups.values() if not g.flushing]
        return min([self._maintained + MAINTENANCE_MS, *due])

    async def _sleep(self, until: int) -> None:
        asleep = asyncio.ensure_future(self._clock.sleep((until - now_ms(self._clock)) / 1000))
        woken = asyncio.ensure_future(self._wake.wait())
        try:
            await asyncio.wait((asleep, woken), return_when=asyncio.FIRST_COMPLETED)
        finally:
            asleep.cancel()
            woken.cancel()

    def flush_due(self) -> None:
        """Begin the flush of each group that is due. A group is never flushed twice at once."""
        now = now_ms(self._clock)
        for group in [] if self._paused else list(self._groups.values()):
            if group.timing.next_flush <= now and not group.flushing:
                group.timing = group.timing.after_flush(group.route, now)
                group.flushing = True
                task = asyncio.create_task(self._flush(group, now), name=f"flush {group.key}")
                self._flushes.add(task)
                task.add_done_callback(self._flushes.discard)

    async def _flush(self, group: AlertGroup, now: int) -> None:
        alerts = group.snapshot()
        try:
            if await self._pipeline.flush(group, self._channels.get(group.route.receiver, []), alerts, now):
                group.told(alerts, now)
        except VedetteError as error:
            # The records refuse (a full disk, say): nothing was sent without being noted; the next flush tries again.
            self.counts.failed["records"] += 1
            log.error("group not flushed", group=group.key, receiver=group.route.receiver, error=str(error))
        except Exception:
            # A flush's edge: a fault in one channel must show, and must not end the group.
            self.counts.failed["internal"] += 1
            log.exception("group not flushed", group=group.key, receiver=group.route.receiver)
        finally:
            group.flushing = False
            self._wake.set()

    async def settled(self) -> None:
        """Return once no flush is under way."""
        while self._flushes:
            await asyncio.wait(self._flushes)

    async def _maintain(self) -> None:
        """Let go of empty groups, of alerts that ended a while ago, and of log entries that have expired."""
        now = now_ms(self._clock)
        if now < self._maintained + MAINTENANCE_MS:
            return
        self._maintained = now
        for key in [k for k, g in self._groups.items() if not g.alerts and not g.flushing]:
            del self._groups[key]
        told_of = {labels for g in self._groups.values() for labels in g.alerts}
        gone = [h for h in self._alerts.values() if h.alert.ends_at + KEEP_RESOLVED_MS < now and h.alert.labels not in told_of]
        expired = [p for p, e in self._told.items() if (e.expires_at if e.phase == "sent" else e.attempted_at + FORGET_MS) < now]
        rows = [held_alerts.row_of(self._tenant, h) for h in gone]
        await self._records.save(drop=[*rows, *(self._told[p] for p in expired)])
        for held in gone:
            if self._alerts.get(held.alert.labels) is held:
                del self._alerts[held.alert.labels]
        for place in expired:
            self._told.pop(place, None)
        await self.silences.forget(now)

    async def close(self) -> None:
        """Stop; notifications under way get a few seconds to end, and are otherwise told at the next start."""
        if self._loop is not None:
            self._loop.cancel()
            await asyncio.gather(self._loop, return_exceptions=True)
        await self._end_flushes()
        for channels in self._channels.values():
            for channel in channels:
                await channel.close()
