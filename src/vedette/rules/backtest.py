"""Backtest: alerting rules run over stored history, by the state machine that runs them live.

One range query a rule gives its values at every evaluation; the steps then run over them. Nothing is written, sent or
remembered. Recording rules are not run: their series are read as they are stored. Blocking, for a worker thread. Not here: who
would have been told (`notify/rehearsal.py`).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Coroutine, Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from vedette.errors import BadInput, LimitExceeded, VedetteError
from vedette.model.alerts import ALERT_NAME
from vedette.model.labels import METRIC_NAME, Labels
from vedette.rules import alerting
from vedette.rules.alerting import AlertState, Observed
from vedette.rules.files import Group, Rule
from vedette.rules.template import Answers, Expander
from vedette.rules.typed import Ranged, on_grid

MAX_STEPS = 10_000
"""Steps of one range query; a longer backtest makes several."""
MAX_EVALUATIONS = 1_000_000
"""Of one rule."""
MAX_ELEMENTS = 5_000_000
"""Elements that one rule may find over all its evaluations: each takes a few microseconds."""
MAX_ERRORS = 10
"""So many failed evaluations of a rule are told; all are counted."""
_PROGRESS_STEPS = 500


class Queries(Protocol):
    """Where history is read; times in ms. Both block."""

    def range(self, expr: str, start: int, end: int, step: int) -> Ranged:
        """An expression's values from start to end (inclusive), a step apart."""
        ...

    def instant(self, expr: str, at: int) -> Answers:
        """An expression's value at one time."""
        ...


@dataclass(frozen=True, slots=True)
class Firing:
    """One alert from pending to its end. Times are Unix ms; `fired_at` 0: it never fired; `ended_at` 0: it still stands at the end."""

    labels: Labels
    annotations: Labels
    value: float
    pending_at: int
    fired_at: int
    ended_at: int


@dataclass(slots=True)
class RuleRun:
    """What became of one rule: `evaluations` were made, `failures` of them failed, for the reasons in `errors` (time, text)."""

    group: Group
    rule: Rule
    evaluations: int = 0
    failures: int = 0
    firings: list[Firing] = field(default_factory=list)
    errors: list[tuple[int, str]] = field(default_factory=list)

    def failed(self, at: int, error: VedetteError) -> None:
        """Count a failed evaluation."""
        self.failures += 1
        if len(self.errors) < MAX_ERRORS:
            self.errors.append((at, str(error)))


Progress = Callable[[int, int, str], None]
"""Told (evaluations done, evaluations in all, rule under way); may raise to end the backtest."""


def run(
    groups: Sequence[Group],
    queries: Queries,
    start: int,
    end: int,
    *,
    external_labels: Labels,
    external_url: str,
    progress: Progress = lambda _done, _total, _rule: None,
) -> list[RuleRun]:
    """Run all alerting rules of `groups` from start to end (Unix ms, inclusive), each at its group's interval.

    Raises `BadInput` for an empty range, `LimitExceeded` for one that is too long. What a rule's own query raises is its error.
    """
    if end < start:
        raise BadInput("the end is before the start", where="end")
    pairs = [(group, rule) for group in groups for rule in group.rules if rule.kind == "alerting"]
    counts = [(end - start) // group.interval_ms + 1 for group, _ in pairs]
    if max(counts, default=0) > MAX_EVALUATIONS:
        raise LimitExceeded(f"{max(counts)} evaluations of one rule: at most {MAX_EVALUATIONS}, so shorten the range")
    done, total = 0, sum(counts)
    found = []
    for (group, rule), count in zip(pairs, counts, strict=True):
        base = done

        def report(steps: int, base: int = base, name: str = rule.name) -> None:
            progress(base + steps, total, name)

        outer = _Outer(external_labels, external_url.rstrip("/"), report)
        found.append(_Run(RuleRun(group, rule), queries, start, count, outer).all())
        done += count
    progress(total, total, "")
    return found


@dataclass(frozen=True, slots=True)
class _Outer:
    external_labels: Labels
    external_url: str
    report: Callable[[int], None]


@dataclass(slots=True)
class _Episode:
    """An alert between pending and its end."""

    state: AlertState
    annotations: Labels
    value: float


class _Run:
    """One rule over `count` evaluations from `start` on."""

    def __init__(self, run: RuleRun, queries: Queries, start: int, count: int, outer: _Outer) -> None:
        self._run, self._queries, self._start, self._count, self._outer = run, queries, start, count, outer
        self._rule, self._group = run.rule, run.group
        self._step = run.group.interval_ms
        self._states: dict[Labels, AlertState] = {}
        self._open: dict[Labels, _Episode] = {}

    def all(self) -> RuleRun:
        """Run it. Templates expand in coroutines, which here never wait for anything: one step takes them to their end."""
        whole: Coroutine[None, None, None] = self._all()
        try:
            whole.send(None)
        except StopIteration:
            return self._run
        raise AssertionError("a query of a backtest waited")

    async def _all(self) -> None:
        elements = 0
        for lo in range(0, self._count, MAX_STEPS):
            hi = min(lo + MAX_STEPS, self._count)
            try:
                rows = self._rows(lo, hi)
            except VedetteError as error:
                for i in range(lo, hi):
                    self._run.failed(self._start + i * self._step, error)
                self._run.evaluations += hi - lo
                continue
            elements += sum(len(at) for _, at, _ in rows)
            if elements > MAX_ELEMENTS:
                raise LimitExceeded(
                    f"rule {self._rule.name} finds more than {MAX_ELEMENTS} elements over the range: shorten it, or make the rule narrower"
                )
            await self._steps(lo, hi, rows)
        for labels, episode in list(self._open.items()):
            self._close(labels, episode, 0)

    def _rows(self, lo: int, hi: int) -> list[tuple[Labels, NDArray[np.int64], NDArray[np.float64]]]:
        """Each series that the rule finds, with the numbers of the evaluations at which it does, and its values there."""
        first, last = (self._start + i * self._step - self._group.query_offset_ms for i in (lo, hi - 1))
        if self._rule.analysis is not None:
            return list(self._analysed(first, last, lo))
        rows = self._queries.range(self._rule.expr, first, last, self._step).rows()
        return [(labels, lo + (times - first) // self._step, values) for labels, times, values in rows]

    def _analysed(self, first: int, last: int, lo: int) -> Iterator[tuple[Labels, NDArray[np.int64], NDArray[np.float64]]]:
        analysis = self._rule.analysis
        assert analysis is not None
        grid = math.gcd(analysis.step, self._step)
        window, stride, every = analysis.window // analysis.step, analysis.step // grid, self._step // grid
        begin = first - window * analysis.step
        count = (last - begin) // grid + 1
        if count > MAX_EVALUATIONS:
            raise LimitExceeded(f"{count} points for one series: make the step a multiple of the interval, or shorten the range")
        columns: dict[Labels, NDArray[np.float64]] = {}
        for a in range(0, count, MAX_STEPS):
            b = min(a + MAX_STEPS, count)
            for labels, times, values in self._queries.range(self._rule.expr, begin + a * grid, begin + (b - 1) * grid, grid).rows():
                column = columns.setdefault(labels, np.full(count, np.nan))
                column[a:b] = on_grid(times, values, begin + a * grid, grid, b - a)
        for labels, column in columns.items():
            at, found = [], []
            for i in range((last - first) // self._step + 1):
                place = window * stride + i * every
                value = analysis.holds(column[place - window * stride : place + 1 : stride])
                if value is not None:
                    at.append(lo + i)
                    found.append(value)
            yield labels, np.array(at, dtype=np.int64), np.array(found)

    async def _steps(self, lo: int, hi: int, rows: list[tuple[Labels, NDArray[np.int64], NDArray[np.float64]]]) -> None:
        own = [labels.without(METRIC_NAME) for labels, _, _ in rows]
        fixed = self._fixed()
        named = None if fixed is None else [labels.with_(fixed) for labels in own]
        steps = np.concatenate([at for _, at, _ in rows]) if rows else np.zeros(0, dtype=np.int64)
        series = np.repeat(np.arange(len(rows)), [len(at) for _, at, _ in rows]) if rows else steps
        values = np.concatenate([v for _, _, v in rows]) if rows else np.zeros(0)
        order = np.argsort(steps, kind="stable")
        steps, places, floats = steps[order], series[order].tolist(), values[order].tolist()
        bounds = np.searchsorted(steps, np.arange(lo, hi + 1)).tolist()
        for i in range(lo, hi):
            a, b = bounds[i - lo], bounds[i - lo + 1]
            if i % _PROGRESS_STEPS == 0:
                self._outer.report(i)
            self._run.evaluations += 1
            if a == b and not self._states:
                continue
            at = self._start + i * self._step
            if named is not None:
                observed = [Observed(named[p], Labels(), v) for p, v in zip(places[a:b], floats[a:b], strict=True)]
            else:
                observed = [Observed(await self._named(own[p], v, at), Labels(), v) for p, v in zip(places[a:b], floats[a:b], strict=True)]
            await self._advance(observed, at)

    def _fixed(self) -> dict[str, str] | None:
        """The rule's labels where none is a template."""
        templates = {n.partition(".")[2]: t for n, t in self._rule.templates.items() if n.startswith("labels.")}
        texts = {name: text for name, text in templates.items() if isinstance(text, str)}
        return {**texts, ALERT_NAME: self._rule.name} if len(texts) == len(templates) else None

    async def _named(self, labels: Labels, value: float, at: int) -> Labels:
        return labels.with_({**await self._expanded("labels", labels, value, at), ALERT_NAME: self._rule.name})

    async def _expanded(self, part: str, labels: Labels, value: float, at: int) -> dict[str, str]:
        async def query(expr: str) -> Answers:
            return self._queries.instant(expr, at - self._group.query_offset_ms)

        expander = Expander(query, at, self._outer.external_labels, self._outer.external_url)
        texts = ((name.partition("."), template) for name, template in self._rule.templates.items())
        return {name[2]: await expander.expand(template, labels, value) for name, template in texts if name[0] == part}

    async def _advance(self, observed: list[Observed], at: int) -> None:
        rule = self._rule
        try:
            self._states, events = alerting.step(
                self._states, observed, at, hold_ms=rule.hold_ms, keep_firing_ms=rule.keep_firing_ms, limit=self._group.limit
            )
        except LimitExceeded as error:
            self._states = {}
            for labels, episode in list(self._open.items()):
                self._close(labels, episode, at)
            self._run.failed(at, error)
            return
        except BadInput as error:
            self._run.failed(at, error)
            return
        for event in events:
            labels = event.alert.labels
            if event.change == "pending":
                self._open[labels] = _Episode(event.alert, Labels(), event.alert.value)
            elif event.change == "firing":
                notes = await self._expanded("annotations", labels, event.alert.value, at)
                self._open[labels] = _Episode(event.alert, Labels.of(notes), event.alert.value)
            elif event.change == "resolved" or (event.change == "forgotten" and event.alert.state == "pending"):
                self._close(labels, self._open[labels], at)

    def _close(self, labels: Labels, episode: _Episode, at: int) -> None:
        state = episode.state
        self._run.firings.append(Firing(labels, episode.annotations, episode.value, state.active_at, state.fired_at, at))
        self._open.pop(labels, None)


def standing(found: RuleRun, *, far: int) -> list[tuple[int, Firing]]:
    """The firings in order of when they fired; one that still stands is given the end `far` (ms)."""
    fired = [f if f.ended_at else replace(f, ended_at=far) for f in found.firings if f.fired_at]
    return sorted(((f.fired_at, f) for f in fired), key=lambda pair: (pair[0], pair[1].labels))
