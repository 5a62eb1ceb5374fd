"""Go's times in templates, and what values may become in HTML."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone

import pytest

from vedette.gotemplate.evaluate import render
from vedette.gotemplate.html import UNSAFE, escaped
from vedette.gotemplate.parser import parse
from vedette.gotemplate.times import Moment, Span, format_duration, format_layout, moment_of, zone_of
from vedette.gotemplate.values import SafeText

MOMENT = datetime(2024, 2, 9, 3, 4, 5, 60_700, tzinfo=UTC)

LAYOUTS = [
    ("2006-01-02T15:04:05Z07:00", "2024-02-09T03:04:05Z"),
    ("Monday, 02-Jan-06 15:04:05 MST", "Friday, 09-Feb-24 03:04:05 UTC"),
    ("Mon Jan _2 15:04:05 2006", "Fri Feb  9 03:04:05 2024"),
    ("January 2, 2006 at 3:04pm (MST)", "February 9, 2024 at 3:04am (UTC)"),
    ("3:04PM 03:4:5", "3:04AM 03:4:5"),
    ("15:04:05.000 .000000", "03:04:05.060 .060700"),
    ("15:04:05.999 x.9", "03:04:05.06 x"),
    ("-0700 -07:00 -07 Z0700", "+0000 +00:00 +00 Z"),
    ("002 1/2/06", "040 2/9/24"),
    ("no layout at all", "no layout at all"),
]


@pytest.mark.parametrize(("layout", "expected"), LAYOUTS)
def test_layouts(layout: str, expected: str) -> None:
    assert format_layout(MOMENT, layout) == expected


def test_zones() -> None:
    there = MOMENT.astimezone(timezone(-timedelta(hours=3, minutes=30)))
    assert format_layout(there, "02 15:04 -07:00 -0700 Z07:00") == "08 23:34 -03:30 -0330 -03:30"
    moment = Moment(1_700_000_000_120)
    assert moment.within(zone_of("Asia/Tokyo")).methods["Format"]("2006-01-02 15:04:05.999 -0700 MST") == "2023-11-15 07:13:20.12 +0900 JST"
    with pytest.raises(ValueError, match="unknown time zone Nowhere"):
        zone_of("Nowhere")
    with pytest.raises(ValueError, match=r"expected time\.Time"):
        moment_of("now")


def test_a_time_prints_as_go_prints_it() -> None:
    template = parse("{{ .T }} {{ .T.Unix }} {{ .Z }} {{ .Z.IsZero }} {{ .D }} {{ .D.Minutes }} {{ .T.Weekday }}", name="t")
    data = {"T": Moment(1_700_000_000_500), "Z": Moment(None), "D": Span(90)}
    assert render(template, data) == "2023-11-14 22:13:20.5 +0000 UTC 1700000000 0001-01-01 00:00:00 +0000 UTC true 1m30s 1.5 Tuesday"


@pytest.mark.parametrize(("seconds", "text"), [(0, "0s"), (0.0015, "1.5ms"), (61, "1m1s"), (3600, "1h0m0s"), (-5.25, "-5.25s")])
def test_durations(seconds: float, text: str) -> None:
    assert format_duration(seconds) == text


ESCAPES = [
    ("<p>", "<b>&\"'", "&lt;b&gt;&amp;&#34;&#39;"),
    ('<a title="', 'x" onclick="y', "x&#34; onclick=&#34;y"),
    ('<a href="', "http://x/?a=b&c", "http://x/?a=b&amp;c"),
    ('<a href="', "/relative", "/relative"),
    ('<a href="', "javascript:alert(1)", UNSAFE),
    ('<a href=" java', "script:alert(1)", UNSAFE),
    ("<a class=x href='", " JaVaScRiPt:alert(1)", UNSAFE),
    ('<a href="http://x/?q=', "javascript:x", "javascript:x"),
    ("<a href=", "http://x", UNSAFE),
    ("<a ", "onclick", UNSAFE),
    ('<a onclick="', "x", UNSAFE),
    ('<p style="', "x", UNSAFE),
    ("<script>var x = ", "1", UNSAFE),
    ("<style>p { color: ", "red", UNSAFE),
    ("<!-- ", "x", UNSAFE),
    ("<script>a</script><p>", "x", "x"),
    ("1 < 2 and ", "<x>", "&lt;x&gt;"),
]


@pytest.mark.parametrize(("before", "text", "expected"), ESCAPES)
def test_values_in_html(before: str, text: str, expected: str) -> None:
    assert escaped(text, before) == expected


def test_safe_text_stays_between_tags_only() -> None:
    assert escaped(SafeText("<b>x</b>"), "<p>") == "<b>x</b>"
    assert escaped(SafeText('"><script>'), '<p title="') == "&#34;&gt;&lt;script&gt;"


def test_actions_are_escaped_and_the_templates_own_text_is_not() -> None:
    template = parse('{{ define "x" }}<i>{{ . }}</i>{{ end }}<b>{{ .A }}</b>{{ template "x" .A }}', name="t")
    assert render(template, {"A": "<&>"}, escape=escaped) == "<b>&lt;&amp;&gt;</b><i>&lt;&amp;&gt;</i>"
