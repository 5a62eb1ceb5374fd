"""Rules by type: threshold, absence, anomaly, forecast. A few fields become an expression, or an analysis of one.

    threshold   metric > 90                              PromQL: a comparison
    absence     absent(metric), or each series for itself PromQL: absent, absent_over_time, last_over_time unless
    forecast    predict_linear(metric[6h], 4h) < 0        PromQL; with a `season` an analysis
    anomaly     further from its usual self than most     an analysis (`analysis/anomaly.py`)

What comes out is an ordinary rule for the one state machine. An analysis looks at the expression's values over a window
that ends at the evaluation, a grid of `step`. Pure; not here: reading files (`files.py`), queries (`evaluation.py`).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Literal, Protocol

import numpy as np
from numpy.typing import NDArray

from vedette.analysis.anomaly import FEWEST, THRESHOLD
from vedette.analysis.baseline import Baseline
from vedette.analysis.forecast import forecast
from vedette.errors import BadInput, LimitExceeded
from vedette.model.durations import format_duration
from vedette.model.labels import Labels
from vedette.promql.format import go_float
from vedette.promql.nodes import Aggregate, Call, Node, Paren, Selector, walk
from vedette.promql.parse import NO_FEATURES
from vedette.promql.parse import parse as parse_expr
from vedette.promql.settings import Features
from vedette.rules.aliases import expression_of

Kind = Literal["threshold", "absence", "anomaly", "forecast"]
KINDS: tuple[Kind, ...] = ("threshold", "absence", "anomaly", "forecast")

CONDITIONS: Mapping[str, str] = {
    "greater_than": ">",
    "less_than": "<",
    "greater_or_equal": ">=",
    "less_or_equal": "<=",
    "equal": "==",
    "not_equal": "!=",
}
"""Condition to PromQL's operator; both words are understood."""

_COMPARE: Mapping[str, Callable[[float, float], bool]] = {
    ">": lambda a, b: a > b,
    "<": lambda a, b: a < b,
    ">=": lambda a, b: a >= b,
    "<=": lambda a, b: a <= b,
    "==": lambda a, b: a == b,
    "!=": lambda a, b: a != b,
}

HOUR, DAY = 3_600_000, 86_400_000
MAX_STEPS = 4000
"""Most points of one series that an analysis looks at (as many as `analysis/trend.py` takes)."""
MAX_SERIES = 2000
"""Most series that one analysis looks at: each costs a millisecond or so."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Typed:
    """What a typed rule says, beyond what all rules do. Times in ms, 0 for the type's default."""

    kind: Kind
    metric: str
    condition: str = ""
    threshold: float | None = None
    window: int = 0
    ahead: int = 0
    season: int = 0
    step: int = 0
    each: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Analysis:
    """What is asked of an expression's values over `window` ms up to now, `step` ms apart; `season` 0 is none.

    anomaly: whether the last value is more than `threshold` robust standard deviations off, above (`>`), below (`<`) or
    either (`!=`). forecast: whether the value expected in `ahead` ms compares (`op`) with `threshold`.
    """

    kind: Literal["anomaly", "forecast"]
    window: int
    step: int
    threshold: float
    op: str
    season: int = 0
    ahead: int = 0

    @property
    def period(self) -> int:
        """The season in steps, 1 for none."""
        return max(1, round(self.season / self.step))

    def holds(self, values: NDArray[np.float64]) -> float | None:
        """The last of the values float64[n] (one a step; NaN where there is none) if it is to be alerted on, else None.

        For a forecast the value that is expected is given in its stead.
        """
        x = np.flatnonzero(np.isfinite(values)).astype(np.float64)
        if not len(values) or not math.isfinite(values[-1]):
            return None
        y = values[x.astype(np.int64)]
        if self.kind == "forecast":
            ahead = np.array([len(values) - 1 + self.ahead / self.step])
            found = forecast(x, y, ahead if self.period == 1 else np.round(ahead), period=self.period)
            if found is None:
                return None
            expected = float(found.value[0])
            return expected if _COMPARE[self.op](expected, self.threshold) else None
        if len(x) < FEWEST:
            return None
        usual = Baseline.of(x, y, self.period)
        off = float(y[-1] - usual.at(x[-1:])[0])
        if not usual.reach or abs(off) <= self.threshold * usual.reach:
            return None
        return float(y[-1]) if self.op == "!=" or (self.op == ">") == (off > 0) else None

    def __str__(self) -> str:
        season = f", season {format_duration(self.season)}" if self.season else ""
        over = f"over {format_duration(self.window)} in steps of {format_duration(self.step)}{season}"
        if self.kind == "forecast":
            return f"forecast: expected in {format_duration(self.ahead)} {self.op} {go_float(self.threshold)}, {over}"
        side = {">": "above", "<": "below", "!=": "off"}[self.op]
        return f"anomaly: more than {go_float(self.threshold)} robust standard deviations {side} what is usual {over}"


def operator(condition: str) -> str:
    """PromQL's operator of a condition (`greater_than` or `>`). Raises `BadInput`."""
    if condition in CONDITIONS.values():
        return condition
    if condition in CONDITIONS:
        return CONDITIONS[condition]
    raise BadInput(f"not a condition: {condition!r}", where="condition", hint="expected one of " + ", ".join(CONDITIONS))


def compiled(typed: Typed, *, features: Features = NO_FEATURES) -> tuple[str, Analysis | None]:
    """The expression of a typed rule, and the analysis of its values where PromQL cannot say it. Raises `BadInput` by field."""
    if not typed.metric.strip():
        raise BadInput("field required", where="metric", hint="a metric, an alias such as memory.usage_percent, or PromQL")
    expr = expression_of(typed.metric.strip())
    try:
        root = parse_expr(expr, features)
    except BadInput as error:
        raise BadInput(f"neither an alias, a metric nor PromQL: {error}", where="metric") from None
    if root.type not in ("vector", "scalar"):
        raise BadInput(f"a {root.type} has no one value to look at", where="metric", hint="expected an instant vector")
    if typed.threshold is not None and math.isnan(typed.threshold):
        raise BadInput("NaN compares with nothing", where="threshold")
    unwanted = {"season": typed.season, "step": typed.step} if typed.kind in ("threshold", "absence") else {}
    unwanted |= {"ahead": typed.ahead} if typed.kind != "forecast" else {}
    unwanted |= {"each": int(typed.each)} if typed.kind != "absence" else {}
    unwanted |= {"window": typed.window} if typed.kind == "threshold" else {}
    for name, value in unwanted.items():
        if value:
            raise BadInput(f"means nothing for a rule of type {typed.kind}", where=name)
    match typed.kind:
        case "threshold":
            if not typed.condition:
                raise BadInput("field required", where="condition", hint="expected one of " + ", ".join(CONDITIONS))
            if typed.threshold is None:
                raise BadInput("field required", where="threshold")
            return f"{_operand(root, expr)} {operator(typed.condition)} {go_float(typed.threshold)}", None
        case "absence":
            return _absence(typed, root, expr), None
        case "forecast":
            return _forecast(typed, root, expr)
        case "anomaly":
            return expr, _anomaly(typed)


def _operand(root: Node, expr: str) -> str:
    """The expression fit to stand beside an operator, as an argument, or before a range."""
    return expr if isinstance(root, Selector | Call | Aggregate | Paren) else f"({expr})"


def _ranged(root: Node, expr: str, window: int, step: int) -> str:
    """The expression over a window: a selector's own samples, or a subquery."""
    if isinstance(root, Selector) and not root.has_offset and root.at is None:
        return f"{expr}[{format_duration(window)}]"
    return f"{f'({expr})' if isinstance(root, Selector) else _operand(root, expr)}[{format_duration(window)}:{format_duration(step)}]"


def _absence(typed: Typed, root: Node, expr: str) -> str:
    for name in ("condition", "threshold"):
        if getattr(typed, name):
            raise BadInput("means nothing for a rule of type absence", where=name)
    if root.type != "vector":
        raise BadInput("a scalar is never absent", where="metric")
    if typed.each:
        window = typed.window or DAY
        return f"last_over_time({_ranged(root, expr, window, max(15_000, window // 1000))}) unless {_operand(root, expr)}"
    if typed.window:
        return f"absent_over_time({_ranged(root, expr, typed.window, max(15_000, typed.window // 100))})"
    return f"absent({expr})"


def _forecast(typed: Typed, root: Node, expr: str) -> tuple[str, Analysis | None]:
    ahead = typed.ahead or 4 * HOUR
    op = operator(typed.condition or "less_than")
    threshold = 0.0 if typed.threshold is None else typed.threshold
    if typed.season:
        window = typed.window or max(4 * typed.season, ahead)
        return expr, _checked(Analysis(kind="forecast", **_grid(typed, window), threshold=threshold, op=op, ahead=ahead))
    if typed.step:
        raise BadInput("means nothing for a forecast without a season", where="step")
    window = typed.window or min(max(ahead, HOUR), DAY)
    line = f"predict_linear({_ranged(root, expr, window, max(15_000, window // 120))}, {go_float(ahead / 1000)})"
    return f"{line} {op} {go_float(threshold)}", None


def _anomaly(typed: Typed) -> Analysis:
    side = operator(typed.condition) if typed.condition else "!="
    sides = {">": ">", ">=": ">", "<": "<", "<=": "<", "!=": "!="}
    if side not in sides:
        hint = "greater_than: only above what is usual; less_than: only below; not_equal: either"
        raise BadInput(f"an anomaly is never {typed.condition}", where="condition", hint=hint)
    threshold = THRESHOLD if typed.threshold is None else typed.threshold
    if threshold <= 0:
        raise BadInput(f"{threshold:g} standard deviations", where="threshold", hint="expected more than 0; 3.5 is usual")
    window = typed.window or max(DAY, 4 * typed.season)
    return _checked(Analysis(kind="anomaly", **_grid(typed, window), threshold=threshold, op=sides[side]))


def _grid(typed: Typed, window: int) -> dict[str, int]:
    step = typed.step or max(15_000, window // 288 // 15_000 * 15_000)
    return {"window": window, "step": step, "season": typed.season}


def _checked(found: Analysis) -> Analysis:
    if found.window // found.step > MAX_STEPS:
        raise BadInput(f"{found.window // found.step} steps in a window", where="step", hint=f"at most {MAX_STEPS}: choose a larger step")
    if found.window < FEWEST * found.step:
        raise BadInput("too short to tell what is usual", where="window", hint=f"at least {FEWEST} steps of {format_duration(found.step)}")
    if found.season and (found.season < 2 * found.step or found.season % found.step):
        raise BadInput("not a whole number of steps", where="season", hint=f"at least 2 of {format_duration(found.step)}")
    if found.season and found.window < 2 * found.season:
        raise BadInput("shorter than two seasons", where="window", hint=f"at least {format_duration(2 * found.season)}")
    return found


class Ranged(Protocol):
    """What an analysis needs of a range query's answer."""

    def rows(self) -> list[tuple[Labels, NDArray[np.int64], NDArray[np.float64]]]:
        """Each series with its times (ms, all on the query's steps) and values."""
        ...


def analysed(query_range: Callable[[str, int, int, int], Ranged], expr: str, analysis: Analysis, at: int) -> list[tuple[Labels, float]]:
    """The series that an analysis alerts on at a time (ms), with their values. `query_range` takes expression, start, end, step.

    Blocks. Raises what the query raises, and `LimitExceeded` for more than `MAX_SERIES` series.
    """
    count = analysis.window // analysis.step + 1
    first = at - (count - 1) * analysis.step
    rows = query_range(expr, first, at, analysis.step).rows()
    if len(rows) > MAX_SERIES:
        raise LimitExceeded(f"an analysis of {len(rows)} series: at most {MAX_SERIES}, so aggregate or select fewer")
    found = []
    for labels, times, values in rows:
        value = analysis.holds(on_grid(times, values, first, analysis.step, count))
        if value is not None:
            found.append((labels, value))
    return found


def on_grid(times: NDArray[np.int64], values: NDArray[np.float64], first: int, step: int, count: int) -> NDArray[np.float64]:
    """The values at `first`, `first + step`, … (ms): float64[count], NaN where there is none."""
    out = np.full(count, np.nan)
    out[(times - first) // step] = values
    return out


def names_read(root: Node) -> list[str]:
    """The metric names that an expression selects by name, sorted."""
    return sorted({node.name for node in walk(root) if isinstance(node, Selector) and node.name})
