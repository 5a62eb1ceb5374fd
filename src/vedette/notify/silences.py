"""Silences: who asked for quiet about which alerts, from when until when, and why.

The rules for what may be changed are Alertmanager's, and pure; `Silences` holds them, each change on disk before it
counts. A silence that has ended is kept for five days, since people look it up and make it anew. What is ours: a silence may
recur (hold in some time intervals only), may end by itself once nothing that it matches stands, and one that would cover every
alert must be confirmed. Not here: the stage that asks (`pipeline.py`), the HTTP shapes.
"""

from __future__ import annotations

import uuid
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Literal

import orjson

from vedette import configfile
from vedette.clock import Clock, now_ms
from vedette.errors import BadInput, LimitExceeded, NotFound
from vedette.model.labels import EMPTY, Labels
from vedette.model.matchers import Matcher, match_labels
from vedette.notify.hush import Hush
from vedette.notify.intervals import TimeInterval
from vedette.records.rows import SilenceRow

if TYPE_CHECKING:
    from vedette.records.database import Records

RETENTION_MS = 120 * 3_600_000
"""How long a silence is kept once it has ended."""
MAX_SILENCES = 10_000
MAX_TEXT = 16_384
"""The longest comment, author or matcher's value, in characters."""

CONFIRMED = "[confirm]"
"""A comment that has this confirms a silence that covers every alert, for clients that can only send comments (`amtool`)."""
_PROBES = ("0", "vedette probes this", "Ω")
_MINUTE_MS = 60_000

State = Literal["pending", "active", "expired"]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Recurrence:
    time_intervals: tuple[TimeInterval, ...] = ()


@dataclass(frozen=True, slots=True)
class Silence:
    """One silence. It holds from `starts_at` (inclusive) to `ends_at` (exclusive), Unix ms. `id` is "" for one not made yet.

    With `recurs`, the JSON of a list of time intervals as `alertmanager.yml` writes them, it holds while one of those does,
    and is `pending` in between. With `until_resolved` it ends when no alert that it matches stands any more.
    Raises `BadInput` for time intervals that are none.
    """

    matchers: tuple[Matcher, ...]
    starts_at: int
    ends_at: int
    created_by: str = ""
    comment: str = ""
    id: str = ""
    updated_at: int = 0
    annotations: Labels = EMPTY
    recurs: str = ""
    until_resolved: bool = False
    _intervals: tuple[TimeInterval, ...] = field(init=False, repr=False, compare=False, default=())

    def __post_init__(self) -> None:
        if self.recurs:
            found = configfile.parse(f'{{"time_intervals": {self.recurs}}}', _Recurrence, name="recurs").time_intervals
            if not found:
                raise BadInput("expected at least one time interval", where="recurs")
            object.__setattr__(self, "_intervals", found)

    def state(self, now: int) -> State:
        """Whether it is still to come (again), holds, or has ended at `now`."""
        if now >= self.ends_at:
            return "expired"
        if now < self.starts_at or (self._intervals and not any(i.holds(now) for i in self._intervals)):
            return "pending"
        return "active"

    def begun(self, now: int) -> bool:
        """Whether its time has begun and not ended, be it quiet at the moment or not."""
        return self.starts_at <= now < self.ends_at

    def next_change(self, now: int) -> int:
        """Until when (Unix ms, exclusive) its state stays as it is, or a moment before that."""
        ahead = [t for t in (self.starts_at, self.ends_at) if t > now]
        # Time intervals change on the minute.
        return min([*ahead, *([now - now % _MINUTE_MS + _MINUTE_MS] if self._intervals else [])], default=1 << 62)


def covers_everything(matchers: Sequence[Matcher]) -> bool:
    """Whether any alert that has the labels named passes, whatever their values."""
    return all(m.matches(probe) for m in matchers for probe in _PROBES)


def checked(silence: Silence, now: int) -> Silence:
    """What was asked for, its start filled in (0: now). Raises `BadInput` for what can silence nothing, or everything."""
    found = silence if silence.starts_at else replace(silence, starts_at=now)
    if not found.matchers:
        raise BadInput("invalid silence: at least one matcher required", where="matchers")
    if all(m.matches_empty for m in found.matchers):
        problem = "invalid silence: at least one matcher must not match the empty string"
        raise BadInput(problem, where="matchers", hint="it would silence every alert")
    if any(not m.name for m in found.matchers):
        raise BadInput("invalid silence: a matcher lacks its label name", where="matchers")
    if not found.ends_at:
        raise BadInput("invalid silence: invalid zero end timestamp", where="endsAt")
    if found.ends_at <= found.starts_at:
        raise BadInput("start time must be before end time", where="endsAt")
    if found.ends_at <= now:
        raise BadInput("end time can't be in the past", where="endsAt")
    texts = (found.comment, found.created_by, *(m.value for m in found.matchers))
    if any(len(t) > MAX_TEXT for t in texts):
        raise BadInput(f"invalid silence: a text of more than {MAX_TEXT} characters")
    return found


def may_become(old: Silence, new: Silence, now: int) -> bool:
    """Whether `old` can be changed into `new` and stay the same silence; otherwise it ends, and `new` is another one."""
    if old.state(now) == "expired" or old.matchers != new.matchers:
        return False
    if old.begun(now):
        # Clients hold times to the second; what was already silenced cannot be taken back.
        return new.starts_at // 1000 == old.starts_at // 1000 and new.ends_at >= now
    return new.starts_at >= now


def ended(silence: Silence, now: int) -> Silence:
    """The silence once it is called off; one that has ended is left as it is."""
    if silence.state(now) == "expired":
        return silence
    return replace(silence, starts_at=min(silence.starts_at, now), ends_at=now, updated_at=now)


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
