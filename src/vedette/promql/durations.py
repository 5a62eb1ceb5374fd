"""Durations written as expressions, such as `[step() * 2]` or `offset (1h / 2)`: worked out once a query's times are known.

Not here: how they are read (`grammar.lark`, `actions.py`). Nothing recurses: parentheses may nest deeply.
"""

from __future__ import annotations

import math
from dataclasses import replace

from vedette.promql.errors import ParseError, parse_error
from vedette.promql.nodes import Aggregate, Binary, Call, Duration, Node, Paren, Range, Selector, Subquery, Unary, walk

_MAX_SECONDS = (1 << 63) / 1e9


def resolved(root: Node, text: str, *, step: int, range_: int) -> Node:
    """The tree with all durations in numbers, `step` and `range_` (ms) being the query's; the same tree where it has no expression.

    Raises `ParseError` where a window or a step is not above zero, or where one divides by zero.
    """
    if not has_expressions(root):
        return root
    made: dict[int, Node] = {}
    seconds = _Seconds(text, step / 1000, range_ / 1000)
    for node in walk(root):
        made[id(node)] = _with_numbers(_rebuilt(node, made), seconds)
    return made[id(root)]


def has_expressions(root: Node) -> bool:
    """Whether any duration is written as an expression."""
    return any(has_expression(node) for node in walk(root))


def has_expression(node: Node) -> bool:
    """Whether a duration of this node is."""
    if isinstance(node, Subquery):
        return node.range_expr is not None or node.step_expr is not None or node.offset_expr is not None
    if isinstance(node, Range):
        return node.range_expr is not None
    return isinstance(node, Selector) and node.offset_expr is not None


def _rebuilt(node: Node, made: dict[int, Node]) -> Node:
    """The node over the new versions of its children; the node itself where they are the old ones."""
    if all(made[id(c)] is c for c in node.children):
        return node
    if isinstance(node, Range):
        selector = made[id(node.selector)]
        assert isinstance(selector, Selector)
        return replace(node, selector=selector)
    if isinstance(node, (Subquery, Paren, Unary)):
        return replace(node, expr=made[id(node.expr)])
    if isinstance(node, Binary):
        return replace(node, lhs=made[id(node.lhs)], rhs=made[id(node.rhs)])
    if isinstance(node, Call):
        return replace(node, args=tuple(made[id(a)] for a in node.args))
    assert isinstance(node, Aggregate), f"a {type(node).__name__} has no children"
    return replace(node, expr=made[id(node.expr)], param=None if node.param is None else made[id(node.param)])


def _with_numbers(node: Node, seconds: _Seconds) -> Node:
    if isinstance(node, Selector) and node.offset_expr is not None:
        return replace(node, offset=seconds.ms(node.offset_expr), offset_expr=None)
    if isinstance(node, Range) and node.range_expr is not None:
        return replace(node, range=seconds.positive_ms(node.range_expr), range_expr=None)
    if isinstance(node, Subquery) and has_expression(node):
        return replace(
            node,
            offset=node.offset if node.offset_expr is None else seconds.ms(node.offset_expr),
            range=node.range if node.range_expr is None else seconds.positive_ms(node.range_expr),
            step=node.step if node.step_expr is None else seconds.positive_ms(node.step_expr),
            offset_expr=None,
            range_expr=None,
            step_expr=None,
        )
    return node


class _Seconds:
    """Works expressions out, for a query with this step and range in seconds."""

    def __init__(self, text: str, step: float, range_: float) -> None:
        self._text = text
        self._of_query = {"step": step, "range": range_}

    def fail(self, node: Node, message: str) -> ParseError:
        return parse_error(self._text, node.start, message)

    def positive_ms(self, root: Duration) -> int:
        """Milliseconds of a window or a step. Raises `ParseError` for 0 and less."""
        found = self.ms(root)
        if found <= 0:
            raise self.fail(root, "duration must be greater than 0")
        return found

    def ms(self, root: Duration) -> int:
        """Milliseconds of an expression, cut off as Prometheus does. Raises `ParseError` beyond 292 years."""
        values: dict[int, float] = {}
        for node in walk(root):
            assert isinstance(node, Duration), "durations are made of durations"
            values[id(node)] = self._value(node, [values[id(o)] for o in node.operands])
        found = values[id(root)]
        if not abs(found) < _MAX_SECONDS:
            raise self.fail(root, "duration is out of range")
        return int(found * 1000)

    def _value(self, node: Duration, operands: list[float]) -> float:
        if node.op == "number":
            return node.value
        if node.op in self._of_query:
            return self._of_query[node.op]
        if len(operands) == 1:
            return -operands[0]
        a, b = operands
        match node.op:
            case "min_of":
                return min(a, b)
            case "max_of":
                return max(a, b)
            case "+":
                return a + b
            case "-":
                return a - b
            case "*":
                return a * b
            case "/" | "%" if b == 0:
                raise self.fail(node, "division by zero" if node.op == "/" else "modulo by zero")
            case "/":
                return a / b
            case "%":
                return math.fmod(a, b)
            case _:
                assert node.op == "^", node.op
                return self._power(node, a, b)

    def _power(self, node: Duration, a: float, b: float) -> float:
        try:
            return math.pow(a, b)
        except (ValueError, OverflowError):
            # No number (a root of a negative one) or beyond all numbers: no duration either way.
            raise self.fail(node, "duration is out of range") from None
