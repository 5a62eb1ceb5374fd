"""Remote write 1.0: what is read, what is refused and how, and bytes at random."""

from __future__ import annotations

import contextlib
import itertools
import random
import struct

import cramjam
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from vedette.errors import BadInput
from vedette.kernels.hashing import hash_regions
from vedette.model.exemplars import Exemplar
from vedette.model.labels import Labels
from vedette.model.samples import STALE, MetricMetadata, SampleBatch
from vedette.wire.remote_write import parse, parse_labels, remote_write_keyspace, render, render_labels

SPACE = remote_write_keyspace("t")


def varint(n: int) -> bytes:
    out = b""
    while n >= 0x80:
        out, n = out + bytes((n & 0x7F | 0x80,)), n >> 7
    return out + bytes((n,))


def field(number: int, content: bytes) -> bytes:
    return varint(number << 3 | 2) + varint(len(content)) + content


def label(name: bytes, value: bytes) -> bytes:
    return field(1, field(1, name) + field(2, value))


def sample(value: float, time: int) -> bytes:
    return field(2, b"\x09" + struct.pack("<d", value) + b"\x10" + varint(time & (1 << 64) - 1))


def packed(message: bytes) -> bytes:
    return bytes(cramjam.snappy.compress_raw(message))


UP = label(b"__name__", b"up")


def rows(batch: SampleBatch) -> list[tuple[Labels | None, list[tuple[int, float]]]]:
    found = []
    for i in range(batch.series_count):
        key = batch.buffer[batch.key_start[i] : batch.key_end[i]].tobytes()
        span = slice(int(batch.offsets[i]), int(batch.offsets[i + 1]))
        found.append((batch.keyspace.resolve(key), list(zip(batch.timestamps[span].tolist(), batch.values[span].tolist(), strict=True))))
    return found


def canonical(batch: SampleBatch) -> list[bytes]:
    keys, offsets = batch.keyspace.canonicalise(batch.buffer, batch.key_start, batch.key_end)
    return [keys[lo:hi].tobytes() for lo, hi in itertools.pairwise(offsets)]


texts = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=12)
label_sets = st.dictionaries(texts, texts, max_size=5).map(lambda d: Labels.of({**d, "__name__": "m"}))
samples = st.lists(st.tuples(st.integers(-(1 << 63), (1 << 63) - 1), st.floats(allow_nan=False)), max_size=4)


@given(st.lists(st.tuples(label_sets, samples), max_size=5))
def test_what_is_rendered_is_parsed(series):
    offsets = np.cumsum([0, *(len(s) for _, s in series)])
    body = render([s for s, _ in series], offsets, [t for _, ss in series for t, _ in ss], [v for _, ss in series for _, v in ss])
    batch = parse(body, SPACE)
    assert rows(batch) == series
    assert canonical(batch) == [labels.encode() for labels, _ in series]
    assert (batch.hashes == hash_regions(batch.buffer, batch.key_start, batch.key_end, np.uint64(SPACE.id))).all()


def test_values_keep_their_bits():
    values = np.array([STALE, float("nan"), -0.0, float("inf")])
    batch = parse(render([Labels.of(__name__="m")], [0, 4], [1, 2, 3, -4], values), SPACE)
    assert batch.values.view(np.int64).tolist() == values.view(np.int64).tolist()
    assert batch.timestamps.tolist() == [1, 2, 3, -4]


def test_metadata_is_read():
    known = [MetricMetadata("a", "counter", "How many é", "seconds"), MetricMetadata("b", "stateset"), MetricMetadata("c")]
    assert parse(render([], [0], [], [], metadata=known), SPACE).metadata == known
    newer = field(3, b"\x08\x63" + field(2, b"d"))
    assert parse(packed(newer), SPACE).metadata == [MetricMetadata("d", "unknown")]


def test_an_empty_request_is_an_empty_batch():
    assert parse(packed(b""), SPACE).series_count == 0
    assert parse(b"\x00", SPACE).sample_count == 0


def test_absent_fields_are_zero_and_unknown_ones_are_skipped():
    unknown = b"\x98\x06\x05" + field(100, b"later") + b"\xa5\x06" + bytes(4) + b"\xa1\x06" + bytes(8)
    message = field(1, UP + field(2, b"") + field(2, unknown + b"\x10\x07" + unknown) + unknown) + unknown
    assert rows(parse(packed(message), SPACE)) == [(Labels.of(__name__="up"), [(0, 0.0), (7, 0.0)])]


def test_exemplars_come_with_their_series():
    trace = label(b"trace_id", b"abc") + b"\x11" + struct.pack("<d", 0.5) + b"\x18" + varint(1234)
    batch = parse(packed(field(1, UP + sample(1, 2)) + field(1, UP + sample(1, 3) + field(3, trace) + field(3, b""))), SPACE)
    assert batch.sample_count == 2
    assert batch.exemplars == [Exemplar(1, Labels.of(trace_id="abc"), 0.5, 1234), Exemplar(1, Labels(), 0.0, 0)]


def test_a_broken_exemplar_is_refused_with_its_byte():
    with pytest.raises(BadInput, match="exemplar at byte 20"):
        parse(packed(field(1, UP + field(3, b"\x0a\x7f"))), SPACE)


def test_empty_label_values_are_no_labels():
    batch = parse(packed(field(1, UP + label(b"a", b"") + label(b"b", b"1"))), SPACE)
    assert rows(batch) == [(Labels.of(__name__="up", b="1"), [])]
    assert canonical(batch) == [Labels.of(__name__="up", b="1").encode()]


def test_more_samples_than_expected_are_read_all_the_same():
    message = field(1, UP + field(2, b"") * 5000)
    assert parse(packed(message), SPACE).sample_count == 5000
    many = b"".join(field(1, UP + sample(i, i)) for i in range(3000)) + field(3, b"") * 2000
    batch = parse(packed(many), SPACE)
    assert (batch.series_count, len(batch.metadata)) == (3000, 2000)


@pytest.mark.parametrize(
    ("key", "problem"),
    [
        (UP + label(b"b", b"1") + label(b"a", b"2"), "labels out of order: 'a' after 'b'"),
        (UP + label(b"a", b"1") + label(b"a", b"2"), "label 'a' is given twice"),
        (UP + label(b"a", b"1") + label(b"a", b""), "label 'a' is given twice"),
        (label(b"", b"value") + UP, "label 0 of a series has an empty name"),
        (label(b"job", b"prometheus"), "a series has no metric name"),
        (label(b"__name__", b"") + label(b"job", b"prometheus"), "a series has no metric name"),
        (b"", "a series has no metric name"),
        (label(b"__name__", b"\xff\xfe"), "the value of label"),
        (UP + label(b"\xc0\x80", b"x"), "the name of label 1 is not UTF-8 text"),
        (UP + label(b"a", b"\xed\xa0\x80"), "not UTF-8 text"),
        (UP + field(1, b"\x0a\x05ab"), "the message ends before a field does"),
    ],
)
def test_a_bad_label_set_is_refused_by_name(key, problem):
    message = field(1, field(2, b"")) if not key else field(1, UP) + field(1, key + sample(1, 2))
    with pytest.raises(BadInput, match=problem) as caught:
        canonical(parse(packed(message), SPACE))
    assert "byte" in caught.value.where
    with pytest.raises(BadInput, match=problem):
        parse_labels(key)


@pytest.mark.parametrize(
    ("message", "problem", "at"),
    [
        (b"\x0a", "ends before a field", 1),
        (b"\x0a\x05\x0a", "ends before a field", 1),
        (b"\x0a\xff\xff\xff\xff\xff\xff\xff\xff\x7f", "ends before a field", 1),
        (b"\x0a" + b"\xff" * 10 + b"\x01", "more than ten bytes", 1),
        (field(1, UP + b"\x0b"), "unknown wire type", 2 + len(UP)),
        (b"\x00\x01", "not a valid field number", 0),
        (field(1, UP + sample(1, 2) + label(b"z", b"1")), "do not stand together", 2 + len(UP) + len(sample(1, 2))),
        (field(1, UP + field(2, b"\x09\x00")), "ends before a field", 2 + len(UP) + 3),
    ],
)
def test_a_broken_message_is_refused_with_its_byte(message, problem, at):
    with pytest.raises(BadInput, match=problem) as caught:
        parse(packed(message), SPACE)
    assert caught.value.where == f"byte {at} of the decoded message"


@pytest.mark.parametrize(
    ("body", "problem"),
    [
        (b"", "ends inside its length"),
        (b"\xff", "ends inside its length"),
        (b"\xff" * 6, "not a length"),
        (b"\x80\x80\x80\x80\x10", "declares 4294967296 bytes"),
        (varint(60 << 20) + b"x" * 1000, "more than 1004 can hold"),
        (packed(field(1, UP) * 50)[:-4], "snappy: "),
        (varint(10) + b"\x20short", "snappy: "),
        (b"\x00extra", "bytes after the end"),
        (b"\x05\x00a\x01\x09", "snappy: "),
    ],
)
def test_broken_snappy_is_refused_before_anything_is_allocated(body, problem):
    with pytest.raises(BadInput, match=problem):
        parse(body, SPACE)


def test_the_size_limit_is_the_callers():
    body = packed(field(1, UP + sample(1, 2)) * 100)
    assert parse(body, SPACE, max_bytes=10_000).series_count == 100
    with pytest.raises(BadInput, match="at most 100 bytes"):
        parse(body, SPACE, max_bytes=100)


def understood(message: bytes) -> None:
    """Parse; whatever is accepted must lie inside the message, and kernel and Python must agree on every key."""
    try:
        batch = parse(packed(message), SPACE)
    except BadInput:
        return
    assert batch.offsets[0] == 0 and batch.offsets[-1] == batch.sample_count
    assert (np.diff(batch.offsets) >= 0).all() and (batch.key_end >= batch.key_start).all() and (batch.key_end <= len(message)).all()
    for i in range(batch.series_count):
        one = slice(i, i + 1)
        try:
            expected = batch.keyspace.resolve(batch.buffer[batch.key_start[i] : batch.key_end[i]].tobytes())
        except BadInput:
            with pytest.raises(BadInput):
                batch.keyspace.canonicalise(batch.buffer, batch.key_start[one], batch.key_end[one])
        else:
            keys, _ = batch.keyspace.canonicalise(batch.buffer, batch.key_start[one], batch.key_end[one])
            assert keys.tobytes() == expected.encode()


@given(st.binary(max_size=200))
def test_random_bytes_do_no_harm(message):
    understood(message)
    with contextlib.suppress(BadInput):
        parse(message, SPACE)


def test_mutated_requests_do_no_harm():
    rng = random.Random(3)
    series = [Labels.of({"__name__": f"metric_{i}", "é": "ü" * i, "job": "x"}) for i in range(4)]
    valid = cramjam.snappy.decompress_raw(
        render(series, range(5), [1, 2, 3, 4], [1.0, 2.0, 3.0, 4.0], metadata=[MetricMetadata("m", "gauge")])
    )
    refused = 0
    for _ in range(3000):
        mutated = bytearray(bytes(valid))
        for _ in range(rng.randint(1, 4)):
            at = rng.randrange(len(mutated))
            if rng.random() < 0.3:
                del mutated[at : at + rng.randint(1, 20)]
            elif rng.random() < 0.5:
                mutated[at] = rng.choice([0, 0x7F, 0x80, 0xFF, rng.randrange(256)])
            else:
                mutated[at:at] = rng.randbytes(rng.randint(1, 11))
            if not mutated:
                break
        try:
            parse(packed(bytes(mutated)), SPACE)
        except BadInput:
            refused += 1
        understood(bytes(mutated))
    assert refused > 500


def test_a_mutated_compressed_body_does_no_harm():
    rng = random.Random(4)
    valid = render([Labels.of(__name__="up", i=str(i)) for i in range(50)], range(51), [1] * 50, [1.0] * 50)
    for _ in range(2000):
        mutated = bytearray(valid)
        mutated[rng.randrange(len(mutated))] = rng.randrange(256)
        try:
            parse(bytes(mutated[: rng.randint(1, len(mutated))]), SPACE)
        except BadInput:
            continue


@given(label_sets)
def test_label_regions_go_both_ways(labels):
    assert parse_labels(render_labels(labels)) == labels


def test_a_series_too_short_for_a_name_is_left_out_with_all_that_is_its():
    good = render([Labels.of(__name__="up", job="a")], [0, 2], [1, 2], [1.0, 2.0])
    short = render([Labels.of(a="b")], [0, 3], [1, 2, 3], [7.0, 8.0, 9.0])
    body = b"".join(bytes(cramjam.snappy.decompress_raw(part)) for part in (short, good, short, good))
    batch = parse(bytes(cramjam.snappy.compress_raw(body)), SPACE)
    assert (batch.values.tolist(), batch.offsets.tolist()) == ([1.0, 2.0, 1.0, 2.0], [0, 2, 4])
    assert (batch.bad_series, batch.bad_series_samples) == (2, 6)
    assert "no metric name" in batch.problem
    with pytest.raises(BadInput, match="no metric name"):
        parse(short, SPACE)
