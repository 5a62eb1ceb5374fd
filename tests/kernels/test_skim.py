"""What is read of chunks between borders: the samples behind them and the sums up to the next one, against the samples themselves."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.kernels.test_chunks import NOW, append, bits

from vedette.kernels import thinned as kernel
from vedette.kernels.skim import EIGHTH_MS, LINES, SUMMED
from vedette.storage.head import Head

whole_numbers = st.one_of(st.integers(-40, 40), st.integers(0, 20_000), st.integers(-(10**7), 10**7))
chains = st.lists(
    st.tuples(st.one_of(st.just(15_000), st.integers(1, 400).map(lambda n: EIGHTH_MS * n)), whole_numbers), min_size=1, max_size=300
)


def thinned(times: list[int], found: list[float], windows: tuple[int, int, int, int], kind: int):
    """(what is kept, a tuple of (time, bits, weight, four sums, falls) each; the answer; since when times count)."""
    head = Head()
    append(head, times, found)
    state, arena = head.now.state, head.now.arena
    tail = state.view(np.int32)[0, 4]
    held = arena.view(np.uint8)[64 * tail + 16]
    offsets, bases, kept = np.zeros(2, dtype=np.int64), np.zeros(1, dtype=np.int64), np.zeros((kernel.KEPT_ROWS, 1024), dtype=np.int64)
    chain = np.array([tail], dtype=np.int64), np.array([held], dtype=np.int64), np.array([times[-1]]), np.zeros(1, dtype=np.int64)
    answer = kernel.thinned(*chain, arena, np.zeros(0, dtype=np.int64), *windows, kind, offsets, bases, kept)
    some = kept[:, offsets[0] :]
    weights = some[kernel.STANDS].view(np.float64).astype(np.int64)
    return [(*row[:2], weight, *row[3:]) for row, weight in zip(some.T.tolist(), weights.tolist(), strict=True)], answer, int(bases[0])


def borders(windows: tuple[int, int, int, int]) -> set[int]:
    first, step, n, range_ms = windows
    ends = {first + k * step for k in range(n)}
    return ends | {t - range_ms for t in ends}


def spans(step: int, n: int, ahead: int, share: float) -> tuple[int, int, int, int]:
    return NOW + ahead, step, n, max(1, int(step * share))


grids = st.builds(
    spans, st.integers(1000, 3_000_000), st.integers(1, 9), st.integers(-50_000, 3_000_000), st.sampled_from([0.3, 1, 1, 2.5])
)


@given(chains, grids)
def test_each_sample_behind_a_border_stands_for_those_up_to_the_next_one(chain, windows) -> None:
    times, found = (NOW + np.cumsum([d for d, _ in chain])).tolist(), [float(v) for _, v in chain]
    cuts = borders(windows)
    first, step, n, range_ms = windows
    for kind in (SUMMED, LINES):
        kept, answer, base = thinned(times, found, windows, kind)
        assert answer >= 0
        for k in range(n):
            t = first + k * step
            wanted = [(at, v) for at, v in zip(times, found, strict=True) if t - range_ms < at <= t]
            rows = [row for row in kept if t - range_ms < row[0] <= t]
            assert sum(row[2] for row in rows) == len(wanted)
            assert sum(row[3] for row in rows) == sum(v for _, v in wanted)
            assert all(abs(v) <= answer for _, v in wanted)
            if kind == LINES:
                ticks = [(at - base) // EIGHTH_MS for at, _ in wanted]
                assert sum(row[4] for row in rows) == sum(at * int(v) for at, (_, v) in zip(ticks, wanted, strict=True))
                assert sum(row[5] for row in rows) == sum(ticks)
                assert sum(row[6] for row in rows) == sum(at * at for at in ticks)
            if rows:
                assert rows[0][:2] == (wanted[0][0], bits(wanted[0][1])), "the first of a window is itself there"
                falls = any(b < a for (_, a), (_, b) in pairwise(wanted))
                assert any(row[7] for row in rows) or not falls
        for a, b in pairwise(kept):
            assert any(a[0] <= cut < b[0] for cut in cuts), "there is a border between any two"


@pytest.mark.parametrize("odd", [0.5, float("nan"), float("inf"), -0.0, 2.0**60, 1e-3])
@pytest.mark.parametrize("at", [0, 1, 57, 299])
def test_sums_are_of_whole_numbers(odd: float, at: int) -> None:
    times, found = (NOW + 15_000 * np.arange(300)).tolist(), [float(i) for i in range(300)]
    found[at] = odd
    windows = NOW + 15_000 * 300, 15_000 * 300, 1, 15_000 * 301
    kept, answer, _ = thinned(times, found, windows, SUMMED)
    assert answer < 0 or (answer >= abs(odd) and sum(row[3] for row in kept) == int(sum(found)))


def test_lines_are_of_times_that_are_eighths_of_a_second() -> None:
    times, found = (NOW + 15_000 * np.arange(300)).tolist(), [float(i) for i in range(300)]
    windows = NOW + 15_000 * 300, 15_000 * 300, 1, 15_000 * 301
    assert thinned(times, found, windows, LINES)[1] >= 0
    times[123] += 1
    assert thinned(times, found, windows, LINES)[1] < 0
    assert thinned(times, found, windows, SUMMED)[1] >= 0


def test_room_that_does_not_suffice_is_told() -> None:
    times, found = (NOW + 15_000 * np.arange(3000)).tolist(), [float(i) for i in range(3000)]
    assert thinned(times, found, (NOW, 15_000, 3000, 15_000), SUMMED)[1] < 0
