"""The ways that alerts go by the configuration in force: routes, receivers with their channels, templates, times of quiet.

Not here: the groups on these ways and when they are looked at (`notifier.py`), what a flush does (`pipeline.py`).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

from vedette.errors import NotFound, Undeliverable
from vedette.model.alerts import ALERT_NAME
from vedette.model.labels import Labels
from vedette.notify import dead
from vedette.notify.groups import AlertGroup
from vedette.notify.notice import Channel, Notice
from vedette.notify.pipeline import named, why_in_mute_times, why_outside_active_times
from vedette.notify.quiet import Reason
from vedette.notify.route import Route, build, match
from vedette.notify.template import Templates

if TYPE_CHECKING:
    from vedette.notify.config import Config, Receiver
    from vedette.notify.global_config import GlobalConfig
    from vedette.notify.intervals import NamedIntervals

Make = Callable[["Receiver", "GlobalConfig", Templates], list[Channel]]
"""Makes the channels of a receiver."""
_Way = tuple[tuple[Route, ...], tuple[str, ...]]
_REMEMBERED = 100_000
"""Of so many sets of labels that routes depend on it is remembered where they lead."""


class Ways:
    """The ways of one tenant's alerts. Nobody is told before `configure`."""

    def __init__(self, external_url: str) -> None:
        self._external_url = external_url
        self._route: Route | None = None
        self._channels: dict[str, list[Channel]] = {}
        self._receivers: list[str] = []
        self._dead_receiver = ""
        # What was found out, by the labels that it depends on: alerts are many, and most of them go the same few ways.
        self._names: frozenset[str] = frozenset()
        self._found: dict[tuple[tuple[str, str], ...], _Way] = {}
        self._same: dict[tuple[str, ...], tuple[str, ...]] = {}
        self.templates = Templates.load(())
        self.intervals: Mapping[str, NamedIntervals] = {}

    def configure(self, config: Config | None, make: Make, *, dead_receiver: str) -> list[Channel]:
        """Put a configuration in force; the channels of the one before, which are to be closed."""
        old = self.all_channels()
        self._route = build(config.route) if config and config.route else None
        self.templates = Templates.load(config.templates if config else ())
        self._channels = {r.name: make(r, config.global_, self.templates) for r in config.receivers} if config else {}
        self._receivers = [r.name for r in config.receivers] if config else []
        self.intervals = config.intervals if config else {}
        self._dead_receiver = dead_receiver
        self._names = self._route.names() if self._route else frozenset()
        self._found.clear()
        self._same.clear()
        return old

    def _way(self, labels: Labels) -> _Way:
        names = self._names
        ours = labels.get(ALERT_NAME) == dead.NAME
        # Of a dead channel's alert, more labels than the routes' own decide.
        key = tuple(labels) if ours else tuple([p for p in labels if p[0] in names]) if names else ()
        found = self._found.get(key)
        if found is None:
            if len(self._found) >= _REMEMBERED:
                self._found.clear()
            found = self._found[key] = self._find(labels)
        return found

    def _find(self, labels: Labels) -> _Way:
        if self._route is None:
            return (), ()
        counts = {name: len(channels) for name, channels in self._channels.items()}
        ours = dead.routes(labels, self._route, counts, self._dead_receiver)
        routes = tuple(match(self._route, labels)) if ours is None else ours
        receivers = tuple([route.receiver for route in routes])
        # One object for all alerts that go to the same receivers: the listing looks at it a hundred thousand times.
        return routes, self._same.setdefault(receivers, receivers)

    def routes(self, labels: Labels) -> tuple[Route, ...]:
        """The routes of an alert, none where nobody is told."""
        return self._way(labels)[0]

    def receivers_of(self, labels: Labels) -> tuple[str, ...]:
        """The names of the receivers of an alert; the same object for all that go to the same ones."""
        return self._way(labels)[1]

    def receivers(self) -> list[str]:
        """The names of all receivers."""
        return list(self._receivers)

    def channels(self, receiver: str) -> list[tuple[str, Channel]]:
        """A receiver's channels with their names. Raises `NotFound` for an unknown receiver."""
        if receiver not in self._channels:
            raise NotFound(f"no receiver is called {receiver!r}: there are {', '.join(self._channels) or 'none'}")
        return named(self._channels[receiver])

    def plain_channels(self, receiver: str) -> list[Channel]:
        """A receiver's channels, none for an unknown one."""
        return self._channels.get(receiver, [])

    def all_channels(self) -> list[Channel]:
        """The channels of all receivers."""
        return [channel for channels in self._channels.values() for channel in channels]

    def why_not_now(self, route: Route, now: int) -> tuple[Reason | None, Reason | None]:
        """Why a route says nothing at a time (Unix ms): it is outside its active times, or in its muted ones."""
        return why_outside_active_times(route, self.intervals, now), why_in_mute_times(route, self.intervals, now)

    def muted_by(self, route: Route, now: int) -> tuple[str, ...]:
        """The names of the time intervals that keep a route quiet at a time (Unix ms)."""
        if not route.active_time_intervals and not route.mute_time_intervals:
            return ()
        if why_outside_active_times(route, self.intervals, now) is not None:
            return route.active_time_intervals
        return tuple(name for name in route.mute_time_intervals if self.intervals[name].holds(now))

    def labels_of(self, group: AlertGroup, now: int) -> dict[str, str]:
        """What a group's route says of it: its labels, templates filled in at a time (Unix ms)."""
        route = group.route
        if not route.labels:
            return {}
        alerts = [h.alert for h in group.snapshot() if not h.resolved(now)]
        notice = Notice(*(route.receiver, group.key, group.labels, alerts, now, self._external_url, ""), route_labels=route.labels)
        try:
            return self.templates.over(notice).route_labels()
        except Undeliverable as error:
            # A list must not fail by what one route says of itself; its notifications fail, and say so.
            return {"error": str(error)}
