"""Parts of dates: from seconds since the epoch (UTC) to hours, days, months, years, all as float64 arrays."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from vedette.promql.values import Floats, Ints

_YEAR_ZERO = 9_223_372_028_715_321_600
"""Seconds from the first year of Go's calendar to 1970: what lies before it counts from the calendar's end on, 2**64 seconds later."""


def _since_year_zero(values: Floats) -> NDArray[np.uint64]:
    # As Go has it on amd64: whatever does not fit an int64 becomes the smallest one.
    fits = (values >= -(2.0**63)) & (values < 2.0**63)
    seconds = np.where(fits, np.trunc(values), -(2.0**63)).astype(np.int64)
    return seconds.view(np.uint64) + np.uint64(_YEAR_ZERO)


def _days(values: Floats) -> Ints:
    days: Ints = (_since_year_zero(values) // np.uint64(86_400)).astype(np.int64) - _YEAR_ZERO // 86_400
    return days


def _of_day(values: Floats) -> Ints:
    """Seconds since midnight."""
    seconds: Ints = (_since_year_zero(values) % np.uint64(86_400)).astype(np.int64)
    return seconds


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
    "minute": lambda v: (_of_day(v) // 60 % 60).astype(np.float64),
    "hour": lambda v: (_of_day(v) // 3600).astype(np.float64),
    "day_of_week": lambda v: ((_days(v) + 4) % 7).astype(np.float64),
    "day_of_month": lambda v: _civil(v)[2].astype(np.float64),
    "day_of_year": _day_of_year,
    "days_in_month": _days_in_month,
    "month": lambda v: _civil(v)[1].astype(np.float64),
    "year": lambda v: _civil(v)[0].astype(np.float64),
}
"""The date functions by name, each from seconds to the part's number."""
