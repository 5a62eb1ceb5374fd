"""The text that a match must have: told right, never more than is sure."""

from __future__ import annotations

import pytest
import re2
from hypothesis import given
from hypothesis import strategies as st

from vedette.logs.literals import required
from vedette.logs.query import LineFilter, LogQuery, where_of


@pytest.mark.parametrize(
    ("pattern", "text"),
    [
        ("session:dead[0-9a-f]+", "session:dead"),
        (r"duration=7\.\d+s", "duration=7."),
        (r"^GET /api/v1 (\d+|x) took$", "GET /api/v1 "),
        ("colou?r of it", "r of it"),
        ("ab*cde", "cde"),
        ("ab+cde", "cde"),
        ("abcdef{2,3}gh", "abcde"),
        ("a{2", ""),
        ("one|another", ""),
        ("(one|another)", ""),
        ("(one|another) thing", " thing"),
        ("(?i)caseless", ""),
        ("x(?i:y)caseless", ""),
        (r"\Qa.b\E", ""),
        (r"\pNumber", ""),
        (r"\x41bc", ""),
        ("[abc]def", "def"),
        ("[^]]def", "def"),
        ("[[:alpha:]]def", ""),
        ("(?P<name>a)bcd", "bcd"),
        ("a.b", "a"),
        ("größe=.", "größe="),
        ("trailing\\", ""),
        ("", ""),
    ],
)
def test_the_longest_run(pattern: str, text: str) -> None:
    assert required(pattern) == text


PIECES = [
    "ab", "c", "d", ".", "*", "+", "?", "|", "(", ")", "(?:", "(?i)", "(?P<n>", "[", "]", "[^", "{2}", "{1,}", "{,2}", "{",
    "}", r"\d", r"\.", r"\b", r"\Q", r"\E", r"\x41", "^", "$", "-", "ß",
]  # fmt: skip
_QUIET = re2.Options()
_QUIET.log_errors = False


@given(st.lists(st.sampled_from(PIECES), max_size=9).map("".join), st.text(alphabet="abcdABC.-ßA 1", max_size=12))
def test_what_matches_has_it(pattern: str, text: str) -> None:
    try:
        compiled = re2.compile(pattern, _QUIET)
    except re2.error:
        required(pattern)  # a bad expression is refused elsewhere; here it only must not fail
        return
    if compiled.search(text) is not None:
        assert required(pattern) in text


def test_bytes_are_searched_before_the_expression() -> None:
    where = where_of(LogQuery(lines=(LineFilter("regex", "session:dead[0-9]+"),)))
    assert where.sql == "true and contains(message, ?) and regexp_matches(message, ?)"
    assert where.values == ["session:dead", "session:dead[0-9]+"]
    where = where_of(LogQuery(lines=(LineFilter("regex", "session:dead[0-9]+", negated=True),)))
    assert where.values == ["session:dead[0-9]+"]
