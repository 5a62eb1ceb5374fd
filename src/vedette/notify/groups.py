"""Groups of alerts on their way to one receiver, and when each is looked at again. The timing is pure.

A group waits `group_wait` for company before its first flush and is then flushed every `group_interval`, whether or
not there is news; whether anybody is told is decided later (`told.py`). Not here: tasks and clocks (`notifier.py`).
"""

from __future__ import annotations

from dataclasses import dataclass, field

from vedette.model.labels import Labels, quote
from vedette.notify.held import Held
from vedette.notify.route import Route


@dataclass(frozen=True, slots=True)
class Timing:
    """When a group is flushed next (ms), and whether it ever was."""

    next_flush: int
    flushed: bool = False

    def inserted(self, starts_at: int, route: Route, now: int) -> Timing:
        """After an alert joined: one that has waited long enough elsewhere (before a restart, say) does not wait again."""
        if not self.flushed and starts_at + route.group_wait < now:
            return Timing(min(self.next_flush, now))
        return self

    def after_flush(self, route: Route, now: int) -> Timing:
        """After a flush begun at `now`."""
        return Timing(now + route.group_interval, flushed=True)


GroupKey = tuple[tuple[int, ...], Labels]


def group_key(route: Route, labels: Labels) -> str:
    """How receivers and the notification log know the group: `{}/{owner="a"}:{alertname="x"}`."""
    return f"{route.key}:{{{', '.join(f'{n}={quote(v)}' for n, v in labels)}}}"


def _place(labels: Labels) -> tuple[str, str, Labels]:
    return labels.get("job"), labels.get("instance"), labels


@dataclass(slots=True)
class AlertGroup:
    """One group: the alerts of one route with the same group labels."""

    route: Route
    labels: Labels
    timing: Timing
    alerts: dict[Labels, Held] = field(default_factory=dict)
    flushing: bool = False
    version: int = 0
    """Grows with each change of its alerts."""
    _order: list[Labels] | None = None

    @property
    def key(self) -> str:
        """Its key for receivers."""
        return group_key(self.route, self.labels)

    def insert(self, held: Held, now: int) -> bool:
        """Put an alert in, or news of it; whether that moved the next flush."""
        alert, alerts = held.alert, self.alerts
        before = len(alerts)
        alerts[alert.labels] = held
        if len(alerts) != before:
            self._order = None
        self.version += 1
        if self.timing.flushed:
            return False
        timing = self.timing.inserted(alert.starts_at, self.route, now)
        moved, self.timing = timing is not self.timing, timing
        return moved

    def snapshot(self) -> list[Held]:
        """The alerts in the order they are told: by job, instance, then all labels."""
        if self._order is None:
            self._order = sorted(self.alerts, key=_place)
        return [self.alerts[labels] for labels in self._order]

    def told(self, held: list[Held], now: int) -> None:
        """All channels know of `held`: those that have ended, and of which nothing was heard since, leave the group."""
        for one in held:
            if one.resolved(now) and self.alerts.get(one.alert.labels) is one:
                del self.alerts[one.alert.labels]
                self._order = None
                self.version += 1
