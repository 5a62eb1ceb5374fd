"""Orders of an instant vector: by value, by labels in natural order."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from functools import cmp_to_key
from itertools import pairwise
from typing import Any

import numpy as np

from vedette.kernels.pattern_sort import by_columns
from vedette.promql.labelsets import occurring, sorted_rows
from vedette.promql.values import Floats, Ints, Matrix

_RUNS = re.compile(r"[0-9]+|[^0-9]+")


def comparable(values: Floats) -> tuple[Ints, Ints]:
    """Numbers as `pattern_sort.by_columns` compares rows: rising, NaN last and each before the other, as Prometheus has them."""
    keys = np.unique(values, return_inverse=True)[1].reshape(1, -1).astype(np.int64, copy=False)
    marks, nan = keys.copy(), np.isnan(values)
    marks[0, nan] = len(values) + np.arange(np.count_nonzero(nan))
    return keys, marks


def sort(matrix: Matrix, *, descending: bool) -> Matrix:
    """The rows of a one-step matrix in order of their values, NaN last either way; those of equal values in Prometheus' order."""
    matrix = matrix.found()
    numbers = -matrix.values[:, 0] if descending else matrix.values[:, 0]
    order = np.argsort(numbers, kind="stable").astype(np.int64, copy=False)
    rising = numbers[order]
    if not (rising[:-1] < rising[1:]).all():
        order = np.arange(len(numbers), dtype=np.int64)
        by_columns(*comparable(numbers), False, order)
    return matrix.take(order)


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


def _key(text: str) -> list[tuple[int, str | int]]:
    """What is in order as `natural` has it, where no run of digits is too long for a number."""
    # Between texts that begin with what comes before a digit and those that begin with what comes behind.
    return [(1, int(run)) if "0" <= run[0] <= "9" else (0 if run < "0" else 2, run) for run in _RUNS.findall(text)]


def natural_ranks(texts: Sequence[str]) -> Ints:
    """The place of each of several distinct texts in natural order: int64[n], the same for those of which none comes first."""
    long = any(not _is_number(run) for text in texts for run in _RUNS.findall(text) if "0" <= run[0] <= "9")
    key: Callable[[str], Any] = cmp_to_key(natural) if long else _key
    keys = [key(text) for text in texts]
    order = sorted(range(len(texts)), key=keys.__getitem__)
    ranks = np.zeros(len(texts), dtype=np.int64)
    for before, now in pairwise(order):
        ranks[now] = ranks[before] + (keys[before] != keys[now])
    return ranks


def sort_by_label(matrix: Matrix, names: Sequence[str], *, descending: bool) -> Matrix:
    """The rows of a one-step matrix in natural order of their values of `names`, then of all labels.

    Where rows lack one of these labels, or have values like `a1` and `a01`, the order is the one that Prometheus' comparison leads to.
    """
    matrix = matrix.found()
    table = matrix.labels
    places = np.empty(len(table), dtype=np.int64)
    places[sorted_rows(table)] = np.arange(len(table))
    keys, marks, plain = [], [], True
    for name in occurring(names, table):
        # Of many series, few values of a label are distinct: these alone are compared as texts.
        symbols, inverse = np.unique(table.column(name), return_inverse=True)
        missing = int(symbols[:1].tolist() == [-1])
        ranks = natural_ranks([table.symbols.text(s) for s in symbols[missing:].tolist()])
        plain = plain and len(np.unique(ranks)) == len(ranks) and not (missing and len(ranks))
        keys.append(np.concatenate([np.full(missing, -1), ranks])[inverse.reshape(-1)])
        marks.append(inverse.reshape(-1))
    keys.append(places)
    marks.append(places)
    if plain:
        order = np.lexsort(keys[::-1]).astype(np.int64, copy=False)
        return matrix.take(order[::-1].copy() if descending else order)
    order = np.arange(len(table), dtype=np.int64)
    by_columns(np.stack(keys), np.stack(marks), descending, order)
    return matrix.take(order)
