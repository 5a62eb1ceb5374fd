"""Rules and groups at work: query, step, commit, tell, write; in that order, rule after rule.

Rules that do not read what others of them write are asked together, so that what they read of one metric is read once.

What a rule found out is committed to the records before anyone hears of it, so that after a crash the next evaluation
goes on from there. Not here: when a group is evaluated (`scheduler.py`), and which groups there are (`engine.py`).
"""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Protocol

import numpy as np
import orjson
import structlog

from vedette.errors import BadInput, LimitExceeded, VedetteError
from vedette.model.alerts import ALERT_NAME, Alert
from vedette.model.durations import format_duration
from vedette.model.histograms import Histogram
from vedette.model.labels import METRIC_NAME, Labels, quote
from vedette.model.samples import STALE, KeySpace, SampleBatch
from vedette.promql.native_render import text
from vedette.promql.standing import Answer, Standing
from vedette.records.numbers import Numbers, own_number
from vedette.records.rows import RuleAlertRow
from vedette.rules import alerting
from vedette.rules.alerting import AlertState, Observed
from vedette.rules.files import Group, Rule
from vedette.rules.recording import record
from vedette.rules.state import ActiveAlert, GroupState, Health, RuleState
from vedette.rules.template import Expander, graph_link
from vedette.rules.typed import Analysis

log = structlog.get_logger(__name__)

MOST_TOGETHER = 500
"""How many rules are asked together: between one such set and the next, others have their turn."""

Sample = float | Histogram
Samples = Sequence[tuple[Labels, Sample]]
"""Elements of a result, or samples to write."""


class Ledger(Protocol):
    """Where the states of alerts are committed; `records.Records` is one."""

    async def load(self, kind: type[RuleAlertRow], **equal: str) -> list[RuleAlertRow]:
        """The rows whose columns are `equal`."""
        ...

    async def save(self, put: Sequence[RuleAlertRow] = (), drop: Sequence[RuleAlertRow] = ()) -> None:
        """Commit rows, and forget others, at once; they outlive a crash when it returns."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Surroundings:
    """What rules are handed: where they ask, write and tell. `analyse` is for typed rules that PromQL cannot say."""

    ask: Callable[[Sequence[Standing], int], Awaitable[Sequence[Answer]]]
    append: Callable[[SampleBatch], Awaitable[Any]]
    emit: Callable[[Sequence[Alert]], Awaitable[None]]
    records: Ledger
    tenant: str
    keyspace: KeySpace
    external_labels: Labels
    external_url: str
    resend_ms: int = alerting.RESEND_DELAY_MS
    noticed: Callable[[Sequence[Alert]], None] = lambda _alerts: None
    """Hears of alerts that have become pending, of which nobody is told yet."""
    analyse: Callable[[str, Analysis, int], Awaitable[Samples]] | None = None
    outage: alerting.Outage = field(default_factory=alerting.Outage)
    numbers: Numbers = field(default_factory=lambda: Numbers(0, own_number()))
    """Those of the records of alerts."""

    async def analysed(self, rule: Rule, at: int) -> Samples:
        """What the analysis of a rule's expression finds at a time (ms). Raises what its query raises, `BadInput` where nobody analyses."""
        assert rule.analysis is not None, "other rules are asked together"
        if self.analyse is None:
            raise BadInput(f"a rule of type {rule.analysis.kind} needs a server's history", hint="backtest it against one")
        return await self.analyse(rule.expr, rule.analysis, at)

    async def samples(self, expr: str, at: int) -> Samples:
        """An expression's result at a time (ms). Raises what the query raises, `BadInput` for a range vector or a string."""
        (answer,) = await self.ask([Standing(expr)], at)
        return samples_of(answer)


def samples_of(answer: Answer) -> Samples:
    """The elements of an answer. Raises what the query raised, `BadInput` for a range vector or a string."""
    result = answer.result()
    if result.type not in ("vector", "scalar"):
        raise BadInput("rule result is not a vector or scalar", hint=f"it is a {result.type}")
    if result.type == "vector" and not len(result):
        return ()
    table, values, _ = result.vector()
    found: list[tuple[Labels, Sample]] = list(zip(table, values.tolist(), strict=True))
    return [*found, *((labels, h) for labels, _, (h,) in result.histogram_rows())]


def _shown(value: Sample) -> float | str:
    """What templates see of a sample: a histogram is its text."""
    return text(value) if isinstance(value, Histogram) else value


def row_of(tenant: str, rule: str, alert: AlertState) -> RuleAlertRow:
    """The record of an alert."""
    return RuleAlertRow(
        tenant=tenant,
        seq=alert.number,
        rule=rule,
        labels=orjson.dumps(dict(alert.labels)).decode(),
        annotations=orjson.dumps(dict(alert.annotations)).decode(),
        state=alert.state,
        value=alert.value,
        active_at=alert.active_at,
        fired_at=alert.fired_at,
        resolved_at=alert.resolved_at,
        keep_firing_since=alert.keep_firing_since,
    )


def alert_of(row: RuleAlertRow) -> AlertState:
    """The alert of a record; it counts as not told yet, so its first evaluation tells it again."""
    assert row.state in ("inactive", "pending", "firing")
    return AlertState(
        labels=Labels.of(orjson.loads(row.labels)),
        annotations=Labels.of(orjson.loads(row.annotations)),
        value=row.value,
        state=row.state,  # type: ignore[arg-type]  # asserted above
        active_at=row.active_at,
        fired_at=row.fired_at,
        resolved_at=row.resolved_at,
        keep_firing_since=row.keep_firing_since,
        number=row.seq,
    )


@dataclass(slots=True)
class LiveRule:
    """A rule with what it remembers. `key` names it in the records; `written` are the series of its last evaluation.

    `asked` is its expression, with what the engine knows of it.
    """

    rule: Rule
    key: str
    states: dict[Labels, AlertState] = field(default_factory=dict)
    written: dict[Labels, None] = field(default_factory=dict)
    health: Health = "unknown"
    last_error: str = ""
    last_evaluation: float = 0.0
    evaluation_time: float = 0.0
    asked: Standing = field(init=False)
    restored: bool = False
    """Whether its states come from the records of a process before this one, and no evaluation has taken them up yet."""

    def __post_init__(self) -> None:
        self.asked = Standing(self.rule.expr)

    @property
    def writes(self) -> tuple[str, ...]:
        """The metrics that its evaluation may write."""
        return (self.rule.name,) if self.rule.kind == "recording" else ("ALERTS", "ALERTS_FOR_STATE")

    async def evaluate(self, answer: Answer | None, at: int, group: Group, around: Surroundings) -> Samples:
        """The samples to write for an evaluation at `at` (ms); `answer` is that to its expression, None where it is analysed."""
        result = samples_of(answer) if answer is not None else await around.analysed(self.rule, at - group.query_offset_ms)
        if self.rule.kind == "recording":
            return record(self.rule.name, self.rule.labels, result, limit=group.limit)
        if not result and not self.states:
            self.restored = False
            return ()
        if self.restored:
            await self._take_up(at, group, around)
        observed = await self._observe(result, at, group, around)
        await self._advance(observed, at, group, around)
        await self._tell(at, group, around)
        return list(alerting.series(self.rule.name, self.states))

    async def _take_up(self, at: int, group: Group, around: Surroundings) -> None:
        """Put right what was pending when the server went away, by when `ALERTS_FOR_STATE` was last written."""
        pending = [a for a in self.states.values() if a.state == "pending"]
        if pending and self.rule.hold_ms:
            window = format_duration(max(around.outage.tolerance_ms, 1000))
            step = format_duration(max(group.interval_ms, around.outage.tolerance_ms // 1000, 1))
            series = f"ALERTS_FOR_STATE{{{ALERT_NAME}={quote(self.rule.name)}}}"
            seen = dict(await around.samples(f"max_over_time(timestamp({series})[{window}:{step}])", at - group.query_offset_ms))
            changed = []
            for alert in pending:
                when = seen.get(alert.labels.without(METRIC_NAME))
                known = round(when * 1000) + group.query_offset_ms if isinstance(when, float) else None
                new = alerting.taken_up(alert, at, known, hold_ms=self.rule.hold_ms, interval_ms=group.interval_ms, outage=around.outage)
                if new is not alert:
                    changed.append(new)
            await around.records.save([row_of(around.tenant, self.key, a) for a in changed])
            self.states = {**self.states, **{a.labels: a for a in changed}}
        self.restored = False

    async def _observe(self, result: Samples, at: int, group: Group, around: Surroundings) -> list[Observed]:
        async def query(expr: str) -> list[tuple[Labels, float | str]]:
            return [(labels, _shown(value)) for labels, value in await around.samples(expr, at - group.query_offset_ms)]

        expander = Expander(query, at, around.external_labels, around.external_url)
        parts: dict[str, list[tuple[str, Any]]] = {"labels": [], "annotations": []}
        for name, template in self.rule.templates.items():
            part, _, label = name.partition(".")
            parts[part].append((label, template))
        found = []
        for element, value in result:
            labels = {n: await expander.expand(t, element, _shown(value)) for n, t in parts["labels"]}
            annotations = {n: await expander.expand(t, element, _shown(value)) for n, t in parts["annotations"]}
            own = element.without(METRIC_NAME).with_({**labels, ALERT_NAME: self.rule.name})
            # An alert has one number for its value, which a histogram has not: Prometheus says 0.
            found.append(Observed(own, Labels.of(annotations), 0.0 if isinstance(value, Histogram) else value))
        return found

    async def _advance(self, observed: list[Observed], at: int, group: Group, around: Surroundings) -> None:
        try:
            after, events = alerting.step(
                self.states, observed, at, hold_ms=self.rule.hold_ms, keep_firing_ms=self.rule.keep_firing_ms, limit=group.limit
            )
        except LimitExceeded:
            await around.records.save(drop=[row_of(around.tenant, self.key, a) for a in self.states.values()])
            self.states = {}
            raise
        changed = {e.alert.labels: e.alert for e in events}
        for labels in changed:
            if labels in after and not after[labels].number:
                after[labels] = replace(after[labels], number=around.numbers.take(at))
        put = [row_of(around.tenant, self.key, after[labels]) for labels in changed if labels in after]
        drop = [row_of(around.tenant, self.key, a) for labels, a in changed.items() if labels not in after]
        # Before anything acts on it: what was not committed has not happened, and the next evaluation finds it anew.
        await around.records.save(put, drop)
        self.states = after
        pending = [after[e.alert.labels] for e in events if e.change == "pending" and after[e.alert.labels].state == "pending"]
        if pending:
            around.noticed([Alert(a.labels, a.active_at, 0, a.annotations, "", a.value) for a in pending])

    async def _tell(self, at: int, group: Group, around: Surroundings) -> None:
        due = alerting.due(self.states, at, resend_ms=around.resend_ms)
        if not due:
            return
        url = around.external_url + graph_link(self.rule.shown, table=True)
        interval, resend = group.interval_ms, around.resend_ms
        await around.emit([alerting.announced(a, at, interval_ms=interval, resend_ms=resend, generator_url=url) for a in due])
        self.states = alerting.sent(self.states, due, at)

    def snapshot(self) -> RuleState:
        """The rule as it stands."""
        active: list[ActiveAlert] = []
        if self.states:
            active = [
                ActiveAlert(a.labels, a.annotations, a.state, a.active_at, a.value, a.keep_firing_since)
                for a in self.states.values()
                if a.state != "inactive"
            ]
        rule = self.rule
        return RuleState(
            kind=rule.kind,
            name=rule.name,
            expr=rule.shown,
            duration_ms=rule.hold_ms,
            keep_firing_for_ms=rule.keep_firing_ms,
            labels=rule.labels,
            annotations=rule.annotations,
            health=self.health,
            last_error=self.last_error,
            last_evaluation=self.last_evaluation,
            evaluation_time=self.evaluation_time,
            state=alerting.summary(self.states) if self.states else "inactive",
            alerts=active,
            analysis="" if rule.analysis is None else str(rule.analysis),
        )


@dataclass(slots=True)
class LiveGroup:
    """A group with its rules and counts."""

    group: Group
    rules: list[LiveRule]
    around: Surroundings
    runs: list[list[LiveRule]] | None = None
    shown: GroupState | None = None
    """How it stood at the last question, until its next evaluation."""
    evaluating: bool = False
    last_evaluation: float = 0.0
    evaluation_time: float = 0.0
    iterations: int = 0
    missed: int = 0
    failures: int = 0

    async def evaluate(self, at: int) -> None:
        """Evaluate all rules once, in order, as of `at` (ms). A rule that fails is marked and does not stop the others."""
        self.evaluating, self.shown = True, None
        try:
            await self._evaluate(at)
        finally:
            self.evaluating = False

    async def _evaluate(self, at: int) -> None:
        begun = time.perf_counter()
        for together in self._runs():
            # Analyses are not expressions that the engine answers: each asks by itself when its turn comes.
            asked = [live for live in together if live.rule.analysis is None]
            answers = await self.around.ask([live.asked for live in asked], at - self.group.query_offset_ms) if asked else ()
            by_rule = {id(live): answer for live, answer in zip(asked, answers, strict=True)}
            unwritten: list[tuple[LiveRule, Samples]] = []
            for live in together:
                started, answer = time.perf_counter(), by_rule.pop(id(live), None)
                try:
                    found = await live.evaluate(answer, at, self.group, self.around)
                except VedetteError as error:
                    self._failed(live, error)
                else:
                    live.health, live.last_error = "ok", ""
                    if found or live.written:
                        unwritten.append((live, found))
                asking = answer.seconds if answer is not None else 0.0
                live.last_evaluation, live.evaluation_time = at / 1000, time.perf_counter() - started + asking
            await self._write(unwritten, at)
        self.last_evaluation, self.evaluation_time = at / 1000, time.perf_counter() - begun
        self.iterations += 1

    def _runs(self) -> list[list[LiveRule]]:
        """The rules in order, in runs within which none reads what one before it writes: a rule sees what those before it wrote."""
        if self.runs is None:
            self.runs = []
            written: set[str] = set()
            for live in self.rules:
                reads = live.rule.reads
                if not self.runs or reads is None or not written.isdisjoint(reads) or len(self.runs[-1]) >= MOST_TOGETHER:
                    self.runs.append([])
                    written = set()
                self.runs[-1].append(live)
                written.update(live.writes)
        return self.runs

    async def _write(self, found: Sequence[tuple[LiveRule, Samples]], at: int) -> None:
        """Append the samples of some rules, and stale markers for series that they wrote before and no longer do."""
        series: list[Labels] = []
        values: list[Sample] = []
        for live, samples in found:
            now = dict.fromkeys(labels for labels, _ in samples)
            gone = [labels for labels in live.written if labels not in now]
            series += [*now, *gone]
            values += [*(value for _, value in samples), *([STALE] * len(gone))]
        if not series:
            return
        stamps = np.full(len(series), at - self.group.query_offset_ms, dtype=np.int64)
        try:
            await self.around.append(SampleBatch.of(self.around.keyspace, series, stamps, values))
        except VedetteError as error:
            for live, _ in found:
                self._failed(live, error)
            return
        for live, samples in found:
            live.written = dict.fromkeys(labels for labels, _ in samples)

    def _failed(self, live: LiveRule, error: VedetteError) -> None:
        self.failures += 1
        live.health, live.last_error = "err", str(error)
        log.warning("rule evaluation failed", group=self.group.name, rule=live.rule.name, error=str(error))

    def snapshot(self) -> GroupState:
        """The group as it stands; the same object again where nothing was evaluated since."""
        if self.shown is not None and (self.shown.missed, self.shown.failures) == (self.missed, self.failures):
            return self.shown
        shown = GroupState(
            name=self.group.name,
            file=self.group.file,
            interval_ms=self.group.interval_ms,
            limit=self.group.limit,
            last_evaluation=self.last_evaluation,
            evaluation_time=self.evaluation_time,
            rules=[r.snapshot() for r in self.rules],
            iterations=self.iterations,
            missed=self.missed,
            failures=self.failures,
        )
        if not self.evaluating:
            self.shown = shown
        return shown
