"""From addresses to targets, and from scraped series to stored ones."""

from __future__ import annotations

from typing import Any

import pytest

from vedette import configfile
from vedette.collect.config import CollectConfig, ScrapeConfig
from vedette.collect.fetch import accept_header, format_of
from vedette.collect.series import SeriesRules
from vedette.collect.targets import discovered_labels, targets_of
from vedette.errors import BadInput
from vedette.model.labels import Labels


def job(text: str) -> ScrapeConfig:
    return CollectConfig.of(scrape_configs=[configfile.parse(text, ScrapeConfig)]).jobs[0]


def test_what_a_target_starts_with_and_what_remains() -> None:
    config = job("{job_name: j, params: {module: [a, b], x: [y]}, scrape_interval: 30s, metrics_path: /probe}")
    (target,), dropped = targets_of(config, [{"__address__": "h:80", "__meta_zone": "eu", "env": "p"}])
    assert target.discovered == Labels.of(
        {
            "__address__": "h:80",
            "__meta_zone": "eu",
            "__metrics_path__": "/probe",
            "__param_module": "a",
            "__param_x": "y",
            "__scheme__": "http",
            "__scrape_interval__": "30s",
            "__scrape_timeout__": "10s",
            "env": "p",
            "job": "j",
        }
    )
    assert target.labels == Labels.of(env="p", instance="h:80", job="j")
    assert target.url == "http://h:80/probe?module=a&module=b&x=y"
    assert (target.interval_ms, target.timeout_ms, dropped) == (30_000, 10_000, [])


def test_relabelling_rules_everything() -> None:
    config = job(
        """
job_name: j
relabel_configs:
  - {source_labels: [__address__], target_label: __param_target}
  - {source_labels: [__param_target], target_label: instance}
  - {target_label: __address__, replacement: "prober:9115"}
  - {target_label: __scheme__, replacement: https}
  - {target_label: __metrics_path__, replacement: probe}
  - {source_labels: [__meta_slow], regex: "yes", target_label: __scrape_interval__, replacement: 5m}
  - {source_labels: [__meta_skip], regex: "yes", action: drop}
  - {target_label: job, replacement: other}
"""
    )
    found = [{"__address__": "a b", "__meta_slow": "yes"}, {"__address__": "x", "__meta_skip": "yes"}]
    (target,), (dropped,) = targets_of(config, found)
    assert target.url == "https://prober:9115/probe?target=a+b"
    assert target.labels == Labels.of(instance="a b", job="other")
    assert target.interval_ms == 300_000
    assert (dropped.pool, dropped.reason, dropped.discovered.get("__address__")) == ("j", "", "x")


def test_the_same_target_twice_is_one() -> None:
    targets, _ = targets_of(job("{job_name: j}"), [{"__address__": "a", "__meta_n": "1"}, {"__address__": "a", "__meta_n": "2"}])
    assert len(targets) == 1


@pytest.mark.parametrize(
    ("labels", "reason"),
    [
        ({"a": "b"}, "no address"),
        ({"__address__": "a/b"}, "'a/b' is not a valid hostname"),
        ({"__address__": "a", "__scrape_interval__": "never"}, "error parsing scrape interval: not a valid duration string: 'never'"),
        ({"__address__": "a", "__scrape_timeout__": "0s"}, "scrape timeout cannot be 0"),
        ({"__address__": "a", "__scrape_timeout__": "2m"}, "scrape timeout cannot be greater than scrape interval ('2m' > '1m')"),
    ],
)
def test_addresses_that_make_no_target_say_why(labels: dict[str, str], reason: str) -> None:
    targets, (dropped,) = targets_of(job("{job_name: j}"), [labels])
    assert targets == []
    assert dropped.reason.startswith(reason)


def test_labels_that_are_given_win_over_the_jobs() -> None:
    labels = discovered_labels(job("{job_name: j}"), {"__address__": "a", "job": "mine", "__scheme__": "https", "empty": ""})
    assert (labels.get("job"), labels.get("__scheme__"), labels.get("empty", "-")) == ("mine", "https", "-")


TARGET = Labels.of(job="j", instance="i", exported_job="e")


@pytest.mark.parametrize(
    ("key", "honor", "expected"),
    [
        (b"m", False, {"job": "j", "instance": "i", "exported_job": "e"}),
        (b'm{job="x"}', False, {"job": "j", "instance": "i", "exported_job": "e", "exported_exported_job": "x"}),
        (b'm{job="x"}', True, {"job": "x", "instance": "i", "exported_job": "e"}),
        (b'm{job=""}', True, {"instance": "i", "exported_job": "e"}),
        (b'm{job=""}', False, {"job": "j", "instance": "i", "exported_job": "e"}),
        (b'm{instance="x",a="\\n"}', False, {"job": "j", "instance": "i", "exported_job": "e", "exported_instance": "x", "a": "\n"}),
    ],
)
def test_labels_that_clash(key: bytes, honor: bool, expected: dict[str, str]) -> None:
    assert SeriesRules(TARGET, honor).resolve(key) == Labels.of({"__name__": "m", **expected})


def rules(text: str) -> SeriesRules:
    return SeriesRules.of(job("{job_name: j, " + text + "}"), Labels.of(job="j"))


def test_metric_relabelling_drops_and_rewrites() -> None:
    found = rules("metric_relabel_configs: [{source_labels: [__name__], regex: 'go_.*', action: drop}, {target_label: x, replacement: y}]")
    assert found.resolve(b"go_gc 1".split()[0]) is None
    assert found.resolve(b"m") == Labels.of(__name__="m", job="j", x="y")


@pytest.mark.parametrize(
    ("text", "key", "problem"),
    [
        ("label_limit: 2", b'm{a="1"}', "label_limit exceeded (metric: m, number of labels: 3, limit: 2)"),
        ("label_name_length_limit: 8", b'm{long_name="1"}', "label_name_length_limit exceeded (metric: m, label name: long_name"),
        ("label_value_length_limit: 3", b'm{a="1234"}', "label_value_length_limit exceeded (metric: m, label name: a, length: 4"),
        ("metric_relabel_configs: [{target_label: __name__, replacement: ''}]", b"m", "relabelling leaves no metric name"),
        ("metric_name_validation_scheme: legacy", b'{"my.m"}', "invalid metric or label name 'my.m'"),
        ("metric_name_validation_scheme: legacy", b'm{"my.l"="1"}', "invalid metric or label name 'my.l'"),
    ],
)
def test_series_beyond_the_limits_fail_the_scrape(text: str, key: bytes, problem: str) -> None:
    with pytest.raises(BadInput) as caught:
        rules(text).resolve(key)
    assert problem in str(caught.value)


def test_what_is_asked_for() -> None:
    assert accept_header(job("{job_name: j}")) == (
        "application/openmetrics-text;version=1.0.0;escaping=allow-utf-8;q=0.5,application/openmetrics-text;version=0.0.1;q=0.4,"
        "text/plain;version=1.0.0;escaping=allow-utf-8;q=0.3,text/plain;version=0.0.4;q=0.2,*/*;q=0.1"
    )
    assert accept_header(job("{job_name: j, scrape_protocols: [PrometheusProto, PrometheusText0.0.4]}")) == (
        "application/vnd.google.protobuf;proto=io.prometheus.client.MetricFamily;encoding=delimited;q=0.3,"
        "text/plain;version=0.0.4;q=0.2,*/*;q=0.1"
    )
    assert accept_header(job("{job_name: j, scrape_native_histograms: true}")).startswith("application/vnd.google.protobuf;proto=")
    assert "protobuf" not in accept_header(job("{job_name: j, scrape_native_histograms: true, scrape_protocols: [PrometheusText0.0.4]}"))


@pytest.mark.parametrize(
    ("kind", "fallback", "expected"),
    [
        ("text/plain", "", "text"),
        ("text/plain; version=0.0.4; charset=utf-8", "", "text"),
        ("Application/OpenMetrics-Text; version=1.0.0", "", "openmetrics"),
        ("application/vnd.google.protobuf; proto=io.prometheus.client.MetricFamily; encoding=delimited", "", "protobuf"),
        ("application/vnd.google.protobuf", "PrometheusText0.0.4", "protobuf"),
        ("application/vnd.google.protobuf; encoding=text", "PrometheusText0.0.4", None),
        ("application/vnd.google.protobuf; proto=other.Message; encoding=delimited", "", None),
        ("", "PrometheusText0.0.4", "text"),
        ("text/html", "OpenMetricsText1.0.0", "openmetrics"),
        ("", "PrometheusProto", "protobuf"),
        ("", "", None),
        ("text/html", "", None),
    ],
)
def test_content_types(kind: str, fallback: str, expected: Any) -> None:
    if expected is None:
        with pytest.raises(BadInput, match="the target sends"):
            format_of(kind, fallback)
    else:
        assert format_of(kind, fallback) == expected
