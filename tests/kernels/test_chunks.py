"""Chunks of the head: what goes in comes out to the bit, in few bytes, whatever it is; against a reader written from the drawing."""

from __future__ import annotations

import math
import struct

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from vedette.kernels import chunks
from vedette.kernels import head as kernel
from vedette.model.samples import STALE
from vedette.storage.head import Head

I64 = np.int64
NOW = 1_700_000_000_000
EVER = (-(1 << 63), (1 << 63) - 1)

decimals = st.builds(lambda whole, scale: whole / 10**scale, st.integers(-(10**7), 10**7), st.integers(0, 5))
values = st.one_of(
    decimals,
    st.integers(-(2**60), 2**60).map(float),
    st.floats(allow_nan=False),
    st.sampled_from([0.0, -0.0, math.inf, -math.inf, math.nan, STALE, 5e-324, 2.0**50, 2.0**53 + 2, 0.1 + 0.2]),
)
distances = st.one_of(st.just(15_000), st.integers(1, 60_000), st.sampled_from([1 << 31, (1 << 31) - 1, 1 << 33, 1 << 62]))


def bits(value: float) -> int:
    return struct.unpack("<q", struct.pack("<d", value))[0]


def append(head: Head, times, found, *, window: int = 1 << 62, series: int = 0):
    n = len(times)
    head.reserve(series + 1, n)
    columns = (np.array([series]), np.array([0, n]), np.array(times, dtype=I64), np.array([bits(v) for v in found], dtype=I64))
    return head.append(*columns, window=window, oldest=-(1 << 63), scope=1)


def contents(head: Head, start: int = EVER[0], end: int = EVER[1], series: int = 0):
    offsets, times, found = head.gather(np.array([series]), start, end)
    assert offsets.tolist() == [0, len(times)]
    return list(zip(times.tolist(), found.tolist(), strict=True))


def unzigzag(number: int) -> int:
    return number >> 1 ^ -(number & 1)


def read(data: bytes):
    """A chunk's samples, read as the module's docstring draws them."""
    (time,) = struct.unpack_from("<q", data, 0)
    count, used = data[16], data[17]
    at, delta, whole, scale, before = 20, 0, 0, 0, 0.0
    found = []
    for k in range(count):
        if data[at] == chunks.SCALE:
            scale = data[at + 1]
            whole = round(before * 10.0**scale) if abs(before * 10.0**scale) < 2**50 else 0
            at += 2
        if data[at] == chunks.TIME:
            bend, shift, at = 0, 0, at + 1
            while True:
                bend |= (data[at] & 127) << shift
                shift, at = shift + 7, at + 1
                if data[at - 1] < 128:
                    break
            delta += unzigzag(bend)
        time += delta if k else 0
        token = data[at]
        if token < chunks.WHOLE:
            more = token >> 6
            whole += unzigzag(token & 63 | int.from_bytes(data[at + 1 : at + 1 + more], "little") << 6)
            before = whole / 10.0**scale
            at += 1 + more
        else:
            size = (token - chunks.WHOLE) % 8 + 1
            number = int.from_bytes(data[at + 1 : at + 1 + size], "little")
            at += 1 + size
            if token < chunks.BITS:
                whole += unzigzag(number)
                before = whole / 10.0**scale
            else:
                (before,) = struct.unpack("<d", struct.pack("<Q", number ^ bits(before) & (1 << 64) - 1))
                near = before * 10.0**scale
                whole = round(near) if abs(near) < 2**50 else 0
        found.append((time, bits(before)))
    assert at == 20 + used
    return found


def chain(head: Head, series: int = 0):
    """The series' chunks as bytes, oldest first."""
    data, found = head.now.arena.view(np.uint8), []
    chunk = int(head.now.state.view(np.int32)[series, kernel.TAIL])
    while chunk:
        raw = data[chunk * 64 : (chunk + int(data[chunk * 64 + 18])) * 64].tobytes()
        found.insert(0, raw)
        (chunk,) = struct.unpack_from("<i", raw, 8)
    return found


@given(st.lists(st.tuples(distances, values), min_size=1, max_size=120))
@example([(15_000, 0.1 + 0.2), (15_000, 5.25), (15_000, STALE), (15_000, 5.26), (15_000, 1e300), (15_000, -0.0), (15_000, 0.0)])
def test_samples_come_out_as_they_went_in(steps):
    head, time, wanted = Head(), -(1 << 62), []
    for distance, value in steps:
        if time + distance >= 1 << 63:
            break
        time += distance
        wanted.append((time, bits(value)))
        append(head, [time], [value])
    assert contents(head) == wanted
    assert [sample for raw in chain(head) for sample in read(raw)] == wanted
    middle = wanted[len(wanted) // 2][0]
    assert contents(head, end=middle) == [s for s in wanted if s[0] <= middle]
    assert contents(head, start=middle) == [s for s in wanted if s[0] >= middle]
    assert contents(head, middle, middle) == [s for s in wanted if s[0] == middle]


@given(st.lists(st.tuples(st.integers(0, 400), decimals), min_size=1, max_size=150), st.integers(0, 400), st.integers(0, 400))
def test_late_samples_have_their_place_and_the_first_at_a_time_counts(steps, start, end):
    head, twin, same, duplicate = Head(), {}, 0, 0
    for place, (time, value) in enumerate(steps):
        if place == len(steps) // 2:
            head.freeze()
        known = twin.setdefault(NOW + time, bits(value))
        kept = append(head, [NOW + time], [value])
        assert len(kept.ids) + kept.same + kept.dropped.get("duplicate", 0) == 1
        same, duplicate = same + kept.same, duplicate + kept.dropped.get("duplicate", 0)
        if not len(kept.ids):
            assert (kept.same == 1) == (known == bits(value))
    assert contents(head) == sorted(twin.items())
    wanted = sorted(s for s in twin.items() if NOW + start <= s[0] <= NOW + end)
    assert contents(head, NOW + start, NOW + end) == wanted
    assert head.present(np.array([0]), NOW + start, NOW + end).tolist() == [bool(wanted)]
    assert same + duplicate == len(steps) - len(twin)


@given(st.lists(st.tuples(st.integers(1, 50), st.integers(0, 3)), max_size=80), st.integers(0, 900), st.integers(0, 900))
def test_presence_is_what_gathering_says(steps, start, end):
    head = Head()
    for time, (distance, series) in enumerate(steps):
        append(head, [NOW + 10 * time + distance % 10], [float(distance)], series=series)
    ids = np.arange(4)
    head.reserve(4, 0)
    there = head.present(ids, NOW + start, NOW + end)
    assert there.tolist() == [bool(contents(head, NOW + start, NOW + end, series=i)) for i in range(4)]


small = st.lists(st.integers(-31, 31), min_size=1, max_size=40)
"""Steps of a byte each: eight such are read at once."""


@given(st.integers(0, 4), st.lists(st.tuples(small, distances, values), min_size=1, max_size=6))
@example(0, [([1] * 40, 1 << 33, 0.1 + 0.2), ([-1] * 40, 7, -0.0), ([0] * 40, 1, math.nan)])
@example(2, [([31] * 7, 1 << 31, 300.5), ([-31] * 8, 5, 1e15), ([31] * 9, 1 << 62, STALE)])
def test_runs_of_small_steps_come_out_whatever_lies_between_them(scale, runs):
    head, time, level, wanted = Head(), NOW, 0, []
    for steps, distance, value in runs:
        for step in steps:
            level += step
            time += distance % 90_000 + 1
            wanted.append((time, bits(level / 10**scale)))
        time += distance
        if time >= 1 << 62:
            break
        wanted.append((time, bits(value)))
    append(head, [t for t, _ in wanted], [struct.unpack("<d", struct.pack("<q", b))[0] for _, b in wanted])
    assert contents(head) == wanted
    assert [sample for raw in chain(head) for sample in read(raw)] == wanted


def test_the_usual_series_is_small():
    rng = np.random.default_rng(3)
    series = {
        "a constant": (np.full(240, 17.25), 1.2),
        "a counter": (np.cumsum(rng.integers(0, 5000, 240)).astype(float), 2.5),
        "a percentage": (np.round(np.cumsum(rng.normal(0, 1, 240)) + 50, 2), 2.4),
        "a ratio": (rng.random(240), 10.5),
    }
    for name, (column, most) in series.items():
        head = Head()
        append(head, [NOW + 15_000 * k for k in range(240)], column.tolist())
        assert contents(head) == [(NOW + 15_000 * k, bits(v)) for k, v in enumerate(column.tolist())]
        used = sum(raw[17] for raw in chain(head))
        assert used / 240 < most, name


def test_the_first_chunk_is_a_unit_and_the_others_two():
    head = Head()
    append(head, [NOW + k for k in range(200)], [k + 0.5 for k in range(200)])
    assert [len(raw) for raw in chain(head)] == [64] + [128] * (len(chain(head)) - 1)
    assert head.now.chunks == len(chain(head))
    assert head.now.units == 1 + 1 + 2 * (len(chain(head)) - 1), "the first unit is nobody's"
    assert head.nbytes == 64 * (head.now.units - 1) + 32


@pytest.mark.parametrize("jump", [1 << 31, -(1 << 31), 1 << 62, (1 << 63) - 1 - NOW])
def test_a_leap_in_time_begins_a_chunk(jump):
    head = Head()
    append(head, [NOW, NOW + 1, NOW + jump], [1.0, 2.0, 3.0])
    assert contents(head) == sorted([(NOW, bits(1.0)), (NOW + 1, bits(2.0)), (NOW + jump, bits(3.0))])
    assert len(chain(head)) == 2


def test_a_constant_fills_a_chunk_with_a_sample_a_byte():
    head = Head()
    append(head, [NOW + 1000 * k for k in range(1000)], [0.0] * 1000)
    assert max(raw[16] for raw in chain(head)) > 100, "one byte each"
    assert contents(head) == [(NOW + 1000 * k, 0) for k in range(1000)]


def test_what_is_late_after_a_generation_ended_is_found_in_the_one_before():
    head = Head()
    append(head, [NOW, NOW + 100], [1.0, 2.0])
    head.freeze()
    assert append(head, [NOW], [1.0]).same == 1
    assert append(head, [NOW], [5.0]).dropped == {"duplicate": 1}
    assert len(append(head, [NOW + 50], [3.0]).ids) == 1
    assert len(append(head, [NOW + 150], [4.0]).ids) == 1
    assert contents(head) == [(NOW, bits(1.0)), (NOW + 50, bits(3.0)), (NOW + 100, bits(2.0)), (NOW + 150, bits(4.0))]


def test_each_scope_has_its_series_defined_once():
    head = Head()
    head.reserve(2, 10)
    rows = (np.array([0, 1]), np.array([0, 1, 2]))

    def defined(time: int, scope: int) -> list[int]:
        columns = (np.array([time, time]), np.zeros(2, dtype=I64))
        return head.append(*rows, *columns, window=0, oldest=0, scope=scope).defined.tolist()

    far = (1 << 62) - 1
    assert defined(NOW, 0) == [], "replay defines nothing"
    assert [defined(NOW + 1, 77), defined(NOW + 2, 77), defined(NOW + 3, far), defined(NOW + 4, far)] == [[0, 1], [], [0, 1], []]
