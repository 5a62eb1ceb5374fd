"""LogQL read: what is said back is the same query, and whatever comes is read or refused."""

from __future__ import annotations

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vedette.errors import BadInput
from vedette.logs.logql.parser import of_selector, parse
from vedette.logs.logql.tokens import bytes_of, duration_of, unquoted

QUERIES = [
    ("{}", "{}"),
    ('{ a = "b",c!=`d`, e=~"f.*" ,g!~"h", }', '{a="b", c!="d", e=~"f.*", g!~"h"}'),
    ('{a="b"} # a remark\n |= "x" or `y` != "z" |~ "r" !~ "s"', '{a="b"} |= "x" or "y" != "z" |~ "r" !~ "s"'),
    ('({a="b"} |= "x") | json', '{a="b"} |= "x" | json'),
    ('{} |> "<_> GET" !> "a<_>b"', '{} |> "<_> GET" !> "a<_>b"'),
    ('{} |= ip("10.0.0.0/8") | addr != ip("::1")', '{} |= ip("10.0.0.0/8") | addr!=ip("::1")'),
    ('{} | json a="b.c[0]", d | logfmt --strict --keep-empty e', '{} | json a="b.c[0]", d="d" | logfmt --strict --keep-empty e="e"'),
    ('{} | regexp "(?P<x>a)" | pattern `<y> b` | unpack | decolorize', '{} | regexp "(?P<x>a)" | pattern "<y> b" | unpack | decolorize'),
    ("{} | json = `x`", '{} | json="x"'),
    ('{} | a>=1 , b<2.5 and c==3s d!=4KB or e="f"', '{} | ((a >= 1 and b < 2.5 and c == 3s and d != 4KB) or e="f")'),
    ("{} | (a = -1 or b > -5ms) and c=~`x`", '{} | ((a == -1 or b > -5ms) and c=~"x")'),
    ('{} | line_format "{{.a}}" | label_format b=c,d=`{{.e}}`', '{} | line_format "{{.a}}" | label_format b=c, d="{{.e}}"'),
    ('{} | drop a, b="c" | keep d', '{} | drop a, b="c" | keep d'),
    ("rate({}[1h30m] offset 5m)", "rate({} [1h30m] offset 5m)"),
    ("rate({}[5m] offset -5m)", "rate({} [5m] offset -5m)"),
    ('count_over_time({a="b"}[5m] |= "x")', 'count_over_time({a="b"} |= "x" [5m])'),
    ("count_over_time(({})[5m])", "count_over_time({} [5m])"),
    (
        "quantile_over_time(0.99, {} | logfmt | unwrap duration(took) | __error__=`` [1m]) by (a, b)",
        'quantile_over_time(0.99, {} | logfmt | unwrap duration(took) | __error__="" [1m]) by (a, b)',
    ),
    ("sum_over_time({} | unwrap x [1m])", "sum_over_time({} | unwrap x [1m])"),
    ("sum(rate({}[1m])) by (a)", "sum by (a) (rate({} [1m]))"),
    ("approx_topk(2, sum by (a) (rate({}[1m])))", "approx_topk(2, sum by (a) (rate({} [1m])))"),
    ("topk(3, avg without (a) (rate({}[1m])))", "topk(3, avg without (a) (rate({} [1m])))"),
    ("1 + 2 * 3 ^ 2 ^ 2 - -4", "((1 + (2 * (3 ^ (2 ^ 2)))) - -4)"),
    ("rate({}[1m]) > bool 5 and vector(1) or vector(2)", "(((rate({} [1m]) > bool 5) and vector(1)) or vector(2))"),
    (
        "rate({}[1m]) / on (a) group_left (b) rate({}[1m])",
        "(rate({} [1m]) / on (a) group_left (b) rate({} [1m]))",
    ),
    ("rate({}[1m]) * ignoring(a) group_right rate({}[1m])", "(rate({} [1m]) * ignoring (a) group_right () rate({} [1m]))"),
    ('label_replace(rate({}[1m]), "a", "$1", "b", "(.*)")', 'label_replace(rate({} [1m]), "a", "$1", "b", "(.*)")'),
    ("sort_desc(sum(rate({}[1m])))", "sort_desc(sum(rate({} [1m])))"),
]


@pytest.mark.parametrize(("text", "said"), QUERIES)
def test_said_back_it_is_the_same(text: str, said: str) -> None:
    found = parse(text)
    assert str(found) == said
    assert parse(said) == found


def test_a_query_for_lines_is_asked_for() -> None:
    assert str(of_selector('{a="b"}')) == '{a="b"}'
    with pytest.raises(BadInput, match="only a log query"):
        of_selector("rate({}[1m])")


PIECES = [
    "{", "}", "(", ")", "[5m]", "[", "]", '"', "`", "|=", "|~", "|>", "!=", "|", "json", "logfmt", "--strict", "rate", "sum", "by", "topk",
    "3", ",", 'a="b"', "level", "=", ">", "offset", "-5m", "or", "and", "drop", " ", "\\", "é", "\x00", "[99999y]", "count_over_time",
    "unwrap", "line_format", '"{{.x}}"', "ip(", "on", "bool", "+", "^", "vector(1)", "label_format x=y", "#", "\n", '"<_>"', "pattern",
]  # fmt: skip


@given(st.lists(st.sampled_from(PIECES), max_size=16).map(" ".join) | st.text(max_size=60))
def test_whatever_is_asked_is_read_or_refused(text: str) -> None:
    with contextlib.suppress(BadInput):
        assert str(parse(str(parse(text)))) == str(parse(text))


@pytest.mark.parametrize(
    "text",
    ["{" + "a" * 100_000, "sum(" * 30_000, '{a="' + "\\" * 99_999, "{} " + "| json " * 10_000, "{} " + '|= "x" ' * 5_000,
     "1" + "^1" * 20_000,
     "{} | " + "(" * 50_000, "-" * 50_000, "1" * 100_000, "{} |= " + '"x" or ' * 9_000],
)  # fmt: skip
def test_long_queries_are_refused_at_once(text: str) -> None:
    with pytest.raises(BadInput):
        parse(text)


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("5s", 5.0), ("1h30m", 5400.0), ("1.5ms", 0.0015), ("-2m", -120.0), ("7µs", 7e-6), ("1d", 86_400.0), ("0", 0.0), ("", None),
     ("5", None),
     ("s", None), ("5q", None), ("1h x", None)],
)  # fmt: skip
def test_durations(text: str, seconds: float | None) -> None:
    assert duration_of(text) == (seconds if seconds is None else pytest.approx(seconds))


@pytest.mark.parametrize(
    ("text", "size"),
    [("20", 20.0), ("20B", 20.0), ("20KB", 20e3), ("1.5kb", 1500.0), ("5MiB", 5 * 2**20), ("2 GiB", 2 * 2**30), ("3g", 3e9), ("x", None),
     ("-5KB", None), ("5KBs", None)],
)  # fmt: skip
def test_sizes(text: str, size: float | None) -> None:
    assert bytes_of(text) == size


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('"a\\n\\t\\"\\\\"', 'a\n\t"\\'),
        ('"\\x41\\u00df\\101"', "AßA"),
        ("`\\n`", "\\n"),
        ('"\\d+\\."', "\\d+\\."),
        ('"\\UFFFFFFFF"', "\ufffd"),
    ],
)
def test_strings(text: str, said: str) -> None:
    assert unquoted(text) == said


@pytest.mark.parametrize(
    "text", ["approx_topk by (a) (2, rate({}[1m]))", "sort(rate({}[1m])) by (a)", "sort_desc without (a) (rate({}[1m]))"]
)
def test_what_has_no_grouping(text: str) -> None:
    with pytest.raises(BadInput, match=r"grouping not allowed for (approx_topk|sort|sort_desc) aggregation"):
        parse(text)
