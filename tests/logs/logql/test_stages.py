"""Stages on single lines: what becomes of each, and what is too strange for them."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vedette.errors import BadInput
from vedette.logs.logql import extract
from vedette.logs.logql.parser import of_selector
from vedette.logs.logql.stages import Line, program, run

AT = 1_705_312_800_123_000_000


def walked(query: str, message: str, **fields: object) -> Line | None:
    line = Line(AT, 7, "info", "shop", message, fields=fields)
    return line if run(program(of_selector(query).stages), line) else None


def labels(query: str, message: str, **fields: object) -> dict[str, str]:
    line = walked(query, message, **fields)
    assert line is not None
    return {k: v for k, v in line.labels.items() if k not in ("service_name", "level")}


NGINX = '10.0.3.7 - alice [15/Jan/2024] "GET /cart?x=1 HTTP/1.1" 200 1532'


NO_OBJECT = "Value looks like object, but can't find closing '}' symbol"
DIVIDED = "line_format:1:4: error calling div: division by zero"


@pytest.mark.parametrize(
    ("query", "message", "found"),
    [
        ("{} | json", '{"a": 1, "b": {"c": "d", "e": [1]}, "f": null, "1x-y": true}', {"a": "1", "b_c": "d", "_1x_y": "true"}),
        ("{} | json", "[1]", {"__error__": "JSONParserErr", "__error_details__": NO_OBJECT}),
        ("{} | unpack", "[1]", {"__error__": "JSONParserErr", "__error_details__": "expecting json object(6), but it is not"}),
        ("{} | json | drop __error__", "[1]", {"__error_details__": NO_OBJECT}),
        ("{} | json | drop __error__, __error_details__", "[1]", {}),
        ('{} | json | drop __error__="LogfmtParserErr"', "[1]", {"__error__": "JSONParserErr", "__error_details__": NO_OBJECT}),
        ("{} | json | keep nothing", "[1]", {"__error__": "JSONParserErr", "__error_details__": NO_OBJECT}),
        ('{} | json x="b.c", y="l[1]", z=`q["r s"]`, w="l"', '{"b":{"c":2},"l":[1,{"k":3}],"q":{"r s":"t"}}',
         {"x": "2", "y": '{"k":3}', "z": "t", "w": '[1,{"k":3}]'}),
        ('{} | json x="a[5].b"', '{"a":[]}', {}),
        ("{} | json", '{"level": "warn", "host": "b"}', {"host": "a", "level_extracted": "warn", "host_extracted": "b"}),
        ("{} | logfmt", 'a=1 b="c \\"d\\"" e= bare =x', {"a": "1", "b": 'c "d"'}),
        ("{} | logfmt --keep-empty", "a=1 e= bare", {"a": "1", "e": "", "bare": ""}),
        ("{} | logfmt --strict", 'a=1 "x" b=2',
         {"__error__": "LogfmtParserErr", "__error_details__": "logfmt syntax error at pos 5 : unexpected '\"'"}),
        ('{} | logfmt x="a", b', "a=1 b=2 c=3", {"x": "1", "b": "2"}),
        ('{} | regexp "(?P<method>[A-Z]+) (?P<path>/[a-z]*)"', NGINX, {"method": "GET", "path": "/cart"}),
        ('{} | regexp "(?P<n>\\\\d{9})"', NGINX, {}),
        ('{} | pattern `<ip> - <user> [<_>] "<method> <path> <_>" <status> <size>`', NGINX,
         {"ip": "10.0.3.7", "user": "alice", "method": "GET", "path": "/cart?x=1", "status": "200", "size": "1532"}),
        ("{} | pattern `<a>, <b>`", "no comma", {"a": "no comma"}),
        ("{} | pattern `level=<level_> `", "nothing", {}),
        ("{} | unpack", '{"pod": "p", "_entry": "hello"}', {"pod": "p"}),
        ('{} | logfmt | label_format b=a, c="{{.d | ToUpper}}-{{.nope}}"', "a=1 d=x", {"b": "1", "c": "X-", "d": "x"}),
        ("{} | logfmt | drop a, b=`2`, c=`2`", "a=1 b=2 c=3", {"c": "3"}),
        ("{} | logfmt | keep a, b=~`[0-9]`", "a=1 b=2 c=3", {"a": "1", "b": "2"}),
        ('{} | line_format "{{ div 1 0 }}"', "x", {"__error__": "TemplateFormatErr", "__error_details__": DIVIDED}),
    ],
)  # fmt: skip
def test_labels_of_a_line(query: str, message: str, found: dict[str, str]) -> None:
    own = {"host": "a"} if "host" in found else {}
    got = labels(query, message, **own)
    if "label_format b=a" in query:
        assert "a" not in got
    assert {k: v for k, v in got.items() if v or "keep-empty" in query} == {k: v for k, v in found.items() if v}


@pytest.mark.parametrize(
    ("query", "text"),
    [
        ('{} | logfmt | line_format "{{.b}} {{.a}}{{.nope}}"', "2 1"),
        ('{} | line_format "{{ __line__ | upper }}|{{ __timestamp__ | unixEpochMillis }}"', "A=1 B=2|1705312800123"),
        ('{} | line_format `{{ date "2006-01-02" __timestamp__ }}`', "2024-01-15"),
        ('{} | logfmt | line_format `{{ if eq .a "1" }}one{{ else }}many{{ end }}`', "one"),
        ('{} | line_format `{{ range $i, $x := fromJson "[1,2]" }}{{ $i }}{{ $x }};{{ end }}`', "01;12;"),
        ('{} | line_format `{{ regexReplaceAll "([a-z])=" __line__ "$1:" }}`', "a:1 b:2"),
        ('{} | line_format `{{ regexReplaceAllLiteral "=" __line__ "$1" }}`', "a$11 b$12"),
        ('{} | line_format `{{ Replace __line__ "=" ":" 1 }} {{ replace "1" "x" "a1" }}`', "a:1 b=2 ax"),
        ("{} | line_format `{{ trunc 2 __line__ }}{{ trunc -2 __line__ }}{{ substr 1 3 __line__ }}`", "a==2=1"),
        ("{} | line_format `{{ alignLeft 3 `+`\"abcd\"`+` }}`".replace("`+`", ""), "abc"),
        ('{} | line_format `{{ alignRight 5 "ab" }}|{{ alignLeft 4 "ab" }}|`', "   ab|ab  |"),
        ('{} | line_format `{{ add 1 2 3 }} {{ sub 5 2 }} {{ mul 2 3 }} {{ div -7 2 }} {{ mod -7 2 }}`', "6 3 6 -3 -1"),
        ('{} | line_format `{{ addf 1.5 2 }} {{ divf 1.0 4 }} {{ round 1.256 2 }} {{ ceil 1.1 }} {{ floor -1.1 }}`', "3.5 0.25 1.26 2 -2"),
        ('{} | line_format `{{ max 1 3 2 }} {{ minf 1.5 1.2 }} {{ int "42" }} {{ float64 "1.5" }}`', "3 1.2 42 1.5"),
        ('{} | line_format `{{ b64enc "hi" }} {{ b64dec "aGk=" }} {{ urlencode "a b&c" }} {{ urldecode "a+b" }}`', "aGk= hi a+b%26c a b"),
        ('{} | line_format `{{ hasPrefix "a" __line__ }} {{ contains "z" __line__ }} {{ count "=" __line__ }} {{ default "d" "" }}`',
         "true false 2 d"),
        ('{} | line_format `{{ duration_seconds "1m30s" }} {{ bytes "2KB" }} {{ title "ab cd" }} {{ repeat 2 "x" }}`', "90 2000 Ab Cd xx"),
        ('{} | line_format `{{ Trim "xaxx" "x" }}{{ TrimPrefix "ab" "a" }}{{ trimSuffix "b" "ab" }}{{ nindent 2 "a" }}`', "aba\n  a"),
        ("{} | line_format `{{ $x := 1000000000000 }}{{ mul $x $x }}`", "2003764205206896640"),
    ],
)  # fmt: skip
def test_line_format(query: str, text: str) -> None:
    line = walked(query.replace('alignLeft 3 "', 'alignLeft 3 "'), "a=1 b=2")
    assert line is not None
    assert line.text == text, line.labels


@pytest.mark.parametrize(
    "template",
    [
        '{{ repeat 999999 "x" }}',
        '{{ range fromJson "[' + "1," * 5000 + '1]" }}' + "x" * 200 + "{{ end }}",
        '{{ b64dec "%" }}',
        "{{ div 1 0 }}",
        '{{ count "' + "(a?){1000}" * 30 + '" __line__ }}',
    ],
)
def test_templates_are_bounded(template: str) -> None:
    line = walked("{} | line_format `" + template + "`", "as it was")
    assert line is not None
    assert (line.text, line.labels["__error__"]) == ("as it was", "TemplateFormatErr")


@pytest.mark.parametrize(
    ("stages", "details"),
    [
        ("| n > 1", 'strconv.ParseFloat: parsing "many": invalid syntax'),
        ("| n == 1 or a = `no`", 'strconv.ParseFloat: parsing "many": invalid syntax'),
        ("| n > 1s", 'time: invalid duration "many"'),
        ("| m > 1s", 'time: missing unit in duration "5"'),
        ("| n > 1KB", 'strconv.ParseFloat: parsing "": invalid syntax'),
        ("| s > 1KB", "unhandled size name: xb"),
        ("| n > 1 | m > 100 | m > 1h", 'strconv.ParseFloat: parsing "many": invalid syntax'),  # an error passes them all
        ("| n > 1 | a = ip(`10.0.0.0/8`)", 'strconv.ParseFloat: parsing "many": invalid syntax'),
    ],
)
def test_what_a_condition_cannot_be_told_of_stays_and_says_so(stages: str, details: str) -> None:
    logfmt = "n=many m=5 s=5xb a=10.1.1.1"
    found = labels(f"{{}} | logfmt {stages}", logfmt)
    assert (found["__error__"], found["__error_details__"]) == ("LabelFilterErr", details)
    assert walked(f'{{}} | logfmt {stages} | __error__=""', logfmt) is None
    assert walked(f'{{}} | logfmt {stages} | __error__="LabelFilterErr"', logfmt) is not None
    assert walked(f"{{}} | logfmt {stages} | a=`other`", logfmt) is None, "conditions on text hold all the same"


def test_after_an_error_was_dropped_conditions_on_numbers_hold_again() -> None:
    assert walked("{} | logfmt | n > 1 | m > 100", "n=many m=5") is not None
    assert walked("{} | logfmt | n > 1 | drop __error__ | m > 100", "n=many m=5") is None


def test_in_a_metric_what_a_condition_cannot_be_told_of_does_not_count() -> None:
    steps = program(of_selector("{} | json | n > 1").stages, unread=False)
    for message, counts in (('{"n": 2}', True), ('{"n": "many"}', False), ('{"m": 2}', False), ("no JSON", False)):
        assert run(steps, Line(AT, 7, "info", "shop", message, fields={})) is counts, message


@pytest.mark.parametrize(
    ("query", "stays"),
    [
        ('{} |= "10.0.3"', True),
        ('{} != "10.0.3"', False),
        ('{} |~ "GET|PUT" !~ "POST"', True),
        ("{} |> `<_> - alice <_>GET<_>`", True),
        ("{} |> `<_> - bob <_>`", False),
        ("{} !> `<_> - bob <_>`", True),
        ('{} |= ip("10.0.0.0/8")', True),
        ('{} |= ip("10.0.3.1-10.0.3.9")', True),
        ('{} |= ip("10.0.4.0/24") or ip("10.0.3.7")', True),
        ('{} != ip("10.0.3.7")', False),
        ('{} |= ip("::1")', False),
        ("{} | pattern `<ip> - <_>` | ip=ip(`10.0.3.0/24`)", True),
        ("{} | pattern `<ip> - <_>` | ip!=ip(`10.0.3.0/24`)", False),
        ("{} | pattern `<_>\" <status> <size>` | status >= 200 | size < 2KB", True),
        ("{} | pattern `<_>\" <status> <size>` | status > 200 or size > 1KB", True),
        ("{} | pattern `<_>\" <status> <size>` | (status > 200 or size > 5KB) and status=`200`", False),
        ("{} | took > 1s", True),
        ("{} | took > 1m", False),
        ("{} | took > 5", True),  # no number: it stays, with an error
        ("{} | took > 5 | __error__=``", False),
        ("{} | nope != ip(`10.0.3.0/24`)", False),
        ("{} | user=~`al.*`, service=`shop` detected_level!=`error`", True),
        ("{} | meta.region=`eu`", True),
        ("{} | nope > 1", False),
        ("{} | nope=``", True),
    ],
)  # fmt: skip
def test_filters(query: str, stays: bool) -> None:
    line = walked(query, NGINX, took="1.5s", user="alice", meta={"region": "eu"})
    assert (line is not None) == stays


def test_decolorize() -> None:
    line = walked("{} | decolorize", "\x1b[1;31mred\x1b[0m \x1b]8;;http://x\x07link\x1b]8;;\x07 plain")
    assert line is not None and line.text == "red link plain"


def test_addresses() -> None:
    found = [str(a) for a in extract.addresses_in("from 10.0.0.1:80 to [fe80::1]:443, not 1.2.3 or 999.1.1.1 or 12:30:45")]
    assert found == ["10.0.0.1", "fe80::1"]
    for bad in ("", "10.0.0", "10.0.0.9-10.0.0.1", "10.0.0.1-::1"):
        with pytest.raises(BadInput, match="invalid pattern"):
            extract.addresses(bad)


@given(st.text(max_size=80))
def test_parsers_take_any_line(text: str) -> None:
    for query in ("json", "logfmt", "logfmt --strict", 'regexp "(?P<x>.)"', "pattern `<a> <b>`", "unpack", "decolorize"):
        line = walked("{} | " + query + " |= `` | line_format `{{ __line__ }}`", text)
        assert line is not None


@pytest.mark.parametrize("text", [p * 100_000 for p in ("aaa", 'a="', '"', "=", "\x1b]", "1.", ":")])
def test_no_line_takes_long(text: str) -> None:
    """Milliseconds where the work grows with the length; where it grew with its square, this would not end."""
    for query in ("logfmt", "logfmt --strict", "pattern `<a> <b>`", "decolorize"):
        assert walked("{} | " + query, text) is not None
    assert walked('{} |= ip("10.0.0.1")', text) is None


PIECES = st.sampled_from(["a", "b", "ab", " ", '"', "(", ".*", "é", "\n", "[x]", "\\", "aa"])


@given(
    st.lists(st.tuples(st.sampled_from(["<x>", "<y>", "<_>", "<z>"]), PIECES), min_size=1, max_size=4, unique_by=lambda pair: pair[0]),
    st.sampled_from(["", "a", "(", "x "]),
    st.booleans(),
    st.lists(PIECES, max_size=12).map("".join),
)
def test_a_pattern_is_an_expression_that_finds_the_same(gaps: list[tuple[str, str]], first: str, ends: bool, line: str) -> None:
    """The one is what runs line by line, the other what the store is asked."""
    parts = [f"{gap}{literal}" for gap, literal in gaps]
    pattern = first + "".join(parts) + ("<last>" if ends else "")
    if all(gap == "<_>" for gap, _ in gaps) and not ends:
        pattern += "<last>"
    matches = {name: extract.regex(text, where="pattern").search(line) for name, text in extract.pattern_as_regexes(pattern).items()}
    found = {name: match.group(1) for name, match in matches.items() if match is not None and match.group(1)}
    assert found == {name: text for name, text in (extract.by_pattern(pattern)(line) or {}).items() if text}


@pytest.mark.parametrize("bad", ["", "<_>", "no gap", "<a><b>", "<a> <a>"])
def test_what_is_no_pattern_is_no_expression_either(bad: str) -> None:
    for read in (extract.by_pattern, extract.pattern_as_regexes):
        with pytest.raises(BadInput):
            read(bad)
