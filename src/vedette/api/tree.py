"""A query's syntax tree as the JSON of `/api/v1/parse_query`, in Prometheus' shape.

Built from the leaves up, since trees may be deeper than the interpreter's stack.
"""

from __future__ import annotations

from typing import Any

import orjson

from vedette.errors import BadInput
from vedette.promql.format import go_float
from vedette.promql.nodes import (
    SET_OPERATORS,
    Aggregate,
    At,
    Binary,
    Call,
    Duration,
    Node,
    Number,
    Paren,
    Range,
    Selector,
    Subquery,
    Text,
    Unary,
    walk,
)


def tree_json(root: Node) -> bytes:
    """The tree's JSON. Raises `BadInput` for one nested too deeply for JSON readers."""
    shown: dict[int, dict[str, Any]] = {}
    for node in walk(root):
        shown[id(node)] = _shown(node, shown)
    try:
        return orjson.dumps(shown[id(root)])
    except orjson.JSONEncodeError:
        raise BadInput("the query is nested too deeply to be shown as a tree") from None


def _shown(node: Node, shown: dict[int, dict[str, Any]]) -> dict[str, Any]:
    match node:
        case Number():
            return {"type": "numberLiteral", "val": go_float(node.value)}
        case Text():
            return {"type": "stringLiteral", "val": node.value}
        case Selector():
            return {"type": "vectorSelector", **_selector(node)}
        case Range():
            return {"type": "matrixSelector", "range": node.range, "rangeExpr": _duration(node.range_expr), **_selector(node.selector)}
        case Subquery():
            span = {"range": node.range, "offset": node.offset, "step": node.step, **_at(node.at)}
            written = {"rangeExpr": node.range_expr, "offsetExpr": node.offset_expr, "stepExpr": node.step_expr}
            return {"type": "subquery", "expr": shown[id(node.expr)], **span, **{k: _duration(d) for k, d in written.items()}}
        case Paren():
            return {"type": "parenExpr", "expr": shown[id(node.expr)]}
        case Unary():
            return {"type": "unaryExpr", "op": node.op, "expr": shown[id(node.expr)]}
        case Aggregate():
            param = None if node.param is None else shown[id(node.param)]
            by = {"grouping": list(node.grouping), "without": node.without}
            return {"type": "aggregation", "op": node.op, "expr": shown[id(node.expr)], "param": param, **by}
        case Binary():
            sides = {"lhs": shown[id(node.lhs)], "rhs": shown[id(node.rhs)]}
            return {"type": "binaryExpr", "op": node.op, **sides, "matching": _matching(node), "bool": node.bool_}
        case Call():
            func = node.func
            signature = {"name": func.name, "argTypes": list(func.args), "variadic": func.variadic, "returnType": func.returns}
            return {"type": "call", "func": signature, "args": [shown[id(a)] for a in node.args]}
        case _:
            raise AssertionError(f"{type(node).__name__} has no shape")


def _selector(node: Selector) -> dict[str, Any]:
    matchers = [{"name": m.name, "value": m.value, "type": m.op} for m in node.matchers]
    return {
        "name": node.name,
        "offset": node.offset,
        "offsetExpr": _duration(node.offset_expr),
        "matchers": matchers,
        **_at(node.at),
        "anchored": node.anchored,
        "smoothed": node.smoothed,
    }


def _duration(root: Duration | None) -> dict[str, Any] | None:
    """A duration that is an expression."""
    if root is None:
        return None
    shown: dict[int, dict[str, Any]] = {}
    for node in walk(root):
        assert isinstance(node, Duration), "durations are made of durations"
        if node.op == "number":
            shown[id(node)] = {"type": "numberLiteral", "val": go_float(node.value), "duration": node.written}
            continue
        operands = [shown[id(d)] for d in node.operands]
        # A sign stands before its operand.
        sides = {"lhs": operands[0] if len(operands) == 2 else None, "rhs": operands[-1] if operands else None}
        shown[id(node)] = {"type": "durationExpr", "op": node.op, **sides, "wrapped": node.wrapped}
    return shown[id(root)]


def _at(at: At) -> dict[str, Any]:
    return {"timestamp": at if isinstance(at, int) else None, "startOrEnd": at if isinstance(at, str) else None}


def _matching(node: Binary) -> dict[str, Any] | None:
    if node.lhs.type != "vector" or node.rhs.type != "vector":
        return None
    matching = node.matching
    card = {"left": "many-to-one", "right": "one-to-many", None: "one-to-one"}[matching.group]
    if node.op in SET_OPERATORS:
        card = "many-to-many"
    return {
        "card": card,
        "labels": list(matching.labels),
        "on": matching.on,
        "include": list(matching.include),
        "fillValues": {"lhs": matching.fill_left, "rhs": matching.fill_right},
    }
