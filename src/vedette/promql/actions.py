"""What each rule of `grammar.lark` builds: one method a rule alias, called bottom up with the values of the rule's symbols.

Errors that depend only on what stands together (an offset behind a sum) are raised here, types are checked later.
"""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any, Literal, NamedTuple

from vedette.errors import BadInput
from vedette.model.durations import parse_duration
from vedette.model.labels import METRIC_NAME
from vedette.model.matchers import Matcher, MatchOp, go_regex_problem
from vedette.promql.errors import ParseError, parse_error
from vedette.promql.lexer import Token, quoted, unquote, unquoted
from vedette.promql.nodes import (
    Aggregate,
    At,
    Binary,
    Call,
    Duration,
    Matching,
    Node,
    Number,
    Paren,
    Range,
    Selector,
    Subquery,
    Text,
    Unary,
    ValueType,
)
from vedette.promql.settings import Features
from vedette.promql.signatures import FUNCTIONS

_MAX_DURATION_MS = (1 << 63) // 1_000_000
_WITH_PARAM = frozenset(("topk", "bottomk", "count_values", "quantile", "limitk", "limit_ratio"))


class Items(NamedTuple):
    """A bracketed list and where it ends."""

    items: list[Any]
    end: int


class Labels(NamedTuple):
    """`by (…)` or `without (…)`."""

    names: tuple[str, ...]
    without: bool
    end: int


def parse_number(text: str) -> float:
    """The value of a NUMBER token's text: decimal, hexadecimal, octal with a leading zero, `inf`, `nan`.

    Raises ValueError, in Go's words: beyond 64 bits there are only decimal numbers, and beyond a double there are none.
    """
    plain = text.replace("_", "").lower()
    if plain.startswith("0x"):
        if int(plain, 16) >= 1 << 63:
            raise ValueError("invalid syntax")
        return float(int(plain, 16))
    if len(plain) > 1 and plain[0] == "0" and all(c in "01234567" for c in plain) and int(plain, 8) < 1 << 63:
        return float(int(plain, 8))
    value = float(plain)
    if math.isinf(value) and "inf" not in plain:
        raise ValueError("value out of range")
    return value


def _plain_ms(duration: Duration) -> int | None:
    """Milliseconds of an offset that is a number; None for an expression."""
    return int(duration.value * 1000) if duration.op == "number" else None


class Actions:
    """The actions over one query text. Methods take the values of the rule's symbols and return the rule's."""

    def __init__(self, text: str, features: Features) -> None:
        self.text = text
        self.features = features

    def fail(self, at: int, message: str) -> ParseError:
        return parse_error(self.text, at, message)

    # Literals

    def _number(self, token: Token) -> float:
        try:
            return parse_number(token.text)
        except ValueError as error:
            raise self.fail(token.start, f"error parsing number: strconv.ParseFloat: parsing {quoted(token.text)}: {error}") from None

    def number(self, token: Token) -> tuple[float, Token]:
        return self._number(token), token

    def number_duration(self, token: Token) -> tuple[float, Token]:
        return self._duration(token) / 1000, token

    def _duration(self, token: Token) -> int:
        try:
            return parse_duration(token.text)
        except BadInput as error:
            raise self.fail(token.start, error.problem.replace("'", '"')) from None

    # Durations

    def duration(self, token: Token) -> Duration:
        return self._seconds(self._duration(token) / 1000, token.start, token.end, written=True)

    def duration_seconds(self, token: Token) -> Duration:
        return self._seconds(self._number(token), token.start, token.end, written=False)

    def _seconds(self, value: float, start: int, end: int, *, written: bool) -> Duration:
        if not abs(value) * 1000 < _MAX_DURATION_MS:
            raise self.fail(start, "duration out of range")
        return Duration(op="number", value=value, written=written, start=start, end=end)

    def _expression(self, node: Duration, at: Node) -> Duration:
        if not self.features.duration_expr:
            raise self.fail(at.start, "experimental duration expression is not enabled")
        return node

    def duration_binary(self, lhs: Duration, op: Token, rhs: Duration) -> Duration:
        if op.text in "/%" and rhs.op == "number" and rhs.value == 0:
            raise self.fail(op.start, "division by zero" if op.text == "/" else "modulo by zero")
        return self._expression(Duration(op=op.text, operands=(lhs, rhs), start=lhs.start, end=rhs.end), lhs)

    def duration_unary(self, sign: Token, operand: Duration) -> Duration:
        if operand.op == "number":
            value = -operand.value if sign.text == "-" else operand.value
            return replace(operand, value=value, start=sign.start)
        if sign.text == "+":
            return replace(operand, start=sign.start)
        return Duration(op="-", operands=(operand,), start=sign.start, end=operand.end)

    def duration_of_query(self, name: Token, left: Token, right: Token) -> Duration:
        found = Duration(op=name.text.lower(), start=name.start, end=right.end)
        return self._expression(found, found)

    def duration_extreme(self, name: Token, left: Token, a: Duration, comma: Token, b: Duration, right: Token) -> Duration:
        found = Duration(op=name.text.lower(), operands=(a, b), start=name.start, end=right.end)
        return self._expression(found, found)

    def duration_paren(self, left: Token, inner: Duration, right: Token) -> Duration:
        return self._expression(inner if inner.op == "number" else replace(inner, wrapped=True), inner)

    # Literals of the query

    def literal(self, token: Token) -> Number:
        return Number(value=self._number(token), start=token.start, end=token.end)

    def literal_duration(self, token: Token) -> Number:
        return Number(value=self._duration(token) / 1000, duration=True, start=token.start, end=token.end)

    def string(self, token: Token) -> Text:
        raw = unquoted(token, self.text)
        value = raw.decode("utf-8", "replace")
        broken = "" if value.encode() == raw else raw.decode("utf-8", "surrogateescape")
        return Text(value=value, broken=broken, start=token.start, end=token.end)

    # Lists

    def first(self, item: Any) -> list[Any]:
        return [item]

    def more(self, items: list[Any], comma: Token, item: Any) -> list[Any]:
        items.append(item)
        return items

    def no_args(self, left: Token, right: Token) -> Items:
        return Items([], right.end)

    def inner(self, left: Token, items: Any, *rest: Token) -> Any:
        return Items(items, rest[-1].end) if isinstance(items, list) else items[0]

    def inner_plus(self, left: Token, sign: Token, number: tuple[float, Token], right: Token) -> float:
        return number[0]

    def inner_minus(self, left: Token, sign: Token, number: tuple[float, Token], right: Token) -> float:
        return -number[0]

    # Operators

    def binary(self, lhs: Node, op: Token, modifier: tuple[bool, Matching], rhs: Node) -> Binary:
        bool_, matching = modifier
        kind: ValueType = "scalar" if lhs.type == "scalar" and rhs.type == "scalar" else "vector"
        if (matching.fill_left is not None or matching.fill_right is not None) and not self.features.fill_modifiers:
            raise self.fail(lhs.start, "binop fill modifiers are experimental and not enabled")
        return Binary(
            op=op.text.lower(), lhs=lhs, rhs=rhs, bool_=bool_, matching=matching,
            op_start=op.start, kind=kind, start=lhs.start, end=rhs.end,
        )  # fmt: skip

    def unary(self, op: Token, expr: Node) -> Node:
        if isinstance(expr, Number):
            return replace(expr, value=-expr.value if op.text == "-" else expr.value, start=op.start)
        return Unary(op=op.text, expr=expr, kind=expr.type, start=op.start, end=expr.end)

    def paren(self, left: Token, expr: Node, right: Token) -> Paren:
        return Paren(expr=expr, kind=expr.type, start=left.start, end=right.end)

    def not_bool(self) -> bool:
        return False

    def is_bool(self, token: Token) -> bool:
        return True

    def match_default(self, bool_: bool) -> tuple[bool, Matching]:
        return bool_, Matching()

    def match_labels(self, bool_: bool, how: Token, labels: Items) -> tuple[bool, Matching]:
        return bool_, Matching(on=how.kind == "ON", labels=tuple(labels.items), explicit=True)

    def match_group(self, bool_: bool, how: Token, labels: Items, side: Token, include: Items | None = None) -> tuple[bool, Matching]:
        _, matching = self.match_labels(bool_, how, labels)
        group: Literal["left", "right"] = "left" if side.kind == "GROUP_LEFT" else "right"
        return bool_, replace(matching, group=group, include=tuple(include.items) if include else ())

    def with_fill(self, modifier: tuple[bool, Matching], fills: dict[str, float]) -> tuple[bool, Matching]:
        return modifier[0], replace(modifier[1], fill_left=fills.get("fill_left"), fill_right=fills.get("fill_right"))

    def fill_both(self, token: Token, value: float) -> dict[str, float]:
        return {"fill_left": value, "fill_right": value}

    def fill_one(self, token: Token, value: float) -> dict[str, float]:
        return {token.kind.lower(): value}

    def fill_two(self, one: Token, first: float, two: Token, second: float) -> dict[str, float]:
        return {one.kind.lower(): first, two.kind.lower(): second}

    # Modifiers

    def offset(self, node: Node, word: Token, duration: Duration) -> Node:
        target = node.selector if isinstance(node, Range) else node
        if not isinstance(target, (Selector, Subquery)):
            raise self.fail(
                node.start, "offset modifier must be preceded by an instant vector selector or range vector selector or a subquery"
            )
        if target.has_offset:
            raise self.fail(node.start, "offset may not be set multiple times")
        shift, end = _plain_ms(duration), duration.end
        written = None if shift is not None else duration
        end_of_target = target.end if isinstance(node, Range) else end
        shifted = replace(target, offset=shift or 0, offset_expr=written, has_offset=True, end=end_of_target)
        if isinstance(node, Range):
            assert isinstance(shifted, Selector)
            return replace(node, selector=shifted, end=end)
        return shifted

    def _pinned(self, node: Node, at: At, end: int) -> Node:
        target = node.selector if isinstance(node, Range) else node
        if not isinstance(target, (Selector, Subquery)):
            raise self.fail(node.start, "@ modifier must be preceded by an instant vector selector or range vector selector or a subquery")
        if target.at is not None:
            raise self.fail(node.start, "@ <timestamp> may not be set multiple times")
        pinned = replace(target, at=at, end=target.end if isinstance(node, Range) else end)
        if isinstance(node, Range):
            assert isinstance(pinned, Selector)
            return replace(node, selector=pinned, end=end)
        return pinned

    def _at_seconds(self, node: Node, seconds: float, end: int) -> Node:
        if not math.isfinite(seconds) or abs(seconds) >= float(1 << 63):
            shown = "NaN" if math.isnan(seconds) else "+Inf" if seconds == math.inf else "-Inf" if seconds == -math.inf else f"{seconds:f}"
            raise self.fail(node.start, f"timestamp out of bounds for @ modifier: {shown}")
        rounded = math.floor(seconds * 1000 + 0.5) if seconds >= 0 else -math.floor(-seconds * 1000 + 0.5)
        return self._pinned(node, max(-(1 << 62), min(rounded, 1 << 62)), end)

    def at(self, node: Node, word: Token, number: tuple[float, Token]) -> Node:
        return self._at_seconds(node, number[0], number[1].end)

    def at_plus(self, node: Node, word: Token, sign: Token, number: tuple[float, Token]) -> Node:
        return self._at_seconds(node, number[0], number[1].end)

    def at_minus(self, node: Node, word: Token, sign: Token, number: tuple[float, Token]) -> Node:
        return self._at_seconds(node, -number[0], number[1].end)

    def at_start(self, node: Node, word: Token, name: Token, left: Token, right: Token) -> Node:
        return self._pinned(node, "start", right.end)

    def at_end(self, node: Node, word: Token, name: Token, left: Token, right: Token) -> Node:
        return self._pinned(node, "end", right.end)

    def _positive(self, duration: Duration) -> tuple[int, Duration | None]:
        """Milliseconds of a window or step, or 0 and the expression that they are yet to be worked out from."""
        if duration.op != "number":
            return 0, duration
        if duration.value <= 0:
            raise self.fail(duration.start, "duration must be greater than 0")
        return math.floor(duration.value * 1000 + 0.5), None

    def matrix(self, node: Node, left: Token, duration: Duration, right: Token) -> Range:
        range_, range_expr = self._positive(duration)
        if not isinstance(node, Selector):
            raise self.fail(left.start, "ranges only allowed for vector selectors")
        if node.has_offset:
            raise self.fail(left.start, "no offset modifiers allowed before range")
        if node.at is not None:
            raise self.fail(left.start, "no @ modifiers allowed before range")
        return Range(selector=node, range=range_, range_expr=range_expr, start=node.start, end=right.end)

    def subquery(self, node: Node, left: Token, duration: Duration, colon: Token, right: Token) -> Subquery:
        range_, range_expr = self._positive(duration)
        return Subquery(expr=node, range=range_, range_expr=range_expr, step=0, start=node.start, end=right.end)

    def subquery_step(self, node: Node, left: Token, duration: Duration, colon: Token, step: Duration, right: Token) -> Subquery:
        range_, range_expr = self._positive(duration)
        step_ms, step_expr = self._positive(step)
        return Subquery(
            expr=node, range=range_, range_expr=range_expr, step=step_ms, step_expr=step_expr, start=node.start, end=right.end
        )  # fmt: skip

    def _extended(self, node: Node, word: Token) -> Node:
        name = word.kind.lower()
        if not self.features.extended_range_selectors:
            raise self.fail(node.start, f"{name} modifier is experimental and not enabled")
        if isinstance(node, Subquery):
            raise self.fail(node.start, f"{name} modifier is not supported for subqueries")
        target = node.selector if isinstance(node, Range) else node
        if not isinstance(target, Selector):
            raise self.fail(node.start, f"{name} modifier not implemented")
        if (target.smoothed and name == "anchored") or (target.anchored and name == "smoothed"):
            raise self.fail(node.start, "anchored and smoothed modifiers cannot be used together")
        marked = replace(target, anchored=target.anchored or name == "anchored", smoothed=target.smoothed or name == "smoothed")
        return replace(node, selector=marked) if isinstance(node, Range) else marked

    def anchored(self, node: Node, word: Token) -> Node:
        return self._extended(node, word)

    def smoothed(self, node: Node, word: Token) -> Node:
        return self._extended(node, word)

    # Calls and aggregations

    def call(self, name: Token, args: Items) -> Call:
        # Prometheus reads these four words in either case, other functions only in lower case.
        func = FUNCTIONS.get(name.text if name.kind == "IDENTIFIER" else name.text.lower())
        if func is None:
            raise self.fail(name.start, f"unknown function with name {quoted(name.text)}")
        if func.experimental and not self.features.experimental_functions:
            raise self.fail(name.start, f"function {quoted(name.text)} is not enabled")
        return Call(func=func, args=tuple(args.items), start=name.start, end=args.end)

    def grouping(self, how: Token, labels: Items) -> Labels:
        return Labels(tuple(labels.items), how.kind == "WITHOUT", labels.end)

    def label(self, token: Token) -> str:
        if token.kind == "METRIC_IDENTIFIER":
            raise self.fail(token.start, f"unexpected metric identifier {quoted(token.text)} in grouping opts, expected label")
        return token.text

    def label_quoted(self, token: Token) -> str:
        name = self.string(token)
        if name.broken or not name.value:
            raise self.fail(token.start, f"invalid label name for grouping: {quoted(name.broken)}")
        return name.value

    def aggregate(self, op: Token, body: Items) -> Aggregate:
        return self._aggregate(op, body, Labels((), False, body.end), body.end)

    def aggregate_after(self, op: Token, body: Items, labels: Labels) -> Aggregate:
        return self._aggregate(op, body, labels, labels.end)

    def aggregate_before(self, op: Token, labels: Labels, body: Items) -> Aggregate:
        return self._aggregate(op, body, labels, body.end)

    def _aggregate(self, op: Token, body: Items, labels: Labels, end: int) -> Aggregate:
        name, args = op.text.lower(), body.items
        if not args:
            raise self.fail(op.start, "no arguments for aggregate expression provided")
        if name.startswith("limit") and not self.features.experimental_functions:
            raise self.fail(op.start, f"{name}() is experimental and must be enabled with --enable-feature=promql-experimental-functions")
        wanted = 2 if name in _WITH_PARAM else 1
        if len(args) != wanted:
            raise self.fail(op.start, f"wrong number of arguments for aggregate expression provided, expected {wanted}, got {len(args)}")
        param = args[0] if wanted == 2 else None
        return Aggregate(op=name, expr=args[-1], param=param, grouping=labels.names, without=labels.without, start=op.start, end=end)

    # Selectors

    def matcher(self, name: Token, op: Token, value: Token) -> tuple[Matcher, Token]:
        return self._matcher(name, name.text, op, value)

    def matcher_quoted(self, name: Token, op: Token, value: Token) -> tuple[Matcher, Token]:
        return self._matcher(name, unquote(name, self.text), op, value)

    def _matcher(self, at: Token, name: str, op: Token, value: Token) -> tuple[Matcher, Token]:
        kinds: dict[str, MatchOp] = {"EQL": "=", "NEQ": "!=", "EQL_REGEX": "=~", "NEQ_REGEX": "!~"}
        text = unquote(value, self.text)
        try:
            return Matcher(name, kinds[op.kind], text), at
        except BadInput as error:
            raise self.fail(at.start, go_regex_problem(text) or error.problem) from None

    def matcher_name(self, name: Token) -> tuple[Matcher, Token]:
        return Matcher(METRIC_NAME, "=", unquote(name, self.text)), name

    def matchers_none(self, left: Token, right: Token) -> Items:
        return Items([left], right.end)

    def matchers(self, left: Token, items: list[tuple[Matcher, Token]], *rest: Token) -> Items:
        return Items([left, *items], rest[-1].end)

    def selector_name(self, name: Token) -> Selector:
        return Selector(name=name.text, matchers=(Matcher(METRIC_NAME, "=", name.text),), start=name.start, end=name.end)

    def selector_both(self, name: Token, matchers: Items) -> Selector:
        found = tuple(m for m, _ in matchers.items[1:])
        return Selector(name=name.text, matchers=(*found, Matcher(METRIC_NAME, "=", name.text)), start=name.start, end=matchers.end)

    def selector_matchers(self, matchers: Items) -> Selector:
        left: Token = matchers.items[0]
        names = [m for m, token in matchers.items[1:] if m.name == METRIC_NAME and token.kind == "STRING"]
        if len(names) > 1:
            raise self.fail(left.start, f"metric name must not be set twice: {quoted(names[0].value)} or {quoted(names[1].value)}")
        return Selector(name="", matchers=tuple(m for m, _ in matchers.items[1:]), start=left.start, end=matchers.end)
