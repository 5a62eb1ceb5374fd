"""The short way gives the tree of the long one wherever it gives any, whatever is done to a text."""

from __future__ import annotations

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from vedette.promql import parse as parsing
from vedette.promql import wellformed
from vedette.promql.errors import ParseError
from vedette.promql.lexer import Token, tokens
from vedette.promql.nodes import Node, walk
from vedette.promql.settings import Features

EVERYTHING = Features(experimental_functions=True, extended_range_selectors=True, fill_modifiers=True)
TABLES = wellformed.Tables(parsing._tables())

PLAIN = (
    "1",
    "0.5 + 017",
    "5m",
    "Inf - NaN",
    "'text'",
    'vector(1) > bool 0.5 or ("a")',
    "up",
    "  up\t\n ",
    "job:rate:sum5m{x='y',}",
    "{}",
    '{"a metric", job="x"}',
    '{__name__=~"a|b", c!="", d!~`e\\d`}',
    r'a{b="\"\\\n\x41é"}',
    'by{by="by",on=~"on"}',
    "sum(by)",
    "-a ^ -b ^ c",
    "+1 * -2 % 3 atan2 4",
    "a == bool b != c >= d <= e < f > g",
    "a and on (x, 'y z') b unless ignoring () c or d",
    "a * on (x) group_left (y, z) b / ignoring (x) group_right b",
    "rate(a[5m])",
    "rate(a [ 5m ] offset 1h @ start())",
    "a @ 12.5 offset -5m",
    "a offset 5m @ end()",
    "a offset 30",
    "max_over_time(rate(a[5m])[1h:1m])",
    "avg_over_time((a)[1h:] @ 3 offset 1m)",
    "sum by (a, b) (c)",
    "SUM(c) WITHOUT (a)",
    "topk(3, a) by (b)",
    "count_values without (x,) ('le', a)",
    "limitk(2, a)",
    "absent(a) + time()",
    "label_replace(a, 'b', '$1', 'c', '(.*)')",
    "(((a)))",
    "a smoothed + rate(b[5m] anchored)",
    "Start + end + STEP",
)
ODD = (
    "",
    "a # why",
    "a[5m30s]",
    "a[step()]",
    "a[5]",
    "1e3",
    "0x1f",
    "1_000",
    ".5",
    "5.",
    "min_of(1, 2)",
    "a + fill(1) b",
    "a </ 1",
    "a >/ 1",
    "{a:b='c'}",
    "a{b=='c'}",
    "a =~ 'b'",
    "a = b",
    "a{b=1}",
    "a{b='c'",
    "a]",
    "a[5m",
    "a{b='\\q'}",
    "'broken",
    "a{b='c\nd'}",
    "a!b",
    "a ~ b",
    "a==~b",
    "a\x00",
    "é",
    "5é",
    "a\u00a0+ b",
    "foo(",
    "a b",
    "sum(a, b)",
    "rate(a)[5m]",
    "nosuch(a)",
)


def short(text: str, features: Features = EVERYTHING) -> Node | None:
    return wellformed.read(text, features, TABLES)


def agrees(text: str) -> bool:
    """Whether the short way was taken; then the long one gives the same tree from the same tokens."""
    found = short(text)
    if found is None:
        return False
    assert repr(found) == repr(parsing._drive(text, EVERYTHING))
    assert list(wellformed._tokens(text)) == list(tokens(text))
    return True


@pytest.mark.parametrize("text", PLAIN)
def test_what_is_plain_is_read_at_once(text: str) -> None:
    assert agrees(text)


@pytest.mark.parametrize("text", ODD)
def test_what_is_not_is_left_to_the_long_way(text: str) -> None:
    assert short(text) is None


@pytest.mark.parametrize("features", [Features(), Features(duration_expr=False), EVERYTHING])
@pytest.mark.parametrize("text", ["limitk(2, a)", "rate(a[5m] anchored)", "mad_over_time(a[5m])", "a offset 5m", "a[1m:5m]"])
def test_what_is_off_is_off_here_too(text: str, features: Features) -> None:
    try:
        long = repr(parsing._drive(text, features))
    except ParseError:
        assert short(text, features) is None
    else:
        assert repr(short(text, features)) == long


PIECES = st.sampled_from(
    [*PLAIN, *ODD, *"()[]{},=!~<>+-*/%^@:#'\"`\\\n \t.0159eamsbx", "5m", "by", "on", "bool", "offset", "=~", "a[5m:1m]"]
)


@settings(max_examples=400)
@given(st.sampled_from(PLAIN + ODD), st.lists(st.tuples(st.integers(0, 60), st.integers(0, 3), PIECES), max_size=3))
@example("a", [])
@example("sum(a)", [(4, 0, "#")])
def test_a_text_that_was_tampered_with(text: str, edits: list[tuple[int, int, str]]) -> None:
    for at, removed, piece in edits:
        text = text[:at] + piece + text[at + removed :]
    agrees(text)


@settings(max_examples=200)
@given(st.lists(PIECES, max_size=12).map("".join))
def test_any_text(text: str) -> None:
    agrees(text)


def test_blanks_and_digits_without_end_take_no_longer_than_others() -> None:
    # Where alternatives overlapped, each blank would double the time.
    for text in (" " * 1900 + "$", "a" + "\n" * 1900, "1" * 1900 + "x", "[" + " " * 1900, "'" + "\\a" * 900, "a" * 1999 + "é"):
        assert short(text) is None or text.strip() == "a"


def test_a_long_text_is_left_to_the_long_way() -> None:
    sum_of = "+".join(["a"] * (wellformed.LONGEST // 2))
    assert len(sum_of) < wellformed.LONGEST
    found = short(sum_of)
    assert found is not None
    # Too deep for Python to show.
    places = [(type(n), n.start, n.end) for n in walk(parsing._drive(sum_of, EVERYTHING))]
    assert [(type(n), n.start, n.end) for n in walk(found)] == places
    assert short(sum_of + " + a") is None
    assert len(list(walk(parsing.parse(sum_of + " + a")))) == len(places) + 2


def test_moves_are_as_many_as_the_grammar_has(monkeypatch: pytest.MonkeyPatch) -> None:
    tables = wellformed.Tables(parsing._tables())
    assert wellformed.read("sum(a) / b", EVERYTHING, tables) is not None
    known = len(tables.moves)
    for i in range(50):
        assert wellformed.read(f"sum(a{i}) / b{i}", EVERYTHING, tables) is not None
    assert 0 < len(tables.moves) == known


def test_a_fault_is_told_as_the_long_way_tells_it() -> None:
    for text in ODD:
        try:
            parsing._drive(text, EVERYTHING)
        except ParseError as long:
            with pytest.raises(ParseError) as told:
                parsing.parse_unchecked(text, EVERYTHING)
            assert str(told.value) == str(long)
            assert told.value.where == long.where


def test_tokens_are_the_lexers() -> None:
    assert next(iter(wellformed._tokens(" up"))) == Token("IDENTIFIER", "up", 1, 3)
