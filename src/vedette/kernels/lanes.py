"""Functions of many windows of a row, computed side by side: sums, means, variances, lines, extremes.

Window j of `m` has the samples `starts[j]` to `starts[j] + lengths[j]` (int64[m] both, lengths at least 1), `longest` at most.
`even` says that all have the same length and each begins one sample after the one before. Each window sees its own samples in
their own order, so results are those of one window alone, to the last digit; only that the loops over windows have no branches
and run in vector registers. Where data begins within a range, windows begin together and grow: they are one sum, read off as it
grows. `lanes` float64[8, LANES] is room to work in; results go to
`lanes[0, :m]`.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import njit

LANES = 128
"""Most windows at once: their running sums stay in the first-level cache."""


@njit(cache=True, nogil=True, error_model="numpy", inline="always")
def kahan(inc: float, total: float, c: float) -> tuple[float, float]:
    """One step of a Kahan-Neumaier sum: the new total and the new compensation."""
    t = total + inc
    if np.isinf(t):
        c = 0.0
    elif abs(total) >= abs(inc):
        c += (total - t) + inc
    else:
        c += (inc - t) + total
    return t, c


@njit(cache=True, nogil=True, error_model="numpy", inline="always")
def two_sum(inc: float, total: float, c: float) -> tuple[float, float]:
    """As `kahan` where nothing overflows: what is rounded away is found without asking which number is larger (Knuth)."""
    t = total + inc
    of_inc = t - total
    return t, c + ((total - (t - of_inc)) + (inc - of_inc))


@njit(cache=True, nogil=True, error_model="numpy", inline="always")
def _either(inc: float, total: float, c: float, steady: bool) -> tuple[float, float]:
    return two_sum(inc, total, c) if steady else kahan(inc, total, c)


@njit(cache=True, nogil=True, error_model="numpy")
def calm(vals: Any, begin: int, end: int) -> bool:
    """Whether samples are so small that no sum or square of them overflows, and none is NaN."""
    samples = vals[begin:end]
    odd = 0
    for i in range(len(samples)):
        odd |= not abs(samples[i]) < 1e100
    return odd == 0


@njit(cache=True, nogil=True, error_model="numpy", inline="always")
def _whole_registers(vals: Any, last: int, m: int) -> int:
    """How many eights of windows there are, the last filled up: what lies beyond a run is computed and not looked at.

    -1 where `vals` does not go on that far after `last`.
    """
    eights = (m + 7) >> 3
    return eights if last + 8 * eights <= len(vals) else -1


@njit(cache=True, nogil=True, error_model="numpy", inline="always")
def _column(vals: Any, starts: Any, lengths: Any, i: int, m: int, out: Any) -> None:
    """Sample i of each window, or its first where it has none."""
    for j in range(m):
        out[j] = vals[starts[j] + (i if i < lengths[j] else 0)]


@njit(cache=True, nogil=True, error_model="numpy", inline="always")
def _add_some(x: Any, total: Any, c: Any, lengths: Any, i: int, m: int) -> None:
    """One step of `m` Kahan-Neumaier sums, `kahan` without branches, of those windows that have a sample i."""
    for j in range(m):
        v = x[j]
        s = total[j]
        t = s + v
        large = (s - t) + v
        small = (v - t) + s
        rest = c[j] + (large if abs(s) >= abs(v) else small)
        rest = 0.0 if abs(t) == np.inf else rest
        there = i < lengths[j]
        c[j] = rest if there else c[j]
        total[j] = t if there else s


@njit(cache=True, nogil=True)
def _growing(starts: Any, lengths: Any, m: int) -> bool:
    """Whether all windows begin at one sample, and none is shorter than the one before."""
    for j in range(1, m):  # noqa: SIM110 - a kernel cannot be a generator expression
        if starts[j] != starts[0] or lengths[j] < lengths[j - 1]:
            return False
    return True


@njit(cache=True, nogil=True, error_model="numpy")
def _steady_sums(vals: Any, base: int, since: int, longest: int, eights: int, lanes: Any) -> None:
    """Add the samples from `since` on to the sums `lanes[0]` and their compensations `lanes[1]`: `calm` ones, eight windows at once.

    One flat array, so that the compiler sees that nothing overlaps.
    """
    state = lanes.ravel()
    for i in range(since, longest):
        # A slice: whether an index into all samples is negative would be asked each time.
        samples = vals[base + i : base + i + 8 * eights]
        for j in range(8 * eights):
            state[j], state[LANES + j] = two_sum(samples[j], state[j], state[LANES + j])


@njit(cache=True, nogil=True, error_model="numpy")
def _steady_variances(vals: Any, base: int, longest: int, eights: int, lanes: Any) -> None:
    """One loop of what `variances` does in four, of `calm` samples, eight windows at once; see `_steady_sums`."""
    state = lanes.ravel()
    for i in range(longest):
        count = float(i + 1)
        samples = vals[base + i : base + i + 8 * eights]
        for j in range(8 * eights):
            v = samples[j]
            mean, rest = state[LANES + j], state[2 * LANES + j]
            deviation = v - (mean + rest)
            mean, rest = two_sum(deviation / count, mean, rest)
            state[LANES + j], state[2 * LANES + j] = mean, rest
            product = deviation * (v - (mean + rest))
            state[3 * LANES + j], state[4 * LANES + j] = two_sum(product, state[3 * LANES + j], state[4 * LANES + j])


@njit(cache=True, nogil=True, error_model="numpy")
def sums(vals: Any, starts: Any, lengths: Any, longest: int, even: bool, steady: bool, m: int, lanes: Any) -> None:
    """Sums."""
    total, c, x = lanes[0], lanes[1], lanes[2]
    total[:] = 0.0
    c[:] = 0.0
    eights = _whole_registers(vals, starts[0] + longest - 1, m)
    if even and steady and eights >= 0:
        _steady_sums(vals, starts[0], 0, longest, eights, lanes)
    elif _growing(starts, lengths, m):
        j, t, rest = 0, 0.0, 0.0
        samples = vals[starts[0] : starts[0] + longest]
        for i in range(longest):
            t, rest = _either(samples[i], t, rest, steady)
            while j < m and lengths[j] == i + 1:
                total[j], c[j] = t, rest
                j += 1
    else:
        for i in range(longest):
            _column(vals, starts, lengths, i, m, x)
            _add_some(x, total, c, lengths, i, m)
    for j in range(m):
        total[j] = total[j] if abs(total[j]) == np.inf else total[j] + c[j]


@njit(cache=True, nogil=True, error_model="numpy")
def means(vals: Any, starts: Any, lengths: Any, longest: int, even: bool, steady: bool, m: int, lanes: Any) -> None:
    """Averages; NaN or infinite where the sum was so: those windows want a function that heeds overflow."""
    total, c, x = lanes[0], lanes[1], lanes[2]
    total[:] = 0.0
    _column(vals, starts, lengths, 0, m, total)
    c[:] = 0.0
    eights = _whole_registers(vals, starts[0] + longest - 1, m)
    if even and steady and eights >= 0:
        _steady_sums(vals, starts[0], 1, longest, eights, lanes)
    elif _growing(starts, lengths, m):
        j, t, rest = 0, vals[starts[0]], 0.0
        samples = vals[starts[0] : starts[0] + longest]
        for i in range(longest):
            if i:
                t, rest = _either(samples[i], t, rest, steady)
            while j < m and lengths[j] == i + 1:
                total[j], c[j] = t, rest
                j += 1
    else:
        for i in range(1, longest):
            _column(vals, starts, lengths, i, m, x)
            _add_some(x, total, c, lengths, i, m)
    for j in range(m):
        total[j] = total[j] / lengths[j] + c[j] / lengths[j]


@njit(cache=True, nogil=True, error_model="numpy", inline="always")
def _deviations(x: Any, mean: Any, c_mean: Any, count: float, out: Any, share: Any, m: int) -> None:
    for j in range(m):
        out[j] = x[j] - (mean[j] + c_mean[j])
        share[j] = out[j] / count


@njit(cache=True, nogil=True, error_model="numpy", inline="always")
def _products(x: Any, mean: Any, c_mean: Any, deviation: Any, out: Any, m: int) -> None:
    for j in range(m):
        out[j] = deviation[j] * (x[j] - (mean[j] + c_mean[j]))


@njit(cache=True, nogil=True, error_model="numpy")
def variances(vals: Any, starts: Any, lengths: Any, longest: int, even: bool, steady: bool, m: int, lanes: Any) -> None:
    """Population variances, by Welford's scheme with compensated sums."""
    out, mean, c_mean, aux, c_aux, x, y = lanes[0], lanes[1], lanes[2], lanes[3], lanes[4], lanes[5], lanes[6]
    lanes[1:5] = 0.0
    eights = _whole_registers(vals, starts[0] + longest - 1, m)
    if even and steady and eights >= 0:
        _steady_variances(vals, starts[0], longest, eights, lanes)
    elif _growing(starts, lengths, m):
        j, a, c_a, b, c_b = 0, 0.0, 0.0, 0.0, 0.0
        samples = vals[starts[0] : starts[0] + longest]
        for i in range(longest):
            v = samples[i]
            deviation = v - (a + c_a)
            a, c_a = _either(deviation / float(i + 1), a, c_a, steady)
            b, c_b = _either(deviation * (v - (a + c_a)), b, c_b, steady)
            while j < m and lengths[j] == i + 1:
                aux[j], c_aux[j] = b, c_b
                j += 1
    else:
        for i in range(longest):
            _column(vals, starts, lengths, i, m, x)
            _deviations(x, mean, c_mean, float(i + 1), out, y, m)
            _add_some(y, mean, c_mean, lengths, i, m)
            _products(x, mean, c_mean, out, y, m)
            _add_some(y, aux, c_aux, lengths, i, m)
    for j in range(m):
        out[j] = (aux[j] + c_aux[j]) / lengths[j]


@njit(cache=True, nogil=True, error_model="numpy")
def line_times(ts: Any, starts: Any, lengths: Any, longest: int, m: int, origins: Any, lanes: Any, sx: Any, sxx: Any) -> None:
    """What a least-squares line needs of times alone: sums of the seconds since `origins` (int64[m], ms), and of their squares."""
    total, c, squares, c_squares, x, y = lanes[0], lanes[1], lanes[2], lanes[3], lanes[4], lanes[5]
    total[:m] = 0.0
    c[:m] = 0.0
    squares[:m] = 0.0
    c_squares[:m] = 0.0
    for i in range(longest):
        for j in range(m):
            x[j] = (ts[starts[j] + (i if i < lengths[j] else 0)] - origins[j]) / 1e3
            y[j] = x[j] * x[j]
        _add_some(x, total, c, lengths, i, m)
        _add_some(y, squares, c_squares, lengths, i, m)
    for j in range(m):
        sx[j] = total[j] + c[j]
        sxx[j] = squares[j] + c_squares[j]


@njit(cache=True, nogil=True, error_model="numpy")
def _steady_lines(ts: Any, vals: Any, base: int, longest: int, eights: int, lanes: Any) -> None:
    """One loop of what `lines` adds up, of `calm` samples, eight windows at once; the origins (ms) are `lanes[5]`."""
    state = lanes.ravel()
    for i in range(longest):
        samples, times = vals[base + i : base + i + 8 * eights], ts[base + i : base + i + 8 * eights]
        for j in range(8 * eights):
            v = samples[j]
            state[j], state[LANES + j] = two_sum(v, state[j], state[LANES + j])
            state[4 * LANES + j] = 1.0 if v != state[7 * LANES + j] else state[4 * LANES + j]
            v = (np.float64(times[j]) - state[5 * LANES + j]) / 1e3 * v
            state[2 * LANES + j], state[3 * LANES + j] = two_sum(v, state[2 * LANES + j], state[3 * LANES + j])


@njit(cache=True, nogil=True, error_model="numpy")
def lines(
    ts: Any,
    vals: Any,
    starts: Any,
    lengths: Any,
    longest: int,
    even: bool,
    steady: bool,
    m: int,
    origins: Any,
    sx: Any,
    sxx: Any,
    lanes: Any,
) -> None:
    """Least-squares lines: slopes per second in `lanes[0]`, values at `origins` in `lanes[1]`; `sx`, `sxx` are of `line_times`.

    A window of one value throughout has slope 0, and NaN where that value is infinite.
    """
    sy, cy, sxy, cxy, varies, x, y = lanes[0], lanes[1], lanes[2], lanes[3], lanes[4], lanes[5], lanes[6]
    first = lanes[7]
    _column(vals, starts, lengths, 0, m, first)
    lanes[:5] = 0.0
    eights = _whole_registers(vals, starts[0] + longest - 1, m)
    if even and steady and eights >= 0:
        for j in range(m):
            x[j] = np.float64(origins[j])
        _steady_lines(ts, vals, starts[0], longest, eights, lanes)
    elif _growing(starts, lengths, m) and origins[0] == origins[m - 1]:
        j, a, c_a, b, c_b, differs = 0, 0.0, 0.0, 0.0, 0.0, 0.0
        for i in range(longest):
            w = vals[starts[0] + i]
            a, c_a = _either(w, a, c_a, steady)
            b, c_b = _either((ts[starts[0] + i] - origins[0]) / 1e3 * w, b, c_b, steady)
            differs = 1.0 if w != first[0] else differs
            while j < m and lengths[j] == i + 1:
                sy[j], cy[j], sxy[j], cxy[j], varies[j] = a, c_a, b, c_b, differs
                j += 1
    else:
        for i in range(longest):
            _column(vals, starts, lengths, i, m, y)
            for j in range(m):
                x[j] = (ts[starts[j] + (i if i < lengths[j] else 0)] - origins[j]) / 1e3 * y[j]
                varies[j] = 1.0 if y[j] != first[j] and (i < lengths[j]) else varies[j]
            _add_some(y, sy, cy, lengths, i, m)
            _add_some(x, sxy, cxy, lengths, i, m)
    for j in range(m):
        n = float(lengths[j])
        b, ab = sy[j] + cy[j], sxy[j] + cxy[j]
        slope = (ab - sx[j] * b / n) / (sxx[j] - sx[j] * sx[j] / n)
        flat = np.nan if abs(first[j]) == np.inf else 0.0
        lanes[1, j] = first[j] + flat if varies[j] == 0.0 else b / n - slope * sx[j] / n
        lanes[0, j] = flat if varies[j] == 0.0 else slope
