"""Samples to lines of text: `prefix value time` or `prefix,time,value`, without a Python object per sample.

Numbers are laid out as `render.py` does it. Unlike there, NaNs are told apart by how they are spelled, since a dump must be read back to
the bit: `NaN` is what text means in Prometheus, `nan` its stale marker, `NAN` what C and NumPy make.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import njit

from vedette.kernels.digits import paste, write_integer, write_number
from vedette.kernels.render import write_time
from vedette.kernels.shortest import decimal_of

LINE_BYTES = 80
"""No line takes more beside its prefix: 22 of time, 30 of value, a separator and a line feed."""

TEXT_NAN = 0x7FF8000000000001
STALE_NAN = 0x7FF0000000000002
C_NAN = 0x7FF8000000000000
SPELLED = {b"NaN": TEXT_NAN, b"nan": STALE_NAN, b"NAN": C_NAN}
"""What each spelling means. A NaN of other bits is written as `NaN`, or in CSV as `nan(7ff8000000000123)`."""


@njit(cache=True, nogil=True)
def _nan(out: Any, at: int, bits: int, exact: bool) -> int:
    stale, c_nan, text_nan = bits == 0x7FF0000000000002, bits == 0x7FF8000000000000, bits == 0x7FF8000000000001
    other = exact and not (stale or c_nan or text_nan)
    out[at] = 110 if stale or other else 78
    out[at + 1] = 65 if c_nan else 97
    out[at + 2] = 110 if stale or other else 78
    at += 3
    if other:
        out[at] = 40
        for i in range(16):
            digit = (bits >> (60 - 4 * i)) & 15
            out[at + 1 + i] = digit + (48 if digit < 10 else 87)
        out[at + 17] = 41
        at += 18
    return at


@njit(cache=True, nogil=True)
def lines(
    heads: Any,
    head_offsets: Any,
    prefixes: Any,
    prefix_offsets: Any,
    offsets: Any,
    times: Any,
    floats: Any,
    csv: bool,
    seconds: bool,
    out: Any,
) -> int:
    """Write the samples `offsets[j]:offsets[j + 1]` of each series j; answers the number of bytes.

    Before a series stands `heads[head_offsets[j]:...]` once, before each of its lines `prefixes[prefix_offsets[j]:...]`, separator
    included. Times are milliseconds, written as seconds with `seconds`. `csv` puts them first and separates by a comma. `floats`
    float64. `out` has room for `LINE_BYTES` and the prefix a line, and the heads; heads and prefixes end with `SPARE` more bytes.
    """
    at = 0
    hard = False
    bits = floats.view(np.int64)
    for j in range(len(offsets) - 1):
        at = paste(out, at, heads, head_offsets[j], head_offsets[j + 1])
        for p in range(offsets[j], offsets[j + 1]):
            at = paste(out, at, prefixes, prefix_offsets[j], prefix_offsets[j + 1])
            for part in range(2):
                if (part == 0) == csv:
                    time = times[p]
                    if seconds:
                        at = write_time(out, at, time)
                    else:
                        if time < 0:
                            out[at] = 45
                            at += 1
                            time = -time
                        at = write_integer(out, at, time)
                elif np.isnan(floats[p]):
                    at = _nan(out, at, bits[p], csv)
                else:
                    whole, places, hard = decimal_of(floats[p], hard)
                    at = write_number(out, at, whole, places)
                out[at] = 10 if part == 1 else 44 if csv else 32
                at += 1
    return at


@njit(cache=True, nogil=True)
def exact_times(buffer: Any, key_end: Any, times: Any) -> None:
    """Read OpenMetrics timestamps (seconds) again as decimals, to the nearest ms: as floats some fall a millisecond short.

    Row i's line goes on at `key_end[i]` with its value and its time, and ends in a line feed; `times` int64 ms is changed. Times that
    are written with an exponent stay as they are.
    """
    for row in range(len(times)):
        i = key_end[row]
        while buffer[i] == 32 or buffer[i] == 9:
            i += 1
        while buffer[i] != 32 and buffer[i] != 9 and buffer[i] != 10:
            i += 1
        while buffer[i] == 32 or buffer[i] == 9:
            i += 1
        negative = buffer[i] == 45
        if negative or buffer[i] == 43:
            i += 1
        ms, digits = 0, 0
        while 48 <= buffer[i] <= 57 and digits < 16:
            ms = ms * 10 + (int(buffer[i]) - 48)
            digits += 1
            i += 1
        ms *= 1000
        if buffer[i] == 46:
            i += 1
            worth = 100
            while 48 <= buffer[i] <= 57:
                digit = int(buffer[i]) - 48
                if worth > 0:
                    ms += digit * worth
                    worth //= 10
                elif worth == 0:
                    ms += int(digit >= 5)
                    worth = -1
                digits += 1
                i += 1
        if digits > 0 and (buffer[i] == 32 or buffer[i] == 9 or buffer[i] == 10 or buffer[i] == 13):
            times[row] = -ms if negative else ms
