"""Protobuf exposition: what Google's library wrote comes out as Prometheus reads it; what is refused; bytes at random."""

from __future__ import annotations

import random
import sys
from pathlib import Path

import pytest

from vedette.errors import BadInput
from vedette.model.exemplars import Exemplar
from vedette.model.histograms import GAUGE
from vedette.model.labels import Labels
from vedette.model.samples import MetricMetadata
from vedette.wire import exposition, exposition_proto
from vedette.wire.exposition import exposition_keyspace, parse_series
from vedette.wire.exposition_proto import Wanted, parse
from vedette.wire.native import varint

sys.path.insert(0, str(Path(__file__).parent))
from protos import messages

NOW = 1_700_000_000_000
SPACE = exposition_keyspace("t")
M = messages("io.prometheus.client")
COUNTER, GAUGE_TYPE, SUMMARY, UNTYPED, HISTOGRAM, GAUGE_HISTOGRAM = range(6)


def body(*families) -> bytes:
    raw = [f.SerializeToString() for f in families]
    return b"".join(varint(len(r)) + r for r in raw)


def family(name: str, kind: int, *metrics, **more):
    return M["MetricFamily"](name=name, type=kind, metric=list(metrics), **more)


def metric(labels: dict[str, str] | None = None, **more):
    return M["Metric"](label=[M["LabelPair"](name=n, value=v) for n, v in (labels or {}).items()], **more)


def series(batch) -> list[Labels]:
    keys = zip(batch.key_start.tolist(), batch.key_end.tolist(), strict=True)
    return [parse_series(batch.buffer[lo:hi].tobytes()) for lo, hi in keys]


def shown(found) -> list[str]:
    """`series value`, in the order of the exposition."""
    return [f"{labels} {value:g}" for labels, value in zip(series(found.batch), found.batch.values.tolist(), strict=True)]


def stamp(ms: int):
    return M["Timestamp"](seconds=ms // 1000, nanos=ms % 1000 * 1_000_000)


NATIVE = {
    "sample_count": 10,
    "sample_sum": 2.5,
    "schema": 1,
    "zero_threshold": 0.001,
    "zero_count": 2,
    "positive_span": [M["BucketSpan"](offset=0, length=2), M["BucketSpan"](offset=1, length=1)],
    "positive_delta": [1, 1, 1],
    "negative_span": [M["BucketSpan"](offset=3, length=1)],
    "negative_delta": [2],
}
CLASSIC = [M["Bucket"](cumulative_count=4, upper_bound=0.5), M["Bucket"](cumulative_count=8, upper_bound=1)]


def test_plain_types():
    found = parse(
        body(
            family("a_total", COUNTER, metric({"job": "x"}, counter=M["Counter"](value=3)), help="How many.", unit="things"),
            family("b", GAUGE_TYPE, metric(gauge=M["Gauge"](value=-1.5), timestamp_ms=5000)),
            family("c", UNTYPED, metric(untyped=M["Untyped"](value=2))),
            family("d", GAUGE_TYPE, metric()),
        ),
        SPACE,
        NOW,
        wanted=Wanted(),
    )
    assert shown(found) == ['a_total{job="x"} 3', "b -1.5", "c 2", "d 0"]
    assert found.batch.timestamps.tolist() == [NOW, 5000, NOW, NOW]
    assert found.explicit.tolist() == [False, True, False, False]
    assert list(found.batch.metadata)[:2] == [
        MetricMetadata("a_total", "counter", "How many.", "things"),
        MetricMetadata("b", "gauge", "", ""),
    ]


def test_a_summary_and_a_classic_histogram_become_their_series():
    quantiles = [M["Quantile"](quantile=0.5, value=1.25), M["Quantile"](quantile=1, value=9)]
    summary = M["Summary"](sample_count=7, sample_sum=20.5, quantile=quantiles)
    histogram = M["Histogram"](sample_count=10, sample_sum=2.5, bucket=CLASSIC)
    found = parse(
        body(family("s", SUMMARY, metric({"a": "1"}, summary=summary)), family("h", HISTOGRAM, metric(histogram=histogram))),
        SPACE,
        NOW,
        wanted=Wanted(native=True),
    )
    assert shown(found) == [
        's{a="1", quantile="0.5"} 1.25', 's{a="1", quantile="1.0"} 9', 's_sum{a="1"} 20.5', 's_count{a="1"} 7',
        'h_bucket{le="0.5"} 4', 'h_bucket{le="1.0"} 8', 'h_bucket{le="+Inf"} 10', "h_sum 2.5", "h_count 10",
    ]  # fmt: skip
    assert found.batch.histograms is None


@pytest.mark.parametrize(("wanted", "classic"), [(Wanted(), True), (Wanted(native=True), False), (Wanted(native=True, classic=True), True)])
def test_a_histogram_of_both_forms_is_read_as_wanted(wanted, classic):
    found = parse(body(family("h", HISTOGRAM, metric(histogram=M["Histogram"](**NATIVE, bucket=CLASSIC)))), SPACE, NOW, wanted=wanted)
    names = [labels.metric for labels in series(found.batch)]
    assert ("h_bucket" in names) == classic
    assert ("h" in names) == wanted.native
    if wanted.native:
        assert found.batch.histograms is not None
        assert found.batch.histograms.at.tolist() == [0]
        h = found.batch.histograms.sample(0)
        assert h.cells.tolist() == [10, 2.5, 2, 1, 2, 3, 2]
        assert (h.layout.schema, h.layout.positive.tolist(), h.layout.negative.tolist()) == (1, [0, 1, 3], [3])
        assert found.batch.values[0] == 2.5


def test_a_histogram_of_floats_and_a_gauge_histogram():
    floats = {
        "sample_count_float": 1.5,
        "sample_sum": 1.0,
        "schema": 0,
        "positive_span": [M["BucketSpan"](length=1)],
        "positive_count": [1.5],
    }
    found = parse(body(family("h", GAUGE_HISTOGRAM, metric(histogram=M["Histogram"](**floats)))), SPACE, NOW, wanted=Wanted(native=True))
    assert found.batch.histograms is not None
    h = found.batch.histograms.sample(0)
    assert (h.cells.tolist(), h.hint) == ([1.5, 1.0, 0.0, 1.5], GAUGE)
    assert found.batch.metadata[0].type == "gaugehistogram"


def test_a_native_histogram_that_is_empty_is_native():
    empty = M["Histogram"](schema=3, zero_threshold=1e-128, positive_span=[M["BucketSpan"]()])
    found = parse(body(family("h", HISTOGRAM, metric(histogram=empty))), SPACE, NOW, wanted=Wanted(native=True))
    assert shown(found) == ["h 0"]
    assert found.batch.histograms is not None


def test_exemplars():
    def exemplar(trace: str, **more):
        return M["Exemplar"](label=[M["LabelPair"](name="trace_id", value=trace)], value=0.25, **more)

    buckets = [M["Bucket"](cumulative_count=4, upper_bound=0.5, exemplar=exemplar("b", timestamp=stamp(1234)))]
    counter = M["Counter"](value=1, exemplar=exemplar("c"))
    of_native = M["Histogram"](**NATIVE, bucket=buckets, exemplars=[exemplar("n", timestamp=stamp(5678))])
    of_buckets = M["Histogram"](**NATIVE, bucket=buckets)
    families = [
        family("c", COUNTER, metric(counter=counter)),
        family("h", HISTOGRAM, metric({"i": "1"}, histogram=of_native), metric({"i": "2"}, histogram=of_buckets)),
    ]
    found = parse(body(*families), SPACE, NOW, wanted=Wanted(native=True))
    assert found.batch.exemplars == [
        Exemplar(0, Labels.of(trace_id="c"), 0.25, NOW),
        Exemplar(1, Labels.of(trace_id="n"), 0.25, 5678),
        Exemplar(2, Labels.of(trace_id="b"), 0.25, 1234),
    ]
    classic = parse(body(*families), SPACE, NOW, wanted=Wanted()).batch
    assert [series(classic)[e.row].get("le") for e in classic.exemplars] == ["", "0.5", "0.5"]


def test_names_and_values_that_need_quoting():
    found = parse(
        body(family("with space", GAUGE_TYPE, metric({"ü.x": 'a"b\\c\nd'}, gauge=M["Gauge"](value=1)))), SPACE, NOW, wanted=Wanted()
    )
    assert series(found.batch) == [Labels.of({"__name__": "with space", "ü.x": 'a"b\\c\nd'})]


def test_metadata_is_left_out_when_it_is_known():
    raw = body(family("a", GAUGE_TYPE, metric(gauge=M["Gauge"](value=1)), help="h"))
    first = parse(raw, SPACE, NOW, wanted=Wanted())
    assert len(first.batch.metadata) == 1
    assert parse(raw, SPACE, NOW, wanted=Wanted(), metadata_known=first.metadata_hash).batch.metadata == ()


def test_labels_are_remembered_from_one_scrape_to_the_next():
    known: dict = {}
    pairs = [{"a": "1"}, {"a": "2", "b": "x" * 200}, {}]
    raw = body(family("m", GAUGE_TYPE, *(metric(labels, gauge=M["Gauge"](value=i)) for i, labels in enumerate(pairs))))
    first = parse(raw, SPACE, NOW, wanted=Wanted(), known=known)
    held = len(known)
    again = parse(raw, SPACE, NOW, wanted=Wanted(), known=known)
    assert shown(first) == shown(again) == shown(parse(raw, SPACE, NOW, wanted=Wanted()))
    assert series(first.batch) == [Labels.of(__name__="m", **labels) for labels in pairs]
    assert 0 < held == len(known)


def test_labels_that_are_remembered_are_bounded(monkeypatch):
    monkeypatch.setattr(exposition_proto, "_MOST_KNOWN", 5)
    known: dict = {}
    for i in range(20):
        parse(body(family("m", GAUGE_TYPE, metric({"i": str(i)}, gauge=M["Gauge"](value=i)))), SPACE, NOW, wanted=Wanted(), known=known)
        assert len(known) <= 6


def test_timestamps_are_left_out_unless_honoured():
    raw = body(family("a", GAUGE_TYPE, metric(gauge=M["Gauge"](value=1), timestamp_ms=5)))
    found = parse(raw, SPACE, NOW, wanted=Wanted(), honor_timestamps=False)
    assert (found.batch.timestamps.tolist(), found.explicit.tolist()) == ([NOW], [False])


def test_both_formats_name_a_series_alike():
    histogram = M["Histogram"](sample_count=10, sample_sum=2.5, bucket=CLASSIC)
    proto = parse(body(family("h", HISTOGRAM, metric({"a": "x"}, histogram=histogram))), SPACE, NOW, wanted=Wanted())
    text = exposition.parse(
        b'# TYPE h histogram\nh_bucket{a="x",le="0.5"} 4\nh_bucket{a="x",le="1.0"} 8\nh_bucket{a="x",le="+Inf"} 10\n'
        b'h_sum{a="x"} 2.5\nh_count{a="x"} 10\n# EOF\n',
        SPACE,
        NOW,
        openmetrics=True,
    )
    assert shown(proto) == shown(text)
    assert proto.batch.hashes.tolist() == text.batch.hashes.tolist()


@pytest.mark.parametrize(
    ("raw", "problem"),
    [
        (b"\x05ab", "the body ends inside a message"),
        (b"\x80", "a message without its length"),
        (b"\x80\x80\x80\x80\x80\x80\x80\x01", "a message without its length"),
        (body(family("", GAUGE_TYPE)), "a metric family without a name"),
        (b"\x02\x0a\x05", "the message ends before a field does"),
        (b"\x03\x0a\x01\xff", "a text is not UTF-8"),
        (b"\x02\x08\x01", "a metric family without a name"),
        (body(family("a", GAUGE_TYPE, metric({"": "x"}, gauge=M["Gauge"](value=1)))), "a label without a name"),
        (
            body(family("h", HISTOGRAM, metric(histogram=M["Histogram"](**{**NATIVE, "sample_count": 11})))),
            "10 observations found in buckets",
        ),
    ],
)
def test_what_is_no_exposition_is_refused(raw, problem):
    with pytest.raises(BadInput, match=problem):
        parse(raw, SPACE, NOW, wanted=Wanted(native=True))


def test_nothing_is_an_empty_exposition():
    assert parse(b"", SPACE, NOW, wanted=Wanted()).batch.sample_count == 0


def test_mutated_expositions_do_no_harm():
    rng = random.Random(4)
    whole = body(
        family("h", HISTOGRAM, metric({"a": "b"}, histogram=M["Histogram"](**NATIVE, bucket=CLASSIC)), help="x"),
        family("s", SUMMARY, metric(summary=M["Summary"](sample_count=1, quantile=[M["Quantile"](quantile=0.5, value=1)]))),
        family("c", COUNTER, metric(counter=M["Counter"](value=1, exemplar=M["Exemplar"](value=1, timestamp=stamp(5))))),
    )
    refused = 0
    for _ in range(4000):
        raw = bytearray(whole)
        for _ in range(rng.randint(1, 3)):
            at = rng.randrange(len(raw))
            if rng.random() < 0.7:
                raw[at] = rng.randrange(256)
            else:
                del raw[at : at + rng.randint(1, 5)]
        try:
            found = parse(bytes(raw), SPACE, NOW, wanted=Wanted(native=True, classic=True))
        except BadInput:
            refused += 1
            continue
        assert len(found.explicit) == found.batch.series_count == found.batch.sample_count
    assert 500 < refused < 4000


def test_exemplars_of_openmetrics_text():
    text = (
        b'# HELP c A text with # {a="b"} 1 in it\n# TYPE c counter\n'
        b'c_total{x="# {y=\\"z\\"} 5"} 1 # {trace_id="a\\"}b"} 0.5 123.25\nc_total{x="2"} 1\nc_total{x="3"} 2 7.5 # {} 4\n# EOF\n'
    )
    found = exposition.parse(text, SPACE, NOW, openmetrics=True)
    assert found.batch.exemplars == [Exemplar(0, Labels.of(trace_id='a"}b'), 0.5, 123_250), Exemplar(2, Labels(), 4.0, 7500)]


def test_start_timestamps_of_what_counts():
    since = M["Timestamp"](seconds=1_600_000_000, nanos=250_000_000)
    bucket, quantile = M["Bucket"](upper_bound=1, cumulative_count=2), M["Quantile"](quantile=0.5, value=3)
    families = [
        ("c", 0, {"counter": M["Counter"](value=1, created_timestamp=since)}),
        ("g", 1, {"gauge": M["Gauge"](value=1)}),
        ("s", 2, {"summary": M["Summary"](sample_count=2, sample_sum=5, quantile=[quantile], created_timestamp=since)}),
        ("h", 4, {"histogram": M["Histogram"](sample_count=2, sample_sum=1, bucket=[bucket], created_timestamp=since)}),
        ("n", 4, {"histogram": M["Histogram"](sample_count=0, sample_sum=0, zero_threshold=0.1, created_timestamp=since)}),
    ]
    raw = [M["MetricFamily"](name=n, type=t, metric=[M["Metric"](**m)]).SerializeToString() for n, t, m in families]
    batch = parse(b"".join(varint(len(m)) + m for m in raw), SPACE, NOW, wanted=Wanted(native=True)).batch
    assert batch.starts is not None
    keys = [batch.buffer[lo:hi].tobytes().decode() for lo, hi in zip(batch.key_start, batch.key_end, strict=True)]
    assert {k for k, s in zip(keys, batch.starts.tolist(), strict=True) if s == 1_600_000_000_250} == {k for k in keys if k != "g"}
    assert batch.starts[keys.index("g")] == 0
    assert len(keys) == 10
