"""Mapping rules: statsd_exporter's own examples, which rule counts, and what is refused with its place."""

from __future__ import annotations

from pathlib import Path

import pytest

from vedette import configfile
from vedette.errors import BadInput
from vedette.ingest.mapping import Mapper, MappingFile, labels_for, mapper_of

README = """
defaults:
  observer_type: histogram
  buckets: [.005, .01, .025, .05, .1, .25, .5, 1, 2.5]
  match_type: glob
  ttl: 0
mappings:
- match: "test.dispatcher.*.*.*"
  name: "dispatcher_events_total"
  labels:
    processor: "$1"
    action: "$2"
    outcome: "$3"
    job: "test_dispatcher"
- match: "*.signup.*.*"
  name: "signup_events_total"
  labels:
    provider: "$2"
    outcome: "$3"
    job: "${1}_server"
- match: "test.timing.*.*.*"
  observer_type: summary
  summary_options:
    quantiles:
    - {quantile: 0.99, error: 0.001}
    - {quantile: 0.5, error: 0.05}
    max_age: 30s
  name: "my_timer"
  labels: {code: "$3"}
- match: "other.timing.*"
  histogram_options: {buckets: [0.1, 1]}
  ttl: 1h
  name: "other_timer"
- match: '(.*)\\.(.*)--(.*)\\.status\\.(.*)\\.count'
  match_type: regex
  name: "request_total"
  labels: {hostname: "$1", exec: "$2", protocol: "$3", code: "$4"}
- match: "."
  match_type: regex
  action: drop
  name: dropped
"""


def mapper(text: str, **given: bool) -> Mapper:
    return Mapper(configfile.parse(text, MappingFile, name="m.yml"), where="m.yml", **given)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        (
            "test.dispatcher.FooProcessor.send.success",
            'dispatcher_events_total{action="send", job="test_dispatcher", outcome="success", processor="FooProcessor"}',
        ),
        ("foo_product.signup.facebook.failure", 'signup_events_total{job="foo_product_server", outcome="failure", provider="facebook"}'),
        ("test.web-server.foo.bar", "test_web_server_foo_bar"),
        ("test.timing.a.b.c", 'my_timer{code="c"}'),
        ("host.exec--http.status.500.count", 'request_total{code="500", exec="exec", hostname="host", protocol="http"}'),
        ("test.dispatcher.a.b", "test_dispatcher_a_b"),
        ("test.dispatcher.a.b.c.d", "test_dispatcher_a_b_c_d"),
    ],
)
def test_the_examples(name: str, expected: str) -> None:
    found = mapper(README).find(name, "counter")
    assert found is not None
    assert str(labels_for(found, (), "underscores", {})) == expected


def test_a_rule_that_drops() -> None:
    assert mapper(README).find("x", "") is None


def test_how_observations_are_kept_by_rule_by_defaults_and_by_neither() -> None:
    rules = mapper(README)
    summary, histogram, unmapped = (rules.find(name, "observer") for name in ("test.timing.a.b.c", "other.timing.x", "else.where"))
    assert summary is not None and histogram is not None and unmapped is not None
    assert (summary.observing.bounds, summary.observing.quantiles, summary.observing.max_age) == (None, (0.99, 0.5), 30_000)
    assert histogram.observing.bounds == (0.1, 1.0)
    assert unmapped.observing.bounds is not None and len(unmapped.observing.bounds) == 9
    assert (summary.ttl, histogram.ttl) == (0, 3_600_000)
    plain = mapper("").find("a", "observer")
    assert plain is not None and plain.observing.quantiles == (0.5, 0.9, 0.99) and plain.observing.bounds is None and plain.ttl is None


def test_older_keys_mean_what_they_meant() -> None:
    a_rule = "{match: 'a.*', name: a, timer_type: histogram, buckets: [1, 2]}"
    b_rule = "{match: 'b.*', name: b, quantiles: [{quantile: 0.7, error: 0.1}]}"
    rules = mapper(f"mappings: [{a_rule}, {b_rule}]")
    a, b = rules.find("a.x", "timer"), rules.find("b.x", "timer")
    assert a is not None and a.observing.bounds == (1.0, 2.0)
    assert b is not None and b.observing.bounds is None and b.observing.quantiles == (0.7,)


def test_the_first_rule_that_matches_and_is_for_the_kind_counts() -> None:
    rules = mapper(
        "mappings: [{match: 'a.*', name: gauges, match_metric_type: gauge}, {match: 'a.b', name: timers, match_metric_type: timer},"
        " {match: '*.*', name: rest}]"
    )
    names = []
    for name, kind in (("a.b", "gauge"), ("a.b", "observer"), ("a.b", "counter"), ("a.c", "observer"), ("a.b", "")):
        found = rules.find(name, kind)  # type: ignore[arg-type]
        names.append(found.name if found else None)
    assert names == ["gauges", "timers", "rest", "rest", "gauges"]


def test_strict_drops_what_no_rule_matches() -> None:
    rules = mapper("mappings: [{match: 'a.*', name: a}]", strict=True)
    assert rules.find("a.x", "") is not None
    assert rules.find("b.x", "") is None
    assert mapper("", strict=True).find("a", "") is None


def test_who_wins_where_a_tag_and_a_rule_name_one_label() -> None:
    rules = mapper("mappings: [{match: a, name: a, labels: {x: rule}}, {match: b, name: b, labels: {x: rule}, honor_labels: true}]")
    a, b = rules.find("a", ""), rules.find("b", "")
    assert a is not None and b is not None
    tags = [("x", "tag"), ("y", "tag")]
    assert labels_for(a, tags, "underscores", {"y": "more", "z": "more"}).as_dict() == {
        "__name__": "a",
        "x": "rule",
        "y": "tag",
        "z": "more",
    }
    assert labels_for(b, tags, "underscores", {}).as_dict()["x"] == "tag"
    assert labels_for(b, [], "underscores", {"x": "more"}).as_dict()["x"] == "more"


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("mappings: [{match: 'a.*', name: 'a_$2'}]", r"m.yml: mappings\[0\]: \$2 names nothing that 'a.\*' matches"),
        ("mappings: [{match: 'a.*', name: a, labels: {b: '${c}'}}]", r"\$c names nothing"),
        ("mappings: [{match: 'a..b', name: a}]", "not a pattern"),
        ("mappings: [{match: 'a b', name: a}]", "not a pattern"),
        ("mappings: [{match: '(', match_type: regex, name: a}]", "not a regular expression"),
        ("mappings: [{match: a}]", "m.yml:1:12: .*a mapping needs a name"),
        ("mappings: [{match: a, name: b, action: keep}]", "'keep' is not one of the choices"),
        ("mappings: [{match: a, name: b, buckets: [2, 1]}]", "not bucket bounds"),
        ("mappings: [{match: a, name: b, histogram_options: {buckets: []}}]", "not bucket bounds"),
        ("mappings: [{match: a, name: b, summary_options: {quantiles: [{quantile: 2}]}}]", "not a quantile"),
        ("mappings: [{match: a, name: b, summary_options: {age_buckets: 3}}]", "age_buckets: not supported"),
        ("defaults: {glob_disable_ordering: true}", "glob_disable_ordering: not supported .*the first mapping"),
        ("mappings: [{match: a, name: b, ttl: soon}]", "ttl"),
    ],
)
def test_what_is_refused_is_pointed_at(text: str, problem: str) -> None:
    with pytest.raises(BadInput, match=problem):
        mapper(text)


def test_of_the_settings_or_of_a_file(tmp_path: Path) -> None:
    file = tmp_path / "m.yml"
    file.write_text("mappings: [{match: a, name: b}]")
    found = mapper_of((), file, where="statsd.mappings", strict=False).find("a", "")
    assert found is not None and found.name == "b"
    with pytest.raises(BadInput, match=r"nowhere.yml: cannot be read"):
        mapper_of((), tmp_path / "nowhere.yml", where="statsd.mappings", strict=False)


def test_thousands_of_rules_are_asked_at_once() -> None:
    rules = ", ".join(f"{{match: 'app{i}.*', name: 'n{i}'}}" for i in range(2_000))
    found = mapper(f"mappings: [{rules}]").find("app1999.x", "")
    assert found is not None and found.name == "n1999"
