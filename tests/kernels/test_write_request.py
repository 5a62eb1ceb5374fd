"""The kernel that writes remote write requests, against the plain Python writer of `wire/remote_write.py`."""

from __future__ import annotations

import cramjam
import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from vedette.kernels import write_request as kernel
from vedette.model.labels import Labels
from vedette.wire import remote_write

TEXTS = st.text(st.characters(blacklist_categories=("Cs",)), min_size=1, max_size=200)
SERIES = st.dictionaries(TEXTS, TEXTS, min_size=1, max_size=4).map(Labels.of)
SAMPLES = st.lists(st.tuples(st.integers(-(1 << 63), (1 << 63) - 1), st.integers(-(1 << 63), (1 << 63) - 1)), max_size=4)


def encoded(series, rows, offsets, times, bits) -> bytes:
    keys = [s.encode() for s in series]
    key_offsets = np.cumsum([0, *map(len, keys)], dtype=np.int64)
    columns = (np.array(rows, np.int64), np.array(offsets, np.int64), np.array(times, np.int64), np.array(bits, np.int64))
    buffer = np.frombuffer(bytearray(b"".join(keys)), dtype=np.uint8)
    size = kernel.encode(buffer, key_offsets, *columns, np.empty(0, np.uint8))
    out = np.zeros(size, np.uint8)
    assert kernel.encode(buffer, key_offsets, *columns, out) == size
    return out.tobytes()


@given(st.lists(st.tuples(SERIES, SAMPLES), max_size=5))
def test_the_kernel_writes_what_its_twin_writes(given_rows):
    filled = [(labels, samples) for labels, samples in given_rows if samples]
    offsets = np.cumsum([0, *(len(s) for _, s in filled)])
    times = np.array([t for _, s in filled for t, _ in s], dtype=np.int64)
    bits = np.array([b for _, s in filled for _, b in s], dtype=np.int64)
    twin = cramjam.snappy.decompress_raw(remote_write.render([labels for labels, _ in filled], offsets, times, bits.view(np.float64)))
    all_offsets = np.cumsum([0, *(len(s) for _, s in given_rows)])
    assert encoded([labels for labels, _ in given_rows], range(len(given_rows)), all_offsets, times, bits) == bytes(twin)


def test_rows_below_zero_and_without_samples_are_left_out_and_keys_may_repeat():
    a, b = Labels.of(__name__="a"), Labels.of(__name__="b")
    whole = encoded([a, b], [0, -1, 1, 1, 0], [0, 1, 2, 2, 3, 4], [5, 6, 7, 8], [0, 0, 0, 0])
    twin = remote_write.render([a, b, a], [0, 1, 2, 3], [5, 7, 8], np.zeros(3))
    assert whole == bytes(cramjam.snappy.decompress_raw(twin))


def test_nothing_is_written_beyond_a_buffer_that_is_too_small():
    out = np.zeros(64, np.uint8)
    key = np.frombuffer(bytearray(Labels.of(__name__="metric").encode()), dtype=np.uint8)
    columns = (np.array([0, len(key)]), np.array([0]), np.array([0, 1]), np.array([1]), np.array([1]))
    size = kernel.encode(key, *columns, out[:10])
    assert size > 10
    assert not out.any()
