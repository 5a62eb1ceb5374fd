"""Acknowledgements: somebody knows of an alert and deals with it, so it is not told again while it stands.

One ends when it is taken back, when its time is up, when the alert resolves, or when it gets worse:

- an alert joins a group that the acknowledged one is in and was not there when it was acknowledged;
- an alert with the same labels but for `severity` comes with a higher one (`SEVERITY`).

Then the whole group is told anew. Each change is on disk before it counts. Not here: the stage that asks (`pipeline.py`).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import orjson

from vedette.clock import Clock, now_ms
from vedette.errors import BadInput, NotFound
from vedette.model.labels import Labels
from vedette.notify.held import Held
from vedette.records.rows import AcknowledgementRow

if TYPE_CHECKING:
    from vedette.records.database import Records

MAX_TEXT = 16_384
SEVERITY = {
    **dict.fromkeys(("none", "debug"), 0),
    **dict.fromkeys(("info", "informational", "low", "notice"), 1),
    **dict.fromkeys(("warning", "warn", "minor", "medium"), 2),
    **dict.fromkeys(("error", "major", "high"), 3),
    **dict.fromkeys(("critical", "page"), 4),
    **dict.fromkeys(("emergency", "fatal", "disaster"), 5),
}
"""How bad a value of the label `severity` (in lower case) is; others are not compared."""


@dataclass(frozen=True, slots=True)
class Acknowledgement:
    """Who acknowledged an alert, and why. Times are Unix ms; `expires_at` 0: it lasts as long as the alert."""

    fingerprint: str
    labels: Labels
    author: str
    note: str
    made_at: int
    expires_at: int

    def holds(self, now: int) -> bool:
        """Whether its time is not up at `now`."""
        return not self.expires_at or now < self.expires_at

    @property
    def detail(self) -> str:
        """Why nobody is told, for people."""
        return f"acknowledged by {self.author or 'somebody'}" + (f": {self.note}" if self.note else "")


def checked(held: Held, *, author: str, note: str, expires_at: int, now: int) -> Acknowledgement:
    """What is to be acknowledged from `now` on. Raises `BadInput` where it cannot be."""
    if held.resolved(now):
        raise BadInput("the alert has resolved: there is nothing to acknowledge", where="fingerprint")
    if len(author) > MAX_TEXT or len(note) > MAX_TEXT:
        raise BadInput(f"a text of more than {MAX_TEXT} characters", where="note")
    if expires_at and expires_at <= now:
        raise BadInput("its end lies in the past", where="expires_at", hint="leave it out to acknowledge as long as the alert stands")
    return Acknowledgement(held.alert.fingerprint, held.alert.labels, author, note, now, expires_at)


def worse(acknowledged: Labels, other: Labels) -> bool:
    """Whether `other` is the acknowledged alert with a higher severity."""
    before, after = (SEVERITY.get(labels.get("severity").lower()) for labels in (acknowledged, other))
    return before is not None and after is not None and after > before and kin(acknowledged) == kin(other)


def kin(labels: Labels) -> Labels:
    """What an alert shares with itself at another severity."""
    return labels.without("severity")


def row_of(tenant: str, ack: Acknowledgement) -> AcknowledgementRow:
    """Its record."""
    labels = orjson.dumps(dict(ack.labels)).decode()
    return AcknowledgementRow(tenant, ack.fingerprint, labels, ack.author, ack.note, ack.made_at, ack.expires_at)


class Acknowledgements:
    """The acknowledgements of one tenant. Call `start` once. `epoch` grows with each change."""

    def __init__(self, records: Records, clock: Clock, *, tenant: str) -> None:
        self._records, self._clock, self._tenant = records, clock, tenant
        self._by_fingerprint: dict[str, Acknowledgement] = {}
        self._by_kin: dict[Labels, set[str]] = {}
        self.epoch = 0

    def __len__(self) -> int:
        return len(self._by_fingerprint)

    async def start(self) -> None:
        """Take up what the records hold."""
        for row in await self._records.load(AcknowledgementRow, tenant=self._tenant):
            labels = Labels.of(orjson.loads(row.labels))
            self.hold(Acknowledgement(row.fingerprint, labels, row.author, row.note, row.made_at, row.expires_at))

    def get(self, fingerprint: str) -> Acknowledgement:
        """The acknowledgement of an alert. Raises `NotFound`."""
        found = self.of(fingerprint, now_ms(self._clock))
        if found is None:
            raise NotFound(f"the alert {fingerprint} is not acknowledged")
        return found

    def of(self, fingerprint: str, now: int) -> Acknowledgement | None:
        """The acknowledgement of an alert that holds at `now`."""
        found = self._by_fingerprint.get(fingerprint)
        return found if found is not None and found.holds(now) else None

    def standing(self) -> Mapping[str, Acknowledgement]:
        """All, by fingerprint, those included whose time is up and that were not let go of yet."""
        return self._by_fingerprint

    def row(self, ack: Acknowledgement) -> AcknowledgementRow:
        """The record of one."""
        return row_of(self._tenant, ack)

    def hold(self, ack: Acknowledgement) -> None:
        """Count one from now on; its record is on disk."""
        self._by_fingerprint[ack.fingerprint] = ack
        self._by_kin.setdefault(kin(ack.labels), set()).add(ack.fingerprint)
        self.epoch += 1

    def let_go(self, acks: Iterable[Acknowledgement]) -> None:
        """Count some no longer; their records are gone."""
        for ack in acks:
            if self._by_fingerprint.get(ack.fingerprint) is ack:
                del self._by_fingerprint[ack.fingerprint]
                self._by_kin.get(kin(ack.labels), set()).discard(ack.fingerprint)
                self.epoch += 1

    def outdone(self, labels: Labels, company: Sequence[Mapping[Labels, Held]]) -> dict[str, str]:
        """The acknowledgements that end, by fingerprint, since an alert begins to fire in groups with this company; and why."""
        if not self._by_fingerprint:
            return {}
        found = {f: f"worse: {labels} joined its group" for f, a in self._by_fingerprint.items() if any(a.labels in g for g in company)}
        found |= {
            f: f"worse: severity rose to {labels.get('severity')}"
            for f in self._by_kin.get(kin(labels), ())
            if worse(self._by_fingerprint[f].labels, labels)
        }
        return found

    def expired(self, now: int) -> list[Acknowledgement]:
        """Those whose time is up."""
        return [a for a in self._by_fingerprint.values() if not a.holds(now)]
