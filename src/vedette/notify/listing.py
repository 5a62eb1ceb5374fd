"""Alerts and their groups as Alertmanager's API v2 writes them, each as JSON bytes, kept from one asking to the next.

A hundred thousand alerts are some forty megabytes of JSON; what did not change since it was last written is not written
again. A group's bytes hold while its alerts, what keeps them quiet and its times of quiet stay the same, and until the first of
its alerts ends. Not here: which alerts there are and what keeps them quiet.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

import orjson

from vedette.model.labels import Labels
from vedette.model.matchers import Matcher
from vedette.notify.groups import AlertGroup
from vedette.notify.held import Held, rfc3339
from vedette.notify.quiet import LOUD, Quiet, Quieting

_TURN = 2_000
"""How many alerts are looked at before others get their turn on the loop."""
_FOREVER = 1 << 62


@dataclass(frozen=True, slots=True)
class Wanted:
    """Which alerts are asked for: all `matchers` hold, the receiver passes, and they are in one of the states that are true."""

    matchers: tuple[Matcher, ...] = ()
    receiver: Callable[[str], bool] | None = None
    active: bool = True
    silenced: bool = True
    inhibited: bool = True
    muted: bool = True

    @property
    def everything(self) -> bool:
        """Whether nothing is left out."""
        return not self.matchers and self.receiver is None and self.active and self.silenced and self.inhibited and self.muted

    def takes(self, quiet: Quiet) -> bool:
        """Whether alerts in this state are asked for."""
        if not self.active and not quiet.silenced_by and not quiet.inhibited_by:
            return False
        return (self.silenced or not quiet.silenced_by) and (self.inhibited or not quiet.inhibited_by)

    def names(self, labels: Labels) -> bool:
        """Whether a label set passes the filter, in which an empty value asks whether the label is there at all."""
        for matcher in self.matchers:
            value = labels.get(matcher.name)
            if not matcher.value and bool(value) == (matcher.op in ("!=", "!~")):
                continue
            if not matcher.matches(value):
                return False
        return True


@dataclass(slots=True)
class _Kept:
    """A group's bytes, and what they were written of."""

    version: int
    key: tuple[int, int, int]
    muted_by: tuple[str, ...]
    until: int
    body: bytes


class Listing:
    """Writes lists of alerts. `receivers_of` gives the names of an alert's receivers, `labels_of` the route labels of a group."""

    def __init__(self, receivers_of: Callable[[Labels], tuple[str, ...]], labels_of: Callable[[AlertGroup], Mapping[str, str]]) -> None:
        self._receivers_of, self._labels_of = receivers_of, labels_of
        self._plain: dict[tuple[tuple[str, ...], tuple[str, ...]], bytes] = {}
        self._kept: dict[tuple[object, Labels], _Kept] = {}

    def forget(self) -> None:
        """Let go of what is kept: the groups are others now."""
        self._kept.clear()
        self._plain.clear()

    def gone(self, groups: Iterable[AlertGroup]) -> None:
        """Some groups are no more."""
        for group in groups:
            self._kept.pop((group.route.path, group.labels), None)

    async def alerts(self, held: Iterable[Held], quieting: Quieting, wanted: Wanted) -> list[bytes]:
        """The alerts that stand, each as a JSON object, by fingerprint."""
        found: list[tuple[str, bytes]] = []
        now, idle, everything = quieting.now, quieting.idle, wanted.everything
        last, rest = None, b""
        for i, one in enumerate(held):
            if i % _TURN == _TURN - 1:
                await asyncio.sleep(0)
            alert = one.alert
            if alert.ends_at <= now or (wanted.matchers and not wanted.names(alert.labels)):
                continue
            receivers = self._receivers_of(alert.labels)
            if idle and everything:
                if receivers is not last:
                    last, rest = receivers, self._rest(receivers, LOUD, ())
                found.append((alert.known_fingerprint, one.json + rest))
                continue
            quiet = LOUD if idle else quieting.of(one)
            if wanted.takes(quiet) and (wanted.receiver is None or not receivers or any(map(wanted.receiver, receivers))):
                found.append((alert.fingerprint, one.json + self._rest(receivers, quiet, ())))
        found.sort()
        return [text for _, text in found]

    async def groups(
        self, groups: Sequence[AlertGroup], muted_by: Callable[[AlertGroup], tuple[str, ...]], quieting: Quieting, wanted: Wanted
    ) -> list[bytes]:
        """The groups with their alerts that stand, each as a JSON object; groups of which nothing is wanted are left out."""
        found, seen = [], 0
        everything = wanted.everything
        for group in groups:
            if wanted.receiver is not None and not wanted.receiver(group.route.receiver):
                continue
            quiet_times = muted_by(group)
            if quiet_times and not wanted.muted:
                continue
            if everything:
                body, written = self._whole(group, quieting, quiet_times)
            else:
                body, written = self._part(group, quieting, quiet_times, wanted), len(group.alerts)
            if body:
                found.append(body)
            seen += written + 1
            if seen >= _TURN:
                seen = 0
                await asyncio.sleep(0)
        return found

    def freshen(self, group: AlertGroup, muted_by: tuple[str, ...], quieting: Quieting) -> int:
        """Write a group anew if it changed, so that whoever asks next need not wait; how many alerts were written."""
        return self._whole(group, quieting, muted_by)[1]

    def _whole(self, group: AlertGroup, quieting: Quieting, muted_by: tuple[str, ...]) -> tuple[bytes, int]:
        place, key, now = (group.route.path, group.labels), quieting.key, quieting.now
        kept = self._kept.get(place)
        if kept is not None and kept.version == group.version and kept.key == key and kept.muted_by == muted_by and now < kept.until:
            return kept.body, 0
        idle, until, parts = quieting.idle, _FOREVER, []
        last, rest = None, b""
        for held in group.snapshot():
            ends = held.alert.ends_at
            if ends <= now:
                continue
            if ends < until:
                until = ends
            if idle:
                # The same few receivers for all: this loop is what a list of a hundred thousand alerts waits for.
                receivers = self._receivers_of(held.alert.labels)
                if receivers is not last:
                    last, rest = receivers, self._rest(receivers, LOUD, muted_by)
                parts.append(held.json + rest)
                continue
            quiet = quieting.of(held)
            if quiet.acknowledged is not None and quiet.acknowledged.expires_at:
                until = min(quiet.acknowledged.expires_at, until)
            parts.append(held.json + self._rest(self._receivers_of(held.alert.labels), quiet, muted_by))
        body = _group(group, parts, self._labels_of(group))
        self._kept[place] = _Kept(group.version, key, muted_by, until, body)
        return body, len(group.alerts)

    def _part(self, group: AlertGroup, quieting: Quieting, muted_by: tuple[str, ...], wanted: Wanted) -> bytes:
        parts, loud, idle = [], False, quieting.idle
        for held in group.snapshot():
            if held.alert.ends_at <= quieting.now or not wanted.names(held.alert.labels):
                continue
            quiet = LOUD if idle else quieting.of(held)
            if wanted.takes(quiet):
                loud = loud or not (quiet.silenced_by or quiet.inhibited_by)
                parts.append(held.json + self._rest(self._receivers_of(held.alert.labels), quiet, muted_by))
        return _group(group, parts, self._labels_of(group)) if loud or wanted.muted else b""

    def _rest(self, receivers: tuple[str, ...], quiet: Quiet, muted_by: tuple[str, ...]) -> bytes:
        if quiet is not LOUD:
            return _rest(receivers, quiet, muted_by)
        found = self._plain.get((receivers, muted_by))
        if found is None:
            found = self._plain[receivers, muted_by] = _rest(receivers, quiet, muted_by)
        return found


def _group(group: AlertGroup, alerts: Sequence[bytes], labels: Mapping[str, str]) -> bytes:
    if not alerts:
        return b""
    head = orjson.dumps({"labels": dict(group.labels), "receiver": {"name": group.route.receiver}, "routeLabels": dict(labels)})
    return head[:-1] + b',"alerts":[' + b",".join(alerts) + b"]}"


def _rest(receivers: Sequence[str], quiet: Quiet, muted_by: Sequence[str]) -> bytes:
    """What of an alert depends on the moment: the end of the object that `Held.json` begins."""
    ack = quiet.acknowledged
    rest: dict[str, object] = {
        "receivers": [{"name": name} for name in receivers],
        "status": {
            "inhibitedBy": [quiet.inhibited_by] if quiet.inhibited_by else [],
            "silencedBy": list(quiet.silenced_by),
            "mutedBy": list(muted_by),
            "state": "suppressed" if quiet.silenced_by or quiet.inhibited_by or muted_by else "active",
        },
    }
    if ack is not None:
        rest["acknowledgement"] = {
            "author": ack.author,
            "note": ack.note,
            "madeAt": rfc3339(ack.made_at),
            "expiresAt": rfc3339(ack.expires_at) if ack.expires_at else None,
        }
    return orjson.dumps(rest)[1:]
