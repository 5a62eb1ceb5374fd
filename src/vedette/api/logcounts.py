"""Metric queries of LogQL evaluated: lines counted in narrow spans by the store, windows over them as differences of running sums.

A window ends at its step and reaches its range back: (t - range, t], as Loki has it. Not here: reading the query (`logql.py`), HTTP.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from vedette.api.logql import LEVEL, SERVICE, Aggregated, Counted
from vedette.errors import BadInput
from vedette.logs.query import MAX_TIME, MIN_TIME
from vedette.logs.store import LogStore

Floats = NDArray[np.float64]
Key = tuple[tuple[str, str], ...]
Series = dict[Key, Floats]
"""Values at the steps by labels, NaN where there is none."""

STREAM = ("level", "service_name")
"""The labels of a stream."""
_MOST_SPANS = 200_000
_LONGEST = 10 * 365 * 86_400 * 10**9
_REDUCE: Mapping[str, Callable[[Floats], Floats]] = {
    "sum": lambda rows: np.nansum(rows, axis=0),
    "avg": lambda rows: np.nanmean(rows, axis=0),
    "min": lambda rows: np.nanmin(rows, axis=0),
    "max": lambda rows: np.nanmax(rows, axis=0),
    "count": lambda rows: np.sum(~np.isnan(rows), axis=0).astype(np.float64),
}


@dataclass(frozen=True, slots=True)
class Steps:
    """Points in time in ns: `count` of them, `step` apart, the first at `start`."""

    start: int
    step: int
    count: int

    @property
    def times(self) -> list[float]:
        """Unix seconds."""
        return [(self.start + i * self.step) / 1e9 for i in range(self.count)]


async def evaluate(store: LogStore, tenant: str, asked: Counted | Aggregated, steps: Steps) -> Series:
    """The series that a metric query gives. Raises `BadInput`, `LimitExceeded`."""
    counted, wanted = _leaf(asked)
    found = await _count(store, tenant, counted, steps, wanted)
    return _aggregate(asked, found, steps.count)


def _leaf(asked: Counted | Aggregated) -> tuple[Counted, tuple[str, ...]]:
    """What is counted, and by which labels for what is aggregated above it."""
    levels: list[Aggregated] = []
    while isinstance(asked, Aggregated):
        levels.append(asked)
        asked = asked.of
    inmost = next((a for a in reversed(levels) if a.op not in ("topk", "bottomk")), None)
    if inmost is None:
        return asked, STREAM
    dropped = {"service_name" if n in SERVICE else n for n in inmost.labels} if inmost.without else set()
    if inmost.op == "sum":
        # A sum over streams is the count of the lines of all: the store need not tell them apart.
        return asked, tuple(n for n in STREAM if n not in dropped) if inmost.without else inmost.labels
    named = () if inmost.without else tuple(n for n in inmost.labels if n not in STREAM)
    return asked, (*STREAM, *named)


async def _count(store: LogStore, tenant: str, asked: Counted, steps: Steps, labels: Sequence[str]) -> Series:
    if max(asked.range_ns, abs(asked.offset_ns)) > _LONGEST:
        raise BadInput("a range or an offset of more than ten years")
    first = steps.start - asked.offset_ns
    width = math.gcd(asked.range_ns, steps.step) if steps.count > 1 else asked.range_ns
    begin, end = first - asked.range_ns, first + (steps.count - 1) * steps.step
    spans = (end - begin) // width
    if spans > _MOST_SPANS:
        raise BadInput(
            "the range and the step have too small a common part", hint="choose a step that is a multiple, or a part, of the range"
        )
    query = asked.pipeline.query
    if begin <= MIN_TIME or end + width >= MAX_TIME:
        raise BadInput("a time before 1678 or after 2262")
    query = replace(query, start=max(query.start, begin + 1), end=min(query.end, end + 1))
    columns = [("service" if n in SERVICE else "level" if n in LEVEL else n, asked.pipeline.parser) for n in labels]
    found = await store.windows(tenant, query, begin=begin, width=width, labels=columns)
    per, ahead = asked.range_ns // width, asked.range_ns // width + np.arange(steps.count) * (steps.step // width)
    out: Series = {}
    for texts, counts in found.items():
        running = np.zeros(spans + 1)
        for span, (lines, size) in counts.items():
            running[span] = size if asked.function.startswith("bytes") else lines
        running = np.cumsum(running)
        values = running[ahead] - running[ahead - per]
        if asked.function.endswith("rate"):
            values /= asked.range_ns / 1e9
        key = tuple(sorted((n, _shown(c[0], text)) for n, c, text in zip(labels, columns, texts, strict=True) if text or c[0] == "service"))
        out[key] = np.where(values > 0, values, np.nan)
    return out


def _shown(column: str, text: str) -> str:
    return text or "unknown_service" if column == "service" else text


def _aggregate(asked: Counted | Aggregated, found: Series, count: int) -> Series:
    if isinstance(asked, Counted):
        return found
    inner = _aggregate(asked.of, found, count)
    if asked.op in ("topk", "bottomk"):
        return _ranked(asked, inner)
    groups: dict[Key, list[Floats]] = {}
    for key, values in inner.items():
        kept = tuple((n, v) for n, v in key if (n in asked.labels) != asked.without)
        groups.setdefault(kept, []).append(values)
    out: Series = {}
    for key, rows in groups.items():
        stacked = np.array(rows)
        present = ~np.isnan(stacked).all(axis=0)
        reduced = np.full(count, np.nan)
        reduced[present] = _REDUCE[asked.op](stacked[:, present])
        out[key] = reduced
    return out


def _ranked(asked: Aggregated, inner: Series) -> Series:
    """At each step the `k` greatest (least) of each group."""
    groups: dict[Key, list[Key]] = {}
    for key in sorted(inner):
        kept = tuple((n, v) for n, v in key if (n in asked.labels) != asked.without) if asked.labels or asked.without else ()
        groups.setdefault(kept, []).append(key)
    out: Series = {}
    for keys in groups.values():
        stacked = np.array([inner[key] for key in keys])
        ranked = np.argsort(np.where(np.isnan(stacked), np.inf, -stacked if asked.op == "topk" else stacked), axis=0, kind="stable")
        chosen = np.zeros(stacked.shape, np.bool_)
        np.put_along_axis(chosen, ranked[: asked.k], True, axis=0)
        for key, row, mask in zip(keys, stacked, chosen, strict=True):
            values = np.where(mask, row, np.nan)
            if not np.isnan(values).all():
                out[key] = values
    return out
