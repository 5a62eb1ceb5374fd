"""Codes of window functions. A cached kernel freezes them; they never change."""

from __future__ import annotations

SUM, AVG, COUNT, MIN, MAX, STDVAR, STDDEV, LAST, FIRST, PRESENT, CHANGES, RESETS = range(12)
DERIV, PREDICT, IRATE, IDELTA, TS_FIRST, TS_LAST, TS_MIN, TS_MAX, QUANTILE, MAD, SMOOTH = range(12, 23)
"""Codes of `windows.over_time`."""

RATE, INCREASE, DELTA, EXT_CHANGES, EXT_RESETS = range(5)
"""Codes of `windows.extrapolated` (the first three) and `windows.extended`."""
