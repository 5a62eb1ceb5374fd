"""The short way to the tree of a query that has no fault: tokens by one regular expression, and no record of what faults are told by.

Nearly every text that is read is well formed, and a dashboard's panel waits for it. The tree is that of `parse.py`, which reads
whatever is not understood here once more, and says what is wrong with it: comments, numbers and brackets that are not plain, and every
fault. Not here: types (`check.py`), what rules make (`actions.py`), the tables (`parse.py`).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from vedette.promql.actions import Actions
from vedette.promql.errors import ParseError
from vedette.promql.lexer import BEFORE_PAREN, OPERATORS, WORDS, Token
from vedette.promql.nodes import Node
from vedette.promql.settings import Features

LONGEST = 2000
"""Characters of the longest text that is read here: it cannot nest too deeply, nor hold anybody up."""

_BLANK = r"[ \t\n\r]*"
_SPAN = r"[0-9]+(?:ms|[smhdwy])"
_TOKEN = re.compile(
    rf"{_BLANK}(?:"
    r"([a-zA-Z_:][a-zA-Z0-9_:]*)"
    r"|(==|!=|<=|>=|=~|!~|[-+*/%^@<>=(),{}])(?![/~])"
    r'|("(?:[^"\\\n]|\\[^\n])*"|\'(?:[^\'\\\n]|\\[^\n])*\'|`[^`]*`)'
    rf"|\[{_BLANK}({_SPAN}){_BLANK}(?:(:){_BLANK}({_SPAN})?{_BLANK})?(\])"
    rf"|([0-9]+(?:\.[0-9]+)?|{_SPAN})(?![a-zA-Z0-9_.])"
    r"|(\Z)"
    r"|(.))"
)
_WORD, _SYMBOL, _STRING, _RANGE, _COLON, _STEP, _BRACKET, _NUMBER, _END, _OTHER = range(1, 11)

_KINDS = {"(": "LEFT_PAREN", ")": "RIGHT_PAREN", "{": "LEFT_BRACE", "}": "RIGHT_BRACE", ",": "COMMA", "=": "EQL", **OPERATORS}
_IN_BRACES = frozenset(("=", "!=", "=~", "!~", ",", "}"))
_OF_BRACES = frozenset(("=~", "!~", "}"))
"""What has no place outside of braces."""

_new = tuple.__new__


class _Odd(Exception):
    """A text that is read the long way."""


def _tokens(text: str) -> Iterator[Token]:
    """What `lexer.tokens` gives. Raises `_Odd` for what is not plain."""
    braces = False
    for found in _TOKEN.finditer(text):
        kind = found.lastindex
        assert kind is not None, "one of the groups matches whatever comes"
        if kind == _BRACKET and not braces:
            yield from _bracketed(found)
            continue
        word, end = found[kind], found.end()
        if kind == _SYMBOL:
            if word not in _IN_BRACES if braces else word in _OF_BRACES:
                raise _Odd
            braces = word == "{" or (braces and word != "}")
            name = _KINDS[word]
        elif kind == _STRING:
            name = "STRING"
        elif kind == _WORD:
            if braces:
                name = "IDENTIFIER"
                if ":" in word:
                    raise _Odd
            else:
                name = WORDS.get(word.lower()) or ("METRIC_IDENTIFIER" if ":" in word else "IDENTIFIER")
                if name in BEFORE_PAREN:
                    raise _Odd
        elif braces or kind == _OTHER:
            raise _Odd
        elif kind == _NUMBER:
            name = "NUMBER" if word[-1].isdigit() else "DURATION"
        else:
            yield _new(Token, ("$END", "", end, end))
            return
        yield _new(Token, (name, word, end - len(word), end))


def _bracketed(found: re.Match[str]) -> Iterator[Token]:
    """The tokens of a range or a subquery's."""
    opened = found.string.index("[", found.start())
    yield _new(Token, ("LEFT_BRACKET", "[", opened, opened + 1))
    yield _new(Token, ("DURATION", found[_RANGE], *found.span(_RANGE)))
    if found[_COLON]:
        yield _new(Token, ("COLON", ":", *found.span(_COLON)))
    if found[_STEP]:
        yield _new(Token, ("DURATION", found[_STEP], *found.span(_STEP)))
    yield _new(Token, ("RIGHT_BRACKET", "]", *found.span(_BRACKET)))


class Move(NamedTuple):
    """What is done when a token comes: in `state`, once all rules that only pass a value on are applied, go to `target` with the token.

    Where that is below 0, `act` on the last `size` values instead, which makes a `name`.
    """

    state: int
    target: int
    act: Callable[..., Any] | None
    name: str
    size: int


class Tables:
    """The tables of `parse.construct`, and the moves that were made by them so far."""

    def __init__(self, tables: Mapping[str, Any]) -> None:
        self.states: Sequence[Mapping[str, int]] = tables["states"]
        self.start: int = tables["start"]
        self.accept: int = tables["accept"]
        self._rules: list[tuple[str, str, int]] = tables["rules"]
        self.moves: dict[tuple[int, int, str], Move | None] = {}
        """By the state below, the state and the kind of token that comes; None for a fault. As many as the grammar has, at the most."""

    def move(self, below: int, state: int, kind: str) -> Move | None:
        """Work out a move, and keep it."""
        move = self.moves[below, state, kind] = self._worked_out(below, state, kind)
        return move

    def _worked_out(self, below: int, state: int, kind: str) -> Move | None:
        while (target := self.states[state].get(kind)) is not None:
            if target >= 0:
                return Move(state, target, None, "", 0)
            alias, name, size = self._rules[-1 - target]
            if alias:
                return Move(state, target, getattr(Actions, alias), name, size)
            assert size == 1, "a rule without an action passes its only value on"
            state = self.states[below][name]
            if state == self.accept:
                return Move(state, 0, None, "", 0)
        return None


def read(text: str, features: Features, tables: Tables) -> Node | None:
    """The tree of a query; None where it is to be read the long way."""
    if len(text) > LONGEST:
        return None
    try:
        return _driven(text, Actions(text, features), tables)
    except (_Odd, ParseError):
        return None


def _driven(text: str, actions: Actions, tables: Tables) -> Node | None:
    states, moves, accept = tables.states, tables.moves, tables.accept
    # Beside each value the state that it was read in; the one that follows from the last of them is `state`.
    below: list[int] = [-1]
    values: list[Any] = [None]
    state = tables.start
    for token in _tokens(text):
        kind = token.kind
        while True:
            key = below[-1], state, kind
            move = moves[key] if key in moves else tables.move(*key)
            if move is None:
                return None
            state, target, act, name, size = move
            if act is None:
                break
            if size == 1:
                values[-1] = act(actions, values[-1])
                state = states[below[-1]][name]
            elif size:
                given = values[-size:]
                del values[-size:]
                values.append(act(actions, *given))
                if size > 1:
                    del below[1 - size :]
                state = states[below[-1]][name]
            else:
                values.append(act(actions))
                below.append(state)
                state = states[state][name]
        if state == accept:
            root = values[-1]
            assert isinstance(root, Node), "a query is a node"
            return root
        below.append(state)
        values.append(token)
        state = target
    return None
