"""Text to a checked syntax tree: LALR tables from `grammar.lark`, driven without recursion.

What is well formed goes a shorter way (`wellformed.py`); here the rest is read, and told what is wrong with it.

The tables are kept beside the grammar (`grammar.json`, written by `python -m vedette.promql.parse`), so that a running
server need not construct them; where the grammar was edited since, they are constructed anew by Lark.
"""

from __future__ import annotations

import hashlib
import json
from functools import lru_cache
from pathlib import Path
from typing import Any

from vedette.promql.actions import Actions
from vedette.promql.check import check
from vedette.promql.errors import ParseError, parse_error
from vedette.promql.lexer import Token, describe, tokens
from vedette.promql.nodes import Duration, Node, Range, Selector
from vedette.promql.settings import Features
from vedette.promql.unexpected import unexpected, usual_reduction
from vedette.promql.wellformed import Tables, read

_HERE = Path(__file__).parent
_GRAMMAR = _HERE / "grammar.lark"
_TABLES = _HERE / "grammar.json"

MAX_DEPTH = 4000
"""Most levels that an expression may nest."""

MAX_BYTES = 256 << 10
"""Longest query text accepted, in UTF-8 bytes."""

NO_FEATURES = Features()


def construct() -> dict[str, Any]:
    """The tables of the grammar, by Lark.

    `rules` are (alias or "", left-hand side, number of symbols). `states[i]` maps a terminal to a state to shift to (>= 0)
    or to a rule to reduce by (-1 - rule), and a nonterminal to the state to go to. `start` is the first state, `accept`
    the one behind the whole query.
    """
    from lark import Lark
    from lark.lexer import Lexer

    class NoLexer(Lexer):
        def __init__(self, conf: Any) -> None:
            pass

        def lex(self, *args: Any) -> Any:
            raise AssertionError("the tables are driven by `_drive`, not by Lark")

    grammar = _GRAMMAR.read_text(encoding="utf-8")
    # No public accessor offers the tables; a test holds that this one still does.
    table: Any = Lark(grammar, parser="lalr", lexer=NoLexer).parser.parser._parse_table
    numbers = {state: i for i, state in enumerate(table.states)}
    rules: list[tuple[str, str, int]] = []
    known: dict[Any, int] = {}
    states: list[dict[str, int]] = []
    for actions in table.states.values():
        row: dict[str, int] = {}
        for symbol, (action, target) in actions.items():
            if action.name == "Shift":
                row[symbol] = numbers[target]
            else:
                if target not in known:
                    known[target] = len(rules)
                    rules.append((target.alias or "", str(target.origin.name), len(target.expansion)))
                row[symbol] = -1 - known[target]
        states.append(dict(sorted(row.items())))
    return {
        "grammar": hashlib.sha256(grammar.encode()).hexdigest(),
        "rules": rules,
        "states": states,
        "start": numbers[table.start_states["start"]],
        "accept": numbers[table.end_states["start"]],
    }


@lru_cache(maxsize=1)
def _tables() -> dict[str, Any]:
    tables: dict[str, Any] = json.loads(_TABLES.read_text(encoding="utf-8"))
    if tables["grammar"] != hashlib.sha256(_GRAMMAR.read_bytes()).hexdigest():
        tables = construct()
    # The reduction of a state that has no other choice, but for the one that ends all.
    whole = next(i for i, (_, name, _) in enumerate(tables["rules"]) if name == "start")
    rows = [set(row.values()) - {-1 - whole} for row in tables["states"]]
    return {**tables, "certain": [min(row) if len(row) == 1 and min(row) < 0 else None for row in rows]}


@lru_cache(maxsize=1)
def _short_tables() -> Tables:
    return Tables(_tables())


def parse(text: str, features: Features = NO_FEATURES) -> Node:
    """The checked tree of a query. Raises `ParseError` with line and column."""
    _refuse_length(text)
    root = parse_unchecked(text, features)
    check(root, text)
    return root


def _refuse_length(text: str) -> None:
    if len(text) > MAX_BYTES or len(text.encode("utf-8", "surrogatepass")) > MAX_BYTES:
        raise parse_error(text, 0, f"query is longer than {MAX_BYTES} bytes")


def parse_unchecked(text: str, features: Features = NO_FEATURES) -> Node:
    """The tree of a query whose types nobody has looked at. Raises `ParseError`."""
    return read(text, features, _short_tables()) or _drive(text, features)


def parse_selector(text: str, *, everything: bool = False) -> Selector:
    """A plain series selector (`match[]`). Raises `ParseError` for anything else, at the first token that is none of a selector's.

    One that a series without labels would pass is refused as well, unless `everything` may be selected.
    """
    _refuse_length(text)
    begun = inside = closed = False
    for token in tokens(text):
        if token.kind == "$END":
            if not begun:
                raise parse_error(text, token.start, "unexpected end of input")
            break
        if inside:
            closed, inside = token.kind == "RIGHT_BRACE", token.kind != "RIGHT_BRACE"
        elif token.kind == "LEFT_BRACE" and not closed:
            inside = True
        elif begun or closed or token.kind == "NUMBER" or (not token.text[0].isidentifier() and token.text[0] != ":"):
            raise parse_error(text, token.start, f"unexpected {describe(token)}")
        begun = True
    node = parse_unchecked(text)
    assert isinstance(node, Selector), "nothing else is made of these tokens"
    if all(m.matches_empty for m in node.matchers):
        if everything:
            return node
        raise ParseError("match[] must contain at least one non-empty matcher")
    check(node, text)
    return node


class _Reader:
    """What was read so far: the states, and beside each its symbol and value (a `Token` for a terminal)."""

    __slots__ = ("_actions", "_depths", "_rules", "_states", "_text", "stack", "symbols", "values")

    def __init__(self, text: str, features: Features, tables: dict[str, Any]) -> None:
        self._text = text
        self._states: list[dict[str, int]] = tables["states"]
        self._rules: list[tuple[str, str, int]] = tables["rules"]
        self._actions = Actions(text, features)
        self._depths: dict[int, int] = {}
        self.stack: list[int] = [tables["start"]]
        self.symbols: list[str] = [""]
        self.values: list[Any] = [None]

    def shift(self, state: int, token: Token) -> None:
        """Take in a token."""
        self.stack.append(state)
        self.symbols.append(token.kind)
        self.values.append(token)

    def reduce(self, rule: int) -> Any:
        """Make one symbol of the last ones by a rule, and answer its value. Raises `ParseError` for what none can be made of."""
        stack, symbols, values = self.stack, self.symbols, self.values
        alias, name, size = self._rules[rule]
        if size == 1 and not alias:
            value = values.pop()
            del stack[-1], symbols[-1]
        elif size:
            value = getattr(self._actions, alias)(*values[-size:])
            del stack[-size:], symbols[-size:], values[-size:]
        else:
            value = getattr(self._actions, alias)()
        if alias and isinstance(value, Node) and not isinstance(value, Duration):
            # A range's selector is no value of its own: it may be one that was made with the range.
            below = 1 if isinstance(value, Range) else max([self._depths[id(c)] for c in value.children], default=0)
            self._depths[id(value)] = below + 1
            if below >= MAX_DEPTH:
                raise parse_error(self._text, value.start, f"expression is nested more than {MAX_DEPTH} levels deep")
        stack.append(self._states[stack[-1]][name])
        symbols.append(name)
        values.append(value)
        return value

    def unexpected(self, token: Token) -> ParseError:
        """What is said of a token that cannot come here. Raises `ParseError` where what is complete by now has a fault itself."""
        if len(self.stack) == 1 and token.kind == "$END":
            return parse_error(self._text, 0, "no expression found in input")
        found = unexpected(self._text, token, self.stack, list(zip(self.symbols, self.values, strict=True)), (self._states, self._rules))
        while (rule := usual_reduction(self._states[self.stack[-1]])) is not None:
            _, name, size = self._rules[rule]
            if name not in self._states[self.stack[-1 - size]]:
                break
            self.reduce(rule)
        return found


def _drive(text: str, features: Features) -> Node:
    tables = _tables()
    states: list[dict[str, int]] = tables["states"]
    certain: list[int | None] = tables["certain"]
    reader = _Reader(text, features, tables)
    stack = reader.stack
    stream = tokens(text)
    token: Token | None = None
    while True:
        # What is complete whatever follows is made before the next token is looked at: so the fault that comes first is told.
        target = certain[stack[-1]]
        if target is None:
            if token is None:
                token = next(stream)
            target = states[stack[-1]].get(token.kind)
            if target is None:
                raise reader.unexpected(token)
            if target >= 0:
                reader.shift(target, token)
                token = None
                continue
        value = reader.reduce(-1 - target)
        if stack[-1] == tables["accept"]:
            assert isinstance(value, Node)
            return value


if __name__ == "__main__":
    _TABLES.write_text(json.dumps(construct(), separators=(",", ":")) + "\n", encoding="utf-8")
