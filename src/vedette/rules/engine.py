"""The rules in force: groups applied, kept at work, changed under way, and shown.

State survives a change of the files where a rule keeps its name and labels, and a restart through the records. Not here:
where groups come from (`files.py`, `defaults.py`) and who is told (the `emit` that is handed in).
"""

from __future__ import annotations

import asyncio
import dataclasses
import itertools
from collections.abc import Awaitable, Callable, Iterable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import orjson
import structlog

from vedette.clock import Clock, now_ms
from vedette.errors import VedetteError
from vedette.model.alerts import Alert
from vedette.model.labels import Labels
from vedette.model.samples import STALE, SampleBatch, canonical
from vedette.model.tenants import DEFAULT_TENANT
from vedette.promql.standing import Answer, Standing
from vedette.records.numbers import Numbers, own_number
from vedette.records.rows import RuleAlertRow
from vedette.rules import alerting
from vedette.rules.evaluation import LiveGroup, LiveRule, Samples, Surroundings, alert_of, row_of
from vedette.rules.files import Group, Rule
from vedette.rules.scheduler import Ticker
from vedette.rules.state import GroupState, Tally
from vedette.rules.typed import Analysis

if TYPE_CHECKING:
    from vedette.records.database import Records

log = structlog.get_logger(__name__)


class Rules:
    """All groups of one tenant."""

    def __init__(
        self,
        ask: Callable[[Sequence[Standing], int], Awaitable[Sequence[Answer]]],
        append: Callable[[SampleBatch], Awaitable[Any]],
        emit: Callable[[Sequence[Alert]], Awaitable[None]],
        records: Records,
        clock: Clock,
        *,
        external_labels: Labels,
        external_url: str,
        tenant: str = DEFAULT_TENANT,
        resend_ms: int = alerting.RESEND_DELAY_MS,
        analyse: Callable[[str, Analysis, int], Awaitable[Samples]] | None = None,
        noticed: Callable[[Sequence[Alert]], None] = lambda _alerts: None,
        outage: alerting.Outage = alerting.Outage(),  # noqa: B008 - it is frozen
    ) -> None:
        self._around = Surroundings(
            ask=ask,
            append=append,
            emit=emit,
            records=records,
            tenant=tenant,
            keyspace=canonical(tenant),
            external_labels=external_labels,
            external_url=external_url.rstrip("/"),
            resend_ms=resend_ms,
            analyse=analyse,
            noticed=noticed,
            outage=outage,
        )
        self._clock = clock
        self._tickers: list[Ticker] = []
        self._restored = False
        self._applying = asyncio.Lock()

    async def apply(
        self,
        groups: Sequence[Group],
        *,
        external_labels: Labels | None = None,
        external_url: str | None = None,
        at_once: Callable[[Group], bool] = lambda _group: False,
    ) -> None:
        """Put `groups` in place of those in force, and what templates see of the outside where it is given.

        New and changed groups are first evaluated at their place in the interval, or now where `at_once` says so.

        A group that has not changed goes on undisturbed. A rule of a changed group keeps its alerts if the group's name and
        its own kind, name and labels are the same; alerts of rules that are gone are forgotten, their series marked stale.
        """
        async with self._applying:
            self._around = dataclasses.replace(
                self._around,
                external_labels=self._around.external_labels if external_labels is None else external_labels,
                external_url=self._around.external_url if external_url is None else external_url.rstrip("/"),
            )
            wanted = set(groups)
            unchanged = {t.live.group: t for t in self._tickers if t.live.group in wanted}
            ended = [t for t in self._tickers if t.live.group not in unchanged]
            await asyncio.gather(*(t.stop() for t in ended))
            memory = {r.key: r for t in ended for r in t.live.rules}
            if not self._restored:
                memory = await self._remembered()
                self._restored = True
            taken = {r.key for t in unchanged.values() for r in t.live.rules}
            tickers = [unchanged.get(g) or Ticker(self._live(g, memory, taken), self._clock) for g in groups]
            self._tickers = tickers
            for ticker in unchanged.values():
                ticker.live.around = self._around
            await self._forget(memory.values())
            for ticker in tickers:
                if ticker.live.group not in unchanged:
                    ticker.start(at_once=at_once(ticker.live.group))

    async def _remembered(self) -> dict[str, LiveRule]:
        """What the records remember, as rules that only have their states."""
        found: dict[str, LiveRule] = {}
        kept = await self._around.records.load(RuleAlertRow, tenant=self._around.tenant)
        newest = {(row.rule, row.labels): row for row in sorted(kept, key=lambda row: row.seq)}
        # Servers that share a database have a record each of an alert.
        await self._around.records.save(drop=[row for row in kept if newest[row.rule, row.labels] is not row])
        numbers = Numbers(max((row.seq for row in kept), default=0), own_number())
        self._around = dataclasses.replace(self._around, numbers=numbers)
        for row in newest.values():
            alert = alert_of(row)
            found.setdefault(row.rule, LiveRule(_UNKNOWN, row.rule, restored=True)).states[alert.labels] = alert
        return found

    def _live(self, group: Group, memory: dict[str, LiveRule], taken: set[str]) -> LiveGroup:
        """A group at work, its rules with what they remember, which is taken out of `memory`."""
        rules = []
        for rule in group.rules:
            key = next(k for n in itertools.count() if (k := _key(group, rule, n)) not in taken)
            taken.add(key)
            known = memory.pop(key, None)
            rules.append(LiveRule(rule, key) if known is None else dataclasses.replace(known, rule=rule))
        return LiveGroup(group, rules, self._around)

    async def _forget(self, ended: Iterable[LiveRule]) -> None:
        """Drop the records of rules that are gone, and mark the series stale that no rule still writes."""
        gone = list(ended)
        drop = [row_of(self._around.tenant, r.key, a) for r in gone for a in r.states.values()]
        await self._around.records.save(drop=drop)
        kept = {labels for t in self._tickers for r in t.live.rules for labels in r.written}
        await self._mark_stale([labels for r in gone for labels in r.written if labels not in kept])

    async def _mark_stale(self, series: list[Labels]) -> None:
        if not series:
            return
        stamps = np.full(len(series), now_ms(self._clock), dtype=np.int64)
        try:
            await self._around.append(SampleBatch.of(self._around.keyspace, series, stamps, np.full(len(series), STALE)))
        except VedetteError as error:
            # Without markers the series end by themselves five minutes later.
            log.warning("series of removed rules were not marked stale", count=len(series), error=str(error))

    async def evaluate(self, at: int) -> None:
        """Evaluate every group once, as of `at` (ms): what the loops do, for tests and for `backtest`."""
        for ticker in self._tickers:
            await ticker.evaluate(at)

    def groups(self) -> list[GroupState]:
        """All groups as they stand, in order of file and name."""
        return sorted((t.live.snapshot() for t in self._tickers), key=lambda g: (g.file, g.name))

    def tally(self) -> Tally:
        """All groups in figures; a hundredth of the cost of `groups`."""
        live = [t.live for t in self._tickers]
        states = [a.state for g in live for r in g.rules if r.states for a in r.states.values()]
        return Tally(
            groups=len(live),
            iterations=sum(g.iterations for g in live),
            missed=sum(g.missed for g in live),
            failures=sum(g.failures for g in live),
            pending=states.count("pending"),
            firing=states.count("firing"),
        )

    async def close(self) -> None:
        """Stop; evaluations under way end first."""
        await asyncio.gather(*(t.stop() for t in self._tickers))


_UNKNOWN = Rule(kind="alerting", name="", expr="")


def _key(group: Group, rule: Rule, occurrence: int) -> str:
    """What names a rule in the records: not its file, so that files may move; not its expression, so that it may be mended."""
    return orjson.dumps([group.name, rule.kind, rule.name, dict(rule.labels), occurrence]).decode()
