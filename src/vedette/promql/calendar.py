"""Parts of dates: from seconds since the epoch (UTC) to hours, days, months, years, all as float64 arrays."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from vedette.promql.values import Floats, Ints

# Beyond the years -290000..290000 Go's calendar wraps; ours stands still there.
_LIMIT = 9e12


def _seconds(values: Floats) -> Ints:
    clean = np.where(np.isfinite(values), values, -_LIMIT)
    seconds: Ints = np.clip(np.trunc(clean), -_LIMIT, _LIMIT).astype(np.int64)
    return seconds


def _days(values: Floats) -> Ints:
    days: Ints = np.floor_divide(_seconds(values), 86_400)
    return days


def _civil(values: Floats) -> tuple[Ints, Ints, Ints]:
    """Year, month and day of the proleptic Gregorian calendar (Howard Hinnant's `civil_from_days`)."""
    z = _days(values) + 719_468
    era = np.floor_divide(z, 146_097)
    doe = z - era * 146_097
    yoe = (doe - doe // 1460 + doe // 36_524 - doe // 146_096) // 365
    doy = doe - (365 * yoe + yoe // 4 - yoe // 100)
    mp = (5 * doy + 2) // 153
    month = np.where(mp < 10, mp + 3, mp - 9)
    return yoe + era * 400 + (month <= 2), month, doy - (153 * mp + 2) // 5 + 1


def _leap(year: Ints) -> Ints:
    leap: Ints = ((year % 4 == 0) & ((year % 100 != 0) | (year % 400 == 0))).astype(np.int64)
    return leap


_LENGTHS = np.array([0, 31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31])
_BEFORE = np.cumsum(_LENGTHS) - _LENGTHS


def _days_in_month(values: Floats) -> Floats:
    year, month, _ = _civil(values)
    length: Floats = (_LENGTHS[month] + (month == 2) * _leap(year)).astype(np.float64)
    return length


def _day_of_year(values: Floats) -> Floats:
    year, month, day = _civil(values)
    ordinal: Floats = (_BEFORE[month] + day + (month > 2) * _leap(year)).astype(np.float64)
    return ordinal


PARTS: dict[str, Callable[[Floats], Floats]] = {
    "minute": lambda v: (np.floor_divide(_seconds(v), 60) % 60).astype(np.float64),
    "hour": lambda v: (np.floor_divide(_seconds(v), 3600) % 24).astype(np.float64),
    "day_of_week": lambda v: ((_days(v) + 4) % 7).astype(np.float64),
    "day_of_month": lambda v: _civil(v)[2].astype(np.float64),
    "day_of_year": _day_of_year,
    "days_in_month": _days_in_month,
    "month": lambda v: _civil(v)[1].astype(np.float64),
    "year": lambda v: _civil(v)[0].astype(np.float64),
}
"""The date functions by name, each from seconds to the part's number."""
