"""Go templates: what they print, what they refuse and where, and that none of them runs away."""

from __future__ import annotations

import time
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vedette.errors import BadInput
from vedette.gotemplate.evaluate import Limits, render
from vedette.gotemplate.parser import MAX_SOURCE, parse
from vedette.gotemplate.shared import PROMETHEUS
from vedette.gotemplate.values import Map, Slice, Struct, format_float


def run(source: str, data: Any = None, **variables: Any) -> str:
    named = {f"${n}": v for n, v in variables.items()}
    template = parse(source, name="t", functions=PROMETHEUS, variables=list(named))
    return render(template, data, variables=named, functions=PROMETHEUS)


ALERT = Struct("alert", {"Labels": Map({"a": "1", "b": "2"}), "Value": 1e6, "Any": {"x": 1}}, methods={"Twice": lambda n: n * 2})

PRINTS = [
    ("plain", "plain"),
    ("{{ 1 }} {{ 1.50 }} {{ 0x1F }} {{ 017 }} {{ 1_000 }} {{ 'a' }} {{ true }}", "1 1.5 31 15 1000 97 true"),
    ('{{ "a\\tb\\u00e4\\x41" }}{{ `raw\\n` }}', "a\tbäAraw\\n"),
    ("a {{- 1 -}} b {{ 2 }} c", "a1b 2 c"),
    ("a {{- /* gone */ -}} b{{/* also */}}c", "abc"),
    ("{{ .Labels.a }}{{ .Labels.none }}|{{ .Any.x }}|{{ .Any.none }}", "1|1|<no value>"),
    ("{{ .Value }} {{ 123456.0 }} {{ 0.0001 }} {{ 0.00001 }} {{ 1e100 }}", "1e+06 123456 0.0001 1e-05 1e+100"),
    ("{{ .Labels }} {{ .Any }}", "map[a:1 b:2] map[x:1]"),
    ("{{ .Twice 4 }} {{ 4 | .Twice }} {{ (.Twice 2) | .Twice }}", "8 8 8"),
    ("{{ if .Labels.none }}a{{ else if .Labels.a }}b{{ else }}c{{ end }}", "b"),
    ("{{ if and 1 0 }}a{{ end }}{{ or 0 2 }}{{ and 1 2 }}{{ not 0 }}", "22true"),
    ("{{ or .Labels.a (index .Missing 0) }}", "1"),  # or does not evaluate what it does not need
    ("{{ with .Labels.a }}<{{ . }}>{{ else }}none{{ end }}{{ with 0 }}x{{ else with 5 }}{{ . }}{{ end }}", "<1>5"),
    ("{{ range $k, $v := .Labels }}{{ $k }}={{ $v }};{{ end }}", "a=1;b=2;"),
    ("{{ range $i := 3 }}{{ if eq $i 1 }}{{ continue }}{{ end }}{{ $i }}{{ end }}", "02"),
    ("{{ range 5 }}{{ if gt . 2 }}{{ break }}{{ end }}{{ . }}{{ else }}none{{ end }}", "012"),
    ("{{ range 0 }}x{{ else }}none{{ end }}", "none"),
    ("{{ $x := 1 }}{{ if true }}{{ $x = 2 }}{{ $y := 3 }}{{ end }}{{ $x }}", "2"),
    ("{{ $x := 1 }}{{ with 7 }}{{ $x := 2 }}{{ end }}{{ $x }}", "1"),
    ('{{ define "t" }}[{{ . }}{{ $ }}]{{ end }}{{ template "t" 5 }}{{ template "t" .Labels.a }}', "[55][11]"),
    ('{{ block "b" .Labels.b }}({{ . }}){{ end }}', "(2)"),
    ("{{ eq 1 2 1 }} {{ ne `a` `b` }} {{ lt 1 2 }} {{ le 2 2 }} {{ gt 1.5 1.0 }} {{ ge `b` `a` }}", "true true true true true true"),
    ("{{ len .Labels }} {{ len `äb` }} {{ index .Labels `a` }} {{ slice `abcdef` 1 3 }}", "2 3 1 bc"),
    ('{{ print 1 2 "a" "b" 3 }}|{{ println 1 "a" }}', "1 2ab3|1 a\n"),
    ('{{ html "<a&\\"\'>" }} {{ urlquery "a b&c" }} {{ js "it\'s <b>" }}', "&lt;a&amp;&#34;&#39;&gt; a+b%26c it\\'s \\u003Cb\\u003E"),
    ("{{ $.Labels.a }}{{ .Labels.a | printf `%s-%s` `x` }}", "1x-1"),
]


@pytest.mark.parametrize(("source", "expected"), PRINTS)
def test_prints(source: str, expected: str) -> None:
    assert run(source, ALERT) == expected


PRINTF = [
    ("%d|%5d|%-5d|%05d|%+d|%x|%X|%o|%b|%c|%U|%q", [42, 42, 42, 42, 42, 255, 255, 8, 5, 97, 0x1F600, 97]),
    ("%v %s %q %10s|%-10s|%.2s|%x", ["a", "b", 'c"d', "e", "f", "ghi", "hi"]),
    ("%v %f %.2f %8.3f|%e %g %G %+.1f %08.3f", [1.5, 1.5, 1.555, 3.14159, 12345.678, 1e21, 1e-7, 2.0, -3.14159]),
    ("%t %v %5t|%v", [True, False, True, None]),
    ("%d %s %z", ["text", 5, 1]),
    ("%d", []),
    ("%d", [1, 2]),
    ("%*d|%-*d|", [5, 1, 5, 2]),
    ("100%% %v", [[1, "a"]]),
    ("%T %T %T %T", [1, 1.5, "a", True]),
]
# What Go 1.2x prints for the above.
PRINTED = [
    "42|   42|42   |00042|+42|ff|FF|10|101|a|U+1F600|'a'",
    'a b "c\\"d"          e|f         |gh|6869',
    "1.5 1.500000 1.55 " + "   3.142|1.234568e+04 1e+21 1E-07 +2.0 -003.142",
    "true false  true|<nil>",
    "%!d(string=text) %!s(int=5) %!z(int=1)",
    "%!d(MISSING)",
    "1%!(EXTRA int=2)",
    "    1|2    |",
    "100% [1 a]",
    "int float64 string bool",
]


@pytest.mark.parametrize(("case", "expected"), list(zip(PRINTF, PRINTED, strict=True)))
def test_printf_is_gos(case: tuple[str, list[Any]], expected: str) -> None:
    form, values = case
    names = " ".join(f"(index .v {i})" for i in range(len(values)))
    assert run("{{ printf .f " + names + " }}", {"f": form, "v": values}) == expected


def test_printf_without_a_verb() -> None:
    assert run('{{ printf "a%" }}') == "a%!(NOVERB)"


def test_printf_with_argument_indexes() -> None:
    assert run('{{ printf "%[2]d %[1]d %d" 1 2 }}') == "2 1 2"
    assert run('{{ printf "%[5]d" 1 }}') == "%!d(BADINDEX)"


REFUSED = [
    ("{{ $x }}", '1:4: undefined variable "$x"'),
    ("a\n {{ foo }}", '2:5: function "foo" not defined'),
    ("{{ if }}a{{ end }}", "1:7: missing value for if"),
    ("{{ if true }}", "1:4: {{if}} lacks its {{end}}"),
    ("{{ end }}", "1:4: unexpected {{end}}"),
    ("{{ else }}", "1:4: unexpected {{else}}"),
    ("{{ if 1 }}{{ else }}{{ else }}{{ end }}", "1:24: expected end; found {{else}}"),
    ("{{ 1 ", "1:3: unclosed action"),
    ("{{ /* a }}", "1:4: unexpected '/'"),
    ("{{/* a }}", "1:3: unclosed comment"),
    ("{{ (1 }}", "1:7: unclosed left parenthesis"),
    ("{{ 1) }}", "1:5: unexpected right parenthesis"),
    ('{{ "a }}', "1:4: unterminated quoted string"),
    ('{{ "\\q" }}', "1:4: invalid syntax: unknown escape \\q"),
    ("{{ 1x }}", "1:4: bad number syntax: '1x'"),
    ("{{ 99999999999999999999 }}", "1:4: integer overflow"),
    ("{{ break }}", "1:4: {{break}} outside {{range}}"),
    ("{{ 1 | 2 }}", "1:8: non executable command in pipeline"),
    ("{{ template x }}", "1:13: unexpected 'x' in template clause"),
    ('{{ template "x" }}', '1:4: template "x" not defined'),
    ('{{ if 1 }}{{ define "x" }}{{ end }}{{ end }}', "1:14: unexpected {{define}}"),
    ("{{ 1.Foo }}", "1:4: bad number syntax: '1.Foo'"),
    ("{{ .Nope }}", "1:4: can't evaluate field Nope in type alert"),
    ("{{ .Value.Foo }}", "1:4: can't evaluate field Foo in type float64"),
    ("{{ .__class__ }}", "1:4: can't evaluate field __class__ in type alert"),
    ("{{ .Labels.a.upper }}", "1:4: can't evaluate field upper in type string"),
    ("{{ nil }}", "1:4: nil is not a command"),
    ("{{ 1 2 }}", "1:4: can't give argument to non-function"),
    ("{{ .Labels.a 2 }}", "1:4: a has arguments but is not a method"),
    ("{{ humanize }}", "1:4: wrong number of args for humanize: want 1 got 0"),
    ('{{ humanize "x" }}', "1:4: error calling humanize"),
    ("{{ eq 1 `a` }}", "1:4: error calling eq: incompatible types for comparison"),
    ("{{ index `ab` 5 }}", "1:4: error calling index: index out of range: 5"),
    ('{{ match "(" "a" }}', "1:4: error calling match: error parsing regexp"),
    ("{{ range 1.5 }}{{ end }}", "1:4: range can't iterate over 1.5"),
    ("{{ call 1 }}", "1:4: error calling call"),
    ("{{" + "(" * 200 + "1" + ")" * 200 + "}}", "nested more than 100 deep"),
    ("{{ if 1 }}" * 200 + "{{ end }}" * 200, "nested more than 100 deep"),
]


@pytest.mark.parametrize(("source", "expected"), REFUSED)
def test_refuses_with_the_position(source: str, expected: str) -> None:
    with pytest.raises(BadInput) as refused:
        run(source, ALERT)
    assert expected in str(refused.value)
    assert str(refused.value).startswith("t:")


RUNAWAYS = [
    "{{ range 1000000000 }}{{ end }}",
    '{{ define "a" }}{{ template "a" . }}{{ end }}{{ template "a" . }}',
    '{{ define "a" }}{{ if 1 }}{{ if 1 }}{{ template "a" . }}{{ end }}{{ end }}{{ end }}{{ template "a" . }}',
    '{{ define "a" }}{{ range 99 }}{{ template "a" . }}{{ end }}{{ end }}{{ template "a" . }}',
    '{{ $x := "0123456789" }}{{ range 100 }}{{ $x = printf "%s%s" $x $x }}{{ end }}',
    '{{ $x := "0123456789" }}{{ range 100 }}{{ $x = print $x $x $x }}{{ end }}',
    "{{ $x := args 1 }}{{ range 100 }}{{ $x = args $x $x }}{{ end }}{{ $x }}",
    '{{ printf "%999999999d" 1 }}',
    '{{ printf "%*d" 999999999 1 }}',
    '{{ range 100000 }}{{ printf "%9999d" 1 }}{{ end }}',
    '{{ $x := printf "%9999d" 1 }}{{ range 20 }}{{ $x = reReplaceAll "." "$0$0$0$0$0$0$0$0$0$0$0$0" $x }}{{ end }}',
    '{{ $x := printf "%9999d" 1 }}{{ range 1000000 }}{{ $y := reReplaceAll "x*y" "" $x }}{{ end }}',
    '{{ match "(a*)*(a*)*(a*)*b" "' + "a" * 5000 + '" }}{{ range 1000000 }}{{ end }}',
]


@pytest.mark.parametrize("source", RUNAWAYS)
def test_a_template_that_would_run_away_ends_soon_with_an_error(source: str) -> None:
    started = time.process_time()
    with pytest.raises(BadInput):
        run(source)
    # Generous by a factor of ten; without the limits each of these would take minutes or all memory.
    assert time.process_time() - started < 20


def test_a_template_of_10_mb_is_refused_unread() -> None:
    with pytest.raises(BadInput, match=f"at most {MAX_SOURCE}"):
        run("x" * 10_000_000)


def test_output_is_bounded() -> None:
    template = parse("{{ range 100 }}0123456789{{ end }}", name="t")
    assert len(render(template, None, limits=Limits(output=1000))) == 1000
    with pytest.raises(BadInput, match="wrote more than 999 characters"):
        render(template, None, limits=Limits(output=999))


def test_nothing_of_python_can_be_reached() -> None:
    class Secret:
        password = "hunter2"

    for source in ("{{ .s.password }}", "{{ .s.__dict__ }}", "{{ index .s `password` }}", "{{ .f.__globals__ }}", "{{ .l.append }}"):
        with pytest.raises(BadInput):
            run(source, {"s": Secret(), "f": run, "l": [1]})
    assert "hunter2" not in run("{{ .s }}", {"s": Secret()})


def test_slices_and_maps_have_the_methods_they_were_given() -> None:
    alerts = Slice.of([1, 2, 3], Firing=lambda: [1, 2])
    assert run("{{ len .Alerts }} {{ len .Alerts.Firing }}", {"Alerts": alerts}) == "3 2"
    pairs = Map({"a": "1"}, methods={"SortedPairs": lambda: ["a=1"]})
    assert run("{{ range .L.SortedPairs }}{{ . }}{{ end }}", {"L": pairs}) == "a=1"


def test_definitions_of_one_template_serve_another() -> None:
    library = parse('{{ define "greet" }}hello {{ . }}{{ end }}', name="lib")
    template = parse('{{ template "greet" "you" }}', name="t", definitions=library.definitions)
    assert render(template, None) == "hello you"


def test_an_error_in_another_template_points_into_it() -> None:
    library = parse('{{ define "x" }}\n {{ index `a` 7 }}{{ end }}', name="lib")
    template = parse('{{ template "x" }}', name="t", definitions=library.definitions)
    with pytest.raises(BadInput, match="lib:2:5: error calling index"):
        render(template, None)


@given(st.text(alphabet="{}-$.|()\"`' \n\\abifrange:=,01x/*", max_size=60))
def test_any_text_is_rendered_or_refused(source: str) -> None:
    try:
        run(source, ALERT)
    except BadInput as refused:
        assert refused.where.startswith("t")


@given(st.lists(st.sampled_from(["{{if .}}", "{{end}}", "{{else}}", "{{range .}}", "{{.}}", "{{$x := 1}}", "{{$x}}", "t", "{{with .}}"])))
def test_any_sequence_of_actions_is_rendered_or_refused(parts: list[str]) -> None:
    try:
        run("".join(parts), 2)
    except BadInput as refused:
        assert refused.where


@given(st.floats(allow_nan=False, allow_infinity=False))
def test_shortest_floats_read_back(value: float) -> None:
    for verb in "eg":
        assert float(format_float(value, verb)) == value
    assert float(format_float(value, "f")) == value
