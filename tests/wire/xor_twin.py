"""XOR chunks read naively, bit by bit, as Prometheus' reader does; and the frames that they come in."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import Any

import numpy as np

from vedette.model.histograms import Layout
from vedette.wire.protobuf import BYTES, fields, signed, varint

XOR, FLOAT_HISTOGRAM = 1, 3
"""Kinds of chunks."""


def crc32c(data: bytes) -> int:
    crc = 0xFFFFFFFF
    for byte in data:
        crc ^= byte
        for _ in range(8):
            crc = crc >> 1 ^ (0x82F63B78 if crc & 1 else 0)
    return crc ^ 0xFFFFFFFF


class Bits:
    def __init__(self, data: bytes) -> None:
        self.text = "".join(f"{byte:08b}" for byte in data)
        self.at = 0

    def take(self, count: int) -> int:
        assert self.at + count <= len(self.text), "the chunk ends early"
        self.at += count
        return int(self.text[self.at - count : self.at] or "0", 2)

    def varint(self) -> int:
        value = shift = 0
        while True:
            byte = self.take(8)
            value |= (byte & 0x7F) << shift
            shift += 7
            if byte < 0x80:
                return value


def samples(chunk: bytes) -> list[tuple[int, int]]:
    """(ms, bits of the value) of a chunk."""
    (count,) = struct.unpack(">H", chunk[:2])
    bits, found = Bits(chunk[2:]), []
    leading = trailing = step = 0
    for i in range(count):
        if i == 0:
            raw = bits.varint()
            found.append(((raw >> 1) ^ -(raw & 1), bits.take(64)))
            continue
        time, value = found[-1]
        if i == 1:
            step = bits.varint()
        else:
            width = next((w for w in (0, 14, 17, 20) if not bits.take(1)), 64)
            change = bits.take(width)
            step += change - (1 << width) if width and change > 1 << (width - 1) else change
        if bits.take(1):
            if bits.take(1):
                leading, size = bits.take(5), bits.take(6) or 64
                trailing = 64 - leading - size
            value ^= bits.take(64 - leading - trailing) << trailing
        found.append((time + step, value))
    assert len(bits.text) - bits.at < 8, "nothing stands behind the last sample"
    return found


def _varbit(bits: Bits, *, unsigned: bool = False) -> int:
    ones = 0
    while ones < 8 and bits.take(1):
        ones += 1
    if ones == 0:
        return 0
    width = (0, 3, 6, 9, 12, 18, 25, 56, 64)[ones]
    value = bits.take(width)
    return value - (1 << width) if not unsigned and value > 1 << (width - 1) else value


def _float(bits: Bits) -> float:
    return float(struct.unpack(">d", bits.take(64).to_bytes(8, "big"))[0])


def _indices(bits: Bits) -> list[int]:
    """The buckets of a side, from its spans."""
    found: list[int] = []
    after = 0
    for _ in range(_varbit(bits, unsigned=True)):
        length = _varbit(bits, unsigned=True)
        begin = after + _varbit(bits)
        found += range(begin, begin + length)
        after = begin + length
    return found


def _bound(bits: Bits) -> float:
    thousandths = _varbit(bits, unsigned=True)
    return (thousandths - 1) / 1000 if thousandths else _float(bits)


def histograms(chunk: bytes) -> tuple[int, Layout, list[tuple[int, list[int]]]]:
    """(flags, layout, (ms, bits of count, sum, zero bucket, buckets) of each) of a chunk of float histograms."""
    (count,) = struct.unpack(">H", chunk[:2])
    bits = Bits(chunk[3:])
    narrow = bits.take(8)
    threshold = 0.0 if narrow == 0 else _float(bits) if narrow == 255 else 2.0 ** (narrow - 244)
    schema = _varbit(bits)
    positive, negative = (np.array(_indices(bits), dtype=np.int32) for _ in range(2))
    bounds = tuple(_bound(bits) for _ in range(_varbit(bits, unsigned=True))) if schema == -53 else ()
    layout = Layout(schema, threshold, bounds, positive, negative)
    found: list[tuple[int, list[int]]] = []
    order = [0, 2, 1, *range(3, layout.width)]
    known = [(0, 0)] * layout.width
    step = time = 0
    for i in range(count):
        change = _varbit(bits)
        step = step + change if i else 0
        time = time + step if i else change
        cells = list(found[-1][1]) if found else [0] * layout.width
        for cell in order:
            if i == 0:
                cells[cell] = bits.take(64)
            elif bits.take(1):
                if bits.take(1):
                    leading, size = bits.take(5), bits.take(6) or 64
                    known[cell] = leading, 64 - leading - size
                leading, trailing = known[cell]
                cells[cell] ^= bits.take(64 - leading - trailing) << trailing
        found.append((time, cells))
    assert len(bits.text) - bits.at < 8, "nothing stands behind the last sample"
    return chunk[2], layout, found


def frames(stream: bytes) -> Iterator[bytes]:
    """The messages of a stream, their checksums checked."""
    at = 0
    while at < len(stream):
        size, at = varint(stream, at, len(stream))
        crc, message = stream[at : at + 4], stream[at + 4 : at + 4 + size]
        assert len(message) == size
        assert int.from_bytes(crc, "big") == crc32c(message)
        at += 4 + size
        yield message


def series(message: bytes) -> tuple[dict[str, str], list[tuple[int, int, bytes]], int]:
    """(labels, (first ms, last ms, data) of its chunks, the query's number) of a `ChunkedReadResponse` of one series of floats."""
    labels, chunks, index = kinds(message)
    assert {kind for kind, *_ in chunks} == {XOR}
    return labels, [(first, last, data) for _, first, last, data in chunks], index


def kinds(message: bytes) -> tuple[dict[str, str], list[tuple[int, int, int, bytes]], int]:
    """The same of any series: its chunks' kind stands before the rest."""
    labels: dict[str, str] = {}
    chunks: list[tuple[int, int, int, bytes]] = []
    index = 0
    for number, kind, a, b in fields(message):
        if number == 2:
            index = a
        for inner, wire, c, d in fields(message, a, b) if number == 1 and kind == BYTES else ():
            assert wire == BYTES
            found: dict[int, Any] = {}
            for n, k, e, f in fields(message, c, d):
                found[n] = message[e:f] if k == BYTES else signed(e)
            if inner == 1:
                labels[found[1].decode()] = found[2].decode()
            else:
                chunks.append((found[3], found[1], found[2], found[4]))
    return labels, chunks, index
