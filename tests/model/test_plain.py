"""What needs no engine is told as the engine tells it."""

from __future__ import annotations

import pytest
import re2
from hypothesis import example, given, settings
from hypothesis import strategies as st

from vedette.model import matchers, plain
from vedette.model.matchers import MatchOp

_OPTIONS = re2.Options()
_OPTIONS.dot_nl = True
_OPTIONS.log_errors = False


def by_engine(pattern: str, text: str) -> bool:
    return re2.compile(f"(?:{pattern})", _OPTIONS).fullmatch(text) is not None


@pytest.mark.parametrize(
    ("pattern", "passing", "failing"),
    [
        ("a|b", ["a", "b"], ["", "ab", "c"]),
        ("host-.*", ["host-", "host-1", "host-\n"], ["", "host", "a host-1"]),
        ("host-.+", ["host-1"], ["host-", "host"]),
        (".*-db", ["-db", "x-db"], ["db", "-dbx"]),
        (".+-db", ["x-db"], ["-db", ""]),
        (".*err.*", ["err", "errerr", "an err or", "\nerr\n"], ["er", "e.rr"]),
        (".+err.+", ["xerrx", "errerrerr"], ["err", "xerr", "errx", "errerr"]),
        (".+aa.*", ["aaa", "baa"], ["aa", "aab"]),
        (".*", ["", "a", "\n"], []),
        (".+", ["a", "\u00e9"], [""]),
        (".*.+", ["a", "ab"], [""]),
        (".+.+", ["ab"], ["a", ""]),
        ("a\\.b.*", ["a.b", "a.bc"], ["axb"]),
        ("\\\\.*", ["\\", "\\a"], ["a\\"]),
        ("a|b.*|.+c", ["a", "b", "bx", "xc"], ["ab", "c"]),
        ("", [""], ["a"]),
    ],
)
def test_what_needs_no_engine(pattern: str, passing: list[str], failing: list[str]) -> None:
    alternatives = matchers._alternatives(pattern)
    assert alternatives is not None
    test, others = plain.told_apart(alternatives)
    assert test is not None and not others
    assert [text for text in passing + failing if test(text)] == passing
    assert [text for text in passing + failing if by_engine(pattern, text)] == passing


@pytest.mark.parametrize("pattern", ["a.b", "a?", "a.*b", "^a", "a$", "[ab]", "(a)", ".*?a", "a.{2}", "\\d.*", "a.**", "a{2}", "\\a"])
def test_what_does(pattern: str) -> None:
    assert plain.told_apart([pattern]) == (None, [pattern])
    test, others = plain.told_apart(["plain", pattern, "p.*"])
    assert others == [pattern]
    assert test is not None and test("plain") and test("p") and not test("a")


def test_many_are_the_engines() -> None:
    some, more = [f"a{i}.*" for i in range(16)], [f"a{i}.*" for i in range(17)]
    assert plain.told_apart(some)[1] == []
    assert plain.told_apart(more) == (None, more)
    test, others = plain.told_apart([*more, "plain"])
    assert test is not None and test("plain") and others == more
    assert plain.told_apart([f"a{i}" for i in range(1000)])[1] == []


@pytest.mark.parametrize("op", ["=~", "!~"])
@pytest.mark.parametrize("pattern", ["a|b.?|c.*", "", "x.*", "[ab]", "a|b"])
def test_verdicts_are_those_of_each_value(op: MatchOp, pattern: str) -> None:
    matcher, values = matchers.Matcher("l", op, pattern), ["", "a", "b", "bb", "bbb", "c", "x\n"] * 100
    assert matchers.verdicts(matcher, values) == [matcher.matches(value) for value in values]
    assert matchers.verdicts(matcher, values) == [(by_engine(pattern, value)) == (op == "=~") for value in values]


@pytest.mark.parametrize(
    ("alternatives", "begin"),
    [
        (["host_1.?", "host_2"], {"host_1", "host_2"}),
        (["ab?c", "abc*", "abc+", "abc{0}"], {"a", "ab"}),
        (["a\\.?b"], {"a"}),
        (["a\\.[x]"], {"a."}),
        (["\\\\\\\\?"], {"\\"}),
        (["a(b|c)", "x$"], {"a", "x"}),
        (["a?"], set()),
        (["a.", "[b]"], set()),
        (["(a)"], set()),
        (["\\d"], set()),
        (["^a.b"], set()),
        ([f"a{i}." for i in range(17)], set()),
        (["a."] * 20, {"a"}),
    ],
)
def test_what_all_matches_begin_with(alternatives: list[str], begin: set[str]) -> None:
    assert set(plain.beginnings(alternatives)) == begin


@settings(max_examples=200)
@given(
    st.lists(
        st.sampled_from(
            ["a", "b", "c", "ab", "\u00e9", ".*", ".+", ".", "?", "*", "+", "|", "\\.", "\\\\", "(b|c)", "[ab]", "{2}", "^", "$"]
        ),
        max_size=7,
    ).map("".join),
    st.lists(st.text("abc\u00e9.\\\n", max_size=6), min_size=1, max_size=6),
)
@example("a{0}", ["", "a"])
@example("a\\\\?b", ["ab", "a\\b"])
def test_any_pattern_and_any_text(pattern: str, texts: list[str]) -> None:
    try:
        re2.compile(f"(?:{pattern})", _OPTIONS)
    except re2.error:
        return
    test = matchers.compile_regex(pattern)
    assert [test(text) for text in texts] == [by_engine(pattern, text) for text in texts]
