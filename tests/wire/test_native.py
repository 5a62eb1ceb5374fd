"""Native histograms in remote write: every form that is read, every one that is refused and its words, bytes at random."""

from __future__ import annotations

import random
import struct

import cramjam
import numpy as np
import pytest

from vedette.errors import BadInput
from vedette.model.histogram_arithmetic import equal
from vedette.model.histograms import CUSTOM_SCHEMA, GAUGE, NO_BUCKETS, Histogram, Layout
from vedette.model.labels import Labels
from vedette.model.samples import STALE, STALE_BITS, SampleBatch
from vedette.wire import native
from vedette.wire.native import varint, zigzag
from vedette.wire.remote_write import parse, remote_write_keyspace, render, render_labels

SPACE = remote_write_keyspace("t")
H = Labels.of(__name__="h")
LAYOUT = Layout(3, 2.0**-128, (), np.array([-2, -1, 5], dtype=np.int32), np.array([7], dtype=np.int32))
WHOLE = Histogram(LAYOUT, np.array([15.0, 3.5, 1, 2, 3, 4, 5]), GAUGE)
BROKEN_OFF = Histogram(LAYOUT, np.array([15.5, 3.5, 1.5, 2, 3, 4, 5]))
CUSTOM = Histogram(Layout(CUSTOM_SCHEMA, 0.0, (0.1, 1.0), np.arange(3, dtype=np.int32), NO_BUCKETS), np.array([6.0, 1, 0, 1, 2, 3]))
NONE = Histogram(Layout(0, 0.0, (), NO_BUCKETS, NO_BUCKETS), np.array([0.0, 0, 0]))


def field(number: int, kind: int, content: bytes) -> bytes:
    return varint(number << 3 | kind) + (varint(len(content)) if kind == 2 else b"") + content


def real(number: int, value: float) -> bytes:
    return field(number, 1, struct.pack("<d", value))


def span(number: int, offset: int, length: int) -> bytes:
    return field(number, 2, field(1, 0, zigzag(offset)) + field(2, 0, varint(length)))


def deltas(number: int, *values: int) -> bytes:
    return field(number, 2, b"".join(map(zigzag, values)))


def doubles(number: int, *values: float) -> bytes:
    return field(number, 2, struct.pack(f"<{len(values)}d", *values))


def request(*messages: bytes, labels: Labels = H) -> bytes:
    series = render_labels(labels) + b"".join(field(4, 2, m) for m in messages)
    return bytes(cramjam.snappy.compress_raw(field(1, 2, series)))


def samples(batch: SampleBatch) -> list:
    """(series, time, histogram or value) of each sample."""
    found = {} if batch.histograms is None else {int(at): batch.histograms.sample(j) for j, at in enumerate(batch.histograms.at)}
    out = []
    for i in range(batch.series_count):
        labels = batch.keyspace.resolve(batch.buffer[batch.key_start[i] : batch.key_end[i]].tobytes())
        span = range(int(batch.offsets[i]), int(batch.offsets[i + 1]))
        out += [(labels, int(batch.timestamps[j]), found.get(j, float(batch.values[j]))) for j in span]
    return out


def one(*fields: bytes) -> Histogram:
    batch = parse(request(b"".join(fields)), SPACE)
    assert (batch.problem, batch.bad_histograms) == ("", 0)
    ((_, _, h),) = samples(batch)
    assert isinstance(h, Histogram)
    return h


@pytest.mark.parametrize("h", [WHOLE, BROKEN_OFF, CUSTOM, NONE], ids=["whole", "floats", "custom", "empty"])
def test_what_is_rendered_is_parsed(h):
    ((labels, time, found),) = samples(parse(render([H], [0, 1], [1234], [h]), SPACE))
    assert (labels, time, found.hint) == (H, 1234, h.hint)
    assert equal(found, h)


def test_floats_and_histograms_of_many_series_keep_their_places():
    series = [Labels.of(__name__="h", i=str(i)) for i in range(4)]
    values = [1.0, WHOLE, 2.0, CUSTOM, BROKEN_OFF, 3.0]
    batch = parse(render(series, [0, 1, 3, 5, 6], [10, 20, 30, 40, 50, 60], values), SPACE)
    found = sorted(samples(batch), key=lambda s: s[1])
    assert [(labels.get("i"), time) for labels, time, _ in found] == [("0", 10), ("1", 20), ("1", 30), ("2", 40), ("2", 50), ("3", 60)]
    for (_, _, got), wanted in zip(found, values, strict=True):
        assert equal(got, wanted) if isinstance(wanted, Histogram) else got == wanted
    assert batch.histograms is not None
    assert batch.values[batch.histograms.at].tolist() == [3.5, 1.0, 3.5]


def test_samples_of_one_layout_share_it():
    batch = parse(render([H], [0, 3], [1, 2, 3], [WHOLE, WHOLE, BROKEN_OFF]), SPACE)
    assert batch.histograms is not None
    assert len(batch.histograms.layouts) == 1


def test_numbers_may_come_unpacked_and_in_any_order():
    h = one(
        field(13, 1, struct.pack("<d", 1.0)), field(13, 1, struct.pack("<d", 2.0)), span(11, 3, 2), field(15, 0, varint(9)), real(7, 0.5),
        real(3, 9.0), real(2, 3.5), field(4, 0, zigzag(-4)), real(5, 0.25),
    )  # fmt: skip
    assert (h.layout.schema, h.layout.threshold, h.layout.positive.tolist()) == (-4, 0.25, [3, 4])
    assert h.cells.tolist() == [3.5, 9.0, 0.5, 1.0, 2.0]
    h = one(field(12, 0, zigzag(4)), field(12, 0, zigzag(-1)), span(11, -7, 1), span(11, 2, 1), field(1, 0, varint(7)))
    assert h.layout.positive.tolist() == [-7, -4]
    assert h.cells.tolist() == [7, 0, 0, 4, 3]


def test_the_last_of_two_counts_says_what_kind_it_is():
    assert one(field(1, 0, varint(7)), real(2, 1.5)).cells.tolist() == [1.5, 0, 0]
    assert one(real(2, 1.5), field(1, 0, varint(0))).cells.tolist() == [0, 0, 0]


def test_a_stale_histogram_is_stale():
    stale = Histogram(NONE.layout, np.array([0.0, STALE, 0.0]))
    batch = parse(render([H], [0, 1], [5], [stale]), SPACE)
    assert batch.values.view(np.uint64).tolist() == [STALE_BITS]


def test_a_schema_too_fine_is_made_coarser():
    h = one(field(1, 0, varint(10)), field(4, 0, zigzag(10)), span(11, 1, 4), deltas(12, 1, 1, 1, 1))
    assert (h.layout.schema, h.layout.positive.tolist()) == (8, [1])
    assert h.cells.tolist() == [10, 0, 0, 10]


FAULTS = {
    "schema": ([field(4, 0, zigzag(53))], "schema 53: histogram has an invalid schema"),
    "schema_below": ([field(4, 0, zigzag(-5))], "schema -5: histogram has an invalid schema, which must be between -4 and 8"),
    "offset": ([span(11, 1, 1), span(11, -1, 1), deltas(12, 1, 0), field(1, 0, b"\x02")], "positive side: span number 2 with offset -1"),
    "offset_below": ([span(8, 1, 1), span(8, -3, 1), deltas(9, 1, 0)], "negative side: span number 2 with offset -3"),
    "few_buckets": ([span(11, 0, 3), deltas(12, 1, 1)], "positive side: spans need 3 buckets, have 2 buckets"),
    "many_buckets": ([span(8, 0, 1), deltas(9, 1, 1)], "negative side: spans need 1 buckets, have 2 buckets"),
    "huge_span": ([span(11, 0, 0xFFFFFFFF)], "spans need 4294967295 buckets, have 0 buckets"),
    "floats_for_integers": ([field(1, 0, b"\x01"), span(11, 0, 1), doubles(13, 1.0)], "spans need 1 buckets, have 0"),
    "negative_bucket": ([span(11, 0, 2), deltas(12, 1, -3)], "positive side: bucket number 2 has observation count of -2: histogram"),
    "negative_float": (
        [real(2, 1.0), span(8, 0, 2), doubles(10, 1.5, -1.25)],
        "negative side: bucket number 2 has observation count of -1.25: histogram",
    ),
    "count": (
        [field(1, 0, b"\x05"), span(11, 0, 1), deltas(12, 4)],
        "4 observations found in buckets, but the Count field is 5: histogram's",
    ),
    "nan": ([field(1, 0, b"\x03"), real(3, float("nan")), span(11, 0, 1), deltas(12, 4)], "should be at least the number of observations"),
    "negative_count": ([real(2, -0.5)], "observation count is -0.5: histogram's observation count is negative"),
    "negative_zero": ([real(2, 1.0), real(7, -1.0)], "zero bucket has observation count of -1: histogram"),
    "custom_zero": ([field(4, 0, zigzag(-53)), field(6, 0, b"\x01")], "custom buckets: must have zero count of 0"),
    "custom_threshold": ([field(4, 0, zigzag(-53)), real(5, 0.5)], "custom buckets: must have zero threshold of 0"),
    "custom_spans": ([field(4, 0, zigzag(-53)), span(8, 0, 1), deltas(9, 1)], "custom buckets: must not have negative spans"),
    "custom_negative": ([field(4, 0, zigzag(-53)), deltas(9, 1)], "custom buckets: must not have negative buckets"),
    "bounds_order": ([field(4, 0, zigzag(-53)), doubles(16, 1.0, 1.0)], "custom bounds must be in strictly increasing order"),
    "bounds_infinite": ([field(4, 0, zigzag(-53)), doubles(16, 1.0, float("inf"))], "custom bounds must be finite"),
    "bounds_nan": ([field(4, 0, zigzag(-53)), doubles(16, float("nan"))], "custom bounds must not be NaN"),
    "bounds_few": (
        [field(4, 0, zigzag(-53)), doubles(16, 1.0), span(11, 0, 3), deltas(12, 1, 0, 0), field(1, 0, b"\x03")],
        "only 1 custom bounds defined which is insufficient to cover total span length of 3",
    ),
    "exponential_bounds": ([doubles(16, 1.0)], "histogram with exponential schema must not have custom bounds"),
    "index": ([span(11, 0x7FFFFFFF, 2), deltas(12, 1, 0), field(1, 0, b"\x02")], "bucket index 2147483648 does not fit"),
}


@pytest.mark.parametrize("name", FAULTS)
def test_what_cannot_be_is_left_out_and_named(name):
    fields, problem = FAULTS[name]
    good = native.render(WHOLE, 5)
    batch = parse(request(good, b"".join(fields), good), SPACE)
    assert problem in batch.problem
    assert batch.problem.startswith("histogram of h: ")
    assert batch.bad_histograms == 1
    assert [equal(h, WHOLE) for _, _, h in samples(batch)] == [True, True]


def test_more_faults_are_counted():
    batch = parse(request(field(4, 0, zigzag(53)), real(2, -1.0)), SPACE)
    assert batch.problem.endswith("(and 1 more)")
    assert (batch.bad_histograms, batch.sample_count, batch.histograms) == (2, 0, None)


BROKEN = {
    "cut_off": b"\x19\x00\x00",
    "sum_of_another_kind": field(3, 0, b"\x01"),
    "count_of_another_kind": real(1, 1.0),
    "spans_of_another_kind": field(11, 0, b"\x01"),
    "deltas_cut_off": field(12, 2, b"\x80"),
    "deltas_without_end": field(12, 2, b"\x80" * 11),
    "halves_of_doubles": field(13, 2, b"1234"),
    "broken_span": field(11, 2, b"\x08"),
}


@pytest.mark.parametrize("name", BROKEN)
def test_bytes_that_are_no_histogram_refuse_the_request(name):
    with pytest.raises(BadInput, match="a native histogram is not well-formed"):
        parse(request(BROKEN[name]), SPACE)


def test_mutated_histograms_do_no_harm():
    rng = random.Random(11)
    whole = [native.render(h, 1000 + i) for i, h in enumerate((WHOLE, BROKEN_OFF, CUSTOM, NONE))]
    refused = 0
    for _ in range(3000):
        messages = [bytearray(m) for m in whole]
        for _ in range(rng.randint(1, 4)):
            chosen = rng.choice(messages)
            action, at = rng.random(), rng.randrange(len(chosen))
            if action < 0.6:
                chosen[at] = rng.randrange(256)
            elif action < 0.8:
                del chosen[at : at + rng.randint(1, 9)]
                chosen += b"" if chosen else b"\0"
            else:
                chosen[at:at] = rng.randbytes(rng.randint(1, 9))
        try:
            batch = parse(request(*map(bytes, messages)), SPACE)
        except BadInput:
            refused += 1
            continue
        assert batch.sample_count + batch.bad_histograms == 4
        for _, _, h in samples(batch):
            assert isinstance(h, Histogram)
            assert len(h.cells) == h.layout.width
            assert -4 <= h.layout.schema <= 8 or h.layout.custom
    assert 200 < refused < 2900


def test_random_bytes_in_a_histogram_do_no_harm():
    rng = random.Random(12)
    for _ in range(2000):
        try:
            parse(request(rng.randbytes(rng.randint(0, 40))), SPACE)
        except BadInput:
            continue
