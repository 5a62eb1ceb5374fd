"""Silences, kept: each change is on disk before it counts, and one that has ended is kept for five days, since people look it up and
make it anew. Not here: what a silence is (`silence.py`), the stage that asks (`pipeline.py`), the HTTP shapes.
"""

from __future__ import annotations

import uuid
from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import orjson

from vedette.clock import Clock, now_ms
from vedette.errors import BadInput, LimitExceeded, NotFound
from vedette.model.labels import Labels
from vedette.model.matchers import Matcher, match_labels
from vedette.notify.hush import Hush
from vedette.notify.silence import Silence, checked, covers_everything, ended, may_become
from vedette.records.rows import SilenceRow

if TYPE_CHECKING:
    from vedette.records.database import Records

RETENTION_MS = 120 * 3_600_000
"""How long a silence is kept once it has ended."""
MAX_SILENCES = 10_000

CONFIRMED = "[confirm]"
"""A comment that has this confirms a silence that covers every alert, for clients that can only send comments (`amtool`)."""


def row_of(tenant: str, silence: Silence) -> SilenceRow:
    """Its record."""
    return SilenceRow(
        tenant=tenant,
        id=silence.id,
        matchers=orjson.dumps([[m.name, m.op, m.value] for m in silence.matchers]).decode(),
        starts_at=silence.starts_at,
        ends_at=silence.ends_at,
        updated_at=silence.updated_at,
        created_by=silence.created_by,
        comment=silence.comment,
        annotations=orjson.dumps(dict(silence.annotations)).decode(),
        recurs=silence.recurs,
        until_resolved=silence.until_resolved,
    )


def of_row(row: SilenceRow) -> Silence:
    """The silence of a record."""
    return Silence(
        matchers=tuple(Matcher(name, op, value) for name, op, value in orjson.loads(row.matchers)),
        starts_at=row.starts_at,
        ends_at=row.ends_at,
        created_by=row.created_by,
        comment=row.comment,
        id=row.id,
        updated_at=row.updated_at,
        annotations=Labels.of(orjson.loads(row.annotations)),
        recurs=row.recurs,
        until_resolved=bool(row.until_resolved),
    )


class Silences:
    """The silences of one tenant. Call `start` once."""

    def __init__(self, records: Records, clock: Clock, *, tenant: str) -> None:
        self._records, self._clock, self._tenant = records, clock, tenant
        self._silences: dict[str, Silence] = {}
        self._hush, self._since, self._until = Hush(()), 0, 0

    async def start(self) -> None:
        """Take up what the records hold."""
        for row in await self._records.load(SilenceRow, tenant=self._tenant):
            self._silences[row.id] = of_row(row)

    async def put(self, silence: Silence, *, confirmed: bool = False) -> str:
        """Make a silence, or change the one with its id; the id, a new one where the change makes it another silence.

        Raises `BadInput` for one that cannot be, or that covers every alert and is not `confirmed`, `NotFound` for an unknown
        id, `LimitExceeded` for one too many.
        """
        now = now_ms(self._clock)
        wanted = replace(checked(silence, now), updated_at=now)
        if covers_everything(wanted.matchers) and not confirmed and CONFIRMED not in wanted.comment:
            raise BadInput(
                f"it would silence every alert that has {' and '.join(m.name for m in wanted.matchers)}",
                where="matchers",
                hint=f'say "confirm": true, or put {CONFIRMED} into the comment, if that is meant',
            )
        old = self.get(silence.id) if silence.id else None
        if old is not None and may_become(old, wanted, now):
            await self._save([wanted])
            return wanted.id
        if len(self._silences) >= MAX_SILENCES:
            raise LimitExceeded(f"{MAX_SILENCES} silences are kept already: expired ones go after five days")
        # One that starts in the past would show that alerts were silenced which were told of.
        made = replace(wanted, id=str(uuid.uuid4()), starts_at=max(now, wanted.starts_at))
        await self._save([made] if old is None or old.state(now) == "expired" else [made, ended(old, now)])
        return made.id

    async def expire(self, identity: str) -> None:
        """End a silence now. Raises `NotFound` for an unknown id."""
        old, now = self.get(identity), now_ms(self._clock)
        if old.state(now) != "expired":
            await self._save([ended(old, now)])

    def get(self, identity: str) -> Silence:
        """One silence. Raises `NotFound`."""
        found = self._silences.get(identity)
        if found is None:
            raise NotFound(f"silence {identity} not found")
        return found

    def all(self) -> list[Silence]:
        """Active ones by their end, pending ones by their start, then expired ones, the last that ended first."""
        now = now_ms(self._clock)
        order = {"active": 0, "pending": 1, "expired": 2}

        def place(silence: Silence) -> tuple[int, int, str]:
            state = silence.state(now)
            when = silence.starts_at if state == "pending" else silence.ends_at
            return order[state], -when if state == "expired" else when, silence.id

        return sorted(self._silences.values(), key=place)

    def hush(self, now: int) -> Hush:
        """What is silenced at `now` (ms); the same object as long as that does not change."""
        if now >= self._until or now < self._since:
            active = [s for s in self._silences.values() if s.state(now) == "active"]
            self._hush = Hush(active, epoch=self._hush.epoch + 1, before=self._hush)
            self._since = now
            self._until = min((s.next_change(now) for s in self._silences.values()), default=1 << 62)
        return self._hush

    def over(self, standing: Iterable[Labels], now: int) -> list[Silence]:
        """Those that end now, since nothing that they match stands."""
        ending = [s for s in self._silences.values() if s.until_resolved and s.begun(now)]
        if not ending:
            return []
        for labels in standing:
            ending = [s for s in ending if not match_labels(s.matchers, labels)]
            if not ending:
                break
        return ending

    async def forget(self, now: int) -> None:
        """Let go of those that ended long ago."""
        gone = [s for s in self._silences.values() if s.ends_at + RETENTION_MS < now]
        if gone:
            await self._records.save(drop=[row_of(self._tenant, s) for s in gone])
            for silence in gone:
                self._silences.pop(silence.id, None)
            self._until = 0

    async def _save(self, silences: Sequence[Silence]) -> None:
        await self._records.save([row_of(self._tenant, s) for s in silences])
        self._silences.update((s.id, s) for s in silences)
        self._until = 0
