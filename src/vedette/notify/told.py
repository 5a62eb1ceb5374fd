"""The notification log: what each channel was last told about each group, and whether there is news. Pure.

A notification's life, each state on disk before the next act:

    sent --connected, about to write--> sending --answered--> sent
                                           |
                                           +--failed, or no answer within a second--> waiting --answered--> sent

A crash before `sending` is committed leaves no trace, and the next start tells. After it, `sending` counts as told: what
was about to be written into an open connection, and was neither refused nor unanswered for a second, has almost surely
arrived (the doubt is the fraction of a millisecond between the commit and the write, and ends with the repeat interval).
What is `waiting` is told again, under the same attempt key, by which a receiver can tell that it knows.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, replace
from enum import Enum

from vedette.records.rows import NotificationRow


class News(Enum):
    """Why a channel is told, or is not; each value is a reason in logs and metrics."""

    NONE = "nothing new since the last notification"
    NEVER_KNEW = "resolved before anybody was told of it"
    FIRST = "first notification"
    NEW_ALERTS = "new alerts in group"
    NEW_RESOLVED = "new alerts resolved"
    ALL_RESOLVED = "all alerts resolved"
    REPEAT = "repeat interval elapsed"

    @property
    def told(self) -> bool:
        """Whether it is a reason to tell."""
        return self not in (News.NONE, News.NEVER_KNEW)


@dataclass(frozen=True, slots=True)
class Place:
    """What a log entry is about."""

    tenant: str
    group_key: str
    receiver: str
    channel: str


Fingerprints = frozenset[str]


def news(
    entry: NotificationRow | None, firing: Fingerprints, resolved: Fingerprints, now: int, *, repeat_ms: int, send_resolved: bool
) -> News:
    """Whether a channel that was told `entry` is to be told of these alerts, by their fingerprints."""
    if entry is None or not entry.sent_at:
        return News.FIRST if firing else News.NEVER_KNEW
    known = _set(entry.firing)
    if not firing <= known:
        return News.NEW_ALERTS
    if not firing:
        # Also where resolved alerts are not sent: so the log forgets that they fire.
        return News.ALL_RESOLVED if known else News.NONE
    if send_resolved and not resolved <= _set(entry.resolved):
        return News.NEW_RESOLVED
    return News.REPEAT if entry.sent_at < now - repeat_ms else News.NONE


def begun(place: Place, entry: NotificationRow | None, firing: Fingerprints, resolved: Fingerprints, now: int) -> NotificationRow:
    """The entry while a notification is being sent. One that failed and says the same keeps its attempt key."""
    tells = _text(firing), _text(resolved)
    if entry is not None and entry.phase == "waiting" and (entry.next_firing, entry.next_resolved) == tells:
        return replace(entry, phase="sending", attempted_at=now)
    identity = "\0".join((place.tenant, place.group_key, place.receiver, place.channel, *tells, str(now)))
    return NotificationRow(
        tenant=place.tenant,
        group_key=place.group_key,
        receiver=place.receiver,
        channel=place.channel,
        phase="sending",
        firing=entry.firing if entry else "",
        resolved=entry.resolved if entry else "",
        sent_at=entry.sent_at if entry else 0,
        next_firing=tells[0],
        next_resolved=tells[1],
        attempt=hashlib.sha256(identity.encode()).hexdigest()[:32],
        attempted_at=now,
        expires_at=entry.expires_at if entry else 0,
        # A group that fires anew after all was told to have ended gets a message of its own.
        kept=entry.kept if entry and entry.firing else "",
    )


def waiting(entry: NotificationRow) -> NotificationRow:
    """The entry once its notification failed or goes unanswered."""
    return replace(entry, phase="waiting")


def ended(entry: NotificationRow, now: int, *, repeat_ms: int, kept: str | None = None) -> NotificationRow:
    """The entry once its notification has arrived, or needed no sending; the channel now keeps `kept`, None for what it had."""
    return replace(
        entry,
        phase="sent",
        firing=entry.next_firing,
        resolved=entry.next_resolved,
        sent_at=now,
        next_firing="",
        next_resolved="",
        expires_at=now + 2 * repeat_ms,
        kept=entry.kept if kept is None else kept,
    )


def restored(entry: NotificationRow) -> NotificationRow:
    """The entry after a restart: see the module's words on `sending`. It expires as the one before it would have."""
    if entry.phase != "sending":
        return entry
    return replace(
        entry,
        phase="sent",
        firing=entry.next_firing,
        resolved=entry.next_resolved,
        sent_at=entry.attempted_at,
        next_firing="",
        next_resolved="",
        expires_at=max(entry.expires_at, entry.attempted_at + _DAY_MS),
    )


_DAY_MS = 86_400_000


def _text(fingerprints: Fingerprints) -> str:
    return " ".join(sorted(fingerprints))


def _set(text: str) -> Fingerprints:
    return frozenset(text.split())
