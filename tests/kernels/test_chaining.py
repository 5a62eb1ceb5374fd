"""Pages become chunks without their values being made: what is read from these is what was written, as if samples had come one by one."""

from __future__ import annotations

import itertools
import random
import struct
import zlib

import numpy as np
import pytest

from vedette.kernels import chaining, chunks, head
from vedette.kernels import pages as kernel_pages
from vedette.model.samples import STALE
from vedette.storage import pages
from vedette.storage.head import Generation
from vedette.storage.pages import PagesWriter

NOW, STEP = 1_700_000_000_000, 15_000
N = 700
EVER = -(1 << 62), 1 << 62


def counter(step: float = 7.0, seed: int = 1) -> np.ndarray:
    return np.cumsum(np.random.default_rng(seed).poisson(step, N)).astype(float)


def with_(values: np.ndarray, at, value: float) -> np.ndarray:
    values = values.copy()
    values[at] = value
    return values


def even(n: int = N) -> np.ndarray:
    return NOW + STEP * np.arange(n)


RNG = np.random.default_rng(2)
LATE = even() + RNG.integers(0, 40, N)
ROWS = {
    "counter": (even(), counter()),
    "counter by bytes": (even(), counter(9e3)),
    "counter by megabytes": (even(), counter(4e6) * 1000),
    "counter that falls": (even(), with_(counter(), slice(300, None, 90), 0.0)),
    "falls where a page ends": (even(), np.concatenate([counter()[: N // 2], counter()[: N - N // 2]])),
    "accelerating": (even(), np.cumsum(np.cumsum(RNG.integers(0, 3, N))).astype(float)),
    "gauge": (even(), np.round(50 + np.cumsum(RNG.normal(0, 0.3, N)), 2)),
    "gauge of nine decimals": (even(), np.round(RNG.random(N), 9)),
    "whole thousands": (even(), RNG.integers(-9, 9, N) * 1000.0),
    "constant": (even(), np.full(N, 17.0)),
    "constant of decimals": (even(), np.full(N, -0.25)),
    "another scale in each page": (even(), np.concatenate([np.full(N // 2, 3.0), np.full(N - N // 2, 2.75)])),
    "late": (LATE, counter()),
    "late gauge": (LATE, np.round(RNG.normal(0, 500, N), 1)),
    "gaps": (np.cumsum(RNG.choice([STEP, STEP, 4 * STEP, 7_777_777], N)) + NOW, counter()),
    "months apart": (NOW + np.arange(40) * (1 << 33), counter()[:40]),
    "weeks apart": (NOW + np.arange(60) * (1 << 30), counter()[:60]),
    "stale now and then": (even(), with_(counter(), [0, 1, 99, 350, 351, 352, N - 1], STALE)),
    "minus zero": (even(), with_(RNG.integers(-3, 3, N).astype(float), slice(20, None, 60), -0.0)),
    "thirds among wholes": (even(), with_(counter(), slice(20, None, 50), 1 / 3)),
    "one": (even(1), np.array([5.0])),
    "two": (even(2), np.array([5.0, 4.0])),
    "near the largest": (even(), (1 << 49) + counter(1e9)),
}


class Page:
    """Rows (times, values) as a page of a block, opened as a read opens it."""

    def __init__(self, rows, spoil=None) -> None:
        out: list[bytes] = []
        offsets = np.cumsum([0, *(len(times) for times, _ in rows)])
        times = np.concatenate([times for times, _ in rows]).astype(np.int64)
        self.offsets, self.times = offsets, times
        self.bits = np.concatenate([values for _, values in rows]).view(np.int64)
        PagesWriter(lambda data: out.append(bytes(data)))._page(offsets, times, self.bits)
        data = out[1] if spoil is None else spoil(out[1])
        opened = pages.open_values(data)
        self.fields = np.zeros((opened.rows, kernel_pages.FIELDS), np.int64)
        self.exceptions = chaining.unfold(opened.head, self.fields, opened.samples)
        self.streams, self.bounds = opened.streams, opened.bounds

    def chain(self, made: Generation, wanted, series) -> int:
        """Add the rows `wanted` to the chains of `series`."""
        wanted, series = np.asarray(wanted, np.int64), np.asarray(series, np.int64)
        samples = int(np.diff(self.offsets)[wanted].sum())
        made.reserve(int(series.max()) + 1, samples)
        told = np.array([made.units])
        columns = self.fields, self.exceptions, self.streams, self.bounds, self.times, self.offsets[:-1].copy()
        done = chaining.chain(*columns, wanted, series, samples, made.state, made.arena, told)
        made.units = int(told[0])
        return done


def appended(made: Generation, series: int, times: np.ndarray, values: np.ndarray) -> None:
    """What the head does with samples."""
    n, none, tally = len(times), Generation.empty(), np.zeros(10, np.int64)
    made.reserve(series + 1, n)
    tally[head.UNITS] = made.units
    log = np.empty(n, np.uint32), *np.empty((2, n), np.int64), np.empty(1, np.uint32)
    columns = np.array([series]), np.array([0, n]), times.astype(np.int64), values.view(np.int64), made.state, made.arena
    head.append(*columns, none.state, none.arena, 0, head.NEVER, 0, *log, tally)
    made.units = int(tally[head.UNITS])


def gathered(made: Generation, series: int, n: int) -> tuple[list[int], list[int]]:
    none, offsets, times, bits = Generation.empty(), np.empty(2, np.int64), np.empty(n, np.int64), np.empty(n, np.int64)
    head.gather(np.array([series]), made.state, made.arena, none.state, none.arena, *EVER, offsets, times, bits)
    return times[offsets[0] :].tolist(), bits[offsets[0] :].tolist()


def chunks_of(made: Generation, series: int):
    """(samples, whether it says that it falls, its values, its newest time as it says) of each chunk, the oldest first."""
    data, links, found = made.arena.view(np.uint8), made.arena.view(np.int32), []
    chunk = int(made.state.view(np.int32)[series, head.TAIL])
    while chunk > 0:
        n, flags = int(data[chunk * 64 + chunks.SAMPLES]), int(data[chunk * 64 + chunks.UNITS])
        assert int(data[chunk * 64 + chunks.USED]) <= (flags & 127) * 64 - chunks.HEADER_BYTES
        times, bits = np.empty(256, np.int64), np.empty(256, np.int64)
        chunks.decode(made.arena, data, chunk, n, (1 << 62), times, bits, bits.view(np.float64), 0)
        assert times[n - 1] == made.arena[chunk * 8] + links[16 * chunk + chunks.SPAN]
        found.append((n, flags & chunks.FALLS != 0, bits[:n].view(np.float64).tolist()))
        chunk = int(links[16 * chunk + chunks.PREVIOUS])
    return found[::-1]


def assert_falls_are_told(made: Generation, series: int) -> None:
    before = None
    for _, told, values in chunks_of(made, series):
        falls = False
        for value in values:
            falls |= not value >= before if before is not None else value != value
            before = value
        assert told == falls


def halves(times: np.ndarray, values: np.ndarray, parts: int):
    cuts = [len(times) * k // parts for k in range(parts + 1)]
    return [(times[a:b], values[a:b]) for a, b in itertools.pairwise(cuts) if a < b]


@pytest.mark.parametrize("parts", [1, 2, 5])
@pytest.mark.parametrize("name", ROWS)
def test_what_is_chained_from_pages_is_what_was_written(name, parts):
    times, values = ROWS[name]
    made = Generation.empty()
    for some in halves(times, values, parts):
        # Among others, which are not asked for.
        page = Page([(even(30), np.arange(30.0)), some, (even(50), np.full(50, 2.0)), (even(70), counter()[:70])])
        assert page.chain(made, [1], [2]) == chaining.DONE
    assert gathered(made, 2, len(times)) == (times.tolist(), values.view(np.int64).tolist())
    assert made.counts.tolist() == [0, 0, len(times)]
    assert made.state[2, head.LAST_TIME] == times[-1] and made.state[2, head.LAST_BITS] == values.view(np.int64)[-1]
    assert_falls_are_told(made, 2)


@pytest.mark.parametrize("name", [name for name in ROWS if "gauge" not in name and "scale" not in name and "among" not in name])
def test_whole_numbers_take_the_room_that_the_head_gives_them(name):
    times, values = ROWS[name]
    made, twin = Generation.empty(), Generation.empty()
    assert Page([(times, values)]).chain(made, [0], [0]) == chaining.DONE
    appended(twin, 0, times, values)
    assert made.units <= twin.units + 2


@pytest.mark.parametrize("name", ROWS)
def test_samples_that_come_later_one_by_one_go_on_where_a_page_ends_and_the_other_way_round(name):
    times, values = ROWS[name]
    for first_from_page in (True, False):
        made = Generation.empty()
        for k, (some_times, some_values) in enumerate(halves(times, values, 4)):
            if (k % 2 == 0) == first_from_page:
                assert Page([(some_times, some_values)]).chain(made, [0], [0]) == chaining.DONE
            else:
                appended(made, 0, some_times, some_values)
        assert gathered(made, 0, len(times)) == (times.tolist(), values.view(np.int64).tolist())
        assert_falls_are_told(made, 0)


def test_all_rows_of_a_page_at_once_and_some_of_them():
    page_rows = [(times, values) for times, values in ROWS.values()]
    for wanted in (range(len(page_rows)), range(1, len(page_rows), 3)):
        made, wanted = Generation.empty(), list(wanted)
        page = Page(page_rows)
        assert page.chain(made, wanted, wanted[::-1]) == chaining.DONE, "series in any order"
        for row, series in zip(wanted, wanted[::-1], strict=True):
            times, values = page_rows[row]
            assert gathered(made, series, len(times)) == (times.tolist(), values.view(np.int64).tolist())


@pytest.mark.parametrize(
    "values",
    [RNG.random(N), counter() * 1e-12, np.full(N, STALE), np.full(N, 1 / 3), np.round(RNG.random(N), 12)],
    ids=["ratios", "of many decimals", "stale", "a third", "twelve decimals"],
)
def test_rows_that_chunks_have_no_numbers_for_are_left_to_others_and_nothing_is_begun(values):
    made = Generation.empty()
    page = Page([(even(), counter()), (even(), values)])
    assert page.chain(made, [0, 1], [0, 1]) == chaining.UNSUITED
    assert made.units == 1 and not made.counts.any()
    assert page.chain(made, [0], [0]) == chaining.DONE, "the other one alone"


def test_what_is_too_large_or_not_newer_is_refused():
    assert Page([(even(), (1 << 51) + counter())]).chain(Generation.empty(), [0], [0]) == chaining.BROKEN
    made = Generation.empty()
    assert Page([(even(), counter())]).chain(made, [0], [0]) == chaining.DONE
    for since in (0, 1, N - 1):
        assert Page([(even() + since * STEP, counter())]).chain(made, [0], [0]) == chaining.BROKEN
    page = Page([(even(), counter())])
    page.times = page.times.copy()
    page.times[400] = page.times[399]
    assert page.chain(Generation.empty(), [0], [0]) == chaining.BROKEN
    page = Page([(even(), counter())])
    page.times = page.times[:-1]
    assert page.chain(Generation.empty(), [0], [0]) == chaining.BROKEN, "times are missing"
    page, made = Page([(even(), counter())]), Generation.empty()
    page.offsets = np.array([0, N, 2 * N])
    assert page.chain(made, [1], [0]) == chaining.BROKEN, "there is no such row"
    page.offsets = np.array([0, N + 1])
    assert page.chain(made, [0], [0]) == chaining.BROKEN, "it should have more samples"


def test_no_bytes_with_a_fitting_checksum_do_harm():
    rows = [(times, values) for times, values in list(ROWS.values())[:8]]
    dice, told = random.Random(5), set()

    def spoilt(data: bytes) -> bytes:
        # The fields alone: of other bytes the streams would be refused before.
        at, size = 20 + 12 * struct.unpack_from("<I", data, 16)[0], struct.unpack_from("<I", data, 12)[0]
        fields = bytearray(zlib.decompress(data[at : at + size], -15))
        for _ in range(dice.randrange(1, 4)):
            fields[dice.randrange(len(fields))] = dice.randrange(256)
        deflate = zlib.compressobj(6, zlib.DEFLATED, -15)
        packed = deflate.compress(bytes(fields)) + deflate.flush()
        made = data[4:12] + struct.pack("<I", len(packed)) + data[16:at] + packed + data[at + size :]
        return struct.pack("<I", zlib.crc32(made)) + made

    for _ in range(300):
        page = Page(rows, spoilt)
        if len(page.exceptions) % 2:
            told.add("cut off")
            continue
        made = Generation.empty()
        done = page.chain(made, range(len(rows)), range(len(rows)))
        told.add(done)
        if done == chaining.DONE:
            for series in range(len(rows)):
                assert sum(n for n, _, _ in chunks_of(made, series)) == made.counts[series]
    assert told == {"cut off", chaining.DONE, chaining.UNSUITED, chaining.BROKEN}


def beginning(n: int) -> Generation:
    made = Generation.empty()
    made.reserve(n, 0)
    made.state.view(np.int32)[:, head.TAIL] = -1 - np.arange(n)
    return made


def joined(made: Generation, later: Generation) -> bool:
    made.reserve(len(later.state), later.units)
    done = chaining.join(made.state, made.arena, made.units, later.state, later.arena, later.units)
    made.units += later.units - 1
    return bool(done)


def test_chains_are_put_behind_others():
    rows = list(ROWS.values())
    n = len(rows)
    for cut in (1, 2, 3):
        made, later = Generation.empty(), beginning(n)
        made.reserve(n, 0)
        for series, (times, values) in enumerate(rows):
            # Some have all of it in one of both.
            at = (0, len(times), len(times) // 2, len(times) * cut // 4)[series % 4]
            for into, some in ((made, slice(0, at)), (later, slice(at, None))):
                # Of few samples a third is too many to be an exception.
                if len(times[some]) and Page([(times[some], values[some])]).chain(into, [0], [series]) == chaining.UNSUITED:
                    appended(into, series, times[some], values[some])
        assert joined(made, later)
        for series, (times, values) in enumerate(rows):
            assert gathered(made, series, len(times)) == (times.tolist(), values.view(np.int64).tolist())
            assert_falls_are_told(made, series)
        assert made.counts.tolist() == [len(times) for times, _ in rows]
        # And go on.
        appended(made, 0, np.array([times[-1] + (1 << 40) for times, _ in rows[:1]]), np.array([1.0]))
        assert gathered(made, 0, N + 1)[1][-1] == np.float64(1.0).view(np.int64)


def test_of_both_one_may_be_empty_and_what_is_not_newer_is_refused():
    made, later = Generation.empty(), beginning(1)
    Page([(even(), counter())]).chain(later, [0], [0])
    assert joined(made, later)
    assert gathered(made, 0, N)[0] == even().tolist()
    assert joined(made, beginning(1))
    assert made.counts.tolist() == [N]
    again = beginning(1)
    Page([(even(), counter())]).chain(again, [0], [0])
    assert not joined(made, again)
