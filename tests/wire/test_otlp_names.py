"""What OTLP's names become; the cases are those of the translator that Prometheus uses, by its published tables."""

from __future__ import annotations

import pytest

from vedette.wire.otlp_names import Names


@pytest.mark.parametrize(
    ("name", "unit", "kind", "wanted"),
    [
        ("active_directory.ds.replication.network.io", "By", "counter", "active_directory_ds_replication_network_io_bytes_total"),
        ("system.filesystem.usage", "By", "gauge", "system_filesystem_usage_bytes"),
        ("nginx_connections_reading", "connections", "gauge", "nginx_connections_reading"),
        ("hw.gpu.memory.utilization", "1", "gauge", "hw_gpu_memory_utilization_ratio"),
        ("hw.fan.speed_ratio", "1", "gauge", "hw_fan_speed_ratio"),
        ("apache.total.sent", "", "counter", "apache_sent_total"),
        ("http.server.duration", "ms", "histogram", "http_server_duration_milliseconds"),
        ("astro.light.speed", "m/s", "gauge", "astro_light_speed_meters_per_second"),
        ("presence_ratio", "%", "gauge", "presence_ratio_percent"),
        ("broken.metric.speed", "km/h", "gauge", "broken_metric_speed_km_per_hour"),
        ("requests", "{request}", "sum", "requests"),
        ("rate", "{packets}/s", "gauge", "rate_per_second"),
        ("requests", "{request}", "counter", "requests_total"),
        ("queue", "1", "sum", "queue"),
        ("redis.connected..clients__now", "", "gauge", "redis_connected_clients_now"),
        ("sys::mem", "", "gauge", "sys::mem"),
        ("5xx.errors", "", "counter", "_5xx_errors_total"),
        ("temperatur.außen", "Cel", "gauge", "temperatur_au_en_celsius"),
        ("...", "", "gauge", ""),
    ],
)
def test_with_underscores_and_suffixes(name, unit, kind, wanted):
    assert Names().metric(name, unit, kind) == wanted


@pytest.mark.parametrize(
    ("strategy", "wanted"),
    [
        ("UnderscoreEscapingWithSuffixes", "http_requests_seconds_total"),
        ("UnderscoreEscapingWithoutSuffixes", "http_requests"),
        ("NoUTF8EscapingWithSuffixes", "http.requests_seconds_total"),
        ("NoTranslation", "http.requests"),
    ],
)
def test_strategies(strategy, wanted):
    assert Names(strategy).metric("http.requests", "s", "counter") == wanted


@pytest.mark.parametrize(
    ("name", "unit", "kind", "wanted"),
    [
        ("http.requests_total", "", "counter", "http.requests_total"),
        ("http.requests_seconds_total", "s", "counter", "http.requests_seconds_total"),
        ("speed", "m/s", "gauge", "speed_meters_per_second"),
        ("used", "1", "gauge", "used_ratio"),
    ],
)
def test_names_left_as_they_are_get_a_suffix_once(name, unit, kind, wanted):
    assert Names("NoUTF8EscapingWithSuffixes").metric(name, unit, kind) == wanted


@pytest.mark.parametrize(
    ("name", "wanted", "squeezed", "plain"),
    [
        ("http.method", "http_method", "http_method", "http_method"),
        ("a..b", "a__b", "a_b", "a__b"),
        ("_private", "key_private", "key_private", "_private"),
        ("__reserved", "__reserved", "key_reserved", "__reserved"),
        ("0day", "key_0day", "key_0day", "key_0day"),
        ("größe", "gr__e", "gr_e", "gr__e"),
        ("", "", "", ""),
    ],
)
def test_labels(name, wanted, squeezed, plain):
    assert Names().label(name) == wanted
    assert Names(underscores=False).label(name) == squeezed
    assert Names(private=False).label(name) == plain
    assert Names("NoTranslation").label(name) == name
