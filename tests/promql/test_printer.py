"""Printing queries: Prometheus' normal form, its layout, and that what is printed reads back as the same."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from vedette.errors import BadInput
from vedette.promql.errors import ParseError
from vedette.promql.parse import parse
from vedette.promql.printer import format_query, pinned, to_text
from vedette.promql.settings import Features

ALL = Features(experimental_functions=True, extended_range_selectors=True, fill_modifiers=True)


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("sum  by() (task:errors:rate10s{job='s'})", 'sum(task:errors:rate10s{job="s"})'),
        ("sum(a) without(x,y)", "sum without (x, y) (a)"),
        ("sum without() (a)", "sum without () (a)"),
        ("topk by (x) (5, a)", "topk by (x) (5, a)"),
        ("a +on() b", "a + on () b"),
        ("a + ignoring() b", "a + b"),
        ("a - ignoring(c) group_left b", "a - ignoring (c) group_left () b"),
        ("a > bool on(x) group_right(y) b", "a > bool on (x) group_right (y) b"),
        ("a[5m] offset 1m", None),
        ("rate(a[5m] @ 10 offset -90s)", "rate(a[5m] @ 10.000 offset -1m30s)"),
        ("min_over_time(a[1h:5m] @ start())", "min_over_time(a[1h:5m] @ start())"),
        ("max_over_time(a[1d:])", "max_over_time(a[1d:])"),
        ("-(a)^2", "-(a) ^ 2"),
        ("1e10 + 0x10 + 1e-9 + NaN + inf + 1e22", "10000000000 + 16 + 0.000000001 + NaN + +Inf + 10000000000000000000000"),
        ("5m + a", "5m + a"),
        ('{"a.b", c!~"d"}', '{"a.b",c!~"d"}'),
        ('{__name__="a"}', '{__name__="a"}'),
        ("a + fill_left(1) b", "a + fill_left (1) b"),
        ("a[5m] smoothed", "a[5m] smoothed"),
        ("a </ 2 + b>/ -1", "a </ 2 + b >/ -1"),
        ("a[1h*2]", "a[1h * 2]"),
        ("a[ (STEP()-5)*2+60 ] offset -(min_of(step(),1s)+1)", "a[(step() - 5) * 2 + 60] offset -(min_of(step(), 1s) + 1)"),
        ("a[range():-step()+5m]", "a[range():-step() + 5m]"),
        ("a[90] offset (5m)", "a[1m30s] offset 5m"),
        ("a offset (5m) * 2", "a offset (5m * 2)"),
        ("a offset 5m * 2", "a offset 5m * 2"),
        ("a offset -(5m * step())", "a offset -(5m * step())"),
    ],
)
def test_one_line(text: str, wanted: str | None) -> None:
    assert to_text(parse(text, ALL)) == (wanted or text)


def test_what_nests_deeply_is_laid_out_in_no_time_or_refused() -> None:
    chain = format_query(parse(" or ".join(["vector(1)"] * 500)))
    assert chain.count("\n") > 900
    assert chain.split() == " or ".join(["vector(1)"] * 500).split()
    for deep in (" or ".join(["vector(1)"] * 3900), "(" * 3900 + "x" + ")" * 3900, "abs(" * 3900 + "x" + ")" * 3900):
        with pytest.raises(BadInput, match="nested so deeply"):
            format_query(parse(deep))


def test_a_sign_stands_before_what_is_split() -> None:
    long = "rate(" + "a" * 90 + "[5m])"
    assert format_query(parse(f"-({long})")) == f"-(\n  {long}\n)"
    assert format_query(parse(f"1 + -sum({long})")) == f"  1\n+\n  -sum(\n    {long}\n  )"
    assert format_query(parse(f"max_over_time(sum({long})[1h:1m] offset 5m)")) == (
        f"max_over_time(\n  sum(\n    {long}\n  )[1h:1m] offset 5m\n)"
    )


def test_long_parts_are_split() -> None:
    query = (
        'sum by (job, instance) (rate(http_requests_total{job="api-server-with-a-long-name",code=~"5.."}[5m])) '
        '/ on (job) group_left () sum by (job) (rate(http_requests_total{job="api-server-with-a-long-name"}[5m]))'
    )
    assert format_query(parse(query)) == (
        "  sum by (job, instance) (\n"
        '    rate(http_requests_total{code=~"5..",job="api-server-with-a-long-name"}[5m])\n'
        "  )\n"
        "/ on (job) group_left ()\n"
        '  sum by (job) (rate(http_requests_total{job="api-server-with-a-long-name"}[5m]))'
    )
    assert format_query(parse("sum(a)")) == "sum(a)"


def test_the_corpus_reads_back_as_it_was(conformance: Path) -> None:
    seen = 0
    with (conformance / "derived" / "promql_corpus.jsonl").open() as corpus:
        for i, line in enumerate(corpus):
            if i % 5:
                continue
            try:
                root = parse(json.loads(line)["expr"], ALL)
            except ParseError:
                continue
            text = to_text(root)
            assert to_text(parse(text, ALL)) == text
            assert to_text(parse(format_query(root), ALL)) == text
            seen += 1
    assert seen > 500


def test_pinning_leaves_the_inside_of_subqueries_alone() -> None:
    root = parse("a + rate(b[1m] offset 5s) + max_over_time(c[5m:1m]) + d @ 7")
    assert pinned(root, 1500) == "a @ 1.500 + rate(b[1m] @ 1.500 offset 5s) + max_over_time(c[5m:1m] @ 1.500) + d @ 7.000"


def test_deep_trees_print() -> None:
    text = "-(" * 1500 + "a" + ")" * 1500
    assert to_text(parse(text)) == text
