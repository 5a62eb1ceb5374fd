"""A syntax tree back to text: on one line, and laid out over several as `/api/v1/format_query` does.

Built from the leaves up, without recursion, since trees may be deep.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from vedette.errors import BadInput
from vedette.model.durations import format_duration
from vedette.model.labels import METRIC_NAME, is_legacy_label_name, is_legacy_metric_name
from vedette.model.matchers import Matcher
from vedette.promql.format import go_float
from vedette.promql.lexer import quoted
from vedette.promql.nodes import (
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

MAX_LINE = 100
"""A node longer than this on one line is split."""

INDENT = "  "


MAX_FORMATTED = 4 << 20
"""Longest text of a formatted query, in characters: each level is indented further, so that deep ones grow with the square of it."""


def to_text(root: Node) -> str:
    """The query on one line, in Prometheus' normal form."""
    texts: dict[int, str] = {}
    for node in walk(root):
        texts[id(node)] = _text(node, texts)
        for child in node.children:
            del texts[id(child)]
    return texts[id(root)]


def format_query(root: Node) -> str:
    """The query laid out: parts longer than `MAX_LINE` are split over lines and indented.

    Raises `BadInput` where that would take more than `MAX_FORMATTED` characters.
    """
    lines: list[tuple[int, str]] = []
    texts = _short_texts(root)
    size = counted = 0
    todo: list[tuple[int, Node | _Finish]] = [(0, root)]
    while todo:
        depth, now = todo.pop()
        if isinstance(now, Node):
            todo.extend(reversed(_laid_out(now, depth, texts, lines)))
        else:
            now(lines)
        for indent, text in lines[counted:]:
            size += len(INDENT) * indent + len(text) + 1
        counted = len(lines)
        if size > MAX_FORMATTED:
            raise BadInput(f"the query is nested so deeply that it would take more than {MAX_FORMATTED} characters, formatted")
    return "\n".join(INDENT * depth + text for depth, text in lines)


def _name(name: str) -> str:
    return name if is_legacy_label_name(name) else quoted(name)


def _matcher(m: Matcher) -> str:
    return f"{_name(m.name)}{m.op}{quoted(m.value)}"


def _at(at: At) -> str:
    if at is None:
        return ""
    if isinstance(at, str):
        return f" @ {at}()"
    sign = "-" if at < 0 else ""
    return f" @ {sign}{abs(at) // 1000}.{abs(at) % 1000:03d}"


def _offset(node: Selector | Subquery) -> str:
    if node.offset_expr is not None:
        text = _duration(node.offset_expr)
        # `offset (1m) * 2` reads as one duration; its parentheses around the first part alone would be lost.
        bare = node.offset_expr.wrapped or len(node.offset_expr.operands) < 2 or node.offset_expr.op in ("min_of", "max_of")
        return f" offset {text}" if bare else f" offset ({text})"
    return f" offset {format_duration(node.offset)}" if node.offset else ""


def _span(ms: int, expr: Duration | None) -> str:
    return format_duration(ms) if expr is None else _duration(expr)


def _duration(root: Duration) -> str:
    """A duration expression, in the parentheses it was written in."""
    texts: dict[int, str] = {}
    for node in walk(root):
        assert isinstance(node, Duration), "durations are made of durations"
        parts = [texts[id(o)] for o in node.operands]
        if node.op == "number":
            text = format_duration(round(node.value * 1000)) if node.written else go_float(node.value)
        elif node.op in ("step", "range", "min_of", "max_of"):
            text = f"{node.op}({', '.join(parts)})"
        else:
            text = f" {node.op} ".join(parts) if len(parts) > 1 else node.op + parts[0]
        texts[id(node)] = f"({text})" if node.wrapped else text
    return texts[id(root)]


def _modifiers(node: Selector | Subquery) -> str:
    extra = ""
    if isinstance(node, Selector):
        extra = (" anchored" if node.anchored else "") + (" smoothed" if node.smoothed else "")
    return _at(node.at) + _offset(node) + extra


def _selector(node: Selector) -> str:
    if node.name and not is_legacy_metric_name(node.name):
        parts = [quoted(node.name), *sorted(_matcher(m) for m in node.matchers[:-1])]
        return "{" + ",".join(parts) + "}"
    shown = node.matchers[:-1] if node.name else node.matchers
    if not shown:
        return node.name or "{}"
    # In order of their texts, as Prometheus prints them; a name of its own form comes first.
    names = [m for m in shown if m.name == METRIC_NAME and m.op == "=" and not node.name and not is_legacy_metric_name(m.value)]
    parts = [*(quoted(m.value) for m in names), *sorted(_matcher(m) for m in shown if m not in names)]
    return node.name + "{" + ",".join(parts) + "}"


def _text(node: Node, texts: dict[int, str]) -> str:
    if isinstance(node, Number):
        return format_duration(round(node.value * 1000)) if node.duration else go_float(node.value)
    if isinstance(node, Text):
        return quoted(node.broken or node.value)
    if isinstance(node, Selector):
        return _selector(node) + _modifiers(node)
    if isinstance(node, Range):
        return f"{_selector(node.selector)}[{_span(node.range, node.range_expr)}]{_modifiers(node.selector)}"
    if isinstance(node, Subquery):
        return texts[id(node.expr)] + _window(node)
    if isinstance(node, Paren):
        return f"({texts[id(node.expr)]})"
    if isinstance(node, Unary):
        return node.op + texts[id(node.expr)]
    if isinstance(node, Call):
        return f"{node.func.name}({', '.join(texts[id(a)] for a in node.args)})"
    if isinstance(node, Binary):
        return f"{texts[id(node.lhs)]} {_operator(node)} {texts[id(node.rhs)]}"
    assert isinstance(node, Aggregate), f"no text for a {type(node).__name__}"
    return f"{_aggregation(node)}({', '.join(texts[id(c)] for c in node.children)})"


def _window(node: Subquery) -> str:
    step = _span(node.step, node.step_expr) if node.step or node.step_expr else ""
    return f"[{_span(node.range, node.range_expr)}:{step}]{_modifiers(node)}"


def _aggregation(node: Aggregate) -> str:
    names = ", ".join(map(_name, node.grouping))
    if node.without:
        return f"{node.op} without ({names}) "
    return f"{node.op} by ({names}) " if node.grouping else node.op


def _operator(node: Binary) -> str:
    """The operator with all that stands between it and its right side."""
    matching = node.matching
    out = node.op + (" bool" if node.bool_ else "")
    if matching.explicit and (matching.labels or matching.on or matching.group):
        out += f" {'on' if matching.on else 'ignoring'} ({', '.join(map(_name, matching.labels))})"
    if matching.group is not None:
        out += f" group_{matching.group} ({', '.join(map(_name, matching.include))})"
    if matching.fill_left is not None and matching.fill_left == matching.fill_right:
        return f"{out} fill ({go_float(matching.fill_left)})"
    if matching.fill_left is not None:
        out += f" fill_left ({go_float(matching.fill_left)})"
    if matching.fill_right is not None:
        out += f" fill_right ({go_float(matching.fill_right)})"
    return out


_Lines = list[tuple[int, str]]
"""Lines of a formatted query, each with how far it is indented."""

_Finish = Callable[[_Lines], None]
"""What is left to be done once the parts of a node have their lines."""


def _short_texts(root: Node) -> dict[int, str]:
    """The nodes (by id) that stay on one line, with their texts."""
    texts: dict[int, str] = {}
    for node in walk(root):
        if all(id(c) in texts for c in node.children):
            text = _text(node, texts)
            if len(text) <= MAX_LINE or isinstance(node, (Number, Text, Selector, Range)):
                texts[id(node)] = text
    return texts


def _line(depth: int, text: str) -> _Finish:
    return lambda lines: lines.append((depth, text))


def _behind(text: str) -> _Finish:
    def finish(lines: _Lines) -> None:
        depth, last = lines[-1]
        lines[-1] = depth, last + text

    return finish


def _before(at: int, depth: int, text: str) -> _Finish:
    def finish(lines: _Lines) -> None:
        # A sign stands where the node does, however far its first line is indented.
        lines[at] = depth, text + lines[at][1]

    return finish


def _laid_out(node: Node, depth: int, texts: dict[int, str], lines: _Lines) -> list[tuple[int, Node | _Finish]]:
    """The parts of a node and what is to be done with their lines, in order; a node of one line is written down at once."""
    if (text := texts.get(id(node))) is not None and (len(text) <= MAX_LINE or not node.children or isinstance(node, Range)):
        lines.append((depth, text))
        return []
    if isinstance(node, Subquery):
        return [(depth, node.expr), (depth, _behind(_window(node)))]
    if isinstance(node, Paren):
        return [(depth, _line(depth, "(")), (depth + 1, node.expr), (depth, _line(depth, ")"))]
    if isinstance(node, Unary):
        return [(depth, node.expr), (depth, _before(len(lines), depth, node.op))]
    if isinstance(node, Binary):
        return [(depth + 1, node.lhs), (depth, _line(depth, _operator(node))), (depth + 1, node.rhs)]
    head = node.func.name if isinstance(node, Call) else _aggregation(node) if isinstance(node, Aggregate) else ""
    parts: list[tuple[int, Node | _Finish]] = [(depth, _line(depth, f"{head}("))]
    for i, child in enumerate(node.children):
        parts.append((depth + 1, child))
        if i < len(node.children) - 1:
            parts.append((depth, _behind(",")))
    return [*parts, (depth, _line(depth, ")"))]


def pinned(root: Node, time: int) -> str:
    """The query with `@ time` (ms) on every selector and outermost subquery that has none: the same answer at any time."""
    texts: dict[int, str] = {}
    inside: set[int] = set()
    for node in walk(root):
        if isinstance(node, Subquery):
            inside.update(id(n) for n in walk(node.expr))
    for node in walk(root):
        shown = node
        if id(node) not in inside:
            if isinstance(node, (Selector, Subquery)) and node.at is None:
                shown = replace(node, at=time)
            elif isinstance(node, Range) and node.selector.at is None:
                shown = replace(node, selector=replace(node.selector, at=time))
        texts[id(node)] = _text(shown, texts)
    return texts[id(root)]
