"""Chunks of native histograms: what the kernel writes, a naive reader reads, and no chunk hides a reset."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vedette.model.histogram_arithmetic import is_reset
from vedette.model.histograms import CUSTOM_SCHEMA, GAUGE, NO_BUCKETS, RESET, UNKNOWN, Histogram, Histograms, Layout
from vedette.model.samples import STALE, STALE_BITS
from vedette.wire.histogram_chunks import chunks, layout_bits

sys.path.insert(0, str(Path(__file__).parent))
import xor_twin

RESET_FLAG, CONTINUED, GAUGE_FLAG = 0x80, 0x40, 0xC0


def indices(*given: int) -> np.ndarray:
    return np.array(given, dtype=np.int32)


LAYOUTS = [
    Layout(3, 2.0**-128, (), indices(-2, -1, 5), indices(7)),
    Layout(0, 0.001, (), NO_BUCKETS, NO_BUCKETS),
    Layout(-4, 0.0, (), indices(-300, 40, 41, 42, 900_000), indices(-1, 0, 1)),
    Layout(CUSTOM_SCHEMA, 0.0, (-1.5, 0.0, 0.005, 33554.43, 33554.431, 1e300), indices(0, 2, 3, 6), NO_BUCKETS),
]


def written(times, some):
    """(flags, layout, [(time, histogram's cells as bits)]) of each chunk."""
    columns = Histograms.of(np.arange(len(some)), some)
    found, upto = [], 0
    for first, last, data in chunks(columns, slice(0, len(some)), np.array(times, dtype=np.int64)):
        assert first == upto
        found.append(xor_twin.histograms(data))
        assert len(found[-1][2]) == last - first
        upto = last
    assert upto == len(some)
    return found


def numbers(h: Histogram) -> list[int]:
    return h.cells.view(np.uint64).tolist()


cells = st.floats(width=64) | st.integers(0, 9).map(float) | st.sampled_from([STALE, 0.0, 1e300])
histograms = st.sampled_from(LAYOUTS).flatmap(
    lambda layout: st.builds(
        lambda numbers, hint: Histogram(layout, np.array(numbers), hint),
        st.lists(cells, min_size=layout.width, max_size=layout.width),
        st.sampled_from([UNKNOWN, UNKNOWN, RESET, GAUGE]),
    )
)
steps = st.sampled_from([1, 4, 5, 15_000, 15_001, 131_072, 1 << 25, 1 << 55]) | st.integers(1, 1 << 40)


@settings(max_examples=150, deadline=None)
@given(st.integers(-(1 << 58), 1 << 58), st.lists(st.tuples(steps, histograms), min_size=1, max_size=12))
def test_what_is_written_is_read(start, rows):
    times = (start + np.cumsum([step for step, _ in rows])).tolist()
    some = [h for _, h in rows]

    found = written(times, some)

    at = 0
    for flags, layout, samples in found:
        for place, (time, bits) in enumerate(samples):
            h = some[at]
            assert (time, bits) == (times[at], numbers(h))
            assert layout.same(h.layout)
            assert (flags == GAUGE_FLAG) == (h.hint == GAUGE)
            if flags != GAUGE_FLAG and place > 0:
                # A reader takes it that there is no reset within a chunk.
                assert not is_reset(h, some[at - 1])
                assert STALE_BITS not in (numbers(h)[1], numbers(some[at - 1])[1])
            at += 1
        begun = some[at - len(samples)]
        if begun.hint == RESET:
            assert flags == RESET_FLAG
        elif flags == RESET_FLAG:
            assert is_reset(begun, some[at - len(samples) - 1])


def counted(*counts: float, layout: Layout = LAYOUTS[0], hint: int = UNKNOWN) -> list[Histogram]:
    return [Histogram(layout, np.array([6 * k, 0.5, *([k] * (layout.width - 2))]), hint) for k in counts]


@pytest.mark.parametrize(
    ("some", "told"),
    [
        (counted(1, 2, 2, 3), [(0, 4)]),
        (counted(1, 2, 1, 2), [(0, 2), (RESET_FLAG, 2)]),
        (counted(3, 2, hint=GAUGE), [(GAUGE_FLAG, 2)]),
        ([*counted(1, 2), *counted(3, hint=RESET), *counted(4)], [(0, 2), (RESET_FLAG, 2)]),
        ([*counted(1, 2), *counted(3, hint=GAUGE), *counted(4)], [(0, 2), (GAUGE_FLAG, 1), (0, 1)]),
        ([*counted(1, 2), *counted(3, layout=LAYOUTS[3])], [(0, 2), (0, 1)]),
        (counted(*range(1, 250)), [(0, 120), (CONTINUED, 120), (CONTINUED, 9)]),
        (counted(*range(250, 1, -2), hint=GAUGE), [(GAUGE_FLAG, 120), (GAUGE_FLAG, 5)]),
    ],
    ids=["grows", "fell", "gauges", "told", "gauge between", "layout", "many", "many gauges"],
)
def test_where_chunks_begin(some, told):
    assert [(flags, len(samples)) for flags, _, samples in written(range(len(some)), some)] == told


def test_part_of_the_histograms_is_written_as_if_it_stood_alone():
    some = [*counted(1, 2), *counted(3, 4, layout=LAYOUTS[2]), *counted(5, layout=LAYOUTS[1])]
    columns = Histograms.of(np.arange(5), some)
    whole = [data for _, _, data in chunks(columns, slice(1, 4), np.arange(1, 4))]
    alone = [data for _, _, data in chunks(Histograms.of(np.arange(3), some[1:4]), slice(0, 3), np.arange(1, 4))]
    assert whole == alone


def test_usual_layouts_are_short():
    # A byte of threshold, schema 3 in 5 bits, one span: 5 + 5 + 5 bits, no other side.
    assert layout_bits(Layout(3, 2.0**-128, (), indices(1, 2), NO_BUCKETS))[1] == 8 + 5 + 15 + 1
    assert layout_bits(Layout(3, 2.0**-128, (), NO_BUCKETS, NO_BUCKETS)) == (bytes([116, 0b10011_0_0_0]), 15)
