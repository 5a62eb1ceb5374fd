"""`label_replace` and `label_join`: functions of labels, applied to distinct values once."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import re2
from numpy.typing import NDArray

from vedette.model.labels import METRIC_NAME
from vedette.model.labeltable import LabelTable
from vedette.promql import labelsets
from vedette.promql.errors import ExecutionError, TooManySamples
from vedette.promql.evaluation import TOO_MANY, Evaluation
from vedette.promql.nodes import Call, text_of
from vedette.promql.values import Bools, Grid, Matrix, Rows, Value
from vedette.regex import Template, bounded

_OPTIONS = re2.Options()
_OPTIONS.log_errors = False
_OPTIONS.dot_nl = True
_OPTIONS.max_mem = 8 << 20


_Symbols = NDArray[np.int32]
"""Texts of rows, by their symbols."""

MAX_TEXT = 1 << 20
"""Longest label value that a query may make, in characters: nested calls would double one until memory ends."""
MAX_MATCHING = 1_000_000_000
"""Most groups × instructions × bytes of one match of `label_replace`: about a second in which nothing else would run."""


def _symbol(ev: Evaluation, text: str) -> int:
    """The symbol of a text that was made; -1 for none. It counts among what the query holds."""
    ev.count(_weight(len(text)))
    return ev.symbols.intern(text) if text else -1


def _weight(size: int) -> int:
    """As how many samples a text of `size` characters counts."""
    return 1 + size // 16


def _refuse_long(size: int, function: str) -> None:
    if size > MAX_TEXT:
        raise ExecutionError(f"{function}() makes a label value of more than {MAX_TEXT} characters")


def label_replace(ev: Evaluation, node: Call, args: Sequence[Value], grid: Grid) -> Matrix | Rows:
    """`label_replace(v, dst, replacement, src, regex)`."""
    dst, text, src, regex = (str(a) for a in args[1:5])
    try:
        # Of bytes, since that of texts counts characters at each match.
        pattern = ev.symbols.recalled(("pattern", regex), lambda: bounded(f"(?:{regex})".encode(), _OPTIONS))
    except re2.error:
        raise ExecutionError(f"invalid regular expression in label_replace(): {regex}") from None
    if not dst or text_of(node.args[1]).broken:
        raise ExecutionError(f"invalid destination label name in label_replace(): {dst}")
    vector = _vector(args[0])
    labels = vector.labels
    key = "label_replace", id(labels), src, text, regex
    new, matched = ev.symbols.recalled(key, lambda: _replaced(ev, labels.column(src), text, pattern), labels)
    return _relabelled(ev, vector, dst, np.where(matched, new, labels.column(dst)), matched)


def _replaced(ev: Evaluation, sources: _Symbols, text: str, pattern: Any) -> tuple[_Symbols, Bools]:
    """What the template makes of each of the texts `sources` (-1: none), and which of these the pattern matches."""
    names = {name.decode(): number for name, number in pattern.groupindex.items()}
    template = Template(text, pattern.groups, names)
    distinct, inverse = labelsets.marked(sources)
    new = np.full(len(distinct), -1, dtype=np.int32)
    matched = np.zeros(len(distinct), dtype=np.bool_)
    alike: dict[tuple[str, ...], list[int]] = {}
    weight = matching = 0
    for i, symbol in enumerate(distinct.tolist()):
        source = ev.symbols.text(symbol).encode() if symbol >= 0 else b""
        ev.check()
        matching += (work := (1 + pattern.groups) * pattern.programsize * len(source))
        if work > MAX_MATCHING or (ev.max_matching is not None and matching > ev.max_matching):
            raise ExecutionError(f"label_replace() has a regular expression too large for a value of {len(source)} bytes")
        found = pattern.fullmatch(source)
        if found is None:
            continue
        matched[i] = True
        groups = tuple([(found[number] or b"").decode() for number in template.wanted])
        if groups not in alike:
            # What would be too much is refused before any of it is made.
            size = template.length(groups)
            _refuse_long(size, "label_replace")
            if (weight := weight + _weight(max(size, len(template)))) > ev.max_samples:
                raise TooManySamples(TOO_MANY)
        alike.setdefault(groups, []).append(i)
    for groups, places in alike.items():
        ev.check()
        new[places] = _symbol(ev, template.expanded(groups))
    return new[inverse], matched[inverse]


def label_join(ev: Evaluation, node: Call, args: Sequence[Value], grid: Grid) -> Matrix | Rows:
    """`label_join(v, dst, separator, src…)`."""
    dst, separator, *sources = (str(a) for a in args[1:])
    for i, (name, what) in (*((i, (s, "source")) for i, s in enumerate(sources, 3)), (1, (dst, "destination"))):
        if not name or text_of(node.args[i]).broken:
            raise ExecutionError(f"invalid {what} label name in label_join(): {name}")
    vector = _vector(args[0])
    labels = vector.labels
    key = "label_join", id(labels), separator, *sources
    new = ev.symbols.recalled(key, lambda: _joined(ev, labels, separator, sources), labels)
    return _relabelled(ev, vector, dst, new, np.ones(len(vector), dtype=np.bool_))


def _joined(ev: Evaluation, labels: LabelTable, separator: str, sources: Sequence[str]) -> _Symbols:
    """The values of the labels `sources` of each row, as one text."""
    present = labelsets.occurring(sources, labels)
    if present:
        columns = np.stack([labels.column(s) for s in present])
        distinct, inverse = np.unique(columns, axis=1, return_inverse=True)
        inverse = inverse.reshape(-1)
    else:
        distinct, inverse = np.zeros((0, 1), dtype=np.int32), np.zeros(len(labels), dtype=np.int64)
    new = np.empty(distinct.shape[1], dtype=np.int32)
    for i, pair in enumerate(distinct.T.tolist()):
        ev.check()
        texts = {name: ev.symbols.text(s) if s >= 0 else "" for name, s in zip(present, pair, strict=True)}
        parts = [texts.get(name, "") for name in sources]
        _refuse_long(sum(map(len, parts)) + len(separator) * (len(parts) - 1), "label_join")
        new[i] = _symbol(ev, separator.join(parts))
    return new[inverse]


def _vector(value: Value) -> Matrix | Rows:
    assert isinstance(value, (Matrix, Rows)), "the plan feeds vectors where vectors are wanted"
    return value if isinstance(value, Matrix) or value.made is None else value.made


def _relabelled(ev: Evaluation, vector: Matrix | Rows, dst: str, column: NDArray[np.int32], touched: Bools) -> Matrix | Rows:
    drop = vector.drop
    if drop is not None and dst == METRIC_NAME:
        drop = drop & ~touched  # the name was given anew, so it stays
    labels = labelsets.with_label(vector.labels, dst, column.astype(np.int32, copy=False))
    if isinstance(vector, Rows) and _distinct(vector.labels, labels, dst):
        # Where no two rows became equal nothing has been computed, and whoever sums them up never holds them all.
        depth, held = vector.depth, vector.held
        return Rows(labels, vector.n, vector.fill, drop, samples=vector.samples, begins=vector.begins, held=held, depth=depth)
    return ev.merged(replace(ev.matrix(vector), labels=labels, drop=drop))


def _distinct(before: LabelTable, after: LabelTable, dst: str) -> bool:
    """Whether no two rows are equal after `dst` was set; none were before."""
    if before.symbols.find(dst) not in before.names:
        return True  # none had the label: what was told apart without it still is
    return len(labelsets.grouped(after, (), without=True)[1]) == len(after)
