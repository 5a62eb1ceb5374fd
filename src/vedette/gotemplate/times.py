"""Go's `time` package as templates see it: layouts, `time.Time` and `time.Duration` values."""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from datetime import UTC, datetime, timedelta, tzinfo
from typing import Any
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from vedette.gotemplate.values import Struct, type_name

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_LAYOUT = re.compile(
    r"January|Jan|Monday|Mon|MST|2006|Z07:00:00|Z070000|Z07:00|Z0700|Z07|-07:00:00|-070000|-07:00|-0700|-07"
    r"|[.,]0+(?!\d)|[.,]9+(?!\d)|15|002|01|02|03|04|05|06|_2|1|2|3|4|5|PM|pm"
)
_ZERO = "0001-01-01 00:00:00 +0000 UTC"


def _offset(moment: datetime, token: str) -> str:
    seconds = int((moment.utcoffset() or timedelta()).total_seconds())
    if token.startswith("Z") and not seconds:
        return "Z"
    sign, rest = "-" if seconds < 0 else "+", abs(seconds)
    parts = [f"{rest // 3600:02d}", f"{rest // 60 % 60:02d}", f"{rest % 60:02d}"]
    shape = token[1:]
    count = len(shape.replace(":", "")) // 2
    return sign + (":" if ":" in shape else "").join(parts[:count])


def _fraction(moment: datetime, token: str) -> str:
    digits = f"{moment.microsecond:06d}".ljust(9, "0")[: len(token) - 1]
    if token[1] == "0":
        return token[0] + digits.ljust(len(token) - 1, "0")
    digits = digits.rstrip("0")
    return token[0] + digits if digits else ""


_PARTS: dict[str, Callable[[datetime], str]] = {
    "January": lambda t: t.strftime("%B"),
    "Jan": lambda t: t.strftime("%b"),
    "Monday": lambda t: t.strftime("%A"),
    "Mon": lambda t: t.strftime("%a"),
    "MST": lambda t: t.strftime("%Z"),
    "2006": lambda t: f"{t.year:04d}",
    "06": lambda t: f"{t.year % 100:02d}",
    "01": lambda t: f"{t.month:02d}",
    "1": lambda t: str(t.month),
    "02": lambda t: f"{t.day:02d}",
    "_2": lambda t: f"{t.day:2d}",
    "2": lambda t: str(t.day),
    "002": lambda t: t.strftime("%j"),
    "15": lambda t: f"{t.hour:02d}",
    "03": lambda t: f"{(t.hour - 1) % 12 + 1:02d}",
    "3": lambda t: str((t.hour - 1) % 12 + 1),
    "04": lambda t: f"{t.minute:02d}",
    "4": lambda t: str(t.minute),
    "05": lambda t: f"{t.second:02d}",
    "5": lambda t: str(t.second),
    "PM": lambda t: "AM" if t.hour < 12 else "PM",
    "pm": lambda t: "am" if t.hour < 12 else "pm",
}


def format_layout(moment: datetime, layout: str) -> str:
    """A time in one of Go's layouts, which show the moment 2006-01-02 15:04:05 -0700 as it is wanted."""

    def part(match: re.Match[str]) -> str:
        token = match[0]
        if token in _PARTS:
            return _PARTS[token](moment)
        return _fraction(moment, token) if token[0] in ".," else _offset(moment, token)

    return _LAYOUT.sub(part, layout)


def format_duration(seconds: float) -> str:
    """A duration as Go prints it: `1h2m3.5s`."""
    sign, rest = ("-", -seconds) if seconds < 0 else ("", seconds)
    if rest < 1:
        unit, size = next(((u, s) for u, s in (("ms", 1e-3), ("µs", 1e-6), ("ns", 1e-9)) if rest >= s), ("s", 1.0))
        return f"{sign}{rest / size:.9g}{unit}"
    hours, rest = divmod(rest, 3600)
    minutes, rest = divmod(rest, 60)
    whole = f"{hours:.0f}h" if hours else ""
    return f"{sign}{whole}{f'{minutes:.0f}m' if hours or minutes else ''}{rest:.9g}s"


class Moment(Struct):
    """A `time.Time`: Unix ms, or None for Go's zero time."""

    __slots__ = ("_ms", "at")

    def __init__(self, ms: int | None, zone: tzinfo | None = UTC) -> None:
        self.at = None if ms is None else (_EPOCH + timedelta(milliseconds=ms)).astimezone(zone)
        shown = self.at or datetime(1, 1, 1, tzinfo=UTC)
        super().__init__(
            "time.Time",
            {},
            methods={
                "Format": lambda layout: format_layout(shown, _text(layout)),
                "String": lambda: _ZERO if self.at is None else format_layout(shown, "2006-01-02 15:04:05.999999999 -0700 MST"),
                "Unix": lambda: -62135596800 if self.at is None else int(shown.timestamp()),
                "UnixMilli": lambda: -62135596800000 if ms is None else ms,
                "UTC": lambda: Moment(ms),
                "Local": lambda: Moment(ms, None),
                "IsZero": lambda: self.at is None,
                "Year": lambda: shown.year,
                "Month": lambda: shown.strftime("%B"),
                "Day": lambda: shown.day,
                "Weekday": lambda: shown.strftime("%A"),
                "Hour": lambda: shown.hour,
                "Minute": lambda: shown.minute,
                "Second": lambda: shown.second,
                "Nanosecond": lambda: shown.microsecond * 1000,
                "YearDay": lambda: shown.timetuple().tm_yday,
                "UnixMicro": lambda: self.ms * 1000,
                "UnixNano": lambda: self.ms * 1_000_000,
                "Add": lambda span: Moment(self.ms + round(1000 * _seconds(span)), zone),
                "Sub": lambda other: Span((self.ms - moment_of(other).ms) / 1000),
                "After": lambda other: self.ms > moment_of(other).ms,
                "Before": lambda other: self.ms < moment_of(other).ms,
                "Equal": lambda other: self.ms == moment_of(other).ms,
            },
        )
        self._ms = ms

    @property
    def ms(self) -> int:
        """Unix ms; the zero time is far in the past."""
        return -62135596800000 if self._ms is None else self._ms

    def within(self, zone: tzinfo) -> Moment:
        """The same moment in another zone."""
        return Moment(self._ms, zone)


class Span(Struct):
    """A `time.Duration`."""

    __slots__ = ("seconds",)

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds
        super().__init__(
            "time.Duration",
            {},
            methods={
                "String": lambda: format_duration(seconds),
                "Seconds": lambda: seconds,
                "Minutes": lambda: seconds / 60,
                "Hours": lambda: seconds / 3600,
                "Milliseconds": lambda: int(seconds * 1e3),
                "Microseconds": lambda: int(seconds * 1e6),
                "Nanoseconds": lambda: int(seconds * 1e9),
                "Abs": lambda: Span(abs(seconds)),
                "Round": lambda span: Span(_rounded(seconds, _seconds(span))),
                "Truncate": lambda span: Span(seconds - math.fmod(seconds, _seconds(span)) if _seconds(span) > 0 else seconds),
            },
        )


def _rounded(seconds: float, step: float) -> float:
    """To a multiple of `step`, half away from zero."""
    return math.copysign(math.floor(abs(seconds) / step + 0.5) * step, seconds) if step > 0 else seconds


def _seconds(value: Any) -> float:
    """Of a `time.Duration`, which a whole number is too: nanoseconds. Raises `ValueError`."""
    if isinstance(value, Span):
        return value.seconds
    if isinstance(value, int) and not isinstance(value, bool):
        return value / 1e9
    raise ValueError(f"wrong type for value; expected time.Duration; got {type_name(value)}")


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise ValueError(f"wrong type for value; expected string; got {type_name(value)}")
    return value


def moment_of(value: Any) -> Moment:
    """A template's value that must be a time. Raises `ValueError`."""
    if not isinstance(value, Moment):
        raise ValueError(f"wrong type for value; expected time.Time; got {type_name(value)}")
    return value


def zone_of(name: Any) -> tzinfo:
    """A time zone by its name. Raises `ValueError`."""
    try:
        return ZoneInfo(_text(name))
    except (ZoneInfoNotFoundError, OSError):
        raise ValueError(f"unknown time zone {name}") from None
