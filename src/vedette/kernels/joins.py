"""Binary operators on pairs of rows of two matrices."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numba import njit

ADD, SUB, MUL, DIV, MOD, POW, ATAN2, EQ, NE, GT, LT, GE, LE = range(13)
"""Operator codes; those from EQ on are comparisons."""


@njit(cache=True, nogil=True, error_model="numpy")
def power(x: float, y: float) -> Any:
    """x to the power y, rounded as Go's `math.Pow` rounds it: whole exponents by repeated squaring of the mantissa.

    A C library's `pow` differs in the last digit now and then, which `% 7` of a large square turns into another answer.
    """
    size = abs(y)
    if not np.isfinite(x) or not np.isfinite(y) or x == 0.0 or x == 1.0 or size in (0.0, 1.0) or size >= 2147483648.0:
        return x**y
    if size == 0.5:
        return np.sqrt(x) if y > 0 else 1.0 / np.sqrt(x)
    whole = np.floor(size)
    part = size - whole
    if part != 0.0 and x < 0.0:
        return np.nan
    result = 1.0
    if part != 0.0:
        if part > 0.5:
            part -= 1.0
            whole += 1.0
        result = np.exp(part * np.log(x))
    exponent = 0
    m, e = math.frexp(x)
    left = np.int64(whole)
    while left != 0:
        if abs(e) > 4096:
            # Beyond any float already; what is left to square cannot bring it back.
            exponent += e
            break
        if left & 1:
            result *= m
            exponent += e
        m *= m
        e *= 2
        if m < 0.5:
            m += m
            e -= 1
        left >>= 1
    if y < 0.0:
        result = 1.0 / result
        exponent = -exponent
    return math.ldexp(result, max(-5000, min(exponent, 5000)))


@njit(cache=True, nogil=True, error_model="numpy")
def combine(
    op: int,
    left: Any,
    left_present: Any,
    right: Any,
    right_present: Any,
    left_rows: Any,
    right_rows: Any,
    as_bool: bool,
    keep_right: bool,
    out: Any,
    present: Any,
) -> None:
    """`out[p, k] = left[left_rows[p], k] op right[right_rows[p], k]` where both are present.

    A comparison keeps the left value (the right one with `keep_right`) where it holds and drops the sample elsewhere;
    with `as_bool` it gives 1 or 0. Division by zero gives infinity or NaN, as IEEE 754 has it.
    """
    for p in range(len(left_rows)):
        i, j = left_rows[p], right_rows[p]
        for k in range(out.shape[1]):
            if not (left_present[i, k] and right_present[j, k]):
                present[p, k] = False
                continue
            a, b = left[i, k], right[j, k]
            holds = True
            v = a
            if op == ADD:
                v = a + b
            elif op == SUB:
                v = a - b
            elif op == MUL:
                v = a * b
            elif op == DIV:
                v = a / b
            elif op == MOD:
                v = np.fmod(a, b)
            elif op == POW:
                v = power(a, b)
            elif op == ATAN2:
                v = math.atan2(a, b)
            else:
                if op == EQ:
                    holds = a == b
                elif op == NE:
                    holds = a != b
                elif op == GT:
                    holds = a > b
                elif op == LT:
                    holds = a < b
                elif op == GE:
                    holds = a >= b
                else:
                    holds = a <= b
                if as_bool:
                    v = 1.0 if holds else 0.0
                    holds = True
                elif keep_right:
                    v = b
            present[p, k] = holds
            out[p, k] = v


@njit(cache=True, nogil=True)
def collision(present: Any, groups: Any, seen: Any) -> int:
    """The first row that is present at the same step as an earlier row of its group, or -1. `seen` bool[G, n] is False at first."""
    for r in range(present.shape[0]):
        g = groups[r]
        for k in range(present.shape[1]):
            if present[r, k]:
                if seen[g, k]:
                    return r
                seen[g, k] = True
    return -1
