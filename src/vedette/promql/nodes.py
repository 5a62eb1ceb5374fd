"""The syntax tree: frozen nodes with their place in the text.

`start` and `end` are offsets in characters of the query's text (`errors.line_column` turns them into a position).
Nodes compare by identity; trees may be deep, so nothing that walks them may recurse (`walk` does not).
Durations are milliseconds. Not here: types and meaning (`check.py`, `plan.py`).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar, Literal

from vedette.model.matchers import Matcher

ValueType = Literal["scalar", "string", "vector", "matrix", "none"]

DOCUMENTED_TYPE = {"vector": "instant vector", "matrix": "range vector", "scalar": "scalar", "string": "string", "none": "none"}


@dataclass(frozen=True, eq=False, slots=True, kw_only=True)
class Node:
    """What all nodes have: `[start, end)` of the text they were read from."""

    start: int = 0
    end: int = 0

    @property
    def type(self) -> ValueType:
        """The type of the node's value."""
        raise NotImplementedError

    @property
    def children(self) -> tuple[Node, ...]:
        """The nodes directly below, in order of the text."""
        return ()


@dataclass(frozen=True, eq=False, slots=True, kw_only=True)
class Number(Node):
    """A number literal; `duration` where it was written as one (`5m` is 300)."""

    value: float
    duration: bool = False

    @property
    def type(self) -> ValueType:
        return "scalar"


@dataclass(frozen=True, eq=False, slots=True, kw_only=True)
class Text(Node):
    """A string literal, unquoted. `broken` are its bytes (as surrogate escapes) where they are no UTF-8 text: no label has such a name."""

    value: str
    broken: str = ""

    @property
    def type(self) -> ValueType:
        return "string"


@dataclass(frozen=True, eq=False, slots=True, kw_only=True)
class Duration(Node):
    """A duration in brackets or behind `offset`, before it is worked out (`durations.py`).

    `op` is `number` (`value` holds seconds, `written` whether it was written as a duration, such as `5m`), `step`, `range`,
    `min_of`, `max_of`, or an operator with one operand (a sign) or two. `wrapped`: it stood in parentheses.
    """

    op: str
    value: float = 0.0
    written: bool = False
    operands: tuple[Duration, ...] = ()
    wrapped: bool = False

    @property
    def type(self) -> ValueType:
        return "scalar"

    @property
    def children(self) -> tuple[Node, ...]:
        return self.operands


At = int | Literal["start", "end"] | None
"""An `@` modifier: milliseconds, the start or end of the query, or none."""


@dataclass(frozen=True, eq=False, slots=True, kw_only=True)
class Selector(Node):
    """`name{matchers} offset … @ …`. `matchers` include the one for the name, last, where it was written outside the braces.

    Here and in `Range` and `Subquery`: where a duration was written as an expression, `…_expr` holds it, and the number of
    milliseconds beside it is 0 until `durations.resolved` has worked it out.
    """

    name: str
    matchers: tuple[Matcher, ...]
    offset: int = 0
    offset_expr: Duration | None = None
    has_offset: bool = False
    at: At = None
    anchored: bool = False
    smoothed: bool = False

    @property
    def type(self) -> ValueType:
        return "vector"


@dataclass(frozen=True, eq=False, slots=True, kw_only=True)
class Range(Node):
    """`selector[range]`; offset and `@` written behind the brackets are the selector's."""

    selector: Selector
    range: int
    range_expr: Duration | None = None

    @property
    def type(self) -> ValueType:
        return "matrix"

    @property
    def children(self) -> tuple[Node, ...]:
        return (self.selector,)


@dataclass(frozen=True, eq=False, slots=True, kw_only=True)
class Subquery(Node):
    """`expr[range:step] offset … @ …`; a step of 0 is the default one."""

    expr: Node
    range: int
    step: int
    range_expr: Duration | None = None
    step_expr: Duration | None = None
    offset: int = 0
    offset_expr: Duration | None = None
    has_offset: bool = False
    at: At = None

    @property
    def type(self) -> ValueType:
        return "matrix"

    @property
    def children(self) -> tuple[Node, ...]:
        return (self.expr,)


@dataclass(frozen=True, eq=False, slots=True, kw_only=True)
class Aggregate(Node):
    """`op by|without (grouping) (param, expr)`. `grouping` is as written."""

    op: str
    expr: Node
    param: Node | None
    grouping: tuple[str, ...]
    without: bool

    @property
    def type(self) -> ValueType:
        return "vector"

    @property
    def children(self) -> tuple[Node, ...]:
        return (self.expr,) if self.param is None else (self.param, self.expr)


@dataclass(frozen=True, slots=True)
class Matching:
    """How two vectors are matched. `group` is the side that may have many (`left`, `right`), None for one-to-one."""

    on: bool = False
    labels: tuple[str, ...] = ()
    explicit: bool = False
    group: Literal["left", "right"] | None = None
    include: tuple[str, ...] = ()
    fill_left: float | None = None
    fill_right: float | None = None


COMPARISONS = frozenset(("==", "!=", ">", "<", ">=", "<="))
SET_OPERATORS = frozenset(("and", "or", "unless"))
TRIMS = frozenset(("</", ">/"))
"""The operators that cut a histogram off above or below a number."""


@dataclass(frozen=True, eq=False, slots=True, kw_only=True)
class Binary(Node):
    """`lhs op [bool] [matching] rhs`. `op_start` is where the operator stands."""

    op: str
    lhs: Node
    rhs: Node
    bool_: bool
    matching: Matching
    op_start: int
    kind: ValueType

    @property
    def type(self) -> ValueType:
        return self.kind

    @property
    def children(self) -> tuple[Node, ...]:
        return (self.lhs, self.rhs)


@dataclass(frozen=True, eq=False, slots=True, kw_only=True)
class Unary(Node):
    """`-expr` or `+expr`."""

    op: str
    expr: Node
    kind: ValueType

    @property
    def type(self) -> ValueType:
        return self.kind

    @property
    def children(self) -> tuple[Node, ...]:
        return (self.expr,)


@dataclass(frozen=True, eq=False, slots=True, kw_only=True)
class Paren(Node):
    """`(expr)`."""

    expr: Node
    kind: ValueType

    @property
    def type(self) -> ValueType:
        return self.kind

    @property
    def children(self) -> tuple[Node, ...]:
        return (self.expr,)


@dataclass(frozen=True, eq=False, slots=True)
class Function:
    """A function's signature. `variadic`: the last argument may be given 0 or 1 times (1), any number (-1), or once (0)."""

    name: str
    args: tuple[ValueType, ...]
    returns: ValueType = "vector"
    variadic: int = 0
    experimental: bool = False


@dataclass(frozen=True, eq=False, slots=True, kw_only=True)
class Call(Node):
    """`func(args)`."""

    func: Function
    args: tuple[Node, ...]
    UNSAFE_AT: ClassVar[frozenset[str]] = frozenset(
        (
            "days_in_month",
            "day_of_month",
            "day_of_week",
            "day_of_year",
            "hour",
            "minute",
            "month",
            "year",
            "predict_linear",
            "time",
            "timestamp",
        )
    )

    @property
    def type(self) -> ValueType:
        return self.func.returns

    @property
    def children(self) -> tuple[Node, ...]:
        return self.args


def unwrapped(node: Node) -> Node:
    """The node inside any parentheses."""
    while isinstance(node, Paren):
        node = node.expr
    return node


def text_of(node: Node) -> Text:
    """The string literal inside any parentheses."""
    found = unwrapped(node)
    assert isinstance(found, Text), "only literals are strings"
    return found


def walk(root: Node) -> Iterator[Node]:
    """All nodes, children before parents, left to right; needs no recursion."""
    stack: list[tuple[Node, bool]] = [(root, False)]
    while stack:
        node, done = stack.pop()
        if done or not node.children:
            yield node
        else:
            stack.append((node, True))
            stack.extend((c, False) for c in reversed(node.children))
