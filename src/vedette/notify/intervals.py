"""Time intervals of `alertmanager.yml`: hours, weekdays, days of the month, months, years, in a time zone. Pure.

An interval holds at a moment where each part that is given does; a part lists ranges, of which one must hold. Not here: which
routes are muted or active in which interval (`pipeline.py`).
"""

from __future__ import annotations

import calendar
import re
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta, tzinfo
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from vedette.configfile import option
from vedette.errors import BadInput

_DAYS = ("sunday", "monday", "tuesday", "wednesday", "thursday", "friday", "saturday")
_MONTHS = tuple(name.lower() for name in calendar.month_name[1:])
_CLOCK = re.compile(r"(?:([01]\d|2[0-3]):([0-5]\d)|24:00)\Z")
_NUMBER = re.compile(r"-?\d{1,6}\Z")

Range = tuple[int, int]
"""Both ends inclusive."""


def _minute(text: str) -> int:
    match = _CLOCK.match(text)
    if match is None:
        raise BadInput(f"couldn't parse timestamp {text!r}, invalid format", hint="expected HH:MM, from 00:00 to 24:00")
    return int(match[1]) * 60 + int(match[2]) if match[1] else 1440


def _range(text: str, names: tuple[str, ...], what: str, first: int) -> Range:
    """`a` or `a:b`, each a name (the first of which counts as `first`) or, where there are no weekdays, a number."""

    def one(word: str) -> int:
        given = word.strip().lower()
        if given in names:
            return names.index(given) + first
        if what != "weekday" and _NUMBER.match(given):
            return int(given)
        raise BadInput(f"{word!r} is not a valid {what}")

    start, colon, end = text.partition(":")
    low = one(start)
    return low, one(end) if colon else low


def _weekdays(text: str) -> Range:
    low, high = _range(text, _DAYS, "weekday", 0)
    if low > high:
        raise BadInput("start day cannot be before end day", hint="a week starts with sunday; write two ranges")
    return low, high


def _days(text: str) -> Range:
    low, high = _range(text, (), "day of the month", 1)
    for day in (low, high):
        if not 1 <= abs(day) <= 31:
            raise BadInput(f"{day} is not a valid day of the month: out of range", hint="1 to 31, or -31 to -1 from the month's end")
    if low < 0 < high:
        raise BadInput("end day must be negative if start day is negative")
    # Counted in the longest month: a range that is empty there is empty in every month.
    if (low if low > 0 else low + 32) > (high if high > 0 else high + 32):
        raise BadInput(f"end day {high} is always before start day {low}")
    return low, high


def _months(text: str) -> Range:
    low, high = _range(text, _MONTHS, "month", 1)
    if not 1 <= low <= 12 or not 1 <= high <= 12:
        raise BadInput(f"{text!r}: out of range", hint="months are 1 to 12 or names")
    if low > high:
        raise BadInput("end month before start month", hint="write two ranges")
    return low, high


def _years(text: str) -> Range:
    low, high = _range(text, (), "year", 0)
    if low > high:
        raise BadInput("end year is before start year")
    return low, high


def _zone(text: str) -> tzinfo | None:
    """A time zone by name; None for `Local`, this machine's own."""
    if text in ("", "UTC"):
        return UTC
    if text == "Local":
        return None
    try:
        return ZoneInfo(text)
    except (ZoneInfoNotFoundError, ValueError, OSError):
        raise BadInput(f"unknown time zone {text}", hint="a name such as Europe/Berlin, UTC or Local") from None


@dataclass(frozen=True, slots=True, kw_only=True)
class TimeRange:
    """One of `times`, in minutes of the day; the end does not belong to it."""

    start_time: int = option(convert=_minute)
    end_time: int = option(convert=_minute)

    def __post_init__(self) -> None:
        if self.start_time >= self.end_time:
            raise BadInput("start time cannot be equal or greater than end time", where="end_time")


@dataclass(frozen=True, slots=True, kw_only=True)
class TimeInterval:
    """One interval: every part that is given must hold."""

    times: tuple[TimeRange, ...] = ()
    weekdays: tuple[Range, ...] = option((), convert=_weekdays)
    days_of_month: tuple[Range, ...] = option((), convert=_days)
    months: tuple[Range, ...] = option((), convert=_months)
    years: tuple[Range, ...] = option((), convert=_years)
    location: tzinfo | None = option(UTC, convert=_zone)

    def holds(self, now: int) -> bool:
        """Whether the interval holds at `now` (Unix ms)."""
        moment = (datetime(1970, 1, 1, tzinfo=UTC) + timedelta(milliseconds=now)).astimezone(self.location)
        minute = moment.hour * 60 + moment.minute
        if self.times and not any(t.start_time <= minute < t.end_time for t in self.times):
            return False
        if self.days_of_month and not _in_days(self.days_of_month, moment):
            return False
        parts = ((self.weekdays, moment.isoweekday() % 7), (self.months, moment.month), (self.years, moment.year))
        return all(not ranges or any(low <= value <= high for low, high in ranges) for ranges, value in parts)


def _in_days(ranges: tuple[Range, ...], moment: datetime) -> bool:
    last = calendar.monthrange(moment.year, moment.month)[1]
    # Days that the month lacks are outside of it: -31 in February lies before the first, 31 after the last.
    return any((low if low > 0 else last + low + 1) <= moment.day <= (high if high > 0 else last + high + 1) for low, high in ranges)


@dataclass(frozen=True, slots=True, kw_only=True)
class NamedIntervals:
    """One of `time_intervals`: a name for intervals of which one must hold."""

    name: str = ""
    time_intervals: tuple[TimeInterval, ...] = ()

    def __post_init__(self) -> None:
        if not self.name:
            raise BadInput("missing name in time interval", where="name")

    def holds(self, now: int) -> bool:
        """Whether any of the intervals holds at `now` (Unix ms)."""
        return any(i.holds(now) for i in self.time_intervals)
