"""Rule unit tests: rules run over series written by hand, alerts and queries compared with what is expected.

What `promtool test rules` does, with its verdicts. Each group of tests has a storage in memory of its own, its rules are
evaluated as the server evaluates them, and time is a number. Not here: reading the files (`unittestfile.py`), printing.
"""

from __future__ import annotations

import difflib
import math
from collections.abc import Sequence
from dataclasses import dataclass

from vedette.clock import SystemClock
from vedette.errors import BadInput, VedetteError
from vedette.model.alerts import ALERT_NAME, Alert
from vedette.model.durations import format_duration
from vedette.model.labels import EMPTY, Labels, is_legacy_label_name, quote
from vedette.model.samples import SampleBatch, canonical
from vedette.model.tenants import DEFAULT_TENANT
from vedette.promql.engine import Engine
from vedette.promql.format import go_float, go_scientific
from vedette.promql.lexer import quoted
from vedette.promql.memory import MemoryStorage
from vedette.promql.native_render import literal, text
from vedette.promql.parse import NO_FEATURES
from vedette.promql.result import QueryResult
from vedette.promql.seriesnotation import HistogramLiteral, SeriesLine, parse_items, parse_labels
from vedette.promql.settings import Features, PromqlSettings
from vedette.promql.standing import Answer, Standing
from vedette.records.rows import RuleAlertRow
from vedette.rules.evaluation import LiveGroup, LiveRule, Surroundings
from vedette.rules.files import Group
from vedette.rules.typed import Analysis, analysed
from vedette.rules.unittestfile import AlertTest, ExpectedSample, ExprTest, InputSeries, TestFile, TestGroup


class _Forgetful:
    """A ledger of nothing: a unit test is over before a state would be read back."""

    async def load(self, kind: type[RuleAlertRow], **equal: str) -> list[RuleAlertRow]:
        return []

    async def save(self, put: Sequence[RuleAlertRow] = (), drop: Sequence[RuleAlertRow] = ()) -> None:
        pass


@dataclass(frozen=True, slots=True)
class Verdict:
    """How one group of tests came out: what failed, nothing where it passed."""

    name: str
    failures: tuple[str, ...]
    dump: str = ""
    """All that was stored in the end, where that was asked for."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Manner:
    """How tests are run: what expressions may use, and what is told (`diff`: only where alerts differ; `debug`: all that was stored)."""

    features: Features = NO_FEATURES
    delayed_name_removal: bool = False
    diff: bool = False
    debug: bool = False


async def run(file: TestFile, rules: Sequence[Group], test: TestGroup, *, manner: Manner | None = None) -> Verdict:
    """Run one group of tests of a file with the file's rules."""
    manner = manner or Manner()
    try:
        world = _World(file, rules, test, manner)
    except BadInput as error:
        return Verdict(test.name, (str(error),))
    try:
        failures = tuple(await world.failures())
        return Verdict(test.name, failures, world.dump() if manner.debug else "")
    finally:
        world.close()


class _World:
    """Everything around the rules of one group of tests; times are Unix ms."""

    def __init__(self, file: TestFile, rules: Sequence[Group], test: TestGroup, manner: Manner) -> None:
        for case in test.alert_rule_test:
            if not case.alertname:
                inside = f" (in TestGroup {test.name})" if test.name else ""
                at = format_duration(case.eval_time)
                raise BadInput(f"an item under alert_rule_test misses required attribute alertname at eval_time {at}{inside}")
        self._file = file
        self._test = test
        self._diff = manner.diff
        features = manner.features
        self._start = test.start_timestamp
        self._interval = test.interval or file.evaluation_interval
        self._series = list({line.labels: line for line in map(_line, test.input_series)}.values())
        self._fed = 0
        self._storage = MemoryStorage()
        settings = PromqlSettings(
            default_subquery_step_ms=file.evaluation_interval,
            experimental_functions=features.experimental_functions,
            extended_range_selectors=features.extended_range_selectors,
            binop_fill_modifiers=features.fill_modifiers,
            duration_expr=features.duration_expr,
            delayed_name_removal=manner.delayed_name_removal,
            kernel_threads=1,
        )
        self._engine = Engine(self._storage, settings, SystemClock())
        around = Surroundings(
            ask=self._ask,
            append=self._append,
            emit=self._emit,
            records=_Forgetful(),
            tenant=DEFAULT_TENANT,
            keyspace=canonical(DEFAULT_TENANT),
            external_labels=Labels.of(test.external_labels),
            external_url=test.external_url,
            analyse=self._analyse,
        )
        order = {name: i for i, name in enumerate(file.group_eval_order)}
        ordered = sorted(rules, key=lambda g: order.get(g.name, 0))
        self._groups = [LiveGroup(g, [LiveRule(r, "") for r in g.rules], around) for g in ordered]

    def close(self) -> None:
        self._engine.close()

    async def _ask(self, asked: Sequence[Standing], at: int) -> list[Answer]:
        return self._engine.instants(DEFAULT_TENANT, asked, at)

    async def _analyse(self, expr: str, analysis: Analysis, at: int) -> list[tuple[Labels, float]]:
        def query_range(text: str, start: int, end: int, step: int) -> QueryResult:
            return self._engine.range(DEFAULT_TENANT, text, start, end, step)

        return analysed(query_range, expr, analysis, at)

    async def _append(self, batch: SampleBatch) -> None:
        for i in range(batch.series_count):
            labels = batch.keyspace.resolve(bytes(batch.buffer[batch.key_start[i] : batch.key_end[i]]))
            assert labels is not None, "rules write canonical keys"
            self._storage.add(labels, int(batch.timestamps[i]), float(batch.values[i]))

    async def _emit(self, alerts: Sequence[Alert]) -> None:
        pass

    def _feed(self, until: int) -> None:
        """Store the samples of the input series up to `until` (inclusive)."""
        longest = max((len(line.items) for line in self._series), default=0)
        count = min(longest, max(0, until - self._start) // self._interval + 1)
        for line in self._series:
            for i in range(self._fed, min(count, len(line.items))):
                item = line.items[i]
                if item is not None:
                    value = item if isinstance(item, float) else item.histogram
                    self._storage.add(line.labels, self._start + i * self._interval, value)
        self._fed = max(self._fed, count)

    async def failures(self) -> list[str]:
        """What did not come out as expected. An error of a rule ends the group's test."""
        found: list[str] = []
        waiting = sorted(self._test.alert_rule_test, key=lambda t: t.eval_time)
        step = self._file.evaluation_interval
        for since in range(0, self._test.last_ms() + 1, step):
            self._feed(self._start + since)
            if errors := await self._evaluate(since):
                return found + errors
            while waiting and waiting[0].eval_time < since + step:
                found += self._alerts(waiting.pop(0))
        # As in promtool, what comes after the last evaluation of rules is not there yet.
        for case in self._test.promql_expr_test:
            found += self._samples(case)
        return found

    async def _evaluate(self, since: int) -> list[str]:
        errors: list[str] = []
        at = go_duration(self._start + since)
        for group in self._groups:
            await group.evaluate(self._start + since)
            errors += (f"    rule: {r.rule.name}, time: {at}, err: {r.last_error}" for r in group.rules if r.health == "err")
        return errors

    def _alerts(self, case: AlertTest) -> list[str]:
        got = sorted(
            (alert.labels, alert.annotations)
            for group in self._groups
            for rule in group.rules
            if rule.rule.kind == "alerting" and rule.rule.name == case.alertname
            for alert in rule.states.values()
            if alert.state == "firing"
        )
        wanted = sorted(
            (Labels.of({**alert.exp_labels, ALERT_NAME: case.alertname}), Labels.of(alert.exp_annotations)) for alert in case.exp_alerts
        )
        if got == wanted:
            return []
        named = f"    name: {self._test.name},\n" if self._test.name else ""
        head = f"{named}    alertname: {case.alertname}, time: {format_duration(case.eval_time)}, "
        if self._diff:
            return [f"{head}\n        diff:{_difference(_alerts_text(wanted), _alerts_text(got))}"]
        return [f"{head}\n        exp:{_alerts_text(wanted)}, \n        got:{_alerts_text(got)}"]

    def _samples(self, case: ExprTest) -> list[str]:
        head = f"    expr: {quoted(case.expr)}, time: {format_duration(case.eval_time)},"
        try:
            result = self._engine.instant(DEFAULT_TENANT, case.expr, self._start + case.eval_time)
            if result.type not in ("vector", "scalar"):
                raise BadInput("rule result is not a vector or scalar")
            wanted = sorted(map(_expected, case.exp_samples), key=lambda s: s[0])
        except VedetteError as error:
            return [f"{head} err: {error}"]
        samples: list[tuple[Labels, float | str]] = [(labels, float(values[0])) for labels, _, values in result.rows()]
        samples += [(labels, literal(histograms[0])) for labels, _, histograms in result.histogram_rows()]
        got = sorted(samples, key=lambda s: s[0])
        same = len(got) == len(wanted) and all(
            a == b and _same(x, y, fuzzy=self._file.fuzzy_compare) for (a, x), (b, y) in zip(got, wanted, strict=True)
        )
        return [] if same else [f"{head}\n        exp: {_samples_text(wanted)}\n        got: {_samples_text(got)}"]

    def dump(self) -> str:
        """All that is stored once the tests have run, as promtool's `--debug` tells it."""
        until = (self._test.last_ms() // 1000 + 1) * 1000
        result = self._engine.instant(DEFAULT_TENANT, f'{{__name__=~".+"}}[{until // 1000}s]', self._start + until)
        floats = {labels: list(zip(times.tolist(), map(go_float, values.tolist()), strict=True)) for labels, times, values in result.rows()}
        for labels, times, histograms in result.histogram_rows():
            floats.setdefault(labels, []).extend(zip(times.tolist(), map(text, histograms), strict=True))
        lines = [f"DEBUG: Dump of all data (input_series and rules) at {go_duration(until)}:"]
        for labels in sorted(floats):
            lines += (f"{labels} =>", *(f"{value} @[{time}]" for time, value in sorted(floats[labels])))
        return "\n".join(lines)


def _line(given: InputSeries) -> SeriesLine:
    try:
        return SeriesLine(parse_labels(given.series), parse_items(given.values))
    except BadInput as error:
        raise BadInput(error.problem, where=f"input series {given.series!r}", hint=error.hint) from None


def _expected_labels(text: str) -> Labels:
    return parse_labels(text) if text.strip() else EMPTY


def _expected(given: ExpectedSample) -> tuple[Labels, float | str]:
    """The labels and the value that a query must give; of a histogram as it is written."""
    try:
        labels = _expected_labels(given.labels)
    except BadInput as error:
        raise BadInput(f"labels {quoted(given.labels)}: {error}") from None
    if not given.histogram:
        return labels, given.value
    items = parse_items(given.histogram)
    if len(items) != 1 or not isinstance(items[0], HistogramLiteral):
        raise BadInput(f"not a histogram: {given.histogram!r}", hint="expected one {{…}}")
    return labels, literal(items[0].histogram)


def _same(a: float | str, b: float | str, *, fuzzy: bool) -> bool:
    """Exactly equal; floats, with `fuzzy`, also next to one another. NaN equals nothing."""
    if isinstance(a, str) or isinstance(b, str):
        return a == b
    return a == b or (fuzzy and math.nextafter(a, b) == b)


def _braced(labels: Labels) -> str:
    """Labels as Go prints them: the name is one like others."""
    return "{" + ", ".join(f"{n if is_legacy_label_name(n) else quote(n)}={quote(v)}" for n, v in labels) + "}"


def _samples_text(samples: Sequence[tuple[Labels, float | str]]) -> str:
    def shown(value: float | str) -> str:
        return value if isinstance(value, str) else go_scientific(value)

    return ", ".join(f"{_braced(labels)} {shown(value)}" for labels, value in samples) or "nil"


_INDENT = " " * 12


def _alerts_text(alerts: Sequence[tuple[Labels, Labels]]) -> str:
    if not alerts:
        return "[]"
    told = (f"{i}:\n  Labels:{_braced(labels)}\n  Annotations:{_braced(notes)}" for i, (labels, notes) in enumerate(alerts))
    return ("[\n" + ",\n".join(told) + "\n]").replace("\n", f"\n{_INDENT}")


def _difference(wanted: str, got: str) -> str:
    """Line by line, what was expected behind a minus and what came behind a plus."""
    before, after = (text.replace(f"\n{_INDENT}", "\n").split("\n") for text in (wanted, got))
    lines = difflib.ndiff(before, after)
    return "".join(f"\n{_INDENT}{line.rstrip()}" for line in lines if not line.startswith("?"))


def go_duration(ms: int) -> str:
    """A length of time as Go prints one: `1h2m0s`, `1.5s`, `10ms`."""
    if abs(ms) < 1000:
        return f"{ms}ms" if ms else "0s"
    minutes, rest = divmod(abs(ms), 60_000)
    hours, minutes = divmod(minutes, 60)
    head = f"{hours}h{minutes}m" if hours else f"{minutes}m" if minutes else ""
    return f"{'-' if ms < 0 else ''}{head}{rest / 1000:g}s"
