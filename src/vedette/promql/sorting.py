"""Orders of an instant vector: by value, by labels in natural order."""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import cmp_to_key

import numpy as np

from vedette.promql.values import Matrix

_RUNS = re.compile(r"[0-9]+|[^0-9]+")


def sort(matrix: Matrix, *, descending: bool) -> Matrix:
    """The rows of a one-step matrix in order of their values, NaN last either way."""
    matrix = matrix.found()
    values = matrix.values[:, 0]
    keys = -values if descending else values
    return matrix.take(np.lexsort((keys, np.isnan(values))).astype(np.int64, copy=False))


def natural(a: str, b: str) -> int:
    """Compare texts so that `a2` comes before `a10`: below 0, 0 or above 0. Runs of digits are compared as numbers with one another."""
    if a == b:
        return 0
    ours, theirs = _RUNS.findall(a), _RUNS.findall(b)
    for x, y in zip(ours, theirs, strict=False):
        if x == y:
            continue
        if _is_number(x) and _is_number(y):
            if int(x) != int(y):
                return int(x) - int(y)
            continue
        return -1 if x < y else 1
    return len(ours) - len(theirs)


def _is_number(run: str) -> bool:
    # Longer ones do not fit Go's int, and are compared as texts there.
    return "0" <= run[0] <= "9" and len(run) < 19


def sort_by_label(matrix: Matrix, names: Sequence[str], *, descending: bool) -> Matrix:
    """The rows of a one-step matrix in natural order of their values of `names`, then of all labels."""
    matrix = matrix.found()
    labels = list(matrix.labels)
    key = cmp_to_key(natural)
    keys = [([key(row.get(n)) for n in names], row) for row in labels]
    order = sorted(range(len(labels)), key=keys.__getitem__, reverse=descending)
    return matrix.take(np.array(order, dtype=np.int64))
