"""XOR chunks and their frames: what the kernels write, a naive reader reads."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vedette.kernels import xor_chunks
from vedette.model.labels import Labels
from vedette.model.labeltable import LabelTable
from vedette.model.samples import STALE
from vedette.model.series import SeriesSet
from vedette.wire.remote_read import frames

sys.path.insert(0, str(Path(__file__).parent))
import xor_twin


def encoded(times, values, cuts=None):
    cuts = cuts or [0, len(times)]
    firsts, lasts = np.array(cuts[:-1]), np.array(cuts[1:])
    out, ends = np.zeros((len(times) + len(firsts)) * xor_chunks.MOST_BYTES, np.uint8), np.empty(len(firsts), np.int64)
    bits = np.array(values, dtype=np.float64).view(np.int64)
    size = xor_chunks.encode(np.array(times, dtype=np.int64), bits, firsts, lasts, out, ends)
    assert size == ends[-1]
    starts = [0, *ends.tolist()]
    return [out[a:b].tobytes() for a, b in zip(starts, ends.tolist(), strict=False)]


def plain(times, values):
    return list(zip(times, np.array(values, dtype=np.float64).view(np.uint64).tolist(), strict=True))


STEPS = [1, 15_000, 8191, 8192, 8193, 65_536, 65_537, 524_288, 524_289, 1 << 40]


@settings(max_examples=100, deadline=None)
@given(
    st.integers(-(1 << 50), 1 << 50),
    st.lists(
        st.tuples(st.sampled_from(STEPS) | st.integers(1, 1 << 45), st.floats(width=64) | st.sampled_from([0.0, 1.0, STALE])), max_size=40
    ),
)
def test_what_is_written_is_read(start, rows):
    times = np.cumsum([start, *(step for step, _ in rows)]).tolist()
    values = [1.5, *(value for _, value in rows)]
    (chunk,) = encoded(times, values)
    assert xor_twin.samples(chunk) == plain(times, values)


def test_chunks_follow_one_another():
    times, values = list(range(0, 3000, 10)), [float(i % 7) for i in range(300)]
    chunks = encoded(times, values, [0, 120, 240, 300])
    assert [s for chunk in chunks for s in xor_twin.samples(chunk)] == plain(times, values)


def test_a_known_chunk():
    """Two samples of one value: the count, a varint and eight bytes, a varint and one bit."""
    (chunk,) = encoded([1, 3], [0.0, 0.0])
    assert chunk == bytes([0, 2, 2]) + bytes(8) + bytes([2, 0])


@pytest.mark.parametrize(("text", "crc"), [(b"", 0), (b"123456789", 0xE3069283), (bytes(32), 0x8A9136AA), (b"\xff" * 32, 0x62A8AB43)])
def test_checksums_of_rfc_3720(text, crc):
    assert xor_chunks.crc32c(np.frombuffer(bytearray(text), dtype=np.uint8)) == crc == xor_twin.crc32c(text)


def set_of(rows):
    labels = LabelTable.from_labels([labels for labels, _, _ in rows])
    offsets = np.cumsum([0, *(len(times) for _, times, _ in rows)], dtype=np.int64)
    times = np.array([t for _, times, _ in rows for t in times], dtype=np.int64)
    return SeriesSet(labels, offsets, times, np.array([v for _, _, values in rows for v in values], dtype=np.float64))


def test_a_stream_is_a_frame_a_series_in_order():
    b, a, none = Labels.of(__name__="b"), Labels.of(__name__="a", x="ä"), Labels.of(__name__="c")
    one = set_of([(b, [5], [1.0]), (none, [], []), (a, list(range(250)), [0.5] * 250)])
    two = set_of([(b, [7, 8], [2.0, 3.0])])
    found = [xor_twin.series(m) for m in xor_twin.frames(b"".join(frames([one, two], {"dc": "here", "x": "other"})))]
    assert [(labels, index) for labels, _, index in found] == [
        ({"__name__": "a", "dc": "here", "x": "ä"}, 0),
        ({"__name__": "b", "dc": "here", "x": "other"}, 0),
        ({"__name__": "b", "dc": "here", "x": "other"}, 1),
    ]
    assert [(first, last) for first, last, _ in found[0][1]] == [(0, 119), (120, 239), (240, 249)]
    assert xor_twin.samples(found[2][1][0][2]) == plain([7, 8], [2.0, 3.0])


def test_a_long_series_goes_on_in_further_frames():
    rng = np.random.default_rng(1)
    times, values = list(range(160_000)), rng.random(160_000).tolist()
    parts = list(frames([set_of([(Labels.of(__name__="a"), times, values)])], {}))
    assert len(parts) == 2
    assert all(len(part) < (1 << 20) + 2000 for part in parts)
    starts = [xor_twin.series(next(xor_twin.frames(part)))[1] for part in parts]
    assert starts[1][0][0] == starts[0][-1][1] + 1


def test_no_series_no_stream():
    assert list(frames([set_of([])], {})) == []
