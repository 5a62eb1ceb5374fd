"""Remote write 2.0: what is read (of messages that Google's library wrote, too), what is refused and how, bytes at random."""

from __future__ import annotations

import random
import sys
from pathlib import Path

import cramjam
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from vedette.errors import BadInput
from vedette.kernels.hashing import hash_regions
from vedette.model.exemplars import Exemplar
from vedette.model.histogram_arithmetic import equal
from vedette.model.histograms import GAUGE, NO_BUCKETS, Histogram, Layout
from vedette.model.labels import Labels
from vedette.model.samples import MetricMetadata, SampleBatch
from vedette.wire.remote_write2 import parse, parse_labels, remote_write2_keyspace, render

sys.path.insert(0, str(Path(__file__).parent))
from protos import messages

SPACE = remote_write2_keyspace("t")
V2 = messages("io.prometheus.write.v2")
A, B = Labels.of(__name__="a", job="x"), Labels.of(__name__="b", job="x", zone="é")
LAYOUT = Layout(3, 2.0**-128, (), np.array([-2, -1, 5], dtype=np.int32), np.array([7], dtype=np.int32))
H = Histogram(LAYOUT, np.array([15.0, 3.5, 1, 2, 3, 4, 5]), GAUGE)


def packed(message: bytes) -> bytes:
    return bytes(cramjam.snappy.compress_raw(message))


def request(symbols: list[str], *series) -> bytes:
    return packed(V2["Request"](symbols=symbols, timeseries=[V2["TimeSeries"](**s) for s in series]).SerializeToString())


def samples(batch: SampleBatch) -> list:
    """(series, time, value or histogram) of each sample."""
    found = {} if batch.histograms is None else {int(at): batch.histograms.sample(j) for j, at in enumerate(batch.histograms.at)}
    out = []
    for i, labels in enumerate(series_of(batch)):
        span = range(int(batch.offsets[i]), int(batch.offsets[i + 1]))
        out += [(labels, int(batch.timestamps[j]), found.get(j, float(batch.values[j]))) for j in span]
    return out


def series_of(batch: SampleBatch) -> list[Labels | None]:
    keys = zip(batch.key_start.tolist(), batch.key_end.tolist(), strict=True)
    found = [batch.keyspace.resolve(batch.buffer[lo:hi].tobytes()) for lo, hi in keys]
    canonical, offsets = batch.keyspace.canonicalise(batch.buffer, batch.key_start, batch.key_end)
    many = [Labels.decode(canonical[offsets[i] : offsets[i + 1]].tobytes()) for i in range(batch.series_count)]
    assert many == found, "both ways of naming a series answer the same"
    assert np.array_equal(batch.hashes, hash_regions(batch.buffer, batch.key_start, batch.key_end, np.uint64(SPACE.id)))
    return found


def test_what_is_rendered_is_parsed():
    about = [MetricMetadata("a", "counter", "How many.", "seconds"), None]
    marks = [Exemplar(1, Labels.of(trace_id="abc"), 0.5, 1234)]
    batch = parse(render([A, B], [0, 2, 3], [10, 20, 30], [1.0, 2.0, 3.0], metadata=about, exemplars=marks), SPACE)
    assert samples(batch) == [(A, 10, 1.0), (A, 20, 2.0), (B, 30, 3.0)]
    assert batch.metadata == [MetricMetadata("a", "counter", "How many.", "seconds")]
    assert batch.exemplars == marks


def test_what_googles_library_wrote_is_read():
    body = request(
        ["", "__name__", "up", "job", "é", "help text", "trace"],
        {
            "labels_refs": [1, 2, 3, 4],
            "samples": [V2["Sample"](value=1.5, timestamp=-7, start_timestamp=5), V2["Sample"]()],
            "exemplars": [V2["Exemplar"](labels_refs=[6, 4], value=2.0, timestamp=9)],
            "metadata": V2["Metadata"](type=2, help_ref=5),
            "created_timestamp": 77,
        },
        {"labels_refs": [1, 2], "histograms": [V2["Histogram"](count_float=1.5, zero_count_float=1.5, timestamp=3)]},
    )
    batch = parse(body, SPACE)
    up = Labels.of(__name__="up", job="é")
    (first, second, (labels, time, h)) = samples(batch)
    assert (first, second) == ((up, -7, 1.5), (up, 0, 0.0))
    assert (labels, time, h.cells.tolist()) == (Labels.of(__name__="up"), 3, [1.5, 0.0, 1.5])
    assert batch.metadata == [MetricMetadata("up", "gauge", "help text", "")]
    assert batch.exemplars == [Exemplar(0, Labels.of(trace="é"), 2.0, 9)]


def test_histograms_are_read_and_bad_ones_named():
    bad = Histogram(LAYOUT, H.cells + np.array([1, 0, 0, 0, 0, 0, 0]))
    batch = parse(render([A, B], [0, 2, 4], [1, 2, 3, 4], [H, 5.0, bad, H]), SPACE)
    found = sorted(samples(batch), key=lambda s: s[1])
    assert [(labels, time) for labels, time, _ in found] == [(A, 1), (A, 2), (B, 4)]
    assert equal(found[0][2], H)
    assert found[1][2] == 5.0
    assert batch.problem.startswith('histogram of b{job="x", zone="é"}: 15 observations found in buckets, but the Count field is 16')
    assert batch.bad_histograms == 1


@pytest.mark.parametrize(
    ("kind", "metric", "family"),
    [("histogram", "x_bucket", "x"), ("summary", "x_sum", "x"), ("counter", "x_bucket", "x_bucket"), ("summary", "x_bucket", "x_bucket")],
)
def test_metadata_is_of_the_family(kind, metric, family):
    batch = parse(render([Labels.of(__name__=metric)], [0, 1], [1], [1.0], metadata=[MetricMetadata("", kind, "h", "")]), SPACE)
    assert [m.metric for m in batch.metadata] == [family]


def test_many_series_say_the_same_of_a_metric_once():
    series = [Labels.of(__name__=f"m{i % 2}", i=str(i)) for i in range(500)]
    about = [MetricMetadata("", "gauge", "h", "")] * 500
    batch = parse(render(series, list(range(501)), [1] * 500, [1.0] * 500, metadata=about), SPACE)
    assert [m.metric for m in batch.metadata] == ["m0", "m1"]
    assert len(samples(batch)) == 500


def test_labels_may_come_unsorted_and_with_empty_values():
    batch = parse(request(["", "__name__", "up", "a", "1"], {"labels_refs": [3, 4, 1, 2, 2, 0], "samples": [V2["Sample"](value=1)]}), SPACE)
    assert samples(batch) == [(Labels.of(__name__="up", a="1"), 0, 1.0)]


@pytest.mark.parametrize(
    ("symbols", "refs", "problem"),
    [
        (["", "a", "1"], [1, 2], "no metric name"),
        (["", "__name__", "up"], [1, 2, 1, 2], "given twice"),
        (["", "__name__", "up"], [0, 2, 1, 2], "empty name"),
        (["", "__name__", "up"], [], "no metric name"),
        (["", "a"], [1], "not pairs"),
        (["", "a"], [1, 2], "symbol that is not there"),
        ([], [0, 0], "symbol that is not there"),
    ],
)
def test_a_bad_label_set_is_refused_by_name(symbols, refs, problem):
    batch = parse(request(symbols, {"labels_refs": refs, "samples": [V2["Sample"](value=1)]}), SPACE)
    with pytest.raises(BadInput, match=problem):
        batch.keyspace.canonicalise(batch.buffer, batch.key_start, batch.key_end)


def test_a_series_whose_labels_cannot_be_told_spoils_no_other():
    good = {"labels_refs": [1, 2], "samples": [V2["Sample"](value=1)]}
    batch = parse(request(UP, good, {"labels_refs": [1], "samples": [V2["Sample"](value=9)]}, {**good, "labels_refs": [1, 2, 2, 1]}), SPACE)
    keys = [batch.buffer[lo:hi].tobytes() for lo, hi in zip(batch.key_start, batch.key_end, strict=True)]
    assert [str(batch.keyspace.resolve(keys[row])) for row in (0, 2)] == ["up", 'up{up="__name__"}']
    assert batch.values.tolist() == [1.0, 9.0, 1.0]


def broken(symbols: list[str], **series):
    return V2["Request"](symbols=symbols, timeseries=[V2["TimeSeries"](**series)])


UP = ["", "__name__", "up"]
BROKEN = {
    "unknown help": (broken(UP, labels_refs=[1, 2], metadata=V2["Metadata"](type=1, help_ref=9)), "symbol that is not there"),
    "exemplar's odd labels": (broken(UP, labels_refs=[1, 2], exemplars=[V2["Exemplar"](labels_refs=[1])]), "exemplar are not pairs"),
    "exemplar's unknown symbol": (
        broken(UP, labels_refs=[1, 2], exemplars=[V2["Exemplar"](labels_refs=[1, 7])]),
        "symbol that is not there",
    ),
}


@pytest.mark.parametrize("name", BROKEN)
def test_a_request_that_contradicts_itself_is_refused(name):
    message, problem = BROKEN[name]
    with pytest.raises(BadInput, match=problem):
        parse(packed(message.SerializeToString()), SPACE)


def test_a_symbol_that_is_no_text_is_refused_with_its_byte():
    with pytest.raises(BadInput, match="a symbol is not UTF-8 text"):
        parse(packed(b"\x22\x02a\xff"), SPACE)


def test_labels_that_come_to_more_than_they_may_are_refused():
    big = "x" * 2000
    series = [{"labels_refs": [1, 2]} for _ in range(500)]
    body = request(["", "__name__", big], *series)
    with pytest.raises(BadInput, match="the labels come to more than"):
        parse(body, SPACE, max_bytes=10_000)
    assert parse(body, SPACE, max_bytes=1_000_000).series_count == 500


def test_more_labels_than_a_request_has_bytes_for_are_read_all_the_same():
    symbols = ["", "__name__", "up"] + [f"l{i:04}" for i in range(600)]
    refs = [1, 2] + [r for i in range(600) for r in (3 + i, 2)]
    batch = parse(request(symbols, {"labels_refs": refs, "samples": [V2["Sample"](value=1)]}), SPACE)
    (labels,) = series_of(batch)
    assert labels is not None
    assert len(labels) == 601


def test_keys_of_a_series_have_only_pairs():
    with pytest.raises(BadInput, match="no metric name"):
        parse_labels(b"")


@given(st.binary(max_size=200))
def test_random_bytes_do_no_harm(message):
    try:
        parse(packed(message), SPACE)
    except BadInput:
        return


def test_mutated_requests_do_no_harm():
    rng = random.Random(3)
    whole = cramjam.snappy.decompress_raw(
        render([A, B, A], [0, 2, 3, 5], [1, 2, 3, 4, 5], [1.0, H, 2.0, H, 3.0], metadata=[MetricMetadata("a", "counter", "h", "")] * 3,
               exemplars=[Exemplar(0, Labels.of(t="1"), 1.0, 5)])
    )  # fmt: skip
    refused = 0
    for _ in range(4000):
        message = bytearray(bytes(whole))
        for _ in range(rng.randint(1, 3)):
            at = rng.randrange(len(message))
            if rng.random() < 0.7:
                message[at] = rng.randrange(256)
            else:
                del message[at : at + rng.randint(1, 6)]
        try:
            batch = parse(packed(bytes(message)), SPACE)
            batch.keyspace.canonicalise(batch.buffer, batch.key_start, batch.key_end)
        except BadInput:
            refused += 1
            continue
        assert batch.offsets[-1] == batch.sample_count
    assert 500 < refused < 4000


def test_start_timestamps_of_samples_of_series_and_of_histograms():
    sample, histogram = V2["Sample"], V2["Histogram"]
    body = request(
        [*UP, "h"],
        {"labels_refs": [1, 2], "samples": [sample(value=1, timestamp=10, start_timestamp=3), sample(value=2, timestamp=20)]},
        {"labels_refs": [1, 2, 3, 3], "samples": [sample(value=3, timestamp=10), sample(value=4, timestamp=20, start_timestamp=15)]}
        | {"created_timestamp": 7},
        {"labels_refs": [1, 3], "histograms": [histogram(timestamp=10, start_timestamp=5), histogram(timestamp=20)]},
        {"labels_refs": [1, 2], "samples": [sample(value=5, timestamp=30)]},
    )
    batch = parse(body, SPACE)
    assert batch.starts is not None
    told = sorted(zip(batch.timestamps.tolist(), batch.values.tolist(), batch.starts.tolist(), strict=True), key=lambda t: t[::-1])
    assert told == [(20, 0.0, 0), (20, 2.0, 0), (30, 5.0, 0), (10, 1.0, 3), (10, 0.0, 5), (10, 3.0, 7), (20, 4.0, 15)]
    assert parse(request(UP, {"labels_refs": [1, 2], "samples": [sample(value=1, timestamp=1)]}), SPACE).starts is None


def test_start_timestamps_come_through_a_round_trip():
    h = Histogram(Layout(0, 0.0, (), np.array([1], dtype=np.int32), NO_BUCKETS), np.array([2.0, 3.0, 0, 2]))
    series = [Labels.of(__name__="a"), Labels.of(__name__="h")]
    batch = parse(render(series, [0, 2, 3], [10, 20, 30], [1.0, 2.0, h], starts=[4, 0, 6]), SPACE)
    assert batch.starts is not None
    assert sorted(zip(batch.timestamps.tolist(), batch.starts.tolist(), strict=True)) == [(10, 4), (20, 0), (30, 6)]
