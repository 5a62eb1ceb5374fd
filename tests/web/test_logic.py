"""The pages' reckoning, asked in the browser that runs it: units, time, names, tokens, completion, URLs."""

from __future__ import annotations

from typing import Any

import pytest
from playwright.sync_api import Browser


class Modules:
    """The UI's modules in a blank page of their origin: the real page's policy forbids to evaluate what a test asks."""

    def __init__(self, browser: Browser, url: str) -> None:
        self._page = browser.new_page(timezone_id="UTC")
        self._page.route("**/blank", lambda route: route.fulfill(content_type="text/html", body='<meta name="base" content="">'))
        self._page.goto(url + "/blank")

    def ask(self, path: str, expression: str, argument: Any = None) -> Any:
        """The value of `expression` over `m`, the module at `path` below /static/js, and `a`, the argument."""
        return self._page.evaluate(
            "async ([path, expression, a]) => { const m = await import(path); return await eval(expression)(m, a); }",
            [f"/static/js/{path}", f"(m, a) => {expression}", argument],
        )


@pytest.fixture(scope="module")
def js(browser: Browser, ui_url: str) -> Modules:
    return Modules(browser, ui_url)


def test_numbers_have_three_digits_and_a_unit(js: Modules) -> None:
    cases = [
        (0, "plain", "0"),
        (1234, "plain", "1.23 k"),
        (999.9, "plain", "1 k"),
        (0.00012, "plain", "0.00012"),
        (0.0000012, "plain", "1.2e-6"),
        (-5300000, "plain", "-5.3 M"),
        (1023, "bytes", "1023 B"),
        (1024, "bytes", "1 KiB"),
        (1536 * 1024 * 1024, "bytes", "1.5 GiB"),
        (100, "bytes/s", "100 B/s"),
        (2_500_000, "per second", "2.5 M/s"),
        (0, "seconds", "0 s"),
        (0.0000042, "seconds", "4.2 µs"),
        (0.25, "seconds", "250 ms"),
        (150, "seconds", "2.5 min"),
        (86400 * 3, "seconds", "3 d"),
        (99.96, "percent", "100 %"),
        (0.27, "percent", "0.3 %"),
        (None, "plain", "–"),
        (5, "no such unit", "5"),
    ]
    found = js.ask("units.js", "a.map(([value, unit]) => m.format(value, unit))", [case[:2] for case in cases])
    assert found == [case[2] for case in cases]
    assert js.ask("units.js", "[NaN, Infinity, -Infinity].map((v) => m.format(v))") == ["NaN", "+Inf", "-Inf"]


def test_tick_labels_keep_their_digits(js: Modules) -> None:
    assert js.ask("units.js", '[m.format(0.25, "percent", 6), m.format(1025, "plain", 6)]') == ["0.25 %", "1.025 k"]


def test_a_unit_is_guessed_only_where_the_name_says_it(js: Modules) -> None:
    cases = {
        "node_memory_MemTotal_bytes": "bytes",
        'node_filesystem_avail_bytes{mountpoint="/"}': "bytes",
        "sum by (job) (process_resident_memory_bytes)": "bytes",
        "rate(node_network_receive_bytes_total[5m])": "bytes/s",
        "sum(rate(node_network_receive_bytes_total[5m]))": "bytes/s",
        "node_filesystem_avail_bytes / node_filesystem_size_bytes": "plain",
        "sum(rate(node_cpu_seconds_total[5m]))": "plain",
        "sum(rate(http_requests_total[5m]))": "per second",
        "up": "plain",
    }
    assert js.ask("units.js", "a.map(m.unitOf)", list(cases)) == list(cases.values())


def test_durations_are_read_and_written(js: Modules) -> None:
    texts = ["15s", "1h30m", "1.5", "90", "2d", "250ms", "", "soon", "1h-", "0"]
    assert js.ask("time.js", "a.map(m.parseDuration)", texts) == [15, 5400, 1.5, 90, 172800, 0.25, None, None, None, None]
    seconds = [15, 5400, 0.25, 86400 * 30, 604800, 0, 90061]
    assert js.ask("time.js", "a.map(m.formatDuration)", seconds) == ["15s", "1h30m", "250ms", "30d", "1w", "0s", "1d1h1m1s"]


def test_a_window_stands_on_multiples_of_its_step(js: Modules) -> None:
    window = js.ask("time.js", "m.windowOf({ last: 3600 }, 1700000123, { points: 300, least: 15 })")
    assert window == {"start": 1699996515, "end": 1700000115, "step": 15}
    later = js.ask("time.js", "m.windowOf({ last: 3600 }, 1700000133, { points: 300, least: 15 })")
    assert later["end"] - window["end"] == 15
    long = js.ask("time.js", "m.windowOf({ from: 0, to: 86400 * 365 }, 0, { points: 300 })")
    assert long["step"] % 86400 == 0
    assert (long["end"] - long["start"]) / long["step"] <= 300


def test_ages_are_said_coarsely(js: Modules) -> None:
    cases = [(1000, 1000.4, "just now"), (1000, 1012, "12 s ago"), (1000, 1600, "10 min ago"), (0, 1000, "never"), (1100, 1000, "in 2 min")]
    assert js.ask("time.js", "a.map(([t, now]) => m.formatAgo(t, now))", [c[:2] for c in cases]) == [c[2] for c in cases]


def test_zero_times_of_go_are_no_times(js: Modules) -> None:
    assert js.ask("time.js", "a.map(m.fromRfc3339)", ["0001-01-01T00:00:00Z", "2023-11-14T22:13:20.5Z", None, "soon"]) == [
        0,
        1700000000.5,
        0,
        0,
    ]


def test_a_matrix_becomes_columns_with_gaps(js: Modules) -> None:
    result = [{"metric": {"a": "b"}, "values": [[100, "1"], [120, "NaN"], [130, "+Inf"]]}, {"metric": {}, "histograms": []}]
    found = js.ask("matrix.js", "m.columnsOf(a, { start: 100, end: 130, step: 10 }).map((s) => [s.labels, s.values.map(String)])", result)
    assert found == [[{"a": "b"}, ["1", "null", "NaN", "Infinity"]]]


def test_buckets_stand_on_a_scale_that_is_logarithmic_on_both_sides(js: Modules) -> None:
    bounds = [(-4, -2), (-1e-3, 1e-3), (1, 2), (2, 4), (64, 128)]
    ask = "((s) => [s.bottom, s.top, s.marks, a.map(([low, high]) => s.cover({low, high}))])"
    ask += "(m.scaleOf(a.map(([low, high]) => ({low, high, count: 1}))))"
    bottom, top, marks, covers = js.ask("heat.js", ask, bounds)
    heights = [high - low for low, high in covers]
    assert heights[0] == heights[2] == heights[3] == heights[4] == 1, "as tall as they double"
    assert covers[1] == [-1, 1], "around zero, to where the others begin"
    assert covers[2][1] == covers[3][0] and covers[4][0] - covers[3][1] == 4, "what holds nothing keeps its place"
    assert (bottom, top) == (covers[0][0], covers[4][1])
    assert marks == [-2, -1, 0, 5, 20, 100] or (0 in marks and len(marks) <= 6 and marks == sorted(marks))


def test_buckets_without_an_end_are_drawn_at_the_borders(js: Modules) -> None:
    classic = [["-Inf", "0.1", "3"], ["0.1", "1", "5"], ["1", "+Inf", "2"]]
    histogram = {"count": "10", "sum": "4", "buckets": [[3, *classic[0]], [0, *classic[1]], [0, *classic[2]]]}
    series = {"metric": {"a": "b"}, "histograms": [[10, histogram], [20, {"count": "0", "sum": "0"}], [30, histogram], [99, histogram]]}
    ask = "((h) => [h.cells, h.peak, h.scale.bottom, h.scale.top])(m.heatOf(a, {start: 0, end: 40, step: 10}))"
    cells, peak, bottom, top = js.ask("heat.js", ask, series)
    assert [(cell["at"], cell["count"]) for cell in cells] == [(1, 3), (1, 5), (1, 2), (3, 3), (3, 5), (3, 2)]
    assert peak == 5
    assert [cells[0]["low"], cells[2]["high"]] == [bottom, top] and bottom == 0
    assert cells[0]["high"] == cells[1]["low"] and cells[1]["high"] == cells[2]["low"]


def test_histograms_that_hold_nothing_or_no_numbers_make_an_empty_picture(js: Modules) -> None:
    odd = [[0, "1", "2", "NaN"], [0, "+Inf", "1", "4"], [0, "1", "2", "0"]]
    ask = "((h) => [h.cells.length, h.peak, h.scale.marks])(m.heatOf(a, {start: 0, end: 10, step: 10}))"
    for buckets in (odd, []):
        histogram = {"count": "1", "sum": "NaN", "buckets": buckets}
        assert js.ask("heat.js", ask, {"metric": {}, "histograms": [[0, histogram]]}) == [0, 0, [0]]
    one = {"count": "1", "sum": "1", "buckets": [[0, "+Inf", "+Inf", "4"]]}
    count, peak, _ = js.ask("heat.js", ask, {"metric": {}, "histograms": [[0, one]]})
    assert (count, peak) == (1, 4)


def test_small_counts_are_seen_beside_large_ones(js: Modules) -> None:
    faint, half, full, none = js.ask("heat.js", "[[1, 1e6], [-25, 100], [7, 7], [0, 0]].map(([c, p]) => m.strengthOf(c, p))")
    assert 0.1 < faint < 0.13 and half == pytest.approx(0.56) and full == 1 and none == 0


def test_series_are_named_as_promql_selects_them(js: Modules) -> None:
    cases = [
        ({"__name__": "up"}, "up"),
        ({"__name__": "up", "job": 'a"b\\'}, 'up{job="a\\"b\\\\"}'),
        ({}, "{}"),
        ({"job": "x"}, '{job="x"}'),
        ({"__name__": "http.duration", "net.host": "h"}, '{"http.duration", "net.host"="h"}'),
    ]
    assert js.ask("matrix.js", "a.map((labels) => m.seriesName(labels))", [c[0] for c in cases]) == [c[1] for c in cases]


def test_labels_that_all_share_are_found(js: Modules) -> None:
    sets = [{"__name__": "m", "job": "a", "cpu": "0"}, {"__name__": "m", "job": "a", "cpu": "1"}]
    assert js.ask("matrix.js", "m.sharedLabels(a)", sets) == {"__name__": "m", "job": "a"}
    assert js.ask("matrix.js", "m.sharedLabels(a)", sets[:1]) == {}


def test_tokens_cover_the_text_and_know_what_they_are(js: Modules) -> None:
    text = "sum by (job) (rate(http:req{code=~\"5..\", x!='\\''}[5m] offset 1h)) > bool 1e3 # done"
    tokens = js.ask("promql/lexer.js", "m.tokenize(a)", text)
    assert "".join(t["text"] for t in tokens) == text
    kinds = {t["text"]: t["kind"] for t in tokens}
    expected = {"sum": "function", "by": "keyword", "job": "label", "rate": "function", "http:req": "metric", "code": "label"}
    expected |= {'"5.."': "string", "'\\''": "string", "5m": "duration", "offset": "keyword", "1e3": "number", "# done": "comment"}
    assert {name: kinds[name] for name in expected} == expected


@pytest.mark.parametrize("text", ["", '"unfinished', "rate(x[", "}{)(", '💥 {a="', 'a\nb # c\n"d\ne', "0x1F .5 5e"])
def test_no_text_is_too_broken_to_colour(js: Modules, text: str) -> None:
    tokens = js.ask("promql/lexer.js", "m.tokenize(a)", text)
    assert "".join(t["text"] for t in tokens) == text


@pytest.mark.parametrize(
    ("text", "kind", "typed"),
    [
        ("|", "metric", ""),
        ("no|", "metric", "no"),
        ("sum(no|", "metric", "no"),
        ("up |", "operator", ""),
        ("up o|", "operator", "o"),
        ("sum b|", "metric", "b"),
        ("up + no|", "metric", "no"),
        ("up{|", "label", ""),
        ("up{jo|", "label", "jo"),
        ('up{job="a", in|', "label", "in"),
        ('up{job="no|', "value", "no"),
        ('up{job="no|"}', "value", "no"),
        ("up{job=|", "value", ""),
        ("up{job|}", "label", "job"),
        ("sum by (jo|", "label", "jo"),
        ("sum by (job, |) (up)", "label", ""),
        ("rate(up[|", "window", ""),
        ("rate(up[5|", "window", "5"),
        ('label_replace(up, "a|', "none", None),
        ("up # com|", "none", None),
        ("up > 1|", "none", None),
    ],
)
def test_completion_knows_where_the_cursor_is(js: Modules, text: str, kind: str, typed: str | None) -> None:
    found = js.ask("promql/complete.js", "m.contextOf(a[0], a[1])", [text.replace("|", ""), text.index("|")])
    assert (found["kind"], found.get("typed")) == (kind, typed)
    if kind in ("label", "value") and text.startswith("up{"):
        assert found["metric"] == "up"


def test_the_start_of_a_name_counts_more_than_its_middle(js: Modules) -> None:
    names = ["cpu_total", "node_cpu_total", "occpus", "c_p_u"]
    scores = js.ask("promql/complete.js", 'a.map((name) => m.score(name, "cpu"))', [*names, "memory"])
    assert scores[:4] == sorted(scores[:4], reverse=True)
    assert len(set(scores)) == 5
    assert scores[4] == 0


def test_an_exploration_survives_its_url(js: Modules) -> None:
    given = {"exprs": ["up", 'rate(x{a="b&c"}[5m])'], "view": "stacked", "range": {"from": 1700000000, "to": 1700003600}, "step": 30}
    found = js.ask("exploring.js", "m.explorationFrom(new URLSearchParams(m.paramsOf(a)))", given)
    assert found == given
    bare = js.ask("exploring.js", "m.explorationFrom(new URLSearchParams(a))", "")
    assert bare == {"exprs": [""], "view": "graph", "range": {"last": 3600}, "step": None}


def test_positions_are_found_in_error_messages(js: Modules) -> None:
    located = js.ask(
        "parts/queryerror.js",
        "a.map(m.locate)",
        ['invalid parameter "query": 1:8: parse error: unclosed left parenthesis', "3:1: parse error: x", "query timed out at 10:00"],
    )
    assert located[0] == {"line": 1, "column": 8, "says": "unclosed left parenthesis"}
    assert (located[1]["line"], located[1]["column"]) == (3, 1)
    assert located[2]["line"] is None


def test_panel_expressions_are_filled_in(js: Modules) -> None:
    fill = "m.fill(a, { host: 'instance=\"h\"', rate: '1m' }) + ' ' + m.fill(a, { host: '', rate: '1m' })"
    assert js.ask("panels.js", fill, 'rate(x{a="b",$host}[$rate])') == 'rate(x{a="b",instance="h"}[1m]) rate(x{a="b"}[1m])'
    assert js.ask("panels.js", fill, "y{$host}") == 'y{instance="h"} y{}'
