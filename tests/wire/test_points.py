"""The JSON of OpenTSDB and of Datadog: names, tags, times, and what is told of what cannot be read."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vedette.errors import BadInput
from vedette.model.samples import SampleBatch, canonical
from vedette.wire import datadog, opentsdb
from vedette.wire.rows import Rows

sys.path.insert(0, str(Path(__file__).parent))
from protos import messages

NOW = 1_700_000_000_123
S = 1_700_000_000


def samples(batch: SampleBatch) -> list[tuple[str, int, float]]:
    found = []
    for i, (lo, hi) in enumerate(zip(batch.key_start.tolist(), batch.key_end.tolist(), strict=True)):
        labels = str(batch.keyspace.resolve(batch.buffer[lo:hi].tobytes()))
        at = slice(int(batch.offsets[i]), int(batch.offsets[i + 1]))
        found += [(labels, t, v) for t, v in zip(batch.timestamps[at].tolist(), batch.values[at].tolist(), strict=True)]
    return found


def put(body: Any, **more: Any) -> opentsdb.Points:
    text = body if isinstance(body, bytes) else json.dumps(body).encode()
    return opentsdb.parse(text, canonical(), NOW, **{"names": "underscores", **more})


def series(version: int, *found: Any, **more: Any) -> datadog.Series:
    return datadog.parse(json.dumps({"series": found}).encode(), canonical(), NOW, **{"names": "underscores", "version": version, **more})


def test_rows_are_a_batch():
    rows = Rows(canonical())
    assert (len(rows), rows.batch().sample_count, rows.batch().series_count) == (0, 0, 0)
    with pytest.raises(BadInput, match="timestamp out of range"):
        rows.add_key(b"a\xffb\xff", (1, 1 << 63), (1.0, 2.0))
    rows.add_key(b"__name__\xffm\xff", (1, 2), (3.0, 4.0))
    assert samples(rows.batch()) == [("m", 1, 3.0), ("m", 2, 4.0)]


@pytest.mark.parametrize(
    ("stamp", "ms"),
    [(S, S * 1000), (S * 1000 + 5, S * 1000 + 5), (str(S), S * 1000), (S + 0.25, S * 1000 + 250), (None, NOW), (0, 0)],
)
def test_a_point_of_opentsdb(stamp, ms):
    point = {"metric": "sys.cpu-nice", "timestamp": stamp, "value": 18, "tags": {"host": "web01", "dc/a": "lga"}}
    assert samples(put(point).rows.batch()) == [('sys_cpu_nice{dc_a="lga", host="web01"}', ms, 18.0)]
    assert samples(put([point], names="utf8").rows.batch()) == [('{"sys.cpu-nice", "dc/a"="lga", host="web01"}', ms, 18.0)]


def test_several_points_and_values_and_tags_that_are_no_texts():
    points = [
        {"metric": "a", "value": "1.5", "tags": {"n": 7, "f": 0.5, "b": True, "empty": ""}},
        {"metric": "b", "value": -2e3, "more": 1},
    ]
    assert samples(put(points, more=(("zone", "z"),)).rows.batch()) == [
        ('a{b="true", f="0.5", n="7", zone="z"}', NOW, 1.5),
        ('b{zone="z"}', NOW, -2000.0),
    ]


@pytest.mark.parametrize(
    ("point", "problem"),
    [
        ({}, "missing required field `metric`"),
        ({"metric": "a"}, "missing required field `value`"),
        ({"metric": "", "value": 1}, "no metric name"),
        ({"metric": "a", "value": "x"}, "value: not a number: 'x'"),
        ({"metric": "a", "value": None}, "Expected `float | str`, got `null`"),
        ({"metric": "a", "value": 1, "timestamp": "soon"}, "timestamp: not a number"),
        ({"metric": "a", "value": 1, "timestamp": -1}, "not a time: -1"),
        ({"metric": "a", "value": 1, "timestamp": 1e300}, "not a time"),
        ({"metric": "a", "value": 1, "tags": {"": "x"}}, "a tag without a name"),
        ({"metric": "a", "value": 1, "tags": {"__name__": "x"}}, "a tag is called __name__"),
        ({"metric": "a", "value": 1, "tags": []}, "Expected `object`"),
        (7, "Expected `object`, got `int`"),
    ],
)
def test_a_point_that_cannot_be_read_leaves_only_itself_out(point, problem):
    good = {"metric": "good", "value": 1}
    found = put([good, point, good])
    assert len(found.rows) == 2
    ((raw, why),) = found.bad
    assert json.loads(raw) == point
    assert problem in why
    with pytest.raises(BadInput) as raised:
        put(point)
    assert problem in str(raised.value)


@pytest.mark.parametrize("body", [b"", b"[", b"x", b"[1,", b"\xff", b'[{"metric":"\xff"}', b"[" * 100_000])
def test_a_body_that_is_no_json_is_refused_whole(body):
    with pytest.raises(BadInput):
        put(body)
    with pytest.raises(BadInput):
        datadog.parse(body, canonical(), NOW, version=1, names="utf8")


def test_a_series_of_datadogs_first_version():
    one = {
        "metric": "system.load.1",
        "points": [[S, 1], [S + 10, 2.5], [0, 3]],
        "host": "h",
        "device": "sda",
        "type": "rate",
        "interval": 20,
        "tags": ["env:prod", "url:http://x", "bare", "host:other"],
    }
    name = 'system_load_1{bare="no_label_value", device="sda", env="prod", exported_host="other", host="h", url="http://x"}'
    found = series(1, one)
    assert samples(found.rows.batch()) == [(name, S * 1000, 1.0), (name, (S + 10) * 1000, 2.5), (name, NOW, 3.0)]
    assert found.bad == []
    assert [labels for labels, _, _ in samples(series(1, {"metric": "a.b", "points": [[S, 1]]}, names="utf8").rows.batch())] == ['{"a.b"}']


def test_a_series_of_datadogs_second_version():
    one = {
        "metric": "m",
        "type": 3,
        "points": [{"timestamp": S, "value": 0.7}, {"value": 1}],
        "source_type_name": "x",
        "tags": None,
        "resources": [{"name": "h", "type": "host"}, {"name": "lost", "type": ""}],
    }
    name = 'm{host="h", source_type_name="x", zone="z"}'
    assert samples(series(2, one, more=(("zone", "z"), ("host", "no"))).rows.batch()) == [(name, S * 1000, 0.7), (name, NOW, 1.0)]


@pytest.mark.parametrize(
    ("version", "one", "problem"),
    [
        (1, {"metric": "m"}, "missing required field `points`"),
        (1, {"metric": "m", "points": [[1]]}, "Expected `array` of length 2"),
        (1, {"metric": "", "points": [[1, 1]]}, "no metric name"),
        (1, {"metric": "m", "points": [[1, 1]], "tags": [":x"]}, "a tag without a name"),
        (1, {"metric": "m", "points": [[1e30, 1]]}, "not a time"),
        (2, {"metric": "m", "points": [[1, 1]]}, "Expected `object`, got `array`"),
        (2, {"points": []}, "missing required field `metric`"),
        (2, 7, "Expected `object`, got `int`"),
    ],
)
def test_a_series_that_cannot_be_read_leaves_only_itself_out(version, one, problem):
    good = {"metric": "good", "points": [[1, 1]] if version == 1 else [{"value": 1}]}
    found = series(version, good, one, good)
    assert len(found.rows) == 2
    (why,) = found.bad
    assert why.startswith("series[1]: ")
    assert problem in why


@given(
    st.recursive(
        st.none() | st.booleans() | st.floats() | st.text(max_size=3) | st.sampled_from(["metric", "value", "tags", "points"]),
        lambda inner: (
            st.lists(inner, max_size=3)
            | st.dictionaries(st.sampled_from(["metric", "value", "timestamp", "tags", "points", "series"]), inner, max_size=4)
        ),
        max_leaves=12,
    )
)
def test_any_json_is_read_or_told(body):
    text = json.dumps(body).encode()
    for read in (lambda: put(text), *(lambda v=v: datadog.parse(text, canonical(), NOW, version=v, names="utf8") for v in (1, 2))):
        try:
            found = read()
        except BadInput:
            continue
        assert found.rows.batch().sample_count == len(found.rows)


def test_protobuf_is_what_json_is():
    kinds = messages("datadog")
    one = kinds["MetricSeries"](metric="a.b", tags=["env:prod", "host:x", "bare"], type=1, unit="s", source_type_name="System", interval=10)
    one.resources.add(type="host", name="web1")
    one.resources.add(type="device", name="sda")
    one.metadata.origin.origin_product = 10
    for value, stamp in ((1.5, S), (-0.0, S + 10), (2.0, 0)):
        one.points.add(value=value, timestamp=stamp)
    body = kinds["MetricPayload"](series=[one, kinds["MetricSeries"](metric="empty")]).SerializeToString()
    found = datadog.parse_protobuf(body, canonical(), NOW, names="underscores", more=(("zone", "z"),))
    same = {
        "metric": "a.b",
        "tags": ["env:prod", "host:x", "bare"],
        "source_type_name": "System",
        "resources": [{"type": "host", "name": "web1"}, {"type": "device", "name": "sda"}],
        "points": [{"value": 1.5, "timestamp": S}, {"value": -0.0, "timestamp": S + 10}, {"value": 2.0}],
    }
    assert samples(found.rows.batch()) == samples(series(2, same, more=(("zone", "z"),)).rows.batch())
    assert len(samples(found.rows.batch())) == 3
    assert (found.failed, found.bad) == (0, [])


def test_a_series_of_protobuf_that_cannot_be_read_keeps_only_itself_out():
    kinds = messages("datadog")
    good = kinds["MetricSeries"](metric="good")
    good.points.add(value=1.0, timestamp=S)
    late = kinds["MetricSeries"](metric="late")
    late.points.add(value=1.0, timestamp=1 << 50)
    body = kinds["MetricPayload"](series=[kinds["MetricSeries"](tags=["a:b"]), late, good]).SerializeToString()
    body += b"\x0a\x04\x12\x02\xff\xfe" + b"\x0a\x02\x12\x05"
    found = datadog.parse_protobuf(body, canonical(), NOW, names="underscores")
    assert samples(found.rows.batch()) == [("good", S * 1000, 1.0)]
    assert found.failed == 4
    assert [one.partition(": ")[0] for one in found.bad] == ["series[0]", "series[1]", "series[3]", "series[4]"]
    assert found.bad[0] == "series[0]: no metric name"


@given(st.binary(max_size=60), st.integers(0, 200))
def test_any_bytes_are_series_or_refused(noise, cut):
    kinds = messages("datadog")
    one = kinds["MetricSeries"](metric="a.b", tags=["env:prod"])
    one.points.add(value=1.0, timestamp=S)
    body = kinds["MetricPayload"](series=[one]).SerializeToString()
    at = cut % (len(body) + 1)
    try:
        found = datadog.parse_protobuf(body[:at] + noise + body[at:], canonical(), NOW, names="underscores")
    except BadInput:
        return
    found.rows.batch()
