"""OTLP metrics to samples: resources, scopes, sums, histograms of both kinds, exemplars, starts; and what is refused, point by point."""

from __future__ import annotations

import json
import random

import numpy as np
import pytest
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest

from vedette import configfile
from vedette.errors import BadInput
from vedette.ingest.otlp import translated
from vedette.ingest.settings import OtlpConfig
from vedette.model.histograms import CUSTOM_SCHEMA
from vedette.model.labels import Labels
from vedette.model.samples import MetricMetadata, canonical, is_stale
from vedette.wire import otlp_metrics

NOW = 1_700_000_000_000
NS = 1_000_000
AT = (NOW - 5) * NS
SPACE = canonical()
DELTA, CUMULATIVE = 1, 2


def attributes(**given):
    kinds = {str: "stringValue", bool: "boolValue", int: "intValue", float: "doubleValue"}
    return [{"key": k.replace("__", "."), "value": {kinds[type(v)]: v}} for k, v in given.items()]


def request(*metrics, resource=None, scope=None):
    return {
        "resourceMetrics": [
            {
                "resource": {"attributes": attributes(**(resource or {}))},
                "scopeMetrics": [{"scope": scope or {}, "schemaUrl": "https://schema", "metrics": list(metrics)}],
            }
        ]
    }


def gauge(name, value, unit="", **more):
    return {"name": name, "unit": unit, "gauge": {"dataPoints": [{"timeUnixNano": AT, "asDouble": value, **more}]}}


def counter(name, value, unit="", *, temporality=CUMULATIVE, monotonic=True, **more):
    point = {"timeUnixNano": AT, "startTimeUnixNano": (NOW - 60_000) * NS, "asInt": str(value), **more}
    return {"name": name, "unit": unit, "sum": {"aggregationTemporality": temporality, "isMonotonic": monotonic, "dataPoints": [point]}}


def histogram(name, *, shape="histogram", temporality=CUMULATIVE, **point):
    return {"name": name, shape: {"aggregationTemporality": temporality, "dataPoints": [{"timeUnixNano": AT, **point}]}}


def taken(message, **config):
    return translated(otlp_metrics.parse_json(json.dumps(message).encode()), SPACE, OtlpConfig(**config), NOW)


def rows(found):
    batch = found.batch
    keys = [batch.buffer[lo:hi].tobytes() for lo, hi in zip(batch.key_start, batch.key_end, strict=True)]
    return {str(Labels.decode(k)): v for k, v in zip(keys, batch.values.tolist(), strict=True)}


SERVICE = {"service__name": "shop", "service__namespace": "eu", "service__instance__id": "i-1", "host__name": "h", "cores": 4}
ID = 'instance="i-1", job="eu/shop"'


def test_a_resource_is_job_instance_and_target_info():
    found = taken(request(gauge("mem.used", 3.5, "By", attributes=attributes(a__b="x", n=7, ok=True, f=0.5)), resource=SERVICE))
    assert rows(found) == {
        f'mem_used_bytes{{a_b="x", f="0.5", {ID}, n="7", ok="true"}}': 3.5,
        f'target_info{{cores="4", host_name="h", {ID}}}': 1.0,
    }
    assert found.batch.timestamps.tolist() == [NOW - 5, NOW - 5]
    assert found.batch.metadata == [
        MetricMetadata("mem_used_bytes", "gauge", "", "By"),
        MetricMetadata("target_info", "gauge", "Target metadata"),
    ]


def test_no_target_info_without_a_name_or_without_anything_to_tell():
    assert list(rows(taken(request(gauge("g", 1.0), resource={"host": "h"})))) == ["g"]
    assert list(rows(taken(request(gauge("g", 1.0), resource={"service__name": "s"})))) == ['g{job="s"}']
    assert rows(taken(request(resource=SERVICE))) == {}


def test_target_info_is_seen_at_all_times_between_the_points():
    old = gauge("g", 1.0)
    old["gauge"]["dataPoints"][0]["timeUnixNano"] = AT - 400 * 10**9
    found = taken(request(old, gauge("h", 1.0), resource=SERVICE))
    info = [t for k, t in zip(rows_of(found), found.batch.timestamps.tolist(), strict=True) if k.startswith("target_info")]
    assert info == [NOW - 5 - 400_000, NOW - 5 - 250_000, NOW - 5 - 100_000, NOW - 5]
    old["gauge"]["dataPoints"][0]["timeUnixNano"] = 1
    assert taken(request(old, gauge("h", 1.0), resource=SERVICE)).batch.series_count < 1100, "one wrong clock makes no million samples"


def rows_of(found):
    batch = found.batch
    pairs = zip(batch.key_start, batch.key_end, strict=True)
    return [str(Labels.decode(batch.buffer[lo:hi].tobytes())) for lo, hi in pairs]


@pytest.mark.parametrize(
    ("config", "wanted"),
    [
        ({"promote_resource_attributes": ["host.name"]}, f'g{{host_name="h", {ID}}}'),
        ({"promote_all_resource_attributes": True, "ignore_resource_attributes": [" cores "]}, "host_name"),
        ({"translation_strategy": "NoTranslation", "promote_resource_attributes": ["host.name"]}, f'g{{"host.name"="h", {ID}}}'),
        ({"promote_scope_metadata": True}, 'otel_scope_name="lib", otel_scope_schema_url="https://schema", otel_scope_version="2"'),
    ],
)
def test_what_is_promoted(config, wanted):
    scope = {"name": "lib", "version": "2", "attributes": attributes(a__b="c")}
    found = taken(request(gauge("g", 1.0), resource=SERVICE, scope=scope), **config)
    first = rows_of(found)[0]
    assert wanted in first
    if "ignore_resource_attributes" in config:
        assert "cores" not in first
        assert 'service_name="shop"' in first


def test_identifying_attributes_may_be_kept():
    found = taken(request(gauge("g", 1.0), resource=SERVICE), keep_identifying_resource_attributes=True)
    assert 'service_name="shop"' in rows_of(found)[1]


def test_names_that_collide_share_their_values():
    point = {"attributes": [*attributes(a__b="1"), {"key": "a_b", "value": {"stringValue": "2"}}]}
    assert list(rows(taken(request(gauge("g", 1.0, **point))))) == ['g{a_b="1;2"}']


def test_sums_and_their_starts():
    found = taken(request(counter("hits", 7, "1"), counter("queue", -3, monotonic=False)))
    assert rows(found) == {"hits_total": 7.0, "queue": -3.0}
    assert found.batch.starts.tolist() == [NOW - 60_000, NOW - 60_000]
    assert [m.type for m in found.batch.metadata] == ["counter", "gauge"]


def test_deltas_are_refused_and_counted_and_the_rest_is_taken():
    deltas = [counter("hits", 7, temporality=DELTA), histogram("h", temporality=DELTA, count=1), counter("n", 1, temporality=0)]
    found = taken(request(*deltas, gauge("g", 1.0), resource={"service__name": "shop"}, scope={"name": "sdk"}))
    assert (rows(found), found.rejected) == ({'g{job="shop"}': 1.0}, {"delta": 3})
    assert "invalid temporality and type combination for metric 'hits'" in found.problem
    assert "OTEL_EXPORTER_OTLP_METRICS_TEMPORALITY_PREFERENCE=cumulative" in found.problem
    assert found.deltas == {("shop", "sdk")}


def test_a_delta_that_has_a_unit_and_no_name_is_refused_too():
    nameless = counter("", 7, "s", temporality=DELTA)
    del nameless["name"]
    found = taken(request(nameless, gauge("g", 1.0)))
    assert (rows(found), found.rejected) == ({"g": 1.0}, {"delta": 1})
    assert found.problem


def test_a_histogram_with_bounds():
    exemplars = [
        {"timeUnixNano": AT, "asDouble": 0.2, "traceId": "0a" * 16, "spanId": "0b" * 8, "filteredAttributes": attributes(user="u")},
        {"timeUnixNano": AT, "asInt": "9", "filteredAttributes": attributes(user="x" * 200)},
    ]
    point = {"count": "6", "sum": 9.5, "bucketCounts": ["1", "2", "3"], "explicitBounds": [0.5, 1], "exemplars": exemplars}
    found = taken(request(histogram("lat", **point)))
    assert rows(found) == {
        "lat_sum": 9.5,
        "lat_count": 6.0,
        'lat_bucket{le="0.5"}': 1.0,
        'lat_bucket{le="1"}': 3.0,
        'lat_bucket{le="+Inf"}': 6.0,
    }
    told = [(rows_of(found)[e.row], e.labels.as_dict(), e.value, e.timestamp) for e in found.batch.exemplars]
    assert told == [
        ('lat_bucket{le="0.5"}', {"trace_id": "0a" * 16, "span_id": "0b" * 8, "user": "u"}, 0.2, NOW - 5),
        ('lat_bucket{le="+Inf"}', {}, 9.0, NOW - 5),
    ]
    without = taken(request(histogram("lat", count=4)))
    assert rows(without) == {"lat_count": 4.0, 'lat_bucket{le="+Inf"}': 4.0}


def test_a_histogram_with_bounds_may_become_a_native_one():
    found = taken(
        request(histogram("lat", count=6, sum=9.5, bucketCounts=[1, 0, 5], explicitBounds=[0.5, 1])), convert_histograms_to_nhcb=True
    )
    h = found.batch.histograms.sample(0)
    assert rows_of(found) == ["lat"]
    assert (h.layout.schema, h.layout.bounds, h.layout.positive.tolist()) == (CUSTOM_SCHEMA, (0.5, 1.0), [0, 2])
    assert h.cells.tolist() == [6.0, 9.5, 0.0, 1.0, 5.0]


def test_an_exponential_histogram_is_a_native_one():
    sides = {"positive": {"offset": 1, "bucketCounts": ["0", "2"]}, "negative": {"offset": -3, "bucketCounts": ["1"]}}
    point = {"count": "4", "sum": 10, "scale": 1, "zeroCount": "1", "zeroThreshold": 0.25, **sides}
    found = taken(request(histogram("lat", shape="exponentialHistogram", **point)))
    h = found.batch.histograms.sample(0)
    assert (h.layout.schema, h.layout.threshold) == (1, 0.25)
    # OTLP's bucket 2 of scale 1 is (2, 2.83]: the one whose upper bound is 2**(3/2).
    assert (h.layout.positive.tolist(), h.layout.negative.tolist()) == ([3], [-2])
    assert h.cells.tolist() == [4.0, 10.0, 1.0, 2.0, 1.0]


def test_one_too_fine_is_made_coarser():
    point = {"count": 3, "sum": 1, "scale": 10, "positive": {"offset": 0, "bucketCounts": [1, 1, 0, 0, 1]}}
    h = taken(request(histogram("lat", shape="exponentialHistogram", **point))).batch.histograms.sample(0)
    assert (h.layout.schema, h.layout.positive.tolist(), h.positive.tolist()) == (8, [1, 2], [2.0, 1.0])


@pytest.mark.parametrize(
    ("metric", "problem"),
    [
        (histogram("h", count=3, bucketCounts=[1, 2], explicitBounds=[1, 2]), "buckets do not fit its bounds"),
        (histogram("h", count=3, bucketCounts=[1, 1, 1], explicitBounds=[2, 1]), "buckets do not fit its bounds"),
        (histogram("h", shape="exponentialHistogram", scale=-5), "of scale -5; at least -4"),
        (histogram("h", shape="exponentialHistogram", count=5, positive={"bucketCounts": [1]}), "counts 5, and its buckets 1"),
        (
            histogram("h", shape="exponentialHistogram", count=1, positive={"offset": 2**31 - 1, "bucketCounts": [1]}),
            "beyond what there is",
        ),
        (gauge("", 1.0), "without a name"),
    ],
)
def test_a_point_that_cannot_be_is_refused_alone(metric, problem):
    found = taken(request(metric, gauge("g", 1.0)))
    assert (rows(found), found.rejected.total()) == ({"g": 1.0}, 1)
    assert problem in found.problem


def test_summaries():
    point = {"timeUnixNano": AT, "count": "3", "sum": 6, "quantileValues": [{"quantile": 0.5, "value": 2}, {"quantile": 1, "value": 3}]}
    found = taken(request({"name": "s", "summary": {"dataPoints": [point]}}))
    assert rows(found) == {"s_sum": 6.0, "s_count": 3.0, 's{quantile="0.5"}': 2.0, 's{quantile="1"}': 3.0}


def test_a_point_without_a_value_is_stale():
    metrics = [gauge("g", 1.0, flags=1), counter("c", 1, flags=1), histogram("h", flags=1, bucketCounts=[0, 0], explicitBounds=[1])]
    metrics.append(histogram("e", shape="exponentialHistogram", flags=1))
    found = taken(request(*metrics))
    assert is_stale(found.batch.values).all()
    assert found.batch.series_count == 6


def test_a_point_without_a_time_is_of_now():
    found = taken(request({"name": "g", "gauge": {"dataPoints": [{"asDouble": 1}]}}))
    assert found.batch.timestamps.tolist() == [NOW]


def test_values_that_are_no_text_become_json():
    values = {"arrayValue": {"values": [{"intValue": "1"}, {"stringValue": "b"}]}}, {"kvlistValue": {"values": attributes(k=1.5)}}
    point = {"attributes": [{"key": f"v{i}", "value": v} for i, v in enumerate((*values, {"bytesValue": "AAE="}, {}, {"doubleValue": 2}))]}
    assert list(rows(taken(request(gauge("g", 1.0, **point))))) == ['g{v0="[1,\\"b\\"]", v1="{\\"k\\":1.5}", v2="AAE=", v4="2"}']


# The two encodings


def encoded(seed):
    """A request as Google's library writes it, of numbers at random."""
    made, rng = ExportMetricsServiceRequest(), random.Random(seed)
    resource = made.resource_metrics.add()
    resource.resource.attributes.add(key="service.name").value.string_value = "s"
    scope = resource.scope_metrics.add()
    scope.scope.name = "lib"
    for kind in ("gauge", "sum", "histogram", "exponential_histogram", "summary"):
        metric = scope.metrics.add(name=f"m.{kind}", unit="s", description="d")
        data = getattr(metric, kind)
        if hasattr(data, "aggregation_temporality"):
            data.aggregation_temporality = CUMULATIVE
        for i in range(rng.randrange(1, 4)):
            point = data.data_points.add(time_unix_nano=AT + i * NS, start_time_unix_nano=rng.randrange(1 << 60))
            point.attributes.add(key="i").value.int_value = -i
            if kind in ("gauge", "sum"):
                if rng.random() < 0.5:
                    point.as_int = -rng.randrange(1 << 40)
                else:
                    point.as_double = rng.uniform(-9, 9)
            elif kind == "histogram":
                point.bucket_counts.extend([1, 2, 3])
                point.explicit_bounds.extend([-0.5, 1e300])
                point.count, point.sum = 6, rng.random()
                exemplar = point.exemplars.add(as_double=0.5, time_unix_nano=AT, trace_id=b"t" * 16)
                exemplar.filtered_attributes.add(key="k").value.bool_value = True
            elif kind == "exponential_histogram":
                point.scale, point.zero_count, point.count, point.sum = rng.randrange(-4, 9), 1, 4, 2.5
                point.positive.offset = -rng.randrange(9)
                point.positive.bucket_counts.extend([1, 0, 2])
            else:
                point.count, point.sum = 5, 6
                point.quantile_values.add(quantile=0.99, value=7)
    return made


@pytest.mark.parametrize("seed", range(10))
def test_protobuf_and_json_say_the_same(seed):
    from google.protobuf.json_format import MessageToDict

    message = encoded(seed)
    plain = MessageToDict(message)
    for point in plain["resourceMetrics"][0]["scopeMetrics"][0]["metrics"][2]["histogram"]["dataPoints"]:
        for exemplar in point["exemplars"]:
            exemplar["traceId"] = (b"t" * 16).hex()  # in hexadecimal, unlike other bytes
    raw, written = otlp_metrics.parse(message.SerializeToString()), otlp_metrics.parse_json(json.dumps(plain).encode())
    one, two = (translated(m, SPACE, OtlpConfig(), NOW) for m in (raw, written))
    assert rows(one) == rows(two)
    assert one.batch.timestamps.tolist() == two.batch.timestamps.tolist()
    assert one.batch.starts.tolist() == two.batch.starts.tolist()
    assert one.batch.exemplars == two.batch.exemplars
    assert one.batch.histograms.cells.tolist() == two.batch.histograms.cells.tolist()
    assert one.rejected == two.rejected == {}


def test_bytes_that_are_none_are_refused_and_never_worse():
    whole = encoded(0).SerializeToString()
    rng = random.Random(1)
    refused = 0
    for _ in range(300):
        data = bytearray(whole)
        for _ in range(rng.randrange(1, 6)):
            data[rng.randrange(len(data))] = rng.randrange(256)
        try:
            translated(otlp_metrics.parse(bytes(data[: rng.randrange(len(data) + 1)])), SPACE, OtlpConfig(), NOW)
        except BadInput:
            refused += 1
    assert refused > 100


@pytest.mark.parametrize(
    ("body", "problem"),
    [
        (b"[]", "request: not an object"),
        (b"{", "not JSON"),
        (b'{"resourceMetrics": {}}', "request.resourceMetrics: not a list"),
        (b'{"resourceMetrics": [{"scopeMetrics": [{"metrics": [{"name": 5}]}]}]}', "metrics[0].name: not a value of kind text"),
        (json.dumps(request(gauge("g", "x"))).encode(), "asDouble: not a value of kind double"),
        (json.dumps(request(counter("g", "1.5"))).encode(), "asInt: not a value of kind sfixed"),
        (json.dumps(request(histogram("g", count=-1))).encode(), "count: not a value of kind fixed"),
    ],
)
def test_json_that_is_none_is_refused_by_its_place(body, problem):
    with pytest.raises(BadInput) as refused:
        otlp_metrics.parse_json(body)
    assert problem in str(refused.value)


def test_a_small_request_takes_no_great_room():
    with pytest.raises(BadInput, match="more than 1000000 messages"):
        otlp_metrics.parse(b"\x0a\x00" * 1_000_001)
    nested = b""
    for _ in range(60):
        nested = b"\x2a" + _length(b"\x0a" + _length(nested))
    pair = b"\x0a" + _length(b"\x12" + _length(nested))
    with pytest.raises(BadInput, match="nested more than"):
        otlp_metrics.parse(b"\x0a" + _length(b"\x0a" + _length(pair)))


def _length(data):
    size, out = len(data), b""
    while size >= 0x80:
        out, size = out + bytes([size & 0x7F | 0x80]), size >> 7
    return out + bytes([size]) + data


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("translation_strategy: Invalid", 'unsupported OTLP translation strategy "Invalid"'),
        ("{promote_all_resource_attributes: true, promote_resource_attributes: [a]}", "cannot be configured simultaneously"),
        ("ignore_resource_attributes: [a]", "unless 'promote_all_resource_attributes' is true"),
        (
            'promote_resource_attributes: [a, " a", ""]',
            "invalid 'promote_resource_attributes': duplicated promoted OTel resource attribute",
        ),
    ],
)
def test_bad_configurations_are_told(text, problem):
    with pytest.raises(BadInput) as refused:
        configfile.parse(text, OtlpConfig)
    assert problem in str(refused.value)


def test_numbers_in_labels_are_written_plainly():
    bounds = [1e-7, 0.1, 1.0, 2.5, 1e6, 1e21]
    found = taken(request(histogram("h", count=0, bucketCounts=[0] * 7, explicitBounds=bounds)))
    marks = [
        Labels.decode(k).get("le")
        for k in (bytes(found.batch.buffer[a:b]) for a, b in zip(found.batch.key_start, found.batch.key_end, strict=True))
    ]
    assert [m for m in marks if m] == ["0.0000001", "0.1", "1", "2.5", "1000000", "1000000000000000000000", "+Inf"]
    assert np.isfinite(found.batch.values).all()
