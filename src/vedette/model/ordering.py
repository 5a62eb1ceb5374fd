"""Sorting a great many things beside others' work. Not here: how arrays are sorted (`kernels`)."""

from __future__ import annotations

import heapq
from collections.abc import Iterable
from itertools import islice
from typing import Any, TypeVar

T = TypeVar("T")
AT_ONCE = 1000
"""So many things are sorted in one go, some milliseconds for label sets: one `sorted` holds up every other thread of Python."""


def in_order(things: Iterable[T], key: Any = None) -> list[T]:
    """As `sorted` (by `key`, a function), and stable like it, with pauses in which other threads run."""
    remaining = iter(things)
    runs: list[list[T]] = []
    while run := list(islice(remaining, AT_ONCE)):
        run.sort(key=key)
        runs.append(run)
    return runs[0] if len(runs) == 1 else list(heapq.merge(*runs, key=key))
