"""Pages go both ways, hold what `FORMAT.md` says, are small where they can be, and are refused when they are damaged."""

from __future__ import annotations

import random
import struct
import sys
import zlib
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vedette.kernels import pages as kernel
from vedette.model.samples import STALE
from vedette.storage import pages

sys.path.insert(0, str(Path(__file__).parent))
import page_twin

NOW = 1_700_000_000_000
RANDOM = np.random.default_rng(5)


def written(rows: list[tuple[list[int], list[float]]]) -> tuple[bytes, pages.PagesWriter]:
    """The bytes of a file with one page of these (times, values), and its writer."""
    parts: list[bytes] = []
    writer = pages.PagesWriter(parts.append)
    offsets = np.cumsum([0, *(len(times) for times, _ in rows)], dtype=np.int64)
    times = np.array([t for ts, _ in rows for t in ts], dtype=np.int64)
    values = np.array([v for _, vs in rows for v in vs], dtype=np.float64)
    writer.add(offsets, times, values.view(np.int64))
    writer.finish()
    return b"".join(parts), writer


def page_of(*rows: list[float]) -> bytes:
    """The page of rows that share their times as far as they go."""
    data, writer = written([([NOW + 15_000 * i for i in range(len(row))], row) for row in rows])
    ((first, offset, size),) = writer.table
    assert first == 0
    return data[offset : offset + size]


def bits(values) -> list[int]:
    return np.asarray(values, dtype=np.float64).view(np.int64).tolist()


def forms(page: bytes) -> list[int]:
    _, _, rows, size, count = struct.unpack_from("<5I", page)
    at = 20 + 12 * count
    return [form & 7 for form in list(page_twin.varints(zlib.decompress(page[at : at + size], -15)))[2 * rows : 3 * rows]]


STALE_END = [*np.round(RANDOM.normal(50, 3, 60), 2).tolist(), STALE]
ROWS = {
    "one value": ([7.25] * 100, kernel.CONSTANT),
    "one that is no decimal": ([1 / 3] * 100, kernel.CONSTANT),
    "stale throughout": ([STALE] * 3, kernel.CONSTANT),
    "minus zero": ([-0.0] * 3, kernel.CONSTANT),
    "a single sample": ([1e300], kernel.CONSTANT),
    "noise": (np.round(RANDOM.normal(50, 3, 200), 2).tolist(), kernel.WHOLES),
    "a walk": (np.round(np.cumsum(RANDOM.normal(0, 1, 500)) + 1000, 3).tolist(), kernel.STEPS),
    "a counter": (np.cumsum(RANDOM.integers(900, 1100, 500)).astype(float).tolist(), kernel.STEPS),
    "a counter whose rate drifts": (np.cumsum(np.cumsum(RANDOM.integers(0, 3, 500))).astype(float).tolist(), kernel.BENDS),
    "pages of memory": ((RANDOM.integers(0, 100, 100) * 4096.0).tolist(), kernel.WHOLES),
    "ends stale": (STALE_END, kernel.WHOLES),
    "begins with what is no number": ([float("nan"), float("inf"), *STALE_END], kernel.WHOLES),
    "a product, not a quotient": ([i * 1e-9 for i in RANDOM.integers(1, 10**6, 100).tolist()], kernel.WHOLES),
    "floats": (RANDOM.normal(0, 1, 100).tolist(), kernel.RAW),
    "beyond whole floats": ([2.0**60 + 2.0**30 * i for i in range(50)], kernel.RAW),
}


@pytest.mark.parametrize("name", ROWS)
def test_a_row_takes_the_form_that_is_smallest_and_comes_back(name):
    row, form = ROWS[name]
    page = page_of(row)
    assert forms(page) == [form]
    assert page_twin.read(page) == [(0, bits(row))]
    vectors, counts, found = pages.read_values(page)
    assert (vectors.tolist(), counts.tolist(), found.tolist()) == ([0], [len(row)], bits(row))


def test_rows_of_all_kinds_share_a_page():
    rows = [row for row, _ in ROWS.values()]
    page = page_of(*rows)
    vectors, counts, found = pages.read_values(page)
    assert counts.tolist() == [len(r) for r in rows]
    assert found.tolist() == [b for row in rows for b in bits(row)]
    assert [r for _, r in page_twin.read(page)] == [bits(row) for row in rows]
    # Rows of one length have one vector of times.
    assert len(set(vectors.tolist())) == len({len(r) for r in rows})


decimals = st.integers(-(10**6), 10**6).flatmap(lambda n: st.sampled_from([n / 10**k for k in range(7)]))
whatever = st.one_of(decimals, st.floats(), st.sampled_from([STALE, -0.0, 0.0, 1e15, 2.0**53, 2.0**53 + 2, 5e-324]))


@settings(max_examples=300, deadline=None)
@given(
    st.lists(st.one_of(st.lists(decimals, min_size=1, max_size=70), st.lists(whatever, min_size=1, max_size=70)), min_size=1, max_size=6)
)
def test_any_rows_come_back_bit_by_bit(rows):
    page = page_of(*rows)
    _, counts, found = pages.read_values(page)
    assert counts.tolist() == [len(r) for r in rows]
    assert found.tolist() == [b for row in rows for b in bits(row)]
    assert [r for _, r in page_twin.read(page)] == [bits(row) for row in rows]


def test_times_that_many_rows_share_are_stored_once():
    times = (NOW + np.cumsum(RANDOM.integers(14_000, 16_000, 1000))).tolist()
    others = (NOW + np.cumsum(RANDOM.integers(14_000, 16_000, 1000))).tolist()
    one, _ = written([(times, [1.0] * 1000)])
    many, writer = written([(times, [1.0] * 1000)] * 10 + [(others, [1.0] * 1000)] + [(times, [2.0] * 1000)] * 3)
    assert len(many) < 2.2 * len(one)
    assert writer.vectors.tolist() == [0, 1000, 2000]
    ((first, offset, size),) = writer.time_table
    assert (first, pages.read_times(many[offset : offset + size]).tolist()) == (0, times + others)
    ((_, offset, size),) = writer.table
    vectors, _, _ = pages.read_values(many[offset : offset + size])
    assert vectors.tolist() == [0] * 10 + [1] + [0] * 3


def test_vectors_fill_several_pages_of_times():
    rows = [([NOW + i + j * 7 for j in range(5000)], [float(i)] * 5000) for i in range(8)]
    data, writer = written(rows)
    assert [first for first, _, _ in writer.time_table] == [0, 20_000]
    held = [pages.read_times(data[offset : offset + size]) for _, offset, size in writer.time_table]
    assert np.concatenate(held).tolist() == [t for times, _ in rows for t in times]


def test_a_row_longer_than_a_page_is_cut(monkeypatch):
    monkeypatch.setattr(pages, "LARGEST", 100)
    _, writer = written([([NOW + i for i in range(250)], [float(i % 7) for i in range(250)])])
    assert [first for first, _, _ in writer.table] == [0, 100, 200]
    assert writer.vectors.tolist() == [0, 100, 200, 250]


def test_rows_without_samples_leave_no_trace():
    _, writer = written([([], []), ([NOW], [1.0]), ([], [])])
    assert (writer.samples, len(writer.table)) == (1, 1)
    _, writer = written([([], [])])
    assert (writer.samples, writer.table, writer.time_table) == (0, [], [])


def sealed(page: bytes) -> bytes:
    """With a checksum that fits, as somebody could make one who means harm."""
    return struct.pack("<I", zlib.crc32(page[4:])) + page[4:]


def test_a_damaged_page_is_refused():
    page = page_of(*(row for row, _ in ROWS.values()))
    for at in range(0, len(page), 7):
        bent = bytearray(page)
        bent[at] ^= 1 << at % 8
        with pytest.raises(ValueError):
            pages.read_values(bytes(bent))
    for size in (0, 3, 19, 40, len(page) - 1):
        with pytest.raises(ValueError):
            pages.read_values(page[:size])


def test_no_bytes_with_a_fitting_checksum_do_harm():
    page = page_of(*(row for row, _ in ROWS.values()))
    dice = random.Random(3)
    refused = 0
    for _ in range(400):
        bent = bytearray(page)
        for _ in range(dice.randrange(1, 4)):
            # Not the numbers that say how much memory to take: a page of four thousand million samples is none of ours.
            bent[dice.randrange(20, len(page))] = dice.randrange(256)
        try:
            _, counts, found = pages.read_values(sealed(bytes(bent)))
            assert counts.sum() == len(found)
        except ValueError:
            refused += 1
    assert refused > 50


def test_a_page_of_times_that_is_damaged_is_refused():
    data, writer = written([([NOW, NOW + 9, NOW + 15], [1.0, 2.0, 3.0])])
    ((_, offset, size),) = writer.time_table
    page = data[offset : offset + size]
    for at in range(len(page)):
        bent = bytearray(page)
        bent[at] ^= 4
        with pytest.raises(ValueError):
            pages.read_times(bytes(bent))
    with pytest.raises(ValueError, match="ends inside its header"):
        pages.read_times(page[:5])
    with pytest.raises(ValueError, match="more or less than it says"):
        pages.read_times(sealed(page[:4] + struct.pack("<I", 4) + page[8:]))


def test_varints_go_both_ways():
    numbers = np.array([0, -1, 1, 63, -64, 64, 2**62, -(2**63), 2**63 - 1], dtype=np.int64)
    out, back = np.empty(90, dtype=np.uint8), np.empty_like(numbers)
    size = kernel.pack(numbers, out)
    assert list(page_twin.varints(out[:size].tobytes())) == numbers.tolist()
    assert kernel.unpack(out[:size], back) == size and back.tolist() == numbers.tolist()
    assert kernel.unpack(out[: size - 1], back) == -1
    assert kernel.unpack(np.full(20, 0xFF, dtype=np.uint8), back[:1].copy()) == -1
