"""Operations on series that have values at the same points in time: aggregations, arithmetic, comparisons, sets, label_replace.

A series is its labels and float64[steps], `ABSENT` where it has no value. Not here: the functions of ranges (`windows.py`).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping

import numpy as np
from numpy.typing import NDArray

from vedette.errors import BadInput
from vedette.logs.logql.extract import regex
from vedette.logs.logql.nodes import COMPARISONS, RANKED, SETS, Aggregated, Binary, Grouping, Replaced
from vedette.logs.logql.points import ABSENT, absent
from vedette.regex import Template

Floats = NDArray[np.float64]
Key = tuple[tuple[str, str], ...]
Series = dict[Key, Floats]
"""Values at the steps by labels, which are sorted; `ABSENT` where there is none."""

_REDUCE: Mapping[str, Callable[[Floats, NDArray[np.bool_]], Floats]] = {
    "sum": lambda rows, there: np.sum(rows, axis=0, where=there),
    "avg": lambda rows, there: _mean(rows, there),
    # NaN only where there is nothing else.
    "min": lambda rows, there: np.fmin.reduce(np.where(there, rows, np.nan), axis=0),
    "max": lambda rows, there: np.fmax.reduce(np.where(there, rows, np.nan), axis=0),
    "count": lambda rows, there: np.sum(there, axis=0).astype(np.float64),
    "stddev": lambda rows, there: np.sqrt(_variance(rows, there)),
    "stdvar": lambda rows, there: _variance(rows, there),
}
"""Of rows of several series' values and whether they are there, what becomes of each column, in all of which something is there."""
_MOST_MADE = 16 << 20
"""Most characters that one `label_replace` may make: they are copied for each series."""


def _mean(rows: Floats, there: NDArray[np.bool_]) -> Floats:
    found: Floats = np.sum(rows, axis=0, where=there) / np.sum(there, axis=0)
    return found


def _variance(rows: Floats, there: NDArray[np.bool_]) -> Floats:
    return _mean((rows - _mean(rows, there)) ** 2, there)


def grouped(key: Key, grouping: Grouping) -> Key:
    """The labels of a group."""
    names = {_SAME.get(n, n) for n in grouping.labels} | set(grouping.labels) if grouping.without else grouping.labels
    return tuple((n, v) for n, v in key if (n in names) != grouping.without)


_SAME = {"service": "service_name", "detected_level": "level"}


def aggregate(asked: Aggregated, inner: Series, steps: int) -> Series:
    """`sum by (…)` and its kin."""
    if asked.op in RANKED:
        return _ranked(asked, inner)
    if asked.op in ("sort", "sort_desc"):
        falling = asked.op == "sort_desc"

        def place(key: Key) -> float:
            there = inner[key][~absent(inner[key])]
            # NaN is the last of both orders.
            return (
                -math.inf
                if not len(there) or (falling and math.isnan(there[-1]))
                else math.inf
                if math.isnan(there[-1])
                else float(there[-1])
            )

        return {key: inner[key] for key in sorted(inner, key=place, reverse=falling)}
    groups: dict[Key, list[Floats]] = {}
    for key, values in inner.items():
        groups.setdefault(grouped(key, asked.grouping), []).append(values)
    out: Series = {}
    for key, rows in groups.items():
        stacked = np.array(rows)
        there = ~absent(stacked)
        present = there.any(axis=0)
        reduced = np.full(steps, ABSENT)
        with np.errstate(all="ignore"):
            reduced[present] = _REDUCE[asked.op](stacked[:, present], there[:, present])
        out[key] = reduced
    return out


def _ranked(asked: Aggregated, inner: Series) -> Series:
    """At each step the `k` greatest (least) of each group; `approx_topk`, which estimates in Loki, is no less exact here."""
    groups: dict[Key, list[Key]] = {}
    for key in sorted(inner):
        groups.setdefault(grouped(key, asked.grouping), []).append(key)
    out: Series = {}
    for keys in groups.values():
        stacked = np.array([inner[key] for key in keys])
        # NaN is the last of both orders, and what is absent comes behind it.
        order = np.where(np.isnan(stacked), np.inf, stacked if asked.op == "bottomk" else -stacked)
        ranked = np.lexsort((order, absent(stacked)), axis=0)
        chosen = np.zeros(stacked.shape, np.bool_)
        np.put_along_axis(chosen, ranked[: asked.k], True, axis=0)
        for key, row, mask in zip(keys, stacked, chosen, strict=True):
            values = np.where(mask, row, ABSENT)
            if not absent(values).all():
                out[key] = values
    return out


_ARITHMETIC: Mapping[str, Callable[[Floats, Floats], Floats]] = {
    "+": np.add,
    "-": np.subtract,
    "*": np.multiply,
    "/": np.divide,
    "%": np.fmod,
    "^": np.power,
}
_COMPARE: Mapping[str, Callable[[Floats, Floats], NDArray[np.bool_]]] = {
    "==": np.equal,
    "!=": np.not_equal,
    ">": np.greater,
    ">=": np.greater_equal,
    "<": np.less,
    "<=": np.less_equal,
}


def scalars(asked: Binary, left: float, right: float) -> float:
    """An operation between two numbers."""
    return float(_applied(asked, np.array([left], np.float64), np.array([right], np.float64), as_number=True)[0])


def _applied(asked: Binary, left: Floats, right: Floats, *, as_number: bool, kept: Floats | None = None) -> Floats:
    gone = absent(left) | absent(right)
    with np.errstate(all="ignore"):
        if asked.op not in COMPARISONS:
            return np.where(gone, ABSENT, _ARITHMETIC[asked.op](left, right))
        holds = _COMPARE[asked.op](left, right)
    if as_number:
        return np.where(gone, ABSENT, holds.astype(np.float64))
    return np.where(gone | ~holds, ABSENT, left if kept is None else kept)


def with_scalar(asked: Binary, series: Series, scalar: float, *, scalar_left: bool) -> Series:
    """An operation between each series and a number; a comparison keeps the series' values."""
    out: Series = {}
    for key, values in series.items():
        number = np.full(len(values), scalar, np.float64)
        left, right = (number, values) if scalar_left else (values, number)
        found = _applied(asked, left, right, as_number=asked.as_number, kept=values)
        if not absent(found).all():
            out[key] = found
    return out


def _signature(key: Key, asked: Binary) -> Key:
    return tuple((n, v) for n, v in key if (n in asked.labels) == asked.on)


def binary(asked: Binary, left: Series, right: Series) -> Series:
    """An operation between series that match by labels. Raises `BadInput` where more than one match."""
    if asked.op in SETS:
        return _sets(asked, left, right)
    many, one = (right, left) if asked.many == "right" else (left, right)
    by: dict[Key, tuple[Key, Floats]] = {}
    for key, values in one.items():
        signature = _signature(key, asked)
        if signature in by:
            # They may be there at different times: then they are one.
            other = by[signature][1]
            if (~absent(other) & ~absent(values)).any():
                side = "left" if one is left else "right"
                raise BadInput(
                    f"found duplicate series on the {side} hand-side for the match group {dict(signature)}",
                    hint="many-to-many matching is not allowed: matching labels must be unique on one side",
                )
            values = np.where(absent(other), values, other)
        by[signature] = (key, values)
    out: Series = {}
    for key, values in many.items():
        signature = _signature(key, asked)
        if signature not in by:
            continue
        other_key, other = by[signature]
        first, second = (other, values) if asked.many == "right" else (values, other)
        found = _applied(asked, first, second, as_number=asked.as_number, kept=values if asked.many == "right" else None)
        if absent(found).all():
            continue
        named = _result(asked, key, other_key, signature)
        if named in out:
            if (~absent(out[named]) & ~absent(found)).any():
                raise BadInput("multiple matches for labels: many-to-one matching must be explicit (group_left/group_right)")
            found = np.where(absent(out[named]), found, out[named])
        out[named] = found
    return out


def _result(asked: Binary, key: Key, other: Key, signature: Key) -> Key:
    if not asked.many:
        return signature
    labels, taken = dict(key), dict(other)
    for name in asked.included:
        labels.pop(name, None)
        if taken.get(name):
            labels[name] = taken[name]
    return tuple(sorted(labels.items()))


def _sets(asked: Binary, left: Series, right: Series) -> Series:
    def present(series: Series) -> dict[Key, NDArray[np.bool_]]:
        found: dict[Key, NDArray[np.bool_]] = {}
        for key, values in series.items():
            signature = _signature(key, asked)
            there = ~absent(values)
            found[signature] = found[signature] | there if signature in found else there
        return found

    out: Series = {}
    if asked.op == "or":
        have = present(left)
        out.update(left)
        for key, values in right.items():
            mask = have.get(_signature(key, asked))
            kept = values if mask is None else np.where(mask, ABSENT, values)
            if not absent(kept).all():
                out[key] = np.where(absent(out[key]), kept, out[key]) if key in out else kept
        return out
    have = present(right)
    for key, values in left.items():
        mask = have.get(_signature(key, asked), np.zeros(len(values), np.bool_))
        kept = np.where(mask if asked.op == "and" else ~mask, values, ABSENT)
        if not absent(kept).all():
            out[key] = kept
    return out


def replaced(asked: Replaced, inner: Series) -> Series:
    """`label_replace`: an expression that matches the whole of a label makes another.

    Raises `BadInput` where two series become one, and for one that takes long to compile or makes much.
    """
    compiled = regex(f"(?s:{asked.regex})", where="label_replace")
    template = Template(asked.replacement, compiled.groups, compiled.groupindex)
    out: Series = {}
    room = _MOST_MADE
    for key, values in inner.items():
        labels = dict(key)
        found = compiled.fullmatch(labels.get(asked.source, ""))
        if found is not None:
            groups = [found.group(number) or "" for number in template.wanted]
            if (room := room - max(template.length(groups), len(template))) < 0:
                raise BadInput(f"label_replace makes more than {_MOST_MADE:,} characters of labels", hint="a shorter replacement")
            labels.pop(asked.target, None)
            if value := template.expanded(groups):
                labels[asked.target] = value
        named = tuple(sorted(labels.items()))
        if named in out:
            raise BadInput("label_replace makes one series of several", hint="keep a label that tells them apart")
        out[named] = values
    return out
