"""Binary operators on pairs of rows of two matrices."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numba import njit

ADD, SUB, MUL, DIV, MOD, POW, ATAN2, EQ, NE, GT, LT, GE, LE = range(13)
"""Operator codes; those from EQ on are comparisons."""


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
                v = a**b
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
