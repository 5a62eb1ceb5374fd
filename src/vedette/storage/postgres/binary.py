"""PostgreSQL's binary COPY format, columns to bytes and back: whole arrays at a time.

The stream is a header (signature, flags, length of an extension), then for each row the number of its columns (int16)
and each column's length (int32) and bytes, all big-endian, then -1 (int16) in place of a row. No column is NULL here, so rows of
numbers have one width and are one NumPy record each. Source: PostgreSQL's documentation of COPY, "Binary Format".
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

_SIGNATURE = b"PGCOPY\n\xff\r\n\x00"
_HEADER = _SIGNATURE + struct.pack(">II", 0, 0)
_TRAILER = struct.pack(">h", -1)


def _row(columns: Sequence[str]) -> np.dtype[Any]:
    parts: list[tuple[str, str]] = [("columns", ">i2")]
    for i, kind in enumerate(columns):
        parts += [(f"length{i}", ">i4"), (f"value{i}", f">{kind}")]
    return np.dtype(parts)


def encode(*columns: NDArray[Any]) -> bytes:
    """The stream of rows with these columns, all of one length, each an array of int32, int64 or float64."""
    kinds = [f"{c.dtype.kind}{c.dtype.itemsize}" for c in columns]
    rows = np.empty(len(columns[0]), dtype=_row(kinds))
    rows["columns"] = len(columns)
    for i, column in enumerate(columns):
        rows[f"length{i}"] = column.dtype.itemsize
        rows[f"value{i}"] = column
    return _HEADER + rows.tobytes() + _TRAILER


def decode(stream: bytes, *kinds: str) -> list[NDArray[Any]]:
    """The columns of a stream whose rows are numbers, in the machine's byte order; `kinds` are `i4`, `i8`, `f8`.

    NaNs keep their bits.
    """
    (extension,) = struct.unpack_from(">I", stream, len(_SIGNATURE) + 4)
    row = _row(kinds)
    start = len(_HEADER) + extension
    count = (len(stream) - start - len(_TRAILER)) // row.itemsize
    assert stream.startswith(_SIGNATURE) and start + count * row.itemsize + len(_TRAILER) == len(stream), "not the rows that were asked for"
    rows = np.frombuffer(stream, dtype=row, offset=start, count=count)
    return [rows[f"value{i}"].astype(kind) for i, kind in enumerate(kinds)]
