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
from vedette.promql.values import Bools, Grid, Matrix, Value

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


def label_replace(ev: Evaluation, node: Call, args: Sequence[Value], grid: Grid) -> Matrix:
    """`label_replace(v, dst, replacement, src, regex)`."""
    dst, template, src, regex = (str(a) for a in args[1:5])
    try:
        pattern = re2.compile(f"(?:{regex})", _OPTIONS)
    except re2.error:
        raise ExecutionError(f"invalid regular expression in label_replace(): {regex}") from None
    if not dst:
        raise ExecutionError(f"invalid destination label name in label_replace(): {dst}")
    matrix = ev.matrix(args[0])
    column = matrix.labels.column(src)
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
        text = expand(template, groups)
        matched[i] = True
        new[i] = ev.symbols.intern(text) if text else -1
    return _relabelled(ev, matrix, dst, np.where(matched[inverse], new[inverse], matrix.labels.column(dst)), matched[inverse])


def label_join(ev: Evaluation, node: Call, args: Sequence[Value], grid: Grid) -> Matrix:
    """`label_join(v, dst, separator, src…)`."""
    dst, separator, *sources = (str(a) for a in args[1:])
    for name, what in ((dst, "destination"), *((s, "source") for s in sources)):
        if not name:
            raise ExecutionError(f"invalid {what} label name in label_join(): {name}")
    matrix = ev.matrix(args[0])
    if sources:
        columns = np.stack([matrix.labels.column(s) for s in sources])
        distinct, inverse = np.unique(columns, axis=1, return_inverse=True)
        inverse = inverse.reshape(-1)
    else:
        distinct, inverse = np.zeros((0, 1), dtype=np.int32), np.zeros(len(matrix), dtype=np.int64)
    texts = (separator.join(ev.symbols.text(s) if s >= 0 else "" for s in pair) for pair in distinct.T.tolist())
    new = np.array([ev.symbols.intern(t) if t else -1 for t in texts], dtype=np.int32)
    return _relabelled(ev, matrix, dst, new[inverse], np.ones(len(matrix), dtype=np.bool_))


def _relabelled(ev: Evaluation, matrix: Matrix, dst: str, column: NDArray[np.int32], touched: Bools) -> Matrix:
    drop = matrix.drop
    if drop is not None and dst == METRIC_NAME:
        drop = drop & ~touched  # the name was given anew, so it stays
    labels = labelsets.with_label(matrix.labels, dst, column.astype(np.int32, copy=False))
    return ev.merged(replace(matrix, labels=labels, drop=drop))
