"""`label_replace` and `label_join`: functions of labels, applied to distinct values once."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import re2
from numpy.typing import NDArray

from vedette.model.labels import METRIC_NAME
from vedette.promql import labelsets
from vedette.promql.errors import ExecutionError
from vedette.promql.evaluation import Evaluation
from vedette.promql.nodes import Call
from vedette.promql.values import Bools, Grid, Matrix, Rows, Value

_REFERENCE = re.compile(r"\$(?:\$|(\w+)|\{(\w+)\})", re.ASCII)

_OPTIONS = re2.Options()
_OPTIONS.log_errors = False
_OPTIONS.dot_nl = True
_OPTIONS.max_mem = 8 << 20


def expand(template: str, groups: dict[str, str]) -> str:
    """A Go replacement template: `$1`, `$name`, `${name}`, `$$`; the longest name counts, an unknown one is empty."""

    def one(found: re.Match[str]) -> str:
        name = found.group(1) or found.group(2)
        return "$" if name is None else groups.get(name, "")

    return _REFERENCE.sub(one, template)


MAX_TEXT = 1 << 20
"""Longest label value that a query may make, in characters: nested calls would double one until memory ends."""


def _expanded_size(template: str, groups: dict[str, str]) -> int:
    """How long `expand` would make the text, at most."""
    return len(template) + sum(len(groups.get(found.group(1) or found.group(2) or "", "")) for found in _REFERENCE.finditer(template))


def _symbol(ev: Evaluation, text: str) -> int:
    """The symbol of a text that was made; -1 for none. It counts among what the query holds."""
    ev.count(1 + len(text) // 16)
    return ev.symbols.intern(text) if text else -1


def _refuse_long(size: int, function: str) -> None:
    if size > MAX_TEXT:
        raise ExecutionError(f"{function}() makes a label value of more than {MAX_TEXT} characters")


def label_replace(ev: Evaluation, node: Call, args: Sequence[Value], grid: Grid) -> Matrix | Rows:
    """`label_replace(v, dst, replacement, src, regex)`."""
    dst, template, src, regex = (str(a) for a in args[1:5])
    try:
        pattern = re2.compile(f"(?:{regex})", _OPTIONS)
    except re2.error:
        raise ExecutionError(f"invalid regular expression in label_replace(): {regex}") from None
    if not dst:
        raise ExecutionError(f"invalid destination label name in label_replace(): {dst}")
    vector = _vector(args[0])
    column = vector.labels.column(src)
    distinct, inverse = np.unique(column, return_inverse=True)
    names = {i: n for n, i in pattern.groupindex.items()}
    new = np.full(len(distinct), -1, dtype=np.int32)
    matched = np.zeros(len(distinct), dtype=np.bool_)
    for i, symbol in enumerate(distinct.tolist()):
        found = pattern.fullmatch(ev.symbols.text(symbol) if symbol >= 0 else "")
        if found is None:
            continue
        groups = {str(j): found.group(j) or "" for j in range(pattern.groups + 1)}
        groups |= {name: groups[str(j)] for j, name in names.items()}
        _refuse_long(_expanded_size(template, groups), "label_replace")
        matched[i] = True
        new[i] = _symbol(ev, expand(template, groups))
    return _relabelled(ev, vector, dst, np.where(matched[inverse], new[inverse], vector.labels.column(dst)), matched[inverse])


def label_join(ev: Evaluation, node: Call, args: Sequence[Value], grid: Grid) -> Matrix | Rows:
    """`label_join(v, dst, separator, src…)`."""
    dst, separator, *sources = (str(a) for a in args[1:])
    for name, what in ((dst, "destination"), *((s, "source") for s in sources)):
        if not name:
            raise ExecutionError(f"invalid {what} label name in label_join(): {name}")
    vector = _vector(args[0])
    if sources:
        columns = np.stack([vector.labels.column(s) for s in sources])
        distinct, inverse = np.unique(columns, axis=1, return_inverse=True)
        inverse = inverse.reshape(-1)
    else:
        distinct, inverse = np.zeros((0, 1), dtype=np.int32), np.zeros(len(vector), dtype=np.int64)
    new = np.empty(distinct.shape[1], dtype=np.int32)
    for i, pair in enumerate(distinct.T.tolist()):
        parts = [ev.symbols.text(s) if s >= 0 else "" for s in pair]
        _refuse_long(sum(map(len, parts)) + len(separator) * (len(parts) - 1), "label_join")
        new[i] = _symbol(ev, separator.join(parts))
    return _relabelled(ev, vector, dst, new[inverse], np.ones(len(vector), dtype=np.bool_))


def _vector(value: Value) -> Matrix | Rows:
    assert isinstance(value, (Matrix, Rows)), "the plan feeds vectors where vectors are wanted"
    return value if isinstance(value, Matrix) or value.made is None else value.made


def _relabelled(ev: Evaluation, vector: Matrix | Rows, dst: str, column: NDArray[np.int32], touched: Bools) -> Matrix | Rows:
    drop = vector.drop
    if drop is not None and dst == METRIC_NAME:
        drop = drop & ~touched  # the name was given anew, so it stays
    labels = labelsets.with_label(vector.labels, dst, column.astype(np.int32, copy=False))
    if isinstance(vector, Rows):
        _, first = labelsets.grouped(labels, (), without=True)
        if len(first) == len(labels):
            # Where no two rows became equal nothing has been computed, and whoever sums them up never holds them all.
            return Rows(labels, vector.n, vector.fill, drop)
    return ev.merged(replace(ev.matrix(vector), labels=labels, drop=drop))
