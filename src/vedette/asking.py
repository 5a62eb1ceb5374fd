"""How the rooms that stand beside queries ask them: rules, notifications' plots, live values, backtests; off the loop, by tenant.

Not here: the engine itself (`promql`), queries that come over HTTP (`api.prometheus`).
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from vedette.clock import Clock, now_ms
from vedette.errors import BadInput
from vedette.model.labels import METRIC_NAME, Labels
from vedette.model.tenants import DEFAULT_TENANT
from vedette.promql.engine import Engine
from vedette.promql.result import QueryResult
from vedette.promql.standing import Answer, Standing
from vedette.rules.template import Answers
from vedette.rules.typed import Analysis, analysed
from vedette.settings import VedetteSection

if TYPE_CHECKING:
    from vedette.notify.plotted import Rows

_HOUR_MS = 3_600_000


def engine_of(room: VedetteSection, storage: Any, clock: Clock) -> Engine:
    """What answers queries: our own engine, or the server that has the samples."""
    if room.storage.backend == "remote":
        from vedette.promql.pushdown import Pushdown

        return Pushdown(storage, room.promql, clock)
    return Engine(storage, room.promql, clock)


@dataclass(frozen=True, slots=True)
class History:
    """What is stored of one tenant, as backtests read it; blocks."""

    engine: Engine
    tenant: str

    def range(self, expr: str, start: int, end: int, step: int) -> QueryResult:
        """The values from `start` to `end`, a `step` apart (Unix ms, ms)."""
        return self.engine.range(self.tenant, expr, start, end, step)

    def instant(self, expr: str, at: int) -> Answers:
        """The values at a time. Raises `BadInput` for what is neither vector nor scalar."""
        result = self.engine.instant(self.tenant, expr, at)
        if result.type not in ("vector", "scalar"):
            raise BadInput("a template's query gives no vector or scalar", hint=f"it is a {result.type}")
        return [(labels, float(values[-1])) for labels, _, values in result.rows()]


@dataclass(frozen=True, slots=True)
class Asking:
    """Questions to `engine` on the threads of `run`; times in Unix ms."""

    engine: Engine
    storage: Any
    run: Callable[..., Awaitable[Any]]
    clock: Clock

    async def metrics(self, tenant: str) -> Sequence[str]:
        """The names of a tenant's metrics of the last hour."""
        now = now_ms(self.clock)
        names: Sequence[str] = await self.run(self.storage.label_values, tenant, METRIC_NAME, [], now - _HOUR_MS, now)
        return names

    async def evaluate(self, tenant: str, expr: str, time_ms: int) -> QueryResult:
        """One expression at a time."""
        result: QueryResult = await self.run(self.engine.instant, tenant, expr, time_ms)
        return result

    async def ask(self, tenant: str, asked: Sequence[Standing], time_ms: int) -> list[Answer]:
        """Many standing expressions at a time, an answer to each."""
        answers: list[Answer] = await self.run(self.engine.instants, tenant, asked, time_ms)
        return answers

    async def analyse(self, tenant: str, expr: str, analysis: Analysis, time_ms: int) -> list[tuple[Labels, float]]:
        """What an analysis makes of an expression's past."""

        def query_range(text: str, start: int, end: int, step: int) -> QueryResult:
            return self.engine.range(tenant, text, start, end, step)

        found: list[tuple[Labels, float]] = await self.run(analysed, query_range, expr, analysis, time_ms)
        return found

    async def plotted(self, expr: str, start: int, end: int, step: int) -> Rows:
        """The rows of a plot, of the default tenant."""
        result: QueryResult = await self.run(self.engine.range, DEFAULT_TENANT, expr, start, end, step)
        rows: Rows = await self.run(result.rows)
        return rows
