"""A second, slow engine: one step, one series, one number at a time, written from the language's description.

It evaluates the core of PromQL on the syntax tree and shares nothing with the fast engine but that tree.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable

from vedette.model.labels import METRIC_NAME, Labels
from vedette.model.matchers import match_labels
from vedette.model.samples import STALE_BITS
from vedette.promql.memory import MemoryStorage
from vedette.promql.nodes import Aggregate, Binary, Call, Node, Number, Paren, Range, Selector, Subquery, Unary

Vector = dict[Labels, float]
Point = tuple[int, float]

LOOKBACK = 300_000


class Refused(Exception):
    """The query has no answer here."""


def stale(value: float) -> bool:
    import struct

    return struct.unpack("<Q", struct.pack("<d", value))[0] == STALE_BITS


class Naive:
    """Evaluates trees over a memory storage."""

    def __init__(self, storage: MemoryStorage, start: int, end: int) -> None:
        self.storage = storage
        self.start = start
        self.end = end

    def time(self, node: Selector | Subquery, t: int) -> int:
        at = {"start": self.start, "end": self.end}.get(node.at, node.at) if isinstance(node.at, str) else node.at
        return (t if at is None else at) - node.offset

    def points(self, selector: Selector) -> dict[Labels, list[Point]]:
        return {
            labels: sorted(points.items()) for labels, points in self.storage.samples.items() if match_labels(selector.matchers, labels)
        }

    def window(self, node: Node, t: int) -> dict[Labels, list[Point]]:
        if isinstance(node, Range):
            end = self.time(node.selector, t)
            found = {
                labels: [(x, v) for x, v in points if end - node.range < x <= end and not stale(v)]
                for labels, points in self.points(node.selector).items()
            }
        else:
            assert isinstance(node, Subquery)
            end, step = self.time(node, t), node.step or 60_000
            found = {}
            x = (end - node.range) // step * step + step
            while x <= end:
                inner = self.eval(node.expr, x)
                assert isinstance(inner, dict)
                for labels, value in inner.items():
                    found.setdefault(labels, []).append((x, value))
                x += step
        return {labels: points for labels, points in found.items() if points}

    def eval(self, node: Node, t: int) -> Vector | float:
        if isinstance(node, Number):
            return node.value
        if isinstance(node, Paren):
            return self.eval(node.expr, t)
        if isinstance(node, Unary):
            value = self.eval(node.expr, t)
            if node.op == "+":
                return value
            return -value if isinstance(value, float) else unique([(nameless(k), -v) for k, v in value.items()])
        if isinstance(node, Selector):
            now = self.time(node, t)
            out = {}
            for labels, points in self.points(node).items():
                before = [(x, v) for x, v in points if x <= now]
                if before and before[-1][0] > now - LOOKBACK and not stale(before[-1][1]):
                    out[labels] = before[-1][1]
            return out
        if isinstance(node, Call):
            return self.call(node, t)
        if isinstance(node, Aggregate):
            return self.aggregate(node, t)
        assert isinstance(node, Binary)
        return self.binary(node, self.eval(node.lhs, t), self.eval(node.rhs, t))

    def call(self, node: Call, t: int) -> Vector:
        name = node.func.name
        if name in ("abs", "ceil", "floor", "sgn"):
            value = self.eval(node.args[0], t)
            assert isinstance(value, dict)
            simple: dict[str, Callable[[float], float]] = {
                "abs": abs,
                "ceil": lambda v: v if not math.isfinite(v) else float(math.ceil(v)),
                "floor": lambda v: v if not math.isfinite(v) else float(math.floor(v)),
                "sgn": lambda v: 1.0 if v > 0 else -1.0 if v < 0 else v,
            }
            return unique([(nameless(k), simple[name](v)) for k, v in value.items()])
        arg = node.args[-1]
        window = self.window(arg, t)
        target = arg.selector if isinstance(arg, Range) else arg
        assert isinstance(target, (Selector, Subquery)) and isinstance(arg, (Range, Subquery))
        end = self.time(target, t)
        param = self.eval(node.args[0], t) if len(node.args) > 1 else 0.0
        assert isinstance(param, float)
        out = []
        for labels, points in window.items():
            value = over_window(name, points, end - arg.range, end, param)
            if value is not None:
                out.append((labels if name in ("last_over_time", "first_over_time") else nameless(labels), value))
        return unique(out)

    def aggregate(self, node: Aggregate, t: int) -> Vector:
        inner = self.eval(node.expr, t)
        assert isinstance(inner, dict)
        groups: dict[Labels, list[tuple[Labels, float]]] = {}
        for labels, value in inner.items():
            key = labels.without(METRIC_NAME, *node.grouping) if node.without else Labels(p for p in labels if p[0] in node.grouping)
            groups.setdefault(key, []).append((labels, value))
        if node.op in ("topk", "bottomk"):
            assert node.param is not None
            k = self.eval(node.param, t)
            assert isinstance(k, float)
            out: Vector = {}
            for members in groups.values():
                order = sorted(members, key=lambda m: (math.isnan(m[1]), -m[1] if node.op == "topk" else m[1]))
                out.update(order[: max(0, int(k))])
            return out
        return {key: aggregated(node.op, [v for _, v in members]) for key, members in groups.items()}

    def binary(self, node: Binary, left: Vector | float, right: Vector | float) -> Vector | float:
        if isinstance(left, float) and isinstance(right, float):
            value, holds = operate(node.op, left, right)
            return float(holds) if node.bool_ else value
        comparison = node.op in ("==", "!=", ">", "<", ">=", "<=")
        if isinstance(left, float) or isinstance(right, float):
            vector = right if isinstance(left, float) else left
            assert isinstance(vector, dict)
            rows = []
            for labels, v in vector.items():
                value, holds = operate(node.op, left if isinstance(left, float) else v, right if isinstance(right, float) else v)
                if comparison:
                    value = float(holds) if node.bool_ else v
                if not comparison or holds or node.bool_:
                    rows.append((nameless(labels) if node.bool_ or not comparison else labels, value))
            return unique(rows)
        m = node.matching

        def signature(labels: Labels) -> Labels:
            return Labels(p for p in labels if p[0] in m.labels) if m.on else labels.without(METRIC_NAME, *m.labels)

        if node.op in ("and", "or", "unless"):
            keys = {signature(k) for k in right}
            if node.op == "or":
                taken = {signature(k) for k in left}
                return unique([*left.items(), *((k, v) for k, v in right.items() if signature(k) not in taken)])
            return {k: v for k, v in left.items() if (signature(k) in keys) == (node.op == "and")}
        return self.join(node, left, right, signature)

    def join(self, node: Binary, left: Vector, right: Vector, signature: Callable[[Labels], Labels]) -> Vector:
        m = node.matching
        if not left or not right:
            return {}
        swapped = m.group == "right"
        many, one = (right, left) if swapped else (left, right)
        index: dict[Labels, tuple[Labels, float]] = {}
        for labels, value in one.items():
            if signature(labels) in index:
                raise Refused("many-to-many")
            index[signature(labels)] = (labels, value)
        comparison = node.op in ("==", "!=", ">", "<", ">=", "<=")
        seen: set[tuple[Labels, Labels]] = set()
        rows = []
        for labels, value in many.items():
            key = signature(labels)
            if key not in index:
                continue
            other, number = index[key]
            a, b = (number, value) if swapped else (value, number)
            result, holds = operate(node.op, a, b)
            metric = labels if comparison and not node.bool_ else nameless(labels)
            if m.group is None:
                metric = Labels(p for p in metric if (p[0] in m.labels) == m.on)
            for name in m.include:
                metric = metric.with_({name: other.get(name)})
            mark = (key, Labels() if m.group is None else metric)
            if mark in seen:
                raise Refused("ambiguous")
            seen.add(mark)
            if comparison:
                result = float(holds) if node.bool_ else a
            if not comparison or holds or node.bool_:
                rows.append((metric, result))
        return unique(rows)


def nameless(labels: Labels) -> Labels:
    return labels.without(METRIC_NAME)


def unique(rows: list[tuple[Labels, float]]) -> Vector:
    out: Vector = {}
    for labels, value in rows:
        if labels in out:
            raise Refused("same labelset")
        out[labels] = value
    return out


def operate(op: str, a: float, b: float) -> tuple[float, bool]:
    match op:
        case "+":
            return a + b, True
        case "-":
            return a - b, True
        case "*":
            return a * b, True
        case "/":
            if b == 0:
                return (math.nan if a == 0 or math.isnan(a) else math.copysign(math.inf, a) * math.copysign(1, b)), True
            return a / b, True
        case "%":
            return (math.nan if b == 0 or not math.isfinite(a) or math.isnan(b) else math.fmod(a, b)), True
    return a, {"==": a == b, "!=": a != b, ">": a > b, "<": a < b, ">=": a >= b, "<=": a <= b}[op]


def mean(values: list[float]) -> float:
    return total(values) / len(values)


def total(values: list[float]) -> float:
    if any(not math.isfinite(v) for v in values):
        return sum(values)
    return math.fsum(values)


def quantile(q: float, values: list[float]) -> float:
    if math.isnan(q):
        return math.nan
    if q < 0 or q > 1:
        return math.copysign(math.inf, q - 0.5)
    order = sorted(values, key=lambda v: (not math.isnan(v), v))
    rank = q * (len(order) - 1)
    low = int(rank)
    weight = rank - low
    return order[low] * (1 - weight) + order[min(low + 1, len(order) - 1)] * weight


def extreme(values: list[float], pick: Callable[[list[float]], float]) -> float:
    real = [v for v in values if not math.isnan(v)]
    return pick(real) if real else math.nan


def aggregated(op: str, values: list[float]) -> float:
    match op:
        case "sum":
            return total(values)
        case "avg":
            return mean(values)
        case "count":
            return float(len(values))
        case "min":
            return extreme(values, min)
        case "max":
            return extreme(values, max)
        case "group":
            return 1.0
    assert op == "stdvar"
    middle = mean(values)
    return total([(v - middle) ** 2 for v in values]) / len(values)


def over_window(name: str, points: list[Point], start: int, end: int, param: float) -> float | None:
    values = [v for _, v in points]
    match name:
        case "rate" | "increase" | "delta":
            return extrapolated(name, points, start, end)
        case "irate" | "idelta":
            if len(points) < 2:
                return None
            (t0, a), (t1, b) = points[-2:]
            change = b if name == "irate" and b < a else b - a
            return change / ((t1 - t0) / 1000) if name == "irate" else change
        case "changes":
            return float(sum(a != b and not (math.isnan(a) and math.isnan(b)) for a, b in itertools.pairwise(values)))
        case "resets":
            return float(sum(b < a for a, b in itertools.pairwise(values)))
        case "last_over_time":
            return values[-1]
        case "first_over_time":
            return values[0]
        case "present_over_time":
            return 1.0
        case "quantile_over_time":
            return quantile(param, values)
        case "stdvar_over_time":
            middle = mean(values)
            return total([(v - middle) ** 2 for v in values]) / len(values)
    return aggregated(name.removesuffix("_over_time"), values)


def extrapolated(name: str, points: list[Point], start: int, end: int) -> float | None:
    if len(points) < 2:
        return None
    values = [v for _, v in points]
    change = values[-1] - values[0]
    if name != "delta":
        for a, b in itertools.pairwise(values):
            if b < a:
                change += a
    sampled = (points[-1][0] - points[0][0]) / 1000
    spacing = sampled / (len(points) - 1)
    before, after = (points[0][0] - start) / 1000, (end - points[-1][0]) / 1000
    if before >= spacing * 1.1:
        before = spacing / 2
    if name != "delta" and change > 0 and values[0] >= 0:
        before = min(before, sampled * (values[0] / change))
    if after >= spacing * 1.1:
        after = spacing / 2
    result = change * ((sampled + before + after) / sampled)
    return result / ((end - start) / 1000) if name == "rate" else result
