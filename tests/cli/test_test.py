"""`vedette test promql` and `vedette test rules`: verdicts, what is printed, exit statuses; promtool beside them."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest
from typer.testing import CliRunner, Result

from vedette.cli.verbs import app
from vedette.errors import BadInput
from vedette.rules.unittest import go_duration


def vedette(*words: object) -> Result:
    result = CliRunner().invoke(app, ["test", *map(str, words)])
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result


SCRIPT = """
load 1m
  a{x="1"} 1 2 3
  a{x="2"} 4 5 6

eval instant at 1m sum(a)
  {} 7

eval instant at 2m a
  a{x="1"} 3
  a{x="2"} 7

eval instant at 2m sum(
  {} 1

eval range from 0 to 2m step 1m a{x="1"}
  a{x="1"} 1 2 3
"""


def test_a_script_tells_each_failure_with_its_line(tmp_path: Path) -> None:
    path = tmp_path / "one.test"
    path.write_text(SCRIPT)
    result = vedette("promql", path)
    assert result.exit_code == 1
    assert result.output.splitlines() == [
        f"{path}:9: a",
        '    wanted a{x="2"} 7.0, got 6.0',
        f"{path}:13: sum(",
        "    does not parse: 1:5: parse error: unclosed left parenthesis",
        "2 passed, 2 failed",
    ]


def test_folders_are_searched(tmp_path: Path) -> None:
    for name in ("a.test", "deep/b.test", "c.txt"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text("eval instant at 0 1 + 1\n  2\n")
    result = vedette("promql", tmp_path)
    assert (result.exit_code, result.output) == (0, "2 passed, 0 failed\n")


def test_variants_can_be_left_out(tmp_path: Path) -> None:
    # Pinned to its own time an unordered selector gives the same; a function of the time would not be asked.
    path = tmp_path / "one.test"
    path.write_text("load 1m\n  a 1 2\n\neval instant at 1m a - a offset 1m\n  {} 1\n")
    assert vedette("promql", path).exit_code == 0
    assert vedette("promql", "--no-variants", path).exit_code == 0


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (None, "cannot be read: No such file or directory"),
        (b"\xff", "not UTF-8 text"),
        (b"frobnicate\n", "unknown command 'frobnicate'"),
        (b"load 1m\n  a 1 2z\n", "not a value: '2z'"),
    ],
)
def test_a_script_that_cannot_be_read_has_failed(tmp_path: Path, text: bytes | None, message: str) -> None:
    path = tmp_path / "bad.test"
    if text is not None:
        path.write_bytes(text)
    result = vedette("promql", path)
    assert result.exit_code == 1
    assert message in result.output
    assert result.output.endswith("0 passed, 1 failed\n")


def test_a_folder_without_scripts_is_refused(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match=r"no \.test file"):
        vedette("promql", tmp_path)


RULES = """
groups:
  - name: first
    rules:
      - record: job:up:sum
        expr: sum by (job) (up)
  - name: second
    rules:
      - alert: Down
        expr: job:up:sum < 2
        for: 2m
        labels: {severity: page, dc: '{{ $externalLabels.dc }}'}
        annotations: {summary: '{{ $labels.job }} has {{ $value }} at {{ $externalURL }}'}
"""

TESTS = """
rule_files: [rules.yml]
evaluation_interval: 1m
group_eval_order: [first, second]
tests:
  - name: api goes down
    interval: 1m
    external_labels: {dc: eu}
    external_url: http://prom
    input_series:
      - {series: 'up{job="api", i="1"}', values: 1x10}
      - {series: 'up{job="api", i="2"}', values: 1 1 0x8}
    alert_rule_test:
      - {eval_time: 3m, alertname: Down, exp_alerts: []}
      - eval_time: 4m30s
        alertname: Down
        exp_alerts:
          - exp_labels: {severity: page, job: api, dc: eu}
            exp_annotations: {summary: api has 1 at http://prom}
    promql_expr_test:
      - expr: job:up:sum
        eval_time: 5m
        exp_samples: [{labels: 'job:up:sum{job="api"}', value: 1}]
      - expr: ALERTS{alertstate="firing"}
        eval_time: 5m
        exp_samples: [{labels: 'ALERTS{alertname="Down",alertstate="firing",job="api",severity="page",dc="eu"}', value: 1}]
      - expr: count_over_time(up{i="1"}[150s:])
        eval_time: 5m
        exp_samples: [{labels: '{job="api",i="1"}', value: 3}]
      - expr: scalar(up{i="2"}) + 0.5
        eval_time: 1m
        exp_samples: [{value: 1.5}]
"""

# What is changed in the test file, and a piece of what is then said; None for a change that passes.
CHANGES: dict[str, tuple[str, str, str | None]] = {
    "as it is": ("", "", None),
    "another value": ("value: 1.5", "value: 1.6", "exp: {} 1.6E+00\n        got: {} 1.5E+00"),
    "a missing label": ("dc: eu}\n            exp", "dc: us}\n            exp", '0:\n              Labels:{alertname="Down", dc="us"'),
    "no alert": ("eval_time: 4m30s", "eval_time: 3m30s", "alertname: Down, time: 3m30s"),
    "an alert too soon": ("eval_time: 3m,", "eval_time: 4m,", "exp:[]"),
    "an alert of no name": ("eval_time: 3m, alertname: Down", "eval_time: 3m", "misses required attribute alertname at eval_time 3m"),
    "an unknown key": ("interval: 1m\n    ext", "intervals: 1m\n    ext", "unknown key"),
    "bad series": ("values: 1x10", "values: 1y10", "not a value"),
    "a bad query": ("scalar(up{", "scalar(up(", "parse error"),
    "a range": ("count_over_time(up{i=\"1\"}[150s:])", "up{i=\"1\"}[150s:]", "rule result is not a vector or scalar"),
    "a group twice": ("[first, second]", "[first, first]", "group name repeated in evaluation order: first"),
    "a wrong order": ("[first, second]", "[second, first]", "alertname: Down, time: 4m30s"),
    "no rule file": ("[rules.yml]", "[none-*.yml]", 'exp: {__name__="job:up:sum", job="api"} 1E+00\n        got: nil'),
}  # fmt: skip


@pytest.mark.parametrize("name", CHANGES)
def test_rules_beside_promtool(name: str, tmp_path: Path, debian_binary: Callable[[str], str]) -> None:
    before, after, said = CHANGES[name]
    assert before in TESTS
    (tmp_path / "rules.yml").write_text(RULES)
    path = tmp_path / "test.yml"
    path.write_text(TESTS.replace(before, after, 1) if before else TESTS)
    result = vedette("rules", path)
    if said is not None:
        assert said in result.output
    theirs = subprocess.run([debian_binary("promtool"), "test", "rules", str(path)], capture_output=True, text=True, check=False)
    assert result.exit_code == theirs.returncode, (result.output, theirs.stdout, theirs.stderr)
    assert ("SUCCESS" in result.output) == ("SUCCESS" in theirs.stdout)


TOLD = """
rule_files: [rules.yml]
evaluation_interval: 1m
tests:
  - interval: 10s
    name: a name
    input_series:
      - {series: 'a{b="c"}', values: '0+1x40'}
      - {series: 'a{b="d"}', values: '1 _ stale 5e3'}
    alert_rule_test:
      - {alertname: High, eval_time: 1m, exp_alerts: []}
      - {alertname: High, eval_time: 3m59s, exp_alerts: [{exp_labels: {b: c, sev: page}, exp_annotations: {d: '1.235M 18.00', q: "18"}}]}
      - {alertname: Kept, eval_time: 1m, exp_alerts: [{exp_labels: {b: c}}, {exp_labels: {b: c}}]}
      - {alertname: Kept, eval_time: 3m, exp_alerts: []}
      - {alertname: Nobody, eval_time: 0s, exp_alerts: [{exp_labels: {}}]}
    promql_expr_test:
      - {expr: a, eval_time: 90s, exp_samples: [{labels: 'a{b="c"}', value: 9}]}
      - {expr: 'a offset -1m', eval_time: 4m, exp_samples: [{labels: 'a{b="c"}', value: 30}, {value: 1e20}, {labels: x, value: .inf}]}
      - {expr: 'a{b="c"}', eval_time: 5s, exp_samples: [{labels: 'a{b="c"}', value: 0}]}
      - {expr: 'sum(r:sum{k="v"})', eval_time: 4m, exp_samples: [{labels: '{}', value: 24}]}
      - {expr: 'a{', eval_time: 1m}
      - {expr: 'a[5m]', eval_time: 1m}
      - {expr: '"text"', eval_time: 1m}
      - {expr: 'a', eval_time: 1m, exp_samples: [{labels: 'a{b="c', value: 7.5}]}
"""
TOLD_RULES = """
groups:
  - name: g
    rules:
      - {record: 'r:sum', expr: sum(a), labels: {k: v}}
      - alert: High
        expr: a > 5
        for: 2m
        labels: {sev: page, none: ""}
        annotations: {d: '{{ humanize 1234567.0 }} {{ $value | printf "%.2f" }}', q: '{{ with query "a" }}{{ . | first | value }}{{ end }}'}
      - {alert: Kept, expr: a == 6, keep_firing_for: 1m}
"""


def test_what_is_told_is_what_promtool_tells(tmp_path: Path, debian_binary: Callable[[str], str]) -> None:
    (tmp_path / "rules.yml").write_text(TOLD_RULES)
    paths = [tmp_path / name for name in ("failing.yml", "passing.yml", "no-rules.yml")]
    paths[0].write_text(TOLD)
    paths[1].write_text(TOLD[: TOLD.index("    alert_rule_test")] + "    promql_expr_test: [{expr: '1', exp_samples: [{value: 1}]}]\n")
    paths[2].write_text("rule_files: [none.yml]\ntests: []\n")
    result = vedette("rules", *paths)
    theirs = subprocess.run([debian_binary("promtool"), "test", "rules", *map(str, paths)], capture_output=True, text=True, check=False)
    assert result.exit_code == theirs.returncode == 1
    assert result.stdout == theirs.stdout
    assert result.stderr == theirs.stderr
    assert "got: {__name__=" in result.stderr


def test_an_error_of_a_rule_is_told_with_its_time(tmp_path: Path) -> None:
    (tmp_path / "rules.yml").write_text("groups: [{name: g, rules: [{record: x, expr: 'a + on() b'}]}]\n")
    path = tmp_path / "test.yml"
    path.write_text(
        "rule_files: [rules.yml]\ntests: [{interval: 30s, input_series: [{series: a, values: 1x9},"
        " {series: 'b{i=\"1\"}', values: 1x9}, {series: 'b{i=\"2\"}', values: '_ _ _ 1'}], promql_expr_test: [{expr: a, eval_time: 4m}]}]\n"
    )
    assert "    rule: x, time: 2m0s, err: found duplicate series for the match group {}" in vedette("rules", path).stderr


def test_many_samples_are_no_reason_to_fail(tmp_path: Path) -> None:
    path = tmp_path / "test.yml"
    series = ", ".join(f"{{series: 'a{{i=\"{i}\"}}', values: 1x200}}" for i in range(60))
    expr = "{expr: 'sum(count_over_time(a[200m]))', eval_time: 200m, exp_samples: [{value: 12000}]}"
    path.write_text(f"tests: [{{input_series: [{series}], promql_expr_test: [{expr}]}}]\n")
    assert vedette("rules", path).exit_code == 0


def test_differences_dumps_and_junit(tmp_path: Path) -> None:
    (tmp_path / "rules.yml").write_text(TOLD_RULES)
    path, broken, report = (tmp_path / name for name in ("test.yml", "broken.yml", "out.xml"))
    path.write_text(TOLD)
    broken.write_text("bogus: 1\n")
    result = vedette("rules", "--diff", "--debug", "--junit", report, path, broken)
    assert result.exit_code == 1
    diff = result.stderr[result.stderr.index("alertname: Kept, time: 1m") :]
    assert diff.split("\n")[1:5] == [
        "        diff:",
        "              [",
        "              0:",
        '                Labels:{alertname="Kept", b="c"}',
    ]
    assert '            - 1:\n            -   Labels:{alertname="Kept", b="c"}' in diff
    dump = result.stderr.split("\n")
    assert "DEBUG: Starting test a name" in dump
    assert dump[dump.index('a{b="d"} =>') + 1] == "5000 @[30000]"
    assert 'r:sum{k="v"} =>' in dump
    suites = ElementTree.parse(report).getroot()
    told = [(s.get("name"), s.get("tests"), s.get("failures"), s.get("errors")) for s in suites]
    assert told == [(str(path), "1", "1", "0"), (str(broken), "0", "0", "1")]
    assert [case.get("name") for case in suites[0]] == ["a name"]
    assert any("alertname: Nobody" in str(failure.text) for failure in suites[0][0])
    assert "unknown key" in str(suites[1][0].text)
    with pytest.raises(BadInput, match="cannot be written"):
        vedette("rules", "--junit", tmp_path / "no" / "out.xml", path)


def test_unknown_keys_are_passed_over_in_rule_files_alone(tmp_path: Path) -> None:
    (tmp_path / "rules.yml").write_text("groups: [{name: g, odd: 1, rules: []}]\n")
    path = tmp_path / "test.yml"
    text = "rule_files: [rules.yml]\ntests: [{promql_expr_test: [{expr: '1', exp_samples: [{value: 1}]}]}]\n"
    path.write_text(text)
    assert vedette("rules", path).exit_code == 1
    assert vedette("rules", "--ignore-unknown-fields", path).exit_code == 0
    path.write_text("odd: 1\n" + text)
    assert vedette("rules", "--ignore-unknown-fields", path).exit_code == 1


@pytest.mark.parametrize(
    ("ms", "shown"),
    [(0, "0s"), (10, "10ms"), (1500, "1.5s"), (60_000, "1m0s"), (90_061_001, "25h1m1.001s"), (3_600_000, "1h0m0s"), (-5000, "-5s")],
)
def test_lengths_of_time_as_go_prints_them(ms: int, shown: str) -> None:
    assert go_duration(ms) == shown


def test_only_the_groups_of_tests_asked_for_run(tmp_path: Path) -> None:
    path = tmp_path / "test.yml"
    path.write_text("tests:\n" + "".join(
        f"  - {{name: {name}, promql_expr_test: [{{expr: '1', exp_samples: [{{value: {value}}}]}}]}}\n"
        for name, value in (("good one", 1), ("bad one", 2))
    ))  # fmt: skip
    assert vedette("rules", path).exit_code == 1
    assert vedette("rules", "--run", "good", path).exit_code == 0
    assert vedette("rules", "--run", "^bad", "--run", "good", path).exit_code == 1
    assert vedette("rules", "--run", "nothing", path).exit_code == 0
    with pytest.raises(BadInput, match="not a regular expression"):
        vedette("rules", "--run", "(", path)


def test_values_are_equal_or_next_to_one_another(tmp_path: Path) -> None:
    path = tmp_path / "test.yml"
    text = "tests: [{promql_expr_test: [{expr: '0.1 + 0.2', exp_samples: [{value: 0.3}]}]}]\n"
    path.write_text(text)
    result = vedette("rules", path)
    assert result.exit_code == 1
    assert "{} 3.0000000000000004E-01" in result.output
    path.write_text("fuzzy_compare: true\n" + text)
    assert vedette("rules", path).exit_code == 0
    path.write_text("fuzzy_compare: true\n" + text.replace("0.1 + 0.2", "NaN").replace("0.3", ".nan"))
    assert vedette("rules", path).exit_code == 1


def test_features_are_those_enabled(tmp_path: Path) -> None:
    path = tmp_path / "test.yml"
    (tmp_path / "rules.yml").write_text("groups: [{name: g, rules: [{record: x, expr: 'max_of(1, 2)'}]}]\n")
    path.write_text("rule_files: [rules.yml]\ntests: [{promql_expr_test: [{expr: 'x', exp_samples: [{labels: x, value: 2}]}]}]\n")
    assert 'function "max_of" is not enabled' in vedette("rules", path).output
    assert vedette("rules", "--enable-feature", "promql-experimental-functions", path).exit_code == 0
    both = vedette("rules", "--enable-feature", "x,promql-experimental-functions", path)
    assert both.exit_code == 0
    assert "WARNING: unknown feature 'x'" in both.stderr
    path.write_text("tests: [{promql_expr_test: [{expr: 'vector(1) + 0', exp_samples: [{value: 1}]}]}]\n")
    assert vedette("rules", "--enable-feature", "promql-delayed-name-removal", path).exit_code == 0


def test_a_start_is_a_number_or_a_date(tmp_path: Path) -> None:
    path = tmp_path / "test.yml"
    text = "tests: [{start_timestamp: %s, promql_expr_test: [{eval_time: 1m, expr: 'time()', exp_samples: [{value: %d}]}]}]\n"
    for start, then in (("1e3", 1060), ('"1970-01-01T00:16:40Z"', 1060), ("1970-01-01T01:16:40+01:00", 1060)):
        path.write_text(text % (start, then))
        assert vedette("rules", path).exit_code == 0, start
    for start in ('"1970-01-01T00:16:40"', "yesterday"):
        path.write_text(text % (start, 0))
        assert "time" in vedette("rules", path).output


def invocations() -> list[Any]:
    return [pytest.param(i, id=str(i)) for i in range(19)]


@pytest.mark.parametrize("index", invocations())
def test_promtools_own_invocations(index: int, conformance: Path) -> None:
    known = json.loads((conformance / "derived" / "promtool_expected.json").read_text())["test_rules"]
    if index >= len(known):
        pytest.skip(f"only {len(known)} invocations are in this part of the conformance data")
    case = known[index]
    path = conformance / "prometheus_prometheus" / "cmd" / "promtool" / "testdata" / case["file"]
    if not path.exists():
        pytest.skip(f"{path.name} is not in this part of the conformance data")
    options = [w for pattern in case.get("run", ()) for w in ("--run", pattern)]
    if case.get("ignore_unknown_fields"):
        options.append("--ignore-unknown-fields")
    result = vedette("rules", *options, path)
    assert result.exit_code == case["exit"], result.output
