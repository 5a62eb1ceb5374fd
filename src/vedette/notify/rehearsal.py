"""Rehearsal: which notifications a course of alerts would lead to, through the real routes, groups, inhibition, times and silences.

The decisions are those of the pure parts that the pipeline is made of; time is a number, and nothing is sent, stored or
remembered. A delivery is taken to succeed. Not here: where the alerts come from.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, fields

from vedette.errors import LimitExceeded
from vedette.model.alerts import Alert
from vedette.model.labels import Labels
from vedette.notify.config import Config, Receiver
from vedette.notify.groups import AlertGroup, GroupKey, Timing
from vedette.notify.held import Held
from vedette.notify.hush import Hush
from vedette.notify.inhibition import Inhibition, Inhibitor
from vedette.notify.pipeline import why_in_mute_times, why_outside_active_times
from vedette.notify.quiet import Reason
from vedette.notify.route import build, match
from vedette.notify.silence import Silence
from vedette.notify.told import Place, begun, ended, news
from vedette.records.rows import NotificationRow

MAX_FLUSHES = 500_000


@dataclass(frozen=True, slots=True)
class Told:
    """One notification to one channel: when (Unix ms), of which alerts, and why then."""

    at: int
    receiver: str
    channel: str
    group_key: str
    group_labels: Labels
    alerts: tuple[Alert, ...]
    why: str

    @property
    def status(self) -> str:
        """Firing if any of its alerts does."""
        return "firing" if any(a.status(self.at) == "firing" for a in self.alerts) else "resolved"


@dataclass(frozen=True, slots=True)
class Muted:
    """The first time (Unix ms) that a receiver was not told of an alert for a reason."""

    at: int
    receiver: str
    labels: Labels
    stage: str
    reason: str


@dataclass(slots=True)
class Rehearsal:
    """What was told and what was kept quiet, in order of time."""

    told: list[Told] = field(default_factory=list)
    muted: list[Muted] = field(default_factory=list)


def channels(receiver: Receiver) -> list[tuple[str, bool]]:
    """The names of a receiver's channels, and whether each tells of alerts that have ended."""
    found = []
    for item in fields(receiver):
        if item.name.endswith("_configs"):
            kind = item.name.removesuffix("_configs")
            found += [(f"{kind}/{i}", bool(config.send_resolved)) for i, config in enumerate(getattr(receiver, item.name))]
    return found


def rehearse(config: Config | None, alerts: Iterable[Alert], silences: Sequence[Silence], *, until: int) -> Rehearsal:
    """The notifications up to `until` (Unix ms) for alerts that start and end when they say. Raises `LimitExceeded` for too many flushes.

    Without a configuration nobody is told.
    """
    if config is None or config.route is None:
        return Rehearsal()
    return _Stage(config, silences).play(sorted(alerts, key=lambda a: (a.starts_at, a.labels)), until)


class _Stage:
    def __init__(self, config: Config, silences: Sequence[Silence]) -> None:
        assert config.route is not None
        self._route = build(config.route)
        self._channels = {r.name: channels(r) for r in config.receivers}
        self._inhibitor = Inhibitor([Inhibition.of(r) for r in config.inhibit_rules if r is not None])
        self._intervals, self._silences = config.intervals, silences
        self._groups: dict[GroupKey, AlertGroup] = {}
        self._due: list[tuple[int, int, GroupKey]] = []
        self._log: dict[Place, NotificationRow] = {}
        self._known: set[tuple[str, Labels, int, str]] = set()
        self._out = Rehearsal()

    def play(self, alerts: Sequence[Alert], until: int) -> Rehearsal:
        """All alerts, in order of their start."""
        flushes, next_ = 0, 0
        while True:
            begins = alerts[next_].starts_at if next_ < len(alerts) else until + 1
            due = self._due[0][0] if self._due else until + 1
            if min(begins, due) > until:
                return self._out
            if begins <= due:
                self._insert(alerts[next_])
                next_ += 1
                continue
            now, _, key = heapq.heappop(self._due)
            group = self._groups.get(key)
            if group is None or group.timing.next_flush != now:
                continue  # the group was flushed at another time, since an alert in it had waited long enough
            flushes += 1
            if flushes > MAX_FLUSHES:
                raise LimitExceeded(f"more than {MAX_FLUSHES} flushes of groups: shorten the range, or group by fewer labels")
            self._flush(group, now)
            if not group.alerts:
                del self._groups[key]
            else:
                self._plan(key, group)

    def _plan(self, key: GroupKey, group: AlertGroup) -> None:
        heapq.heappush(self._due, (group.timing.next_flush, id(group), key))

    def _insert(self, alert: Alert) -> None:
        now = alert.starts_at
        held = Held(alert, now)
        self._inhibitor.put(held, now)
        for route in match(self._route, alert.labels):
            labels = route.group_labels(alert.labels)
            key = (route.path, labels)
            group = self._groups.get(key)
            if group is None:
                group = self._groups[key] = AlertGroup(route, labels, Timing(now + route.group_wait))
            before = group.timing
            group.insert(held, now)
            if len(group.alerts) == 1 or group.timing != before:
                self._plan(key, group)

    def _flush(self, group: AlertGroup, now: int) -> None:
        group.timing = group.timing.after_flush(group.route, now)
        every = group.snapshot()
        whole = why_outside_active_times(group.route, self._intervals, now) or why_in_mute_times(group.route, self._intervals, now)
        hush = Hush(s for s in self._silences if s.state(now) == "active")
        kept = []
        for held in every:
            reason = self._why_quiet(held, hush, whole, now)
            if reason is None:
                kept.append(held)
            else:
                self._mute(group.route.receiver, held.alert, reason, now)
        if kept:
            for name, send_resolved in self._channels[group.route.receiver]:
                self._tell(group, kept, name, send_resolved, now)
        group.told(every, now)

    def _why_quiet(self, held: Held, hush: Hush, whole: Reason | None, now: int) -> Reason | None:
        by = self._inhibitor.inhibited_by(held.alert.labels, now)
        if by is not None:
            return Reason("inhibited", f"inhibited by {by.alert.labels}")
        if whole is not None:
            return whole
        silenced = hush.of(held.alert.labels)
        return Reason("silenced", f"silenced by {', '.join(silenced)}") if silenced else None

    def _mute(self, receiver: str, alert: Alert, reason: Reason, now: int) -> None:
        key = (receiver, alert.labels, alert.starts_at, reason.stage)
        if key not in self._known and not alert.ends_at <= now:
            self._known.add(key)
            self._out.muted.append(Muted(now, receiver, alert.labels, reason.stage, reason.detail))

    def _tell(self, group: AlertGroup, kept: Sequence[Held], channel: str, send_resolved: bool, now: int) -> None:
        place = Place("", group.key, group.route.receiver, channel)
        firing = frozenset(h.alert.fingerprint for h in kept if not h.resolved(now))
        resolved = frozenset(h.alert.fingerprint for h in kept if h.resolved(now))
        entry, repeat = self._log.get(place), group.route.repeat_interval
        why = news(entry, firing, resolved, now, repeat_ms=repeat, send_resolved=send_resolved)
        if not why.told:
            return
        self._log[place] = ended(begun(place, entry, firing, resolved, now), now, repeat_ms=repeat)
        alerts = tuple(h.alert for h in kept if send_resolved or not h.resolved(now))
        if alerts:
            self._out.told.append(Told(now, group.route.receiver, channel, group.key, group.labels, alerts, why.value))
