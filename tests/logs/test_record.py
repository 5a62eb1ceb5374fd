"""A batch of lines as a record of the log: what was written comes back, and bytes that were not are refused, whatever they are."""

from __future__ import annotations

import struct

import cramjam
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from vedette.logs.record import decode, encode
from vedette.model.logs import LEVELS, LogBatch, LogBuilder

LINES = st.tuples(
    st.integers(-(1 << 62), 1 << 62),
    st.integers(0, len(LEVELS) - 1),
    st.sampled_from(["", "shop", "sérvice", "x" * 300]),
    st.text(st.characters(codec="utf-8"), max_size=40),
    st.sampled_from([b"{}", b'{"a":"b"}', b'{"n":1}']),
)


def batch(rows: list[tuple[int, int, str, str, bytes]]) -> LogBatch:
    builder = LogBuilder(max_bytes=1 << 16)
    for row in rows:
        builder.add(*row)
    return builder.build()


def shown(found: LogBatch) -> list[tuple[int, int, str, str, str]]:
    services = [found.services[code] for code in found.service_codes.tolist()]
    return list(zip(found.times.tolist(), found.levels.tolist(), services, found.messages.strings(), found.fields.strings(), strict=True))


TWO = [(5, 0, "shop", "one", b"{}"), (6, 1, "", "zwei ü", b'{"a":"b"}')]


@given(st.lists(LINES, max_size=8), st.sampled_from(["default", "tenänt", ""]), st.integers(0, (1 << 63) - 1))
def test_what_was_written_comes_back(rows: list[tuple[int, int, str, str, bytes]], tenant: str, first: int) -> None:
    given_, payload = batch(rows), encode(tenant, first, batch(rows))
    found = decode(memoryview(payload))
    assert found[:2] == (tenant, first)
    assert shown(found[2]) == shown(given_)


@pytest.mark.parametrize("cut", range(1, 60, 7))
def test_a_record_that_ends_early_is_refused(cut: int) -> None:
    payload = encode("default", 1, batch(TWO))
    with pytest.raises(ValueError, match=r"a record of lines|utf-8"):
        decode(memoryview(payload[: len(payload) - cut]))


@given(st.integers(0, 400), st.binary(min_size=1, max_size=12))
@example(16, struct.pack("<Q", 1 << 40))
@example(8, b"\xff\xff\xff\xff")
@example(12, b"\xff\xff\xff\xff")
def test_bytes_that_changed_are_refused_or_read_and_do_no_harm(at: int, change: bytes) -> None:
    payload = bytearray(encode("default", 1, batch(TWO)))
    at %= len(payload)
    payload[at : at + len(change)] = change
    try:
        _, _, found = decode(memoryview(bytes(payload)), max_bytes=1 << 20)
    except ValueError:
        return
    assert len(shown(found)) == len(found)


@given(st.integers(0, 400), st.binary(min_size=1, max_size=8))
@example(0, struct.pack("<Q", 1 << 60))
@example(8, struct.pack("<Q", (1 << 64) - 1))
@example(48, b"\x7f")
def test_columns_that_contradict_one_another_are_refused(at: int, change: bytes) -> None:
    """Past the compression, where each length and code is looked at by itself."""
    payload = encode("default", 1, batch(TWO))
    head, name = payload[:24], b"default"
    raw = bytearray(bytes(cramjam.snappy.decompress_raw(payload[24 + len(name) :])))
    at %= len(raw)
    raw[at : at + len(change)] = change
    first, length, services, _ = struct.unpack("<QIIQ", head)
    changed = struct.pack("<QIIQ", first, length, services, len(raw)) + name + bytes(cramjam.snappy.compress_raw(bytes(raw)))
    try:
        _, _, found = decode(memoryview(changed))
    except ValueError:
        return
    assert len(shown(found)) == len(found)


def test_a_record_larger_than_is_taken_is_refused_before_it_is_unpacked() -> None:
    payload = encode("default", 1, batch([(1, 0, "shop", "x" * 10_000, b"{}")] * 10))
    assert len(payload) < 10_000
    with pytest.raises(ValueError, match="do not fit"):
        decode(memoryview(payload), max_bytes=50_000)
