"""PostgreSQL's binary COPY format, against what the server itself writes and reads."""

from __future__ import annotations

import struct

import asyncpg
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from vedette.storage.postgres import binary

BITS = st.integers(-(1 << 63), (1 << 63) - 1)


@given(st.lists(st.tuples(st.integers(-(1 << 31), (1 << 31) - 1), BITS, BITS), max_size=20))
def test_columns_come_back_bit_by_bit(rows):
    a = np.array([r[0] for r in rows], dtype=np.int32)
    b = np.array([r[1] for r in rows], dtype=np.int64)
    c = np.array([r[2] for r in rows], dtype=np.int64).view(np.float64)
    found = binary.decode(binary.encode(a, b, c), "i4", "i8", "f8")
    assert [column.dtype for column in found] == [np.int32, np.int64, np.float64]
    assert found[0].tolist() == a.tolist()
    assert found[1].tolist() == b.tolist()
    assert found[2].view(np.int64).tolist() == c.view(np.int64).tolist()


def test_the_bytes_are_those_of_the_documentation():
    row = struct.pack(">hiiiq", 2, 4, 7, 8, -1)
    stream = b"PGCOPY\n\xff\r\n\x00" + bytes(8) + row + b"\xff\xff"
    assert binary.encode(np.array([7], np.int32), np.array([-1], np.int64)) == stream


@pytest.mark.parametrize("cut", [1, 3, 30])
def test_a_stream_cut_short_is_not_taken_for_one(cut):
    stream = binary.encode(np.array([7, 8], np.int32), np.array([-1, 5], np.int64))
    with pytest.raises(AssertionError):
        binary.decode(stream[:-cut], "i4", "i8")


async def test_the_server_reads_what_is_encoded_and_writes_what_is_decoded(postgres_url):
    import io

    nan = np.array([0x7FF0000000000002, 0x7FF8000000000001], dtype=np.int64).view(np.float64)
    values = np.concatenate([nan, [-0.0, np.inf, 1.5]])
    connection = await asyncpg.connect(postgres_url)
    await connection.execute("CREATE TABLE t (i integer, ts bigint, v double precision)")
    columns = (np.arange(5, dtype=np.int32), np.arange(5, dtype=np.int64) - (1 << 60), values)
    await connection.copy_to_table("t", source=io.BytesIO(binary.encode(*columns)), format="binary")
    assert [row["v"] for row in await connection.fetch("SELECT v FROM t ORDER BY i")][2:] == [0.0, np.inf, 1.5]
    out = io.BytesIO()
    await connection.copy_from_query("SELECT i, ts, v FROM t ORDER BY i", output=out, format="binary")
    found = binary.decode(out.getvalue(), "i4", "i8", "f8")
    assert found[1].tolist() == columns[1].tolist()
    assert found[2].view(np.int64).tolist() == values.view(np.int64).tolist()
    await connection.close()
