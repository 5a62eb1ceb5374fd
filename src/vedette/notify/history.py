"""Two logs: each step in an alert's life, and each notification that was sent, failed or was muted, with its reason.

Rows are made here and committed by whoever takes the step, in the same transaction, so that the log neither lacks a step
that was taken nor tells of one that was not. Servers that share a database write the same two logs. They are kept for
`keep_ms` and at most `MAX_ROWS` of each. Not here: what the steps mean.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Generic, Literal, TypeVar

import orjson

from vedette.clock import Clock, now_ms
from vedette.model.alerts import ALERT_NAME, Alert
from vedette.model.matchers import Matcher
from vedette.records.numbers import Numbers, own_number
from vedette.records.rows import AlertEventRow, DeliveryRow, Many

if TYPE_CHECKING:
    from vedette.notify.news import Turn
    from vedette.records.database import Records

L = TypeVar("L", AlertEventRow, DeliveryRow)

KEEP_MS = 30 * 86_400_000
MAX_ROWS = 1_000_000
MAX_NAMED = 100
"""How many alerts a notification's entry names; all are counted."""
MAX_DETAIL = 2_000
_PAGE = 1_000
_MAX_REASONS = 20
_SCAN = 50_000
"""How many rows one question looks through before it answers with what it found so far, and where to go on."""

Kind = Literal["pending", "firing", "resolved", "acknowledged", "unacknowledged"]
KINDS: tuple[Kind, ...] = ("pending", "firing", "resolved", "acknowledged", "unacknowledged")
Outcome = Literal["sent", "failed", "muted"]
OUTCOMES: tuple[Outcome, ...] = ("sent", "failed", "muted")


@dataclass(frozen=True, slots=True)
class Question:
    """What is looked for: times in Unix ms, inclusive; `equal` by column; all `matchers` must hold for (one of) the alerts."""

    since: int
    until: int
    limit: int
    before: int = 1 << 62
    equal: Mapping[str, str] | None = None
    matchers: tuple[Matcher, ...] = ()


@dataclass(frozen=True, slots=True)
class Page(Generic[L]):
    """Rows, the newest first; `next` is what to ask for as `before`, 0 at the end."""

    rows: Sequence[L]
    next: int


class History:
    """Both logs of one tenant. Call `start` once."""

    def __init__(
        self,
        records: Records,
        clock: Clock,
        *,
        tenant: str,
        keep_ms: int = KEEP_MS,
        max_rows: int = MAX_ROWS,
        number: int | None = None,
        ready: Callable[[], Awaitable[None]] | None = None,
    ) -> None:
        """`number` (below 4096) is this server's among those that share its database; at random where it is not given.

        `ready` is awaited before the steps of alerts are read: it brings those that were committed elsewhere into their table.
        """
        self._ready = ready
        self._records, self._clock, self._tenant = records, clock, tenant
        self._keep_ms, self._max_rows = keep_ms, max_rows
        self._own = own_number() if number is None else number
        self._events = self._deliveries = Numbers(0, self._own)
        # What was last said of a group's way to a receiver: a group that stays muted is one entry, not one each flush.
        self._muted: dict[tuple[str, str], str] = {}

    async def start(self) -> None:
        """Go on where the records end."""
        self._events = Numbers(await self._records.newest(AlertEventRow, self._tenant), self._own)
        self._deliveries = Numbers(await self._records.newest(DeliveryRow, self._tenant), self._own)

    def event(self, kind: Kind, alert: Alert, at: int, note: str = "") -> AlertEventRow:
        """The row of one step."""
        return AlertEventRow(
            tenant=self._tenant,
            seq=self._events.take(now_ms(self._clock)),
            at=at,
            kind=kind,
            fingerprint=alert.fingerprint,
            alertname=alert.labels.get(ALERT_NAME),
            labels=orjson.dumps(dict(alert.labels)).decode(),
            starts_at=alert.starts_at,
            value=math.nan if alert.value is None else alert.value,
            note=note[:MAX_DETAIL],
        )

    def turned(self, turns: Sequence[Turn], at: int) -> Many:
        """The rows of alerts that fired or resolved, many at once."""
        numbers = self._events.many(now_ms(self._clock), len(turns))
        found = []
        for turn, seq in zip(turns, numbers, strict=True):
            alert = turn.held.alert
            value = None if alert.value is None or math.isnan(alert.value) else alert.value
            name, fingerprint = alert.labels.get(ALERT_NAME), alert.fingerprint
            found.append((self._tenant, seq, at, turn.kind, fingerprint, name, turn.labels, alert.starts_at, value, ""))
        return Many(AlertEventRow, found)

    def delivery(
        self,
        outcome: Outcome,
        reason: str,
        detail: str,
        *,
        place: tuple[str, str, str],
        alerts: Sequence[Alert],
        at: int,
        attempt: str = "",
    ) -> DeliveryRow:
        """The row of one notification; `place` is its receiver, channel ("" for all) and group key."""
        receiver, channel, group_key = place
        firing = sum(a.status(at) == "firing" for a in alerts)
        named = [{"fingerprint": a.fingerprint, "labels": dict(a.labels)} for a in alerts[:MAX_NAMED]]
        return DeliveryRow(
            tenant=self._tenant,
            seq=self._deliveries.take(now_ms(self._clock)),
            at=at,
            outcome=outcome,
            reason=reason,
            detail=detail[:MAX_DETAIL],
            receiver=receiver,
            channel=channel,
            group_key=group_key,
            alerts=orjson.dumps(named).decode(),
            firing=firing,
            resolved=len(alerts) - firing,
            attempt=attempt,
        )

    def muted(self, muted: Mapping[tuple[str, str], Sequence[Alert]], *, place: tuple[str, str, str], at: int) -> list[DeliveryRow]:
        """The rows of alerts kept quiet, by stage and detail; none where the last ones about this group and receiver said the same."""
        receiver, _, group_key = place
        said = "\0".join("\0".join((*why, *sorted(a.fingerprint for a in alerts))) for why, alerts in muted.items())
        if self._muted.get((group_key, receiver), "") == said:
            return []
        rows = [
            self.delivery("muted", stage, detail, place=place, alerts=alerts, at=at)
            for (stage, detail), alerts in itertools.islice(muted.items(), _MAX_REASONS)
        ]
        self.unsaid(place)
        if said:
            self._muted[group_key, receiver] = said
        return rows

    def unsaid(self, place: tuple[str, str, str]) -> None:
        """What was last said of muted alerts did not get through: it is to be said again."""
        receiver, _, group_key = place
        self._muted.pop((group_key, receiver), None)

    async def events(self, question: Question) -> Page[AlertEventRow]:
        """The steps that were asked for."""
        if self._ready is not None:
            await self._ready()
        return await self._search(AlertEventRow, question, lambda row: [orjson.loads(row.labels)])

    async def deliveries(self, question: Question) -> Page[DeliveryRow]:
        """The notifications that were asked for."""
        return await self._search(DeliveryRow, question, lambda row: [a["labels"] for a in orjson.loads(row.alerts)])

    async def _search(self, kind: type[L], question: Question, alerts: Callable[[L], list[dict[str, str]]]) -> Page[L]:
        found: list[L] = []
        before, seen = question.before, 0
        while seen < _SCAN:
            wanted = _PAGE if question.matchers else question.limit + 1
            page = await self._records.page(
                kind, self._tenant, before=before, since=question.since, until=question.until, limit=wanted, equal=question.equal
            )
            for row in page:
                if question.matchers and not any(_matches(question.matchers, labels) for labels in alerts(row)):
                    continue
                if len(found) == question.limit:
                    return Page(found, found[-1].seq)
                found.append(row)
            if len(page) < wanted:
                return Page(found, 0)
            before, seen = page[-1].seq, seen + len(page)
        return Page(found, before)

    async def forget(self) -> None:
        """Let go of what is too old, or too much."""
        older_than = now_ms(self._clock) - self._keep_ms
        kinds: tuple[type[AlertEventRow], type[DeliveryRow]] = (AlertEventRow, DeliveryRow)
        for kind in kinds:
            surplus = await self._records.newest(kind, self._tenant, skip=self._max_rows)
            await self._records.trim(kind, self._tenant, older_than=older_than, up_to=surplus)


def _matches(matchers: Sequence[Matcher], labels: Mapping[str, str]) -> bool:
    return all(m.matches(labels.get(m.name, "")) for m in matchers)
