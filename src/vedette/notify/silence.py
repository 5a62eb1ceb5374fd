"""A silence: which alerts, from when until when, and what may be changed of it. Pure.

The rules for what may be changed are Alertmanager's. What is ours: a silence may recur (hold in some time intervals only), may end
by itself once nothing that it matches stands, and one that would cover every alert must be confirmed. Not here: where silences are
kept (`silences.py`), those that hold at one moment (`hush.py`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Literal

from vedette import configfile
from vedette.errors import BadInput
from vedette.model.labels import EMPTY, Labels
from vedette.model.matchers import Matcher
from vedette.notify.intervals import TimeInterval

MAX_TEXT = 16_384
"""The longest comment, author or matcher's value, in characters."""
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
