"""The slow engine's further functions: numbers, labels, times and windows, one value at a time."""

from __future__ import annotations

import calendar
import math
import re
import statistics
from collections.abc import Callable
from datetime import UTC, datetime

from vedette.model.labels import Labels

Point = tuple[int, float]


def guarded(function: Callable[[float], float]) -> Callable[[float], float]:
    """NaN and infinities where Python raises, as IEEE arithmetic has it."""

    def safe(v: float) -> float:
        try:
            return function(v)
        except ValueError:
            return math.nan
        except OverflowError:
            return math.inf

    return safe


def logarithm(function: Callable[[float], float]) -> Callable[[float], float]:
    return guarded(lambda v: -math.inf if v == 0 else function(v))


def round_to(v: float, nearest: float = 1.0) -> float:
    inverse = 1.0 / nearest
    return math.floor(v * inverse + 0.5) / inverse if math.isfinite(v) else v


OF_NUMBERS: dict[str, Callable[[float], float]] = {
    "sqrt": guarded(math.sqrt),
    "exp": guarded(math.exp),
    "ln": logarithm(math.log),
    "log2": logarithm(math.log2),
    "log10": logarithm(math.log10),
    "sin": guarded(math.sin),
    "cosh": guarded(math.cosh),
    "atan": guarded(math.atan),
    "acos": guarded(math.acos),
    "deg": math.degrees,
    "rad": math.radians,
}


def of_date(name: str, seconds: float) -> float:
    when = datetime.fromtimestamp(seconds, UTC)
    return float(
        {
            "minute": when.minute,
            "hour": when.hour,
            "day_of_week": when.isoweekday() % 7,
            "day_of_month": when.day,
            "day_of_year": when.timetuple().tm_yday,
            "days_in_month": calendar.monthrange(when.year, when.month)[1],
            "month": when.month,
            "year": when.year,
        }[name]
    )


def clamp(v: float, low: float, high: float) -> float:
    return v if math.isnan(v) else max(low, min(high, v))


def replaced(labels: Labels, target: str, replacement: str, source: str, pattern: str) -> Labels:
    match = re.fullmatch(pattern, labels.get(source))
    if match is None:
        return labels
    text = re.sub(r"\$(\d)", lambda g: (match[int(g[1])] or "") if int(g[1]) <= match.re.groups else "", replacement)
    return labels.with_({target: text})


def joined(labels: Labels, target: str, separator: str, *sources: str) -> Labels:
    return labels.with_({target: separator.join(labels.get(s) for s in sources)})


def line(points: list[Point], origin: int) -> tuple[float, float]:
    """Slope per second and value at `origin`, by the textbook."""
    if len({v for _, v in points}) == 1:
        return 0.0, points[0][1]
    xs, ys = [(t - origin) / 1000 for t, _ in points], [v for _, v in points]
    slope, intercept = statistics.linear_regression(xs, ys)
    return slope, intercept


def smoothed(values: list[float], factor: float, trend_factor: float) -> float:
    level, trend = values[0], values[1] - values[0]
    before = level
    for i, v in enumerate(values[1:], 1):
        if i > 1:
            trend = trend_factor * (level - before) + (1 - trend_factor) * trend
        before, level = level, factor * v + (1 - factor) * (level + trend)
    return level


def of_window(name: str, points: list[Point], at: int, params: list[float]) -> float | None:
    """A function of one window at evaluation time `at` (ms), None where it gives nothing."""
    values = [v for _, v in points]
    match name:
        case "deriv":
            return line(points, points[0][0])[0] if len(points) > 1 else None
        case "predict_linear":
            if len(points) < 2:
                return None
            slope, intercept = line(points, at)
            return slope * params[0] + intercept
        case "double_exponential_smoothing":
            return smoothed(values, *params) if len(points) > 1 else None
        case "stddev_over_time":
            return statistics.pstdev(values)
        case "mad_over_time":
            middle = statistics.median(values)
            return statistics.median([abs(v - middle) for v in values])
        case "ts_of_first_over_time":
            return points[0][0] / 1000
        case "ts_of_last_over_time":
            return points[-1][0] / 1000
        case "ts_of_max_over_time":
            return max(t for t, v in points if v == max(values)) / 1000
    assert name == "ts_of_min_over_time", name
    return max(t for t, v in points if v == min(values)) / 1000
