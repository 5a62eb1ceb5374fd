"""Orders of an instant vector: by value, by labels in natural order."""

from __future__ import annotations

import re
from collections.abc import Sequence

import numpy as np

from vedette.promql.values import Matrix

_DIGITS = re.compile(r"(\d+)")


def sort(matrix: Matrix, *, descending: bool) -> Matrix:
    """The rows of a one-step matrix in order of their values, NaN last either way."""
    matrix = matrix.found()
    values = matrix.values[:, 0]
    keys = -values if descending else values
    return matrix.take(np.lexsort((keys, np.isnan(values))).astype(np.int64, copy=False))


def natural(text: str) -> list[tuple[int, int, str]]:
    """A key by which `a2` sorts before `a10`."""
    return [(0, int(part), part) if part.isdigit() else (1, 0, part) for part in _DIGITS.split(text) if part]


def sort_by_label(matrix: Matrix, names: Sequence[str], *, descending: bool) -> Matrix:
    """The rows of a one-step matrix in natural order of their values of `names`, then of all labels."""
    matrix = matrix.found()
    labels = list(matrix.labels)
    keys = [([natural(row.get(n)) for n in names], row) for row in labels]
    order = sorted(range(len(labels)), key=keys.__getitem__, reverse=descending)
    return matrix.take(np.array(order, dtype=np.int64))
