"""A batch as a record of the log, and back. Little-endian, no gaps:

    +-----------+---------+----------+--------+--------------------------------+
    | first seq | tenant  | services | raw    | tenant, then the columns,      |
    | u64       | u32 len | u32 n    | u64    | compressed with snappy         |
    +-----------+---------+----------+--------+--------------------------------+

The columns: times int64[n], service codes int32[n], levels uint8[n], then the offsets (int32) of services, messages
and fields, then the bytes of these. `raw` counts the columns' bytes; n follows from the first of them, a u64.
Not here: the frame with its checksum (`storage.wal`).
"""

from __future__ import annotations

import struct

import cramjam
import numpy as np
from numpy.typing import NDArray

from vedette.model.logs import LEVELS, LogBatch, Text

KIND = 32
"""The kind of these records; those of samples have smaller numbers."""

_HEAD = struct.Struct("<QIIQ")
_SIZES = struct.Struct("<QQQQ")


def encode(tenant: str, first: int, batch: LogBatch) -> bytes:
    """The payload of a batch whose lines are numbered from `first`."""
    services = Text.of(batch.services)
    parts = [
        _SIZES.pack(len(batch), len(services.data), len(batch.messages.data), len(batch.fields.data)),
        *(a.tobytes() for a in (batch.times, batch.service_codes, batch.levels)),
        *(t.offsets.tobytes() for t in (services, batch.messages, batch.fields)),
        *(t.data.tobytes() for t in (services, batch.messages, batch.fields)),
    ]
    raw = b"".join(parts)
    name = tenant.encode()
    return _HEAD.pack(first, len(name), len(services), len(raw)) + name + bytes(cramjam.snappy.compress_raw(raw))


def decode(payload: memoryview, *, max_bytes: int = 1 << 31) -> tuple[str, int, LogBatch]:
    """(tenant, first number, batch). Raises `ValueError` where lengths do not fit; the checksum was right before."""
    if len(payload) < _HEAD.size:
        raise ValueError("a record of lines that ends inside its head")
    first, name, services, size = _HEAD.unpack_from(payload)
    if size > max_bytes or _HEAD.size + name > len(payload):
        raise ValueError("a record of lines whose lengths do not fit")
    tenant = str(payload[_HEAD.size : _HEAD.size + name], "utf-8")
    try:
        raw = bytes(cramjam.snappy.decompress_raw(payload[_HEAD.size + name :]))
    except cramjam.DecompressionError as error:
        raise ValueError(f"a record of lines that cannot be unpacked: {error}") from None
    if len(raw) != size or size < _SIZES.size:
        raise ValueError("a record of lines of another length than it states")
    n, *lengths = _SIZES.unpack_from(raw)
    if _SIZES.size + 13 * n + 4 * (services + 1 + 2 * (n + 1)) + sum(lengths) != size:
        raise ValueError("a record of lines whose count does not fit its length")
    return tenant, first, _columns(raw, n, services, lengths)


def _columns(raw: bytes, n: int, services: int, lengths: list[int]) -> LogBatch:
    at = _SIZES.size

    def take(dtype: type[np.generic], count: int) -> NDArray[np.generic]:
        nonlocal at
        found = np.frombuffer(raw, dtype, count, at)
        at += found.nbytes
        return found

    times, codes, levels = take(np.int64, n), take(np.int32, n), take(np.uint8, n)
    offsets = [take(np.int32, count + 1) for count in (services, n, n)]
    texts = [Text(ends, take(np.uint8, length)) for ends, length in zip(offsets, lengths, strict=True)]  # type: ignore[arg-type]
    for text, length in zip(texts, lengths, strict=True):
        if text.offsets[0] != 0 or text.offsets[-1] != length or np.any(np.diff(text.offsets) < 0):
            raise ValueError("a record of lines whose offsets do not fit its text")
    if n and (int(codes.min()) < 0 or int(codes.max()) >= services or int(levels.max()) >= len(LEVELS)):
        raise ValueError("a record of lines with codes that stand for nothing")
    return LogBatch(times, levels, tuple(texts[0].strings()), codes, texts[1], texts[2])  # type: ignore[arg-type]
