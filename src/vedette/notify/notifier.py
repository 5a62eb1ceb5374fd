"""Alerts in, notifications out: holds alerts, sorts them into groups, and flushes each group when it is due.

What was accepted is on disk when `accept` returns, and what was told before anybody is told again, so a restart neither
loses nor repeats. Without a configuration there is nobody to tell, and alerts are only held. Not here: what each stage of a
flush does (`pipeline.py`), how alerts are listed (`listing.py`).
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import structlog

from vedette.clock import Clock, now_ms
from vedette.errors import BadInput, VedetteError
from vedette.model.alerts import Alert
from vedette.model.labels import Labels
from vedette.model.matchers import Matcher, match_labels
from vedette.model.tenants import DEFAULT_TENANT
from vedette.net.client import HttpClient
from vedette.net.config import HttpConfig
from vedette.notify import dead
from vedette.notify import held as held_alerts
from vedette.notify import told as notification_log
from vedette.notify.acknowledgements import Acknowledgement, Acknowledgements, checked
from vedette.notify.channels.posting import Http
from vedette.notify.channels.table import channels_of
from vedette.notify.config import Config, Receiver
from vedette.notify.flushes import Flushes
from vedette.notify.global_config import GlobalConfig
from vedette.notify.groups import AlertGroup, GroupKey, Timing, group_key
from vedette.notify.held import Held
from vedette.notify.history import History
from vedette.notify.inhibition import Inhibition
from vedette.notify.journal import Journal
from vedette.notify.listing import Listing, Wanted
from vedette.notify.news import Turn, heard
from vedette.notify.notice import Channel, Notice
from vedette.notify.pipeline import Counts, Pipeline
from vedette.notify.quiet import Quieting
from vedette.notify.route import Route
from vedette.notify.settings import NotifySettings
from vedette.notify.silence import Silence
from vedette.notify.silences import Silences
from vedette.notify.standing import Standing
from vedette.notify.template import Templates
from vedette.notify.told import Place
from vedette.notify.views import ChannelView, GroupView, RouteView
from vedette.notify.ways import Ways
from vedette.records.numbers import Numbers, own_number
from vedette.records.rows import AlertEventRow, HeldAlertRow, Many, NotificationRow

if TYPE_CHECKING:
    from vedette.records.database import Records

log = structlog.get_logger(__name__)

RESOLVE_TIMEOUT_MS = 300_000
MAINTENANCE_MS = 60_000
_AGAIN_MS = 1_000
"""After a round that failed."""
TRIM_MS = 3_600_000
KEEP_RESOLVED_MS = 15 * 60_000
FORGET_MS = 5 * 86_400_000
"""After how long a notification that never arrived is forgotten, once nobody tries any more."""
_SLICE = 2_000
"""How many alerts are taken before others get their turn on the loop."""
_PAUSE_S, _PATIENCE = 0.2, 25
"""Alerts of which nothing was heard for so long have all come; after so many pauses their listing is made ready all the same."""
_LONG_PAUSES, _LONG_PATIENCE, _AGAIN_S = 5, 300, 5.0
"""The same for spreading batches: a slow sender's next one may be a second away."""
_MANY = 1_000
"""From how many alerts on their listing is kept ready."""


def channel_client(config: HttpConfig) -> Http:
    """The HTTP client of a channel: the path of most webhooks is a secret, so it stays out of errors."""
    return HttpClient(config, hide_path=True)


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
        settings: NotifySettings | None = None,
        picture: Callable[[Notice], Awaitable[bytes | None]] | None = None,
    ) -> None:
        self._records, self._clock, self._http = records, clock, http
        self._external_url, self._tenant = external_url.rstrip("/"), tenant
        self._settings, self._picture = settings or NotifySettings(), picture
        self.silences = Silences(records, clock, tenant=tenant)
        self.acknowledgements = Acknowledgements(records, clock, tenant=tenant)
        self._journal = Journal(records, clock, tenant=tenant)
        keep, ready = self._settings.history_retention, self._journal.spread
        self.history = History(records, clock, tenant=tenant, keep_ms=keep, ready=ready)
        self.standing = Standing()
        self.counts = Counts()
        """What was sent, failed and muted since the start."""
        self._told: dict[Place, NotificationRow] = {}
        self._groups: dict[GroupKey, AlertGroup] = {}
        self._ordered: list[AlertGroup] | None = None
        self._ways = Ways(self._external_url)
        # As `Ways` has them: the listing asks for receivers a hundred thousand times.
        self.receivers_of, self.receivers, self.channels = self._ways.receivers_of, self._ways.receivers, self._ways.channels
        self._listing = Listing(self.receivers_of, lambda group: self._ways.labels_of(group, now_ms(self._clock)))
        self._changed: dict[GroupKey, None] = {}
        self._own = own_number()
        self._numbers = Numbers(0, self._own)
        self._arriving: list[Mapping[Labels, Held]] = []
        self._steps: list[AlertEventRow] = []
        self._flushes = Flushes(self._groups, self._flush)
        self._reports: set[asyncio.Task[None]] = set()
        self._dead = dead.Ledger(self._settings.dead_channel_after)
        self._wake, self._news = asyncio.Event(), asyncio.Event()
        self._loops: list[asyncio.Task[None]] = []
        self._maintained = self._trimmed = now_ms(clock)
        self._some_ended = True
        self._heard = 0
        self._configure(config)

    @property
    def templates(self) -> Templates:
        """The templates in force."""
        return self._ways.templates

    def _configure(self, config: Config | None) -> list[Channel]:
        """Put a configuration in force; the channels of the one before, which are to be closed."""
        old = self._ways.configure(config, self._made, dead_receiver=self._settings.dead_channel_receiver)
        self._resolve_timeout = config.global_.resolve_timeout if config else RESOLVE_TIMEOUT_MS
        self.standing.inhibit([Inhibition.of(r) for r in config.inhibit_rules if r is not None] if config else [], now_ms(self._clock))
        self._pipeline = Pipeline(
            self._records,
            self._clock,
            tenant=self._tenant,
            external_url=self._external_url,
            quieting=self.quieting,
            history=self.history,
            intervals=self._ways.intervals,
            told=self._told,
            counts=self.counts,
            outcome=self._outcome,
        )
        return old

    def _made(self, receiver: Receiver, outer: GlobalConfig, templates: Templates) -> list[Channel]:
        return channels_of(receiver, outer, self._http, templates, self._picture if self._settings.email_plots else None)

    async def start(self) -> None:
        """Take up where the records left off, and begin."""
        now = now_ms(self._clock)
        await self.silences.start()
        await self.acknowledgements.start()
        await self._journal.start()
        await self.history.start()
        for entry in await self._records.load(NotificationRow, tenant=self._tenant):
            place = Place(entry.tenant, entry.group_key, entry.receiver, entry.channel)
            self._told[place] = notification_log.restored(entry)
        kept = await self._records.load(HeldAlertRow, tenant=self._tenant)
        self._numbers = Numbers(max((row.seq for row in kept), default=0), self._own)
        rows = {row.labels: row for row in sorted(kept, key=lambda row: (row.updated_at, row.seq))}
        # Servers that share a database have a record each of an alert: what was heard last counts.
        await self._records.save(drop=[row for row in kept if rows[row.labels] is not row])
        restored = [held_alerts.restored(row, now) for row in rows.values()]
        names = held_alerts.fingerprints([held.alert.labels for held in restored])
        named = zip(restored, names, strict=True)
        self._hold((replace(held, alert=replace(held.alert, known_fingerprint=name)) for held, name in named), now)
        self._loops = [
            asyncio.create_task(self._run(), name="notifications"),
            asyncio.create_task(self._freshen(), name="notifications listing"),
            asyncio.create_task(self._spread(), name="notifications journal"),
        ]

    async def accept(self, alerts: Sequence[Alert]) -> None:
        """Take news of alerts; they are on disk when this returns. Raises `LimitExceeded` where they cannot be."""
        for at in range(0, len(alerts), _SLICE):
            await self._accept(alerts[at : at + _SLICE])
        self._wake.set()

    async def _accept(self, alerts: Sequence[Alert]) -> None:
        now = now_ms(self._clock)
        ended = self._ended(now)
        found = heard(
            alerts,
            self.standing.get,
            now,
            tenant=self._tenant,
            resolve_timeout=self._resolve_timeout,
            number=lambda labels: self._number(labels, now),
        )
        if len(self.acknowledgements):
            for turn in found.turns:
                fires = turn.kind == "firing"
                ended.update(self._outdone(turn.held, now) if fires else self._acknowledged(turn.held, "the alert resolved"))
        self._arriving.append(found.held)
        try:
            await self._commit(ended, now, rows=found.rows, turns=found.turns)
        finally:
            self._arriving = [news for news in self._arriving if news is not found.held]
        self._hold(found.held.values(), now)
        # Only now: a round that came while this was being committed still saw them stand.
        self._some_ended = self._some_ended or found.some_resolved

    def _number(self, labels: Labels, now: int) -> int:
        """The number of the record of an alert that is not held: two that tell of it at once give it the same."""
        for news in self._arriving:
            if (other := news.get(labels)) is not None:
                return other.number
        return self._numbers.take(now)

    def noticed(self, alerts: Sequence[Alert]) -> None:
        """Alerts that are pending: they enter the history with the next round, and nobody is told."""
        now = now_ms(self._clock)
        self._steps += [self.history.event("pending", alert, now) for alert in alerts]
        self._wake.set()

    def _ended(self, now: int) -> dict[str, str]:
        """Note the alerts that ended since nobody told of them any more; the acknowledgements that end with them, and why."""
        found: dict[str, str] = {}
        for held in self.standing.ended(now):
            self._some_ended = True
            self._steps.append(self.history.event("resolved", held.alert, now, "not told of any more"))
            found.update(self._acknowledged(held, "the alert resolved"))
        return found

    def _acknowledged(self, held: Held, why: str) -> dict[str, str]:
        return {held.alert.fingerprint: why} if held.alert.fingerprint in self.acknowledgements.standing() else {}

    def _outdone(self, held: Held, now: int) -> dict[str, str]:
        labels = held.alert.labels
        groups = (self._groups.get((route.path, route.group_labels(labels))) for route in self._ways.routes(labels))
        return self.acknowledgements.outdone(labels, [g.alerts for g in groups if g is not None and labels not in g.alerts])

    async def _commit(self, ended: dict[str, str], now: int, *, rows: Sequence[tuple[Any, ...]] = (), turns: Sequence[Turn] = ()) -> None:
        """Commit alerts with the steps they took and the acknowledgements that end by it, at once."""
        # Numbered first: an acknowledgement ends after what ends it.
        events = self.history.turned(turns, now)
        known = self.acknowledgements.standing()
        over = [known[f] for f in ended if f in known]
        for ack in over:
            alert = Alert(ack.labels, ack.made_at, 0, known_fingerprint=ack.fingerprint)
            self._steps.append(self.history.event("unacknowledged", alert, now, ended[ack.fingerprint]))
        steps, self._steps = self._steps, []
        try:
            gone = [self.acknowledgements.row(a) for a in over]
            await self._journal.save(Many(HeldAlertRow, rows), events, steps, gone)
        except BaseException:
            # What was seen once is not seen again: it is noted with what comes next.
            self._steps = [s for s in steps if s.kind == "pending" or (s.kind == "resolved" and s.note)] + self._steps
            raise
        self.acknowledgements.let_go(over)

    def _hold(self, news: Iterable[Held], now: int) -> None:
        """Hold alerts and put them into their groups, new ones if need be."""
        groups, put, routes_of = self._groups, self.standing.put, self._ways.routes
        for held in news:
            put(held, now)
            labels = held.alert.labels
            for route in routes_of(labels):
                key = route.path, route.group_labels(labels)
                group = groups.get(key)
                if group is None:
                    group = groups[key] = AlertGroup(route, key[1], Timing(now + route.group_wait))
                    self._ordered = None
                    self._flushes.plan(key, group)
                if group.insert(held, now):
                    self._flushes.plan(key, group)
                self._changed[key] = None
            self._heard += 1
        if len(self.standing) >= _MANY:
            self._news.set()

    async def apply(self, config: Config | None, settings: NotifySettings | None = None) -> None:
        """Put a configuration in place of the one in force. Alerts stay; what was told is not told again."""
        self._flushes.paused = True
        try:
            # A flush of the old groups beside one of the new would tell things twice.
            await self._flushes.end()
            self._settings = settings or self._settings
            self._dead = dead.Ledger(self._settings.dead_channel_after)
            old = self._configure(config)
            self._groups.clear()
            self._flushes.forget()
            self._ordered = None
            self._listing.forget()
            now = now_ms(self._clock)
            self._hold(self.standing, now)
        finally:
            self._flushes.paused = False
            self._wake.set()
        for channel in old:
            await channel.close()

    async def acknowledge(self, fingerprint: str, *, author: str = "", note: str = "", expires_at: int = 0) -> Acknowledgement:
        """Acknowledge an alert until `expires_at` (Unix ms, 0: as long as it stands); it is on disk when this returns.

        Raises `NotFound` for an alert that is not held, `BadInput` for one that does not fire.
        """
        held, now = self.standing.named(fingerprint), now_ms(self._clock)
        ack = checked(held, author=author, note=note, expires_at=expires_at, now=now)
        step = self.history.event("acknowledged", held.alert, now, ack.detail)
        await self._records.save([self.acknowledgements.row(ack), step])
        self.acknowledgements.hold(ack)
        return ack

    async def unacknowledge(self, fingerprint: str, *, author: str = "") -> None:
        """Take an acknowledgement back. Raises `NotFound` where there is none."""
        ack = self.acknowledgements.get(fingerprint)
        await self._commit({ack.fingerprint: f"taken back by {author or 'somebody'}"}, now_ms(self._clock))

    async def silence(self, silence: Silence, *, confirmed: bool = False) -> str:
        """Make or change a silence, as `Silences.put`; one that ends with its alerts must match some that stand."""
        if silence.until_resolved and not self.matching(silence.matchers):
            raise BadInput("no alert stands that it matches: it would end at once", where="endsWhenResolved")
        self._some_ended = True
        return await self.silences.put(silence, confirmed=confirmed)

    def alerts(self) -> list[Held]:
        """All alerts that are held, those that ended a short while ago included."""
        return list(self.standing)

    def matching(self, matchers: tuple[Matcher, ...]) -> list[Held]:
        """The alerts that stand and pass all of `matchers`."""
        now = now_ms(self._clock)
        return [h for h in self.standing if not h.resolved(now) and match_labels(matchers, h.alert.labels)]

    def quieting(self, now: int) -> Quieting:
        """What keeps alerts quiet at a time (Unix ms)."""
        return Quieting(now, self.silences.hush(now), self.standing.inhibitor, self.acknowledgements)

    def groups(self) -> list[GroupView]:
        """All groups as they stand, in order of their labels and receiver."""
        now = now_ms(self._clock)
        return [
            GroupView(g.key, g.route.receiver, g.labels, tuple(g.snapshot()), g.timing.next_flush, self._ways.muted_by(g.route, now))
            for g in self._in_order()
        ]

    def _in_order(self) -> list[AlertGroup]:
        if self._ordered is None:
            self._ordered = sorted(self._groups.values(), key=lambda g: (g.labels, g.route.receiver, g.route.path))
        return self._ordered

    async def listed_groups(self, wanted: Wanted) -> list[bytes]:
        """The groups with the alerts that are wanted, each as JSON of Alertmanager's API."""
        now = now_ms(self._clock)
        return await self._listing.groups(self._in_order(), lambda g: self._ways.muted_by(g.route, now), self.quieting(now), wanted)

    async def listed_alerts(self, wanted: Wanted) -> list[bytes]:
        """The alerts that stand and are wanted, each as JSON of Alertmanager's API."""
        return await self._listing.alerts(self.standing, self.quieting(now_ms(self._clock)), wanted)

    def explain(self, held: Held) -> list[RouteView]:
        """Why each receiver of an alert is told of it or is not, by the stages that notifications go through."""
        now = now_ms(self._clock)
        quieting, found = self.quieting(now), []
        for route in self._ways.routes(held.alert.labels):
            labels = route.group_labels(held.alert.labels)
            group = self._groups.get((route.path, labels))
            stages = (quieting.inhibited(held), *self._ways.why_not_now(route, now), quieting.silenced(held), quieting.acknowledged(held))
            key = group_key(route, labels)
            channels = tuple(self._channel_view(name, c, route, key, group) for name, c in self.channels(route.receiver))
            next_flush = group.timing.next_flush if group else 0
            reasons = tuple(r for r in stages if r is not None)
            found.append(RouteView(route.receiver, route.key, key, labels, next_flush, reasons, channels))
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

    def _outcome(self, entry: NotificationRow, why: str) -> None:
        """A notification ended: where a channel takes none any more, or one again, another channel is told."""
        alert = self._dead.judge(entry, why, now_ms(self._clock), standing=self.standing.get)
        if alert is not None:
            task = asyncio.create_task(self._report(alert), name="flush report of a dead channel")
            self._reports.add(task)
            task.add_done_callback(self._reports.discard)

    async def _report(self, alert: Alert) -> None:
        try:
            await self.accept([alert])
        except VedetteError as error:
            self.counts.failed["records"] += 1
            log.error("a dead channel is not reported", channel=str(alert.labels), error=str(error))

    async def _run(self) -> None:
        while True:
            self._wake.clear()
            again = 0
            try:
                self.flush_due()
                await self._end(now_ms(self._clock))
                await self._maintain()
            except VedetteError as error:
                # The records refuse (a full disk, say): what ended is noted once they take it.
                self.counts.failed["records"] += 1
                log.error("notification round failed", error=str(error))
                again = now_ms(self._clock) + _AGAIN_MS
            except Exception:
                # The loop's edge: what breaks one round must not end all notifications.
                self.counts.failed["internal"] += 1
                log.exception("notification round failed")
                again = now_ms(self._clock) + _AGAIN_MS
            # What could not be done is still due: without the pause it would be tried without end.
            await self._sleep(max(self._next(), again))

    def _next(self) -> int:
        ahead = (self._maintained + MAINTENANCE_MS, self._flushes.next(), self.standing.next_end())
        return min(t for t in ahead if t is not None)

    async def _sleep(self, until: int) -> None:
        asleep = asyncio.ensure_future(self._clock.sleep((until - now_ms(self._clock)) / 1000))
        woken = asyncio.ensure_future(self._wake.wait())
        try:
            await asyncio.wait((asleep, woken), return_when=asyncio.FIRST_COMPLETED)
        finally:
            asleep.cancel()
            woken.cancel()

    async def _flush(self, group: AlertGroup, now: int) -> None:
        alerts = group.snapshot()
        try:
            if await self._pipeline.flush(group, self._ways.plain_channels(group.route.receiver), alerts, now):
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
            self._wake.set()

    def flush_due(self) -> None:
        """Begin the flush of each group that is due."""
        self._flushes.begin(now_ms(self._clock))

    async def settled(self) -> None:
        """Return once no flush is under way."""
        await self._flushes.settled()

    async def _end(self, now: int) -> None:
        """Note what ended by itself: alerts nobody tells of any more, acknowledgements and silences whose reason is gone."""
        ended = {a.fingerprint: "its time is up" for a in self.acknowledgements.expired(now)} | self._ended(now)
        for name, ack in self.acknowledgements.standing().items():
            held = self.standing.get(ack.labels)
            if held is None or held.resolved(now):
                ended.setdefault(name, "the alert resolved")
        if ended or self._steps:
            await self._commit(ended, now)
        if self._some_ended:
            self._some_ended = False
            for silence in self.silences.over((h.alert.labels for h in self.standing if not h.resolved(now)), now):
                await self.silences.expire(silence.id)

    async def _freshen(self) -> None:
        """Keep the listing of many alerts ready, at no more than a tenth of the time, once they come no longer one after another."""
        while True:
            await self._news.wait()
            self._news.clear()
            await self._quiet(_PATIENCE)
            busy, written = 0.0, 0
            while self._changed:
                key, _ = self._changed.popitem()
                group, started = self._groups.get(key), time.perf_counter()
                if group is not None:
                    now = now_ms(self._clock)
                    written += 1 + self._listing.freshen(group, self._ways.muted_by(group.route, now), self.quieting(now))
                busy += time.perf_counter() - started
                if written >= _SLICE:
                    written = 0
                    await asyncio.sleep(0)
            await self._clock.sleep(max(0.2, 10 * busy))

    async def _quiet(self, patience: int, *, pauses: int = 1) -> None:
        """Return once nothing was heard of alerts for so many pauses, or after `patience` of them."""
        heard, still = -1, 0
        for _ in range(patience):
            still = still + 1 if heard == self._heard and not self._arriving else 0
            if still == pauses:
                break
            heard = self._heard
            await self._clock.sleep(_PAUSE_S)

    async def _spread(self) -> None:
        """Bring large batches of alerts into their tables, at no more than a tenth of the time."""
        while True:
            await self._journal.news.wait()
            self._journal.news.clear()
            await self._quiet(_LONG_PATIENCE, pauses=_LONG_PAUSES)
            while len(self._journal):
                started = time.perf_counter()
                try:
                    await self._journal.spread(most=1)
                except VedetteError as error:
                    # They are on the disk, and stay there until it takes them elsewhere.
                    self.counts.failed["records"] += 1
                    log.error("a batch of alerts is not spread yet", error=str(error))
                    await self._clock.sleep(_AGAIN_S)
                await self._clock.sleep(max(_PAUSE_S / 10, 10 * (time.perf_counter() - started)))

    async def _maintain(self) -> None:
        """Let go of empty groups, of alerts that ended a while ago, and of log entries that have expired."""
        now = now_ms(self._clock)
        if now < self._maintained + MAINTENANCE_MS:
            return
        self._maintained = now
        empty = [(k, g) for k, g in self._groups.items() if not g.alerts and not g.flushing]
        for key, _ in empty:
            del self._groups[key]
        if empty:
            self._ordered = None
            self._listing.gone(g for _, g in empty)
        # What is dropped from its table must not be brought there afterwards.
        await self._journal.spread()
        told_of = {labels for g in self._groups.values() for labels in g.alerts}
        # News that is being committed would be dropped from the disk with what was held before it.
        told_of.update(labels for news in self._arriving for labels in news)
        gone = [h for h in self.standing if h.alert.ends_at + KEEP_RESOLVED_MS < now and h.alert.labels not in told_of]
        expired = [p for p, e in self._told.items() if (e.expires_at if e.phase == "sent" else e.attempted_at + FORGET_MS) < now]
        rows = [held_alerts.row_of(self._tenant, h) for h in gone]
        await self._records.save(drop=[*rows, *(self._told[p] for p in expired)])
        for held in gone:
            self.standing.drop(held)
        for place in expired:
            self._told.pop(place, None)
        await self.silences.forget(now)
        if now >= self._trimmed + TRIM_MS:
            self._trimmed = now
            await self.history.forget()

    async def close(self) -> None:
        """Stop; notifications under way get a few seconds to end, and are otherwise told at the next start."""
        loops: Iterable[asyncio.Task[None]] = (*self._loops, *self._reports)
        for task in loops:
            task.cancel()
        await asyncio.gather(*loops, return_exceptions=True)
        await self._flushes.end()
        for channel in self._ways.all_channels():
            await channel.close()
