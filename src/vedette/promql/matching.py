"""Vector matching by labels alone: which rows of two vectors have the same signature, and what their pairs are called.

What it takes of memory goes with the number of rows, not of steps. Not here: what is computed of the pairs (`binary.py`, `joins.py`).
"""

from __future__ import annotations

import numpy as np

from vedette.model.labels import METRIC_NAME
from vedette.model.labeltable import LabelTable
from vedette.promql import labelsets
from vedette.promql.evaluation import Evaluation
from vedette.promql.nodes import COMPARISONS, TRIMS, Binary
from vedette.promql.values import Ints

KEEP_NAMES = COMPARISONS | TRIMS
"""Operators after which a sample is still one of its metric."""


def matched_on(node: Binary) -> tuple[tuple[str, ...], bool]:
    """The labels that make a signature, and whether it is all others instead."""
    if node.matching.on:
        return node.matching.labels, False
    return (*node.matching.labels, METRIC_NAME), True


def signatures(node: Binary, left: LabelTable, right: LabelTable) -> tuple[Ints, Ints, int]:
    """The number of each row's signature, of the rows of either table, and how many signatures there are."""
    names, without = matched_on(node)

    def told_apart() -> tuple[Ints, Ints, int]:
        groups, first = labelsets.grouped(labelsets.stacked(left, right), names, without=without)
        return groups[: len(left)], groups[len(left) :], len(first)

    return left.symbols.recalled(("signatures", id(left), id(right), names, without), told_apart, (left, right))


def pairs(ev: Evaluation, many_groups: Ints, one_groups: Ints, count: int) -> tuple[Ints, Ints]:
    """All pairs of rows with the same one of `count` signatures, in order of the "many" side."""
    sizes = np.bincount(one_groups, minlength=count)
    starts = np.zeros(count + 1, dtype=np.int64)
    np.cumsum(sizes, out=starts[1:])
    members = np.argsort(one_groups, kind="stable")
    matches = sizes[many_groups]
    total = int(matches.sum())
    ev.count(total)
    ev.release(total)
    many_rows = np.repeat(np.arange(len(many_groups), dtype=np.int64), matches)
    before = np.zeros(len(many_groups) + 1, dtype=np.int64)
    np.cumsum(matches, out=before[1:])
    within = np.arange(total, dtype=np.int64) - before[:-1][many_rows]
    return many_rows, members[starts[many_groups[many_rows]] + within].astype(np.int64, copy=False)


def result_labels(node: Binary, many: LabelTable, one: LabelTable, *, delayed: bool = False) -> LabelTable:
    """The labels of pairs of rows, side by side in two tables. Where names are dropped later (`delayed`), 0 and 1 have one yet."""
    matching = node.matching
    labels = many
    if node.op not in KEEP_NAMES or (node.bool_ and not delayed):
        labels = labelsets.kept(labels, labelsets.METADATA, without=True)
    if matching.group is None:
        labels = labelsets.kept(labels, matching.labels, without=not matching.on)
    for name in labelsets.occurring(matching.include, labels, one):
        labels = labelsets.with_label(labels, name, one.column(name))
    return labels
