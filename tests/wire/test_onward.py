"""Requests of remote write 1.0 as requests of 2.0: the same series, samples and histograms, each text once."""

from __future__ import annotations

import random
import sys
from pathlib import Path

import cramjam
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vedette.errors import BadInput
from vedette.model.histogram_arithmetic import equal
from vedette.model.histograms import CUSTOM_SCHEMA, NO_BUCKETS, Histogram, Layout
from vedette.model.labels import Labels
from vedette.model.samples import MetricMetadata
from vedette.wire import remote_write, remote_write2

sys.path.insert(0, str(Path(__file__).parent))
from protos import messages

V2 = messages("io.prometheus.write.v2")
FIRST, SECOND = remote_write.remote_write_keyspace(), remote_write2.remote_write2_keyspace()
EXPONENTIAL = Histogram(
    Layout(2, 0.5, (), np.array([-1, 3], dtype=np.int32), np.array([2], dtype=np.int32)), np.array([7.0, 1.5, 1, 2, 3, 1])
)
CUSTOM = Histogram(Layout(CUSTOM_SCHEMA, 0.0, (1.0, 2.0), np.array([0, 2], dtype=np.int32), NO_BUCKETS), np.array([3.0, 4.5, 0, 1, 2]))


def rows(batch):
    native = {} if batch.histograms is None else {int(at): batch.histograms.sample(j) for j, at in enumerate(batch.histograms.at)}
    out = []
    for i in range(batch.series_count):
        labels = batch.keyspace.resolve(batch.buffer[batch.key_start[i] : batch.key_end[i]].tobytes())
        span = range(int(batch.offsets[i]), int(batch.offsets[i + 1]))
        out += [(labels, int(batch.timestamps[j]), native.get(j, float(batch.values[j]))) for j in span]
    return out


texts = st.text("aäb\n😀_", min_size=1, max_size=40)
series = st.dictionaries(texts, texts, max_size=6).map(lambda found: Labels.of({**found, "__name__": found.get("a", "m")}))


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(series, st.lists(st.integers(-(1 << 62), 1 << 62), max_size=4)), max_size=12))
def test_the_same_comes_out(given_rows):
    given_series = [labels for labels, _ in given_rows]
    times = [t for _, own in given_rows for t in own]
    offsets = np.cumsum([0, *(len(own) for _, own in given_rows)])
    body = remote_write.render(given_series, offsets, times, [0.5 * k for k in range(len(times))])
    onward = remote_write2.from_first(body)
    assert rows(remote_write2.parse(onward, SECOND)) == rows(remote_write.parse(body, FIRST))
    message = V2["Request"].FromString(bytes(cramjam.snappy.decompress_raw(onward)))
    assert len(set(message.symbols)) == len(message.symbols), "each text once"
    assert message.symbols[0] == ""
    assert len(message.timeseries) == len(given_rows)


def test_histograms_come_through():
    labels = [Labels.of(__name__="h", a=str(i)) for i in range(3)]
    body = remote_write.render(labels, [0, 1, 2, 3], [5, 6, 7], [EXPONENTIAL, CUSTOM, 1.5])
    found = {(t, labels.get("a")): value for labels, t, value in rows(remote_write2.parse(remote_write2.from_first(body), SECOND))}
    assert equal(found[5, "0"], EXPONENTIAL)
    assert equal(found[6, "1"], CUSTOM)
    assert found[7, "2"] == 1.5


def test_each_series_is_told_what_its_metric_is():
    names = ["c_total", "lat_bucket", "lat_sum", "lat_count", "lat", "g", "g_sum", "x", "x_count", "_sum", "size", "size_count"]
    about = [
        MetricMetadata("c_total", "counter", "How many.", ""),
        MetricMetadata("lat", "histogram", "How long.", "seconds"),
        MetricMetadata("g", "gauge", "How much.", "bytes"),
        MetricMetadata("size", "summary", "", ""),
        MetricMetadata("nobody", "gauge", "Of no series here.", ""),
    ]
    labels = [Labels.of(__name__=name, zone="z") for name in names]
    body = remote_write.render(labels, range(len(names) + 1), range(len(names)), [1.0] * len(names), metadata=about)
    raw = bytes(cramjam.snappy.decompress_raw(remote_write2.from_first(body)))
    message = V2["Request"].FromString(raw)
    told = {}
    for one in message.timeseries:
        pairs = dict(zip(*[iter(message.symbols[r] for r in one.labels_refs)] * 2, strict=True))
        if one.HasField("metadata"):
            told[pairs["__name__"]] = (one.metadata.type, message.symbols[one.metadata.help_ref], message.symbols[one.metadata.unit_ref])
    counter, gauge, histogram, summary = (1, "How many.", ""), (2, "How much.", "bytes"), (3, "How long.", "seconds"), (5, "", "")
    assert told == {
        "c_total": counter,
        **dict.fromkeys(["lat_bucket", "lat_sum", "lat_count", "lat"], histogram),
        "g": gauge,
        "size": summary,
        "size_count": summary,
    }
    batch = remote_write2.parse(remote_write2.from_first(body), SECOND)
    assert sorted(m.metric for m in batch.metadata) == ["c_total", "g", "lat", "size"]
    assert rows(batch) == rows(remote_write.parse(body, FIRST))


def test_many_series_take_less_room():
    labels = [Labels.of(__name__=f"metric_{i % 10}", instance=f"host-{i % 50}:9100", job="node", mode=f"mode-{i}") for i in range(3000)]
    body = remote_write.render(labels, range(3001), [1_700_000_000_000 + i for i in range(3000)], [float(i) for i in range(3000)])
    onward = remote_write2.from_first(body)
    plain = [len(bytes(cramjam.snappy.decompress_raw(b))) for b in (body, onward)]
    assert plain[1] < 0.5 * plain[0]
    assert rows(remote_write2.parse(onward, SECOND)) == rows(remote_write.parse(body, FIRST))


def test_labels_of_nothing_need_no_more_room_than_there_is():
    one = b"\x0a" + bytes([120]) + b"\x0a\x00" * 60
    message = V2["Request"].FromString(
        bytes(cramjam.snappy.decompress_raw(remote_write2.from_first(bytes(cramjam.snappy.compress_raw(one * 50)))))
    )
    assert [len(s.labels_refs) for s in message.timeseries] == [120] * 50


def test_bytes_that_are_none_are_refused_and_never_worse():
    body = bytes(cramjam.snappy.decompress_raw(remote_write.render([Labels.of(__name__="m", a="b")] * 4, range(5), range(4), [1.0] * 4)))
    rng = random.Random(3)
    refused = 0
    for _ in range(500):
        data = bytearray(body)
        for _ in range(rng.randrange(1, 5)):
            data[rng.randrange(len(data))] = rng.randrange(256)
        try:
            remote_write2.from_first(bytes(cramjam.snappy.compress_raw(bytes(data[: rng.randrange(len(data) + 1)]))))
        except BadInput:
            refused += 1
    assert refused > 100
    with pytest.raises(BadInput, match=r"version 1\.0"):
        remote_write2.from_first(bytes(cramjam.snappy.compress_raw(b"\x0a\x7f")))
