"""Rates and last samples read at borders alone, against the kernels that are given all samples: the same to the bit."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from tests.kernels.test_chunks import NOW, append, values

from vedette.kernels import bordered as kernel
from vedette.kernels.bordered import bordered
from vedette.kernels.windows import extrapolated, last_sample
from vedette.model.samples import STALE
from vedette.storage.head import Head

gaps = st.one_of(st.just(15_000), st.integers(1, 60_000), st.just(400_000))
rising = st.integers(0, 40).map(float)
chains = st.lists(st.tuples(gaps, rising), min_size=1, max_size=700)
"""How long after the sample before, and by how much above it."""
any_chains = st.lists(st.tuples(gaps, values), min_size=1, max_size=700)


def spans(step: int, n: int, ahead: int, share: float) -> tuple[int, int, int, int]:
    return NOW + ahead, step, n, max(1, int(step * share))


grids = st.builds(
    spans, st.integers(1000, 3_000_000), st.integers(1, 30), st.integers(-50_000, 3_000_000), st.sampled_from([0.3, 1, 1, 2, 2.5, 40])
)


def chain_of(head: Head, times: list[int]):
    state, arena = head.now.state, head.now.arena
    tail = state.view(np.int32)[0, 4]
    held = arena.view(np.uint8)[64 * tail + 16]
    return (
        np.array([tail], dtype=np.int64), np.array([held], dtype=np.int64), np.array([times[-1]]), np.zeros(1, dtype=np.int64), arena,
        np.zeros(0, dtype=np.int64),
    )  # fmt: skip


def compared(times: list[int], found: list[float], windows: tuple[int, int, int, int]) -> None:
    """Ask both ways for all kinds."""
    head = Head()
    append(head, times, found)
    chain = chain_of(head, times)
    n, shape = windows[2], (1, windows[2])
    stale = np.array(found).view(np.int64) == np.array([STALE]).view(np.int64)[0]
    for kind, timed in ((0, False), (1, False), (2, False), (-1, False), (-1, True)):
        kept = ~stale if kind >= 0 else np.ones(len(found), dtype=np.bool_)
        at, samples = np.array(times, dtype=np.int64)[kept], np.array(found)[kept]
        out, present, wanted, there = np.empty(shape), np.empty(shape, dtype=np.bool_), np.empty(shape), np.zeros(shape, dtype=np.bool_)
        counts, offsets = np.zeros(1, dtype=np.int64), np.array([0, len(at)], dtype=np.int64)
        assert bordered(*chain, *windows, kind, timed, counts, out, present)
        if kind >= 0:
            extrapolated(kind, offsets, at, samples, 0, 1, *windows, wanted, there)
            first, step, _, range_ms = windows
            assert counts[0] == np.count_nonzero((at > first - range_ms) & (at <= first + (n - 1) * step))
        else:
            last_sample(offsets, at, samples, 0, 1, *windows, timed, wanted, there)
            assert counts[0] <= n
        assert present.tolist() == there.tolist()
        assert out[present].view(np.int64).tolist() == wanted[there].view(np.int64).tolist()


@given(chains, grids)
def test_counters(chain, windows) -> None:
    compared((NOW + np.cumsum([d for d, _ in chain])).tolist(), np.cumsum([v for _, v in chain]).tolist(), windows)


@given(any_chains, grids)
def test_anything(chain, windows) -> None:
    compared((NOW + np.cumsum([d for d, _ in chain])).tolist(), [float(v) for _, v in chain], windows)


@given(chains, st.sets(st.integers(0, 699)), st.sets(st.integers(0, 699)), grids)
def test_counters_that_fall_and_pause(chain, resets, pauses, windows) -> None:
    total, found = 0.0, []
    for i, (_, by) in enumerate(chain):
        total = by if i in resets else total + by
        found.append(STALE if i in pauses else total)
    compared((NOW + np.cumsum([d for d, _ in chain])).tolist(), found, windows)


def test_a_chunk_of_nothing_but_stale_markers() -> None:
    times = (NOW + 15_000 * np.arange(900)).tolist()
    found = [float(i) for i in range(300)] + [STALE] * 300 + [float(i) for i in range(300)]
    for step in (60_000, 400_000, 5_000_000):
        compared(times, found, (NOW + 60_000, step, 30, step))


def test_too_many_falls_are_told() -> None:
    samples = 2 * kernel._WIDTH + 4
    times = (NOW + 15_000 * np.arange(samples)).tolist()
    head = Head()
    append(head, times, [float(i % 2) for i in range(samples)])
    out, present = np.empty((1, 1)), np.empty((1, 1), dtype=np.bool_)
    window = times[-1], 0, 1, times[-1]
    assert not bordered(*chain_of(head, times), *window, 0, False, np.zeros(1, dtype=np.int64), out, present)
    assert bordered(*chain_of(head, times), *window, -1, False, np.zeros(1, dtype=np.int64), out, present)
