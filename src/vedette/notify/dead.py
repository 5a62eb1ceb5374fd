"""A channel that takes no notifications any more, told by another one: as an alert, which comes, is repeated and resolves as any.

Its labels are the receiver and the channel. It goes to the receiver that the settings name; where they name none, to the same
receiver if that has another channel, or else to the first other one that has some. Pure.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import replace

from vedette.model.alerts import ALERT_NAME, Alert
from vedette.model.labels import Labels, quote
from vedette.notify.held import Held
from vedette.notify.route import Route
from vedette.records.rows import NotificationRow

NAME = "VedetteChannelDead"
_STANDS_MS = 30 * 86_400_000
"""How long the alert stands without any news: until the channel is used again, unless that takes longer."""


class Ledger:
    """Counts the failures in a row of each channel."""

    def __init__(self, after: int) -> None:
        self._after = after
        self._failures: Counter[Labels] = Counter()

    def judge(self, entry: NotificationRow, why: str, now: int, *, standing: Callable[[Labels], Held | None]) -> Alert | None:
        """The alert to raise, or to end, after a notification that failed (`why`) or arrived (""); None for no news."""
        labels = Labels.of({ALERT_NAME: NAME, "receiver": entry.receiver, "channel": entry.channel, "severity": "critical"})
        held = standing(labels)
        stands = held is not None and not held.resolved(now)
        if not why:
            self._failures.pop(labels, None)
            return replace(held.alert, ends_at=now) if stands and held else None
        self._failures[labels] += 1
        if not self._after or (self._failures[labels] < self._after and not stands):
            return None
        summary = f"the channel {entry.channel} of the receiver {entry.receiver} takes no notifications"
        about = Labels.of(summary=summary, description=f"The last one failed: {why}")
        return Alert(labels, held.alert.starts_at if stands and held else now, now + _STANDS_MS, about)


def routes(labels: Labels, root: Route, channels: Mapping[str, int], wanted: str) -> tuple[Route, ...] | None:
    """The way of such an alert, none where there is no other channel; None for any other alert.

    `channels` counts those of each receiver, `wanted` is the receiver to tell.
    """
    if labels.get(ALERT_NAME) != NAME:
        return None
    dead = labels.get("receiver")
    others = [name for name, count in channels.items() if name != dead and count]
    chosen = wanted if wanted in channels else dead if channels.get(dead, 0) > 1 else others[0] if others else ""
    key = f"{{{ALERT_NAME}={quote(NAME)}}}"
    return (replace(root, key=key, receiver=chosen, group_by=None, group_wait=0, routes=(), path=(-1,)),) if chosen else ()
