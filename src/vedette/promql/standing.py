"""Expressions that are asked again and again, many at a time: what several of them read of one metric is read once.

Ten thousand rules ask little each, of a few hundred metrics: `disk_free{host="a"} < 5`, `disk_free{host="b"} < 5`. One read
of the metric serves all of them, and such a comparison, whose selector is plain, is made without a plan. Not here: how one
expression is evaluated (`engine.py`), and when (`rules`).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np

from vedette.errors import VedetteError
from vedette.kernels import windows as k
from vedette.model.labels import METRIC_NAME
from vedette.model.labeltable import LabelTable, Symbols
from vedette.model.matchers import Matcher, by_metric, verdicts
from vedette.model.series import SeriesSet
from vedette.promql.nodes import COMPARISONS, Binary, Node, Number, Selector, unwrapped
from vedette.promql.plan import Fetch, Prepared
from vedette.promql.result import QueryResult
from vedette.promql.values import Bools, Floats, Grid, Ints, Matrix
from vedette.storage.interface import Estimating

_OPERATORS: dict[str, Callable[[Any, float], Bools]] = {
    "==": np.equal,
    "!=": np.not_equal,
    ">": np.greater,
    "<": np.less,
    ">=": np.greater_equal,
    "<=": np.less_equal,
}
_MIRRORED = {"==": "==", "!=": "!=", ">": "<", "<": ">", ">=": "<=", "<=": ">="}

SERIES_FOR_A_READ, SAMPLES_FOR_A_READ = 500, 10_000
"""How much more a read of a whole metric may find, for each read of a part of it that it saves: they then cost about the same."""


@dataclass(slots=True)
class Standing:
    """An expression that is asked again and again, with what an engine has found out about it."""

    expr: str
    prepared: Prepared | None = None
    threshold: Threshold | None = None


class Answer(NamedTuple):
    """What came of one expression, and the seconds that it took, its share of what was done for several included."""

    found: QueryResult | VedetteError
    seconds: float

    def result(self) -> QueryResult:
        """The result. Raises what the evaluation raised."""
        if isinstance(self.found, VedetteError):
            raise self.found
        return self.found


@dataclass(frozen=True, slots=True)
class Threshold:
    """A plain selector compared with a number: `op` as if the number stood on the right."""

    matchers: tuple[Matcher, ...]
    op: str
    number: float

    @classmethod
    def of(cls, root: Node) -> Threshold | None:
        """The comparison that an expression is; None where it is anything else."""
        root = unwrapped(root)
        if not isinstance(root, Binary) or root.op not in COMPARISONS or root.bool_:
            return None
        left, right, op = unwrapped(root.lhs), unwrapped(root.rhs), root.op
        if isinstance(left, Number):
            left, right, op = right, left, _MIRRORED[op]
        if not isinstance(left, Selector) or not isinstance(right, Number):
            return None
        plain = not (left.has_offset or left.offset_expr is not None or left.at is not None or left.anchored or left.smoothed)
        return cls(left.matchers, op, right.value) if plain else None

    def compared(self, source: Source, rows: Ints, grid: Grid, lookback: int) -> QueryResult | None:
        """The answer for `rows` of a source; None where no sample passes."""
        values, present = source.last(grid, lookback)
        passing = _OPERATORS[self.op](values[rows], self.number)
        passing &= present[rows]
        if not passing.any():
            return None
        kept = rows[passing]
        matrix = Matrix(source.found.labels.take(kept), values[kept].reshape(-1, 1), np.ones((len(kept), 1), dtype=np.bool_))
        return QueryResult(matrix, grid, range_query=False, warnings=[], infos=[])


def _costly(matcher: Matcher) -> bool:
    """Whether a matcher takes more than to look up one value."""
    # All rows have the name that was asked for, or are few.
    return matcher.op != "=" or matcher.name == METRIC_NAME


class Source:
    """What one read has found, out of which several selectors are served."""

    def __init__(self, found: SeriesSet) -> None:
        self.found = found
        self._columns: dict[str, tuple[Ints, Ints]] = {}
        self._passing: dict[Matcher, Bools] = {}
        self._last: tuple[Floats, Bools] | None = None

    @property
    def divisible(self) -> bool:
        """Whether parts can be taken: of floats alone."""
        return self.found.histograms is None and self.found.start_timestamps is None

    def rows(self, matchers: Sequence[Matcher]) -> Ints:
        """The rows that pass all matchers, ascending."""
        rows: Ints | None = None
        for matcher in matchers if len(matchers) < 2 else sorted(matchers, key=_costly):
            if rows is not None and not len(rows):
                break
            if rows is None and matcher.op == "=":
                rows = self._equal(matcher)
            else:
                passing = self._pass(matcher)
                rows = np.flatnonzero(passing) if rows is None else rows[passing[rows]]
        return np.arange(len(self.found), dtype=np.int64) if rows is None else rows

    def _symbol(self, value: str) -> int:
        """The value's symbol, -1 for an absent label, -2 where no series has it."""
        found = self.found.labels.symbols.find(value) if value else -1
        return -2 if value and found < 0 else found

    def _equal(self, matcher: Matcher) -> Ints:
        if matcher.name not in self._columns:
            column = self.found.labels.column(matcher.name)
            order = np.argsort(column, kind="stable")
            self._columns[matcher.name] = (column[order].astype(np.int64), order)
        ordered, order = self._columns[matcher.name]
        symbol = self._symbol(matcher.value)
        # Stable, so rows of one value are in ascending order.
        return order[ordered.searchsorted(symbol, side="left") : ordered.searchsorted(symbol, side="right")]

    def _pass(self, matcher: Matcher) -> Bools:
        """Which rows pass one matcher."""
        if (known := self._passing.get(matcher)) is None:
            labels = self.found.labels
            distinct, inverse = np.unique(labels.column(matcher.name), return_inverse=True)
            good = verdicts(matcher, ["" if s < 0 else labels.symbols.text(s) for s in distinct.tolist()])
            known = self._passing[matcher] = np.array(good, dtype=np.bool_)[inverse]
        return known

    def last(self, grid: Grid, lookback: int) -> tuple[Floats, Bools]:
        """Each row's last sample within the lookback, and whether there is one: float64[n], bool[n]."""
        if self._last is None:
            found, n = self.found, len(self.found)
            values, present = np.empty((n, 1)), np.empty((n, 1), dtype=np.bool_)
            arrays = (_own(found.offsets), _own(found.timestamps), _own(found.values))
            k.last_sample(*arrays, 0, n, grid.start, grid.step, 1, lookback, False, values, present)
            self._last = (values[:, 0], present[:, 0])
        return self._last

    def part(self, rows: Ints) -> SeriesSet:
        """The series of `rows` alone."""
        offsets = self.found.offsets
        lengths = (offsets[1:] - offsets[:-1])[rows]
        own = np.zeros(len(rows) + 1, dtype=np.int64)
        np.cumsum(lengths, out=own[1:])
        at = np.arange(own[-1], dtype=np.int64) + np.repeat(offsets[:-1][rows] - own[:-1], lengths)
        return SeriesSet(self.found.labels.take(rows), own, self.found.timestamps[at], self.found.values[at])


def _own(array: Any) -> Any:
    """As kernels are compiled for it: a read-only array would be compiled for anew."""
    return array if array.flags.writeable and array.flags.c_contiguous else array.copy()


_Key = tuple[tuple[Matcher, ...], int, int]


@dataclass(slots=True)
class _Read:
    """One read that several need: how many still do, and what it found once it is done (None: it could not be shared)."""

    matchers: tuple[Matcher, ...]
    left: int = 0
    done: bool = False
    source: Source | None = None


@dataclass(slots=True)
class Reads:
    """What a set of expressions is going to read. What is found is kept until the last of them has had it."""

    select: Callable[[tuple[Matcher, ...], int, int], SeriesSet]
    estimating: Callable[[tuple[Matcher, ...], int, int], tuple[int, int]] | None
    _by_key: dict[_Key, _Read] = field(default_factory=dict)
    _nothing: QueryResult | None = None

    def nothing(self, grid: Grid) -> QueryResult:
        """An empty vector, the same for all that found none."""
        if self._nothing is None:
            none = np.zeros(0, dtype=np.int32)
            labels = LabelTable(Symbols(), np.zeros(1, dtype=np.int64), none, none)
            empty = Matrix(labels, np.zeros((0, 1)), np.zeros((0, 1), dtype=np.bool_))
            self._nothing = QueryResult(empty, grid, range_query=False, warnings=[], infos=[])
        return self._nothing

    def expect(self, fetches: Sequence[Fetch]) -> None:
        """All reads to come, one for each time that one is asked for."""
        parts: dict[_Key, dict[tuple[Matcher, ...], int]] = {}
        for fetch in fetches:
            if fetch.coarse is None:
                named = next((m for m in fetch.matchers if m.name == METRIC_NAME and m.op == "="), None)
                whole = fetch.matchers if named is None else (by_metric(named.value),)
                counts = parts.setdefault((whole, fetch.start, fetch.end), {})
                counts[fetch.matchers] = counts.get(fetch.matchers, 0) + 1
        for (whole, start, end), counts in parts.items():
            if len(counts) > 1 and self._worth(whole, start, end, len(counts)):
                read = _Read(whole, left=sum(counts.values()))
                self._by_key |= {(matchers, start, end): read for matchers in counts}
            else:
                self._by_key |= {(matchers, start, end): _Read(matchers, left=n) for matchers, n in counts.items() if n > 1}

    def _worth(self, whole: tuple[Matcher, ...], start: int, end: int, parts: int) -> bool:
        """Whether one read of all costs less than its parts."""
        if self.estimating is None:
            return False
        series, samples = self.estimating(whole, start, end)
        return series <= SERIES_FOR_A_READ * (parts - 1) and samples <= SAMPLES_FOR_A_READ * (parts - 1)

    def of(self, fetch: Fetch) -> tuple[Source, Ints] | None:
        """What serves a read that was expected, and the rows it is about; None where it has to be made for itself."""
        key = (fetch.matchers, fetch.start, fetch.end)
        read = self._by_key.get(key) if fetch.coarse is None else None
        if read is None:
            return None
        if not read.done:
            read.done = True
            try:
                source = Source(self.select(read.matchers, fetch.start, fetch.end))
            except VedetteError:
                source = None  # too much for one read, perhaps; each on its own meets the error that is its own
            read.source = source if source is not None and source.divisible else None
        source = read.source
        read.left -= 1
        if not read.left:
            del self._by_key[key]
            read.source = None
        return None if source is None else (source, source.rows(fetch.matchers))


def estimating(storage: Estimating, tenant: str) -> Callable[[tuple[Matcher, ...], int, int], tuple[int, int]]:
    """How a storage tells the (series, samples) of a read beforehand."""

    def estimate(matchers: tuple[Matcher, ...], start: int, end: int) -> tuple[int, int]:
        found = storage.estimate(tenant, matchers, start, end)
        return found.series, found.samples

    return estimate
