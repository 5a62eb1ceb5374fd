"""Protobuf's fields one by one, for messages that are read seldom enough to be read in Python.

Every length is checked against the bytes there are. Not here: remote write, whose samples a kernel reads.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator

from vedette.errors import BadInput

VARINT, FIXED64, BYTES, FIXED32 = 0, 1, 2, 5
_F64, _F32 = struct.Struct("<Q"), struct.Struct("<I")


def fields(data: bytes, at: int = 0, end: int = -1) -> Iterator[tuple[int, int, int, int]]:
    """(field number, wire type, value, 0) of each field, or (…, BYTES, start, end) for bytes. Raises `BadInput`."""
    end = len(data) if end < 0 else end
    while at < end:
        key, at = varint(data, at, end)
        number, kind = key >> 3, key & 7
        if kind == VARINT:
            value, at = varint(data, at, end)
            yield number, kind, value, 0
        elif kind == BYTES:
            size, at = varint(data, at, end)
            if size > end - at:
                raise BadInput("a field is longer than its message", where=f"byte {at}")
            yield number, kind, at, at + size
            at += size
        elif kind in (FIXED64, FIXED32):
            size = 8 if kind == FIXED64 else 4
            if size > end - at:
                raise BadInput("a field is longer than its message", where=f"byte {at}")
            yield number, kind, (_F64 if size == 8 else _F32).unpack_from(data, at)[0], 0
            at += size
        else:
            raise BadInput(f"wire type {kind} is not known", where=f"byte {at}", hint="is this protobuf of this protocol?")


def varint(data: bytes, at: int, end: int) -> tuple[int, int]:
    """(an unsigned varint of at most 64 bits, where it ends). Raises `BadInput`."""
    value = shift = 0
    while at < end:
        byte = data[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value & 0xFFFFFFFFFFFFFFFF, at
        shift += 7
        if shift > 63:
            raise BadInput("a number of more than 64 bits", where=f"byte {at}")
    raise BadInput("a number that ends early", where=f"byte {at}")


def signed(value: int) -> int:
    """An int64 from its bits."""
    return value - (1 << 64) if value >= 1 << 63 else value


def text(data: bytes, start: int, end: int) -> str:
    """Bytes as text. Raises `BadInput` where they are not UTF-8."""
    try:
        return data[start:end].decode()
    except UnicodeDecodeError as error:
        raise BadInput("text that is not UTF-8", where=f"byte {start + error.start}") from None
