"""How groups, and an alert's ways to people, look at one moment: snapshots for those who show them."""

from __future__ import annotations

from dataclasses import dataclass

from vedette.model.labels import Labels
from vedette.notify.held import Held
from vedette.notify.quiet import Reason


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
