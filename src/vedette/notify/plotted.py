"""What a mail shows of an alert: the expression of its rule over the last hour, with the threshold that was crossed.

The expression is in the link that an alert of ours carries; of `a > 5`, `a` is drawn, and 5 as a line. A picture is never worth a
notification: whatever goes wrong here is logged, and the mail goes without.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from urllib.parse import parse_qs, urlsplit

import numpy as np
import structlog
from numpy.typing import NDArray

from vedette.errors import VedetteError
from vedette.model.alerts import Alert
from vedette.model.labels import METRIC_NAME, Labels
from vedette.notify.notice import Notice
from vedette.notify.picture import Line, png
from vedette.promql.nodes import Binary, Number, Paren
from vedette.promql.parse import parse
from vedette.promql.printer import to_text

log = structlog.get_logger(__name__)

SPAN_MS = 3_600_000
MAX_SPAN_MS = 24 * 3_600_000
POINTS = 240
MAX_LINES = 5
DEADLINE_S = 5.0
_COMPARISONS = frozenset((">", "<", ">=", "<=", "==", "!="))

Rows = Sequence[tuple[Labels, NDArray[np.int64], NDArray[np.float64]]]
Ask = Callable[[str, int, int, int], Awaitable[Rows]]
"""Asks an expression from a time to another by a step (all ms): labels, times (ms) and values of each series."""


def expression_of(alert: Alert, external_url: str) -> str:
    """The expression of the rule that raised an alert, "" where it was not one of ours."""
    if not alert.generator_url.startswith(external_url.rstrip("/") + "/graph?"):
        return ""
    return parse_qs(urlsplit(alert.generator_url).query).get("g0.expr", [""])[0]


def split(expression: str) -> tuple[str, float | None]:
    """What is to be drawn of an expression, and the threshold it is held against. Raises `BadInput`."""
    root = parse(expression)
    while isinstance(root, Paren):
        root = root.expr
    if isinstance(root, Binary) and root.op in _COMPARISONS and isinstance(root.rhs, Number):
        return to_text(root.lhs), root.rhs.value
    return expression, None


def chosen(rows: Rows, labels: Labels) -> list[Line]:
    """The series that are the alert's, or, where none is for certain, the first few."""
    known = dict(labels)
    own = [r for r in rows if all(known.get(n) == v for n, v in r[0] if n != METRIC_NAME)]
    return [Line(times, values) for _, times, values in (own or rows)[:MAX_LINES]]


@dataclass(frozen=True, slots=True)
class Plotter:
    """Draws notices."""

    ask: Ask
    external_url: str

    async def __call__(self, notice: Notice) -> bytes | None:
        """A PNG about the first alert that has an expression, None where there is nothing to show."""
        found = next(((a, e) for a in notice.alerts if (e := expression_of(a, self.external_url))), None)
        if found is None:
            return None
        alert, expression = found
        try:
            async with asyncio.timeout(DEADLINE_S):
                return await self._drawn(alert, expression, notice.now)
        except (VedetteError, TimeoutError) as error:
            log.warning("a mail goes without its plot", expression=expression[:200], reason=str(error) or "it took too long")
            return None

    async def _drawn(self, alert: Alert, expression: str, now: int) -> bytes | None:
        span = min(max(SPAN_MS, 2 * (now - alert.starts_at)), MAX_SPAN_MS)
        step = max(1000, span // POINTS)
        wanted, threshold = split(expression)
        rows = await self.ask(wanted, now - span, now, step)
        lines = [_gapped(line, step) for line in chosen(rows, alert.labels)]
        return await asyncio.to_thread(png, lines, start=now - span, end=now, threshold=threshold)


def _gapped(line: Line, step: int) -> Line:
    """The line with a NaN where steps are missing, so that nothing is drawn there."""
    holes = np.flatnonzero(np.diff(line.times) > step * 3 // 2) + 1
    return Line(np.insert(line.times, holes, line.times[holes - 1] + step), np.insert(line.values, holes, np.nan))
