"""Type checking of a syntax tree, with Prometheus' wording, in Prometheus' order."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from vedette.model.labels import METRIC_NAME
from vedette.promql.errors import ParseError, parse_error
from vedette.promql.lexer import quoted
from vedette.promql.nodes import (
    COMPARISONS,
    DOCUMENTED_TYPE,
    SET_OPERATORS,
    TRIMS,
    Aggregate,
    Binary,
    Call,
    Node,
    Selector,
    Subquery,
    Unary,
    ValueType,
)


def check(root: Node, text: str) -> None:
    """Raise `ParseError` at the first node whose types do not fit.

    What Prometheus looks at first is first here: how many arguments a call has before what they are, one argument after the other.
    """
    info_args: set[int] = set()
    todo: list[Callable[[], None] | Node] = [root]
    while todo:
        now = todo.pop()
        if not isinstance(now, Node):
            now()
            continue
        if isinstance(now, Call):
            _arity(now, text)
            if now.func.name == "info" and len(now.args) > 1:
                info_args.add(id(now.args[1]))
            for i in range(len(now.args) - 1, -1, -1):
                todo += (partial(_argument, now, i, text), now.args[i])
        elif isinstance(now, Aggregate):
            if now.param is not None:
                todo += (partial(_parameter, now, now.param, text), now.param)
            todo += (partial(_expect, now.expr, "vector", "aggregation expression", text), now.expr)
        elif below := now.children:
            todo.append(partial(_node, now, text, may_match_nothing=False))
            todo.extend(reversed(below))
        else:
            _node(now, text, may_match_nothing=id(now) in info_args)


def _node(node: Node, text: str, *, may_match_nothing: bool) -> None:
    if isinstance(node, Binary):
        _binary(node, text)
    elif isinstance(node, Unary) and node.type not in ("scalar", "vector"):
        shown = quoted(DOCUMENTED_TYPE[node.type])
        raise parse_error(text, node.start, f"unary expression only allowed on expressions of type scalar or instant vector, got {shown}")
    elif isinstance(node, Subquery) and node.expr.type != "vector":
        raise parse_error(text, node.start, f"subquery is only allowed on instant vector, got {node.expr.type} instead")
    elif isinstance(node, Selector):
        if node.name and (twice := [m for m in node.matchers[:-1] if m.name == METRIC_NAME]):
            raise parse_error(text, node.start, f"metric name must not be set twice: {quoted(node.name)} or {quoted(twice[0].value)}")
        if not may_match_nothing and all(m.matches_empty for m in node.matchers):
            raise parse_error(text, node.start, "vector selector must contain at least one non-empty matcher")


def _expect(node: Node, want: ValueType, context: str, text: str, function: str = "") -> None:
    if node.type != want:
        # Quoted here alone: nearly all types fit.
        context += quoted(function) if function else ""
        message = f"expected type {DOCUMENTED_TYPE[want]} in {context}, got {DOCUMENTED_TYPE[node.type]}"
        raise parse_error(text, node.start, message)


def _parameter(node: Aggregate, param: Node, text: str) -> None:
    _expect(param, "string" if node.op == "count_values" else "scalar", "aggregation parameter", text)


def _binary(node: Binary, text: str) -> None:
    left, right, matching = node.lhs.type, node.rhs.type, node.matching

    def fail(at: int, message: str) -> ParseError:
        return parse_error(text, at, message)

    if node.bool_ and node.op not in COMPARISONS:
        raise fail(node.op_start, "bool modifier can only be used on comparison operators")
    if node.op in COMPARISONS and not node.bool_ and left == right == "scalar":
        raise fail(node.op_start, "comparisons between scalars must use BOOL modifier")
    if node.op in TRIMS and left == right == "scalar":
        raise fail(node.op_start, f"operator {quoted(node.op)} not allowed for Scalar operations")
    if matching.on and (both := [n for n in matching.labels if n in matching.include]):
        raise fail(node.op_start, f"label {quoted(both[0])} must not occur in ON and GROUP clause at once")
    for side, kind in ((node.lhs, left), (node.rhs, right)):
        if kind not in ("scalar", "vector"):
            raise fail(side.start, "binary expression must contain only scalar and instant vector types")
    filled = matching.fill_left is not None or matching.fill_right is not None
    if left != "vector" or right != "vector":
        if matching.labels:
            raise fail(node.start, "vector matching only allowed between instant vectors")
        if filled:
            raise fail(node.start, "filling in missing series only allowed between instant vectors")
        if node.op in SET_OPERATORS:
            raise fail(node.start, f"set operator {quoted(node.op)} not allowed in binary scalar expression")
    elif node.op in SET_OPERATORS:
        if matching.group is not None:
            raise fail(node.start, f"no grouping allowed for {quoted(node.op)} operation")
        if filled:
            raise fail(node.start, "filling in missing series not allowed for set operators")


def _arity(node: Call, text: str) -> None:
    func, given = node.func, len(node.args)
    count = len(func.args)
    if given == count:
        return
    name = quoted(func.name)
    if func.variadic == 0:
        if given != count:
            raise parse_error(text, node.start, f"expected {count} argument(s) in call to {name}, got {given}")
    elif given < count - 1:
        raise parse_error(text, node.start, f"expected at least {count - 1} argument(s) in call to {name}, got {given}")
    elif func.variadic > 0 and given > count - 1 + func.variadic:
        raise parse_error(text, node.start, f"expected at most {count - 1 + func.variadic} argument(s) in call to {name}, got {given}")


def _argument(node: Call, i: int, text: str) -> None:
    arg, func = node.args[i], node.func
    if func.name == "info" and i == 1:
        if not isinstance(arg, Selector):
            raise parse_error(text, arg.start, "expected label selectors only")
        if arg.name:
            raise parse_error(text, arg.start, "expected label selectors only, got vector selector instead")
    _expect(arg, func.args[min(i, len(func.args) - 1)], "call to function ", text, func.name)
