"""`info()`: the labels of info metrics (`target_info`) joined onto the series of the same `instance` and `job`.

The info series are read for their samples' times, since of two that describe the same target the newer one counts
(`plan.py` asks for them, at the time of the first selector of the argument).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from vedette.model.labels import METRIC_NAME, Labels, quote
from vedette.model.labeltable import LabelTable
from vedette.model.matchers import Matcher, verdicts
from vedette.promql import labelsets
from vedette.promql.errors import ExecutionError
from vedette.promql.evaluation import Evaluation
from vedette.promql.nodes import Call
from vedette.promql.plan import given_matchers, info_names
from vedette.promql.values import Bools, Grid, Ints, Matrix, Value

IDENTIFYING = ("instance", "job")
"""The labels by which a series and its info series are told to belong together."""

_Symbols = NDArray[np.int32]


def info(ev: Evaluation, node: Call, args: Sequence[Value], grid: Grid) -> Value:
    """The first argument with labels of the info series in the second, whose values are its samples' times (in seconds)."""
    base = ev.matrix(args[0]).found()
    infos = ev.matrix(args[1]).found()
    if infos.histograms is not None and infos.native.any():
        row = int(np.flatnonzero(infos.native.any(axis=1))[0])
        raise ExecutionError(f"this should be an info metric, with float samples: {infos.labels.row(row)}")
    matchers = given_matchers(node)
    asked = [m for m in matchers if m.name != METRIC_NAME]
    # A call with matchers that name no metric reads target_info, yet enriches target_info itself, as Prometheus does.
    named = not matchers or len(asked) < len(matchers)
    sources = _are_sources(base.labels, info_names(node) if named else ())
    infos = infos.take(_near(base.labels, ~sources, infos.labels))
    joined = _Join(ev, base, sources, infos, asked).result()
    ev.count(joined.present.size)
    return ev.merged(joined).found()


def _are_sources(labels: LabelTable, naming: Sequence[Matcher]) -> Bools:
    """Which rows are info series themselves, and so are left as they are."""
    column = labels.column(METRIC_NAME)
    names, inverse = np.unique(column, return_inverse=True)
    if not naming or not len(column):
        return np.zeros(len(column), dtype=np.bool_)
    texts = ["" if s < 0 else labels.symbols.text(int(s)) for s in names]
    found: Bools = np.logical_and.reduce(np.array([verdicts(matcher, texts) for matcher in naming], dtype=np.bool_), axis=0)
    passing: Bools = found[inverse.reshape(-1)]
    return passing


def _near(base: LabelTable, rows: Bools, infos: LabelTable) -> Ints:
    """The info series whose identifying labels have values that the base has; none where the base has no such label."""
    near, any_ = np.ones(len(infos), dtype=np.bool_), False
    for name in IDENTIFYING:
        values = base.column(name)[rows]
        values = values[values >= 0]
        if len(values):
            any_ = True
            near &= np.isin(infos.column(name), values)
    return np.flatnonzero(near) if any_ else np.zeros(0, dtype=np.int64)


@dataclass(frozen=True, slots=True)
class _Choice:
    """Info series that together describe a target (their rows), at the steps where they do."""

    rows: tuple[int, ...]
    steps: Bools


class _Join:
    def __init__(self, ev: Evaluation, base: Matrix, sources: Bools, infos: Matrix, asked: Sequence[Matcher]) -> None:
        self.ev = ev
        self.base = base
        self.sources = sources
        self.infos = infos
        self.asked = frozenset(m.name for m in asked)
        self.needed = not all(m.matches_empty for m in asked)

    def result(self) -> Matrix:
        """One row for each series and each choice of info series that it met."""
        base, infos = self.base, self.infos
        both = labelsets.stacked(base.labels, infos.labels)
        targets, _ = labelsets.grouped(both, IDENTIFYING, without=False)
        described = self._choices(targets[len(base) :])
        rows: list[int] = []
        choices: list[_Choice] = []
        for row, (target, source) in enumerate(zip(targets[: len(base)].tolist(), self.sources.tolist(), strict=True)):
            for choice in (self._untouched(),) if source else described.get(target, (self._nothing(),)):
                if len(choice.rows) or source or not self.needed:
                    rows.append(row)
                    choices.append(choice)
        taken = base.take(np.array(rows, dtype=np.int64))
        if not rows:
            return taken
        steps = np.stack([c.steps for c in choices])
        present = taken.present & steps
        return replace(taken, labels=self._labelled(taken.labels, choices, present), present=present)

    def _untouched(self) -> _Choice:
        return _Choice((), np.ones(self.base.present.shape[1], dtype=np.bool_))

    _nothing = _untouched

    def _choices(self, targets: Ints) -> dict[int, tuple[_Choice, ...]]:
        """For each target, which info series describe it at which steps."""
        found: dict[int, tuple[_Choice, ...]] = {}
        names = self.infos.labels.column(METRIC_NAME)
        for target in np.unique(targets).tolist():
            rows = np.flatnonzero(targets == target)
            newest = [self._newest(rows[names[rows] == name]) for name in np.unique(names[rows])]
            distinct, inverse = np.unique(np.stack(newest), axis=1, return_inverse=True)
            found[target] = tuple(
                _Choice(tuple(r for r in column if r >= 0), inverse.reshape(-1) == i) for i, column in enumerate(distinct.T.tolist())
            )
        return found

    def _newest(self, rows: Ints) -> Ints:
        """At each step, which of the rows (of one metric and target) has the newest sample; -1 where none has any."""
        times = np.where(self.infos.present[rows], self.infos.values[rows], -np.inf)
        best = times.argmax(axis=0)
        newest = times[best, np.arange(times.shape[1])]
        ties = (times == newest) & np.isfinite(times)
        clash = np.flatnonzero(ties.sum(axis=0) > 1)
        if len(clash):
            step = int(clash[0])
            one, other = (self.infos.labels.row(int(rows[i])) for i in np.flatnonzero(ties[:, step])[:2])
            at = round(float(newest[step]) * 1000)
            raise ExecutionError(
                f"found duplicate series for info metric: existing {_metric(one)} @ {at}, new {_metric(other)} @ {at}"
            )  # fmt: skip
        return np.where(np.isfinite(newest), rows[best], -1)

    def _labelled(self, table: LabelTable, choices: Sequence[_Choice], present: Bools) -> LabelTable:
        """The rows' labels with those of their choices; labels that a row has itself stay."""
        shared = self.infos.labels
        rows_of = sorted({c.rows for c in choices})
        number = {rows: i for i, rows in enumerate(rows_of)}
        which = np.array([number[c.rows] for c in choices], dtype=np.int64)
        for symbol in np.unique(shared.names).tolist():
            name = shared.symbols.text(symbol)
            if name == METRIC_NAME or (self.asked and name not in self.asked):
                continue
            given = shared.column(name)
            values = [sorted({int(given[r]) for r in rows if given[r] >= 0}) for rows in rows_of]
            own = table.column(name)
            clash = np.array([len(v) > 1 for v in values], dtype=np.bool_)[which] & (own < 0) & present.any(axis=1)
            if clash.any():
                raise ExecutionError(f"conflicting label: {name}")
            added: _Symbols = np.array([v[0] if v else -1 for v in values], dtype=np.int32)[which]
            column = np.where(own >= 0, own, added).astype(np.int32, copy=False)
            if (column != own).any():
                table = labelsets.with_label(table, name, column)
        return table


def _metric(labels: Labels) -> str:
    """A series as Prometheus prints it: the name before the braces."""
    inner = ", ".join(f"{n}={quote(v)}" for n, v in labels if n != METRIC_NAME)
    return f"{labels.metric}{{{inner}}}"
