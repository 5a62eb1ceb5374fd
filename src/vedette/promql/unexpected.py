"""What is said of a token that cannot come where it stands: in what context, and what could have come, as Prometheus words it.

Prometheus' parser is made by goyacc: before it complains it finishes what could be finished, whatever follows, and it names the
nearest construct around that has words for a fault. Both are done here, on the tables of `parse.py`.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence

from vedette.promql.errors import ParseError, parse_error
from vedette.promql.lexer import Token, describe, quoted

States = Sequence[Mapping[str, int]]
Rules = Sequence[tuple[str, str, int]]

_DURATIONS = "number, duration, step(), or range()"
_MATCH_OPS = frozenset(("EQL", "NEQ", "EQL_REGEX", "NEQ_REGEX", "match_op"))
_IN_BRACES = frozenset(("matcher_list", "matcher", "COMMA", "IDENTIFIER", "STRING", "LEFT_BRACE")) | _MATCH_OPS
_GROUPERS = frozenset(("BY", "WITHOUT", "ON", "IGNORING", "GROUP_LEFT", "GROUP_RIGHT"))
_UNFINISHED = frozenset(
    ("ADD", "SUB", "MUL", "DIV", "MOD", "POW", "COMMA", "LEFT_PAREN", "LEFT_BRACKET", "COLON", "STEP", "RANGE", "MIN_OF", "MAX_OF")
)


def unexpected(
    text: str, token: Token, stack: Sequence[int], read: Sequence[tuple[str, object]], tables: tuple[States, Rules]
) -> ParseError:
    """The error of `token` behind what was read: the states, and beside each its symbol and value (a `Token` for a terminal)."""
    symbols = [symbol for symbol, _ in read]
    top, value = read[-1]
    if isinstance(value, Token):
        if symbols[-2:] == ["args", "COMMA"]:
            return parse_error(text, value.start, "trailing commas not allowed in function call args")
        if top == "METRIC_IDENTIFIER" and _among_labels(symbols):
            return parse_error(text, value.start, f"unexpected metric identifier {quoted(value.text)} in grouping opts, expected label")
    context, expected = _context(symbols, stack, tables)
    message = f"unexpected {describe(token)}" + (f" in {context}" if context else "") + (f", expected {expected}" if expected else "")
    return parse_error(text, token.start, message)


def _context(symbols: list[str], stack: Sequence[int], tables: tuple[States, Rules]) -> tuple[str, str]:
    if (inside := _inside_braces(symbols)) is not None:
        return inside
    if _among_labels(symbols):
        return "grouping opts", "label" if symbols[-1] in ("LEFT_PAREN", "COMMA") else '"," or ")"'
    if (inside := _inside_brackets(symbols)) is not None:
        return inside
    if symbols[-1] in ("GROUP_LEFT", "GROUP_RIGHT"):
        return "grouping opts", '"("'
    finished = _finished(symbols, stack, tables)
    for depth in range(len(finished) - 1, 0, -1):
        symbol, before = finished[depth], finished[depth - 1]
        if symbol == "OFFSET" and before == "modified":
            return "offset", _DURATIONS
        if symbol == "AT":
            return "@", "timestamp"
        if symbol in _GROUPERS and before in ("aggregate_op", "body", "bool", "labels"):
            return "grouping opts", '"("'
        if symbol == "aggregate_op":
            return "aggregation", ""
    return "", ""


def _finished(symbols: list[str], stack: Sequence[int], tables: tuple[States, Rules]) -> list[str]:
    """The symbols once all that could be complete is taken as such: in each state by the rule that most tokens would reduce by."""
    states, rules = tables
    kinds, path = list(symbols), list(stack)
    while True:
        rule = usual_reduction(states[path[-1]])
        if rule is None:
            return kinds
        _, name, size = rules[rule]
        if size:
            del kinds[-size:], path[-size:]
        if name not in states[path[-1]]:
            return kinds
        path.append(states[path[-1]][name])
        kinds.append(name)


def usual_reduction(row: Mapping[str, int]) -> int | None:
    """The rule by which most tokens would reduce in a state, None where none would."""
    reductions = Counter(-1 - target for target in row.values() if target < 0)
    return reductions.most_common(1)[0][0] if reductions else None


def _inside_braces(symbols: list[str]) -> tuple[str, str] | None:
    top, below = symbols[-1], symbols[-2] if len(symbols) > 1 else ""
    depth = len(symbols) - 1
    while depth > 0 and symbols[depth] in _IN_BRACES and symbols[depth] != "LEFT_BRACE":
        depth -= 1
    if symbols[depth] != "LEFT_BRACE":
        return None
    if top in ("LEFT_BRACE", "COMMA"):
        return "label matching", 'identifier or "}"'
    if top in _MATCH_OPS:
        return "label matching", "string"
    if top == "IDENTIFIER" and below not in _MATCH_OPS:
        return "label matching", "label matching operator"
    return "label matching", '"," or "}"'


def _among_labels(symbols: list[str]) -> bool:
    """Whether a parenthesis of labels (`by (…`) is open."""
    depth = len(symbols) - 1
    while depth > 0 and symbols[depth] not in ("LEFT_PAREN", "labels", "RIGHT_PAREN"):
        depth -= 1
    return depth > 0 and symbols[depth] == "LEFT_PAREN" and symbols[depth - 1] in _GROUPERS


def _inside_brackets(symbols: list[str]) -> tuple[str, str] | None:
    """The context where brackets are open: what could follow depends on whether the duration before could end here."""
    depth, open_ = len(symbols) - 1, 0
    while depth > 0 and symbols[depth] not in ("LEFT_BRACKET", "COLON"):
        if symbols[depth] == "RIGHT_BRACKET":
            return None
        open_ += {"LEFT_PAREN": 1, "RIGHT_PAREN": -1}.get(symbols[depth], 0)
        depth -= 1
    if depth == 0:
        return None
    whole = open_ == 0 and symbols[-1] not in _UNFINISHED
    if symbols[depth] == "COLON":
        return "subquery selector", '"]"' if whole else f'{_DURATIONS.removesuffix(" or range()")} range(), or "]"'
    return ("subquery or range", '":" or "]"') if whole else ("subquery or range selector", _DURATIONS)
