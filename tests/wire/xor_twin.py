"""XOR chunks read naively, bit by bit, as Prometheus' reader does; and the frames that they come in."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import Any

from vedette.wire.protobuf import BYTES, fields, signed, varint


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
    """(labels, (first ms, last ms, data) of its chunks, the query's number) of a `ChunkedReadResponse` of one series."""
    labels: dict[str, str] = {}
    chunks: list[tuple[int, int, bytes]] = []
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
                assert found[3] == 1, "an XOR chunk"
                chunks.append((found[1], found[2], found[4]))
    return labels, chunks, index
