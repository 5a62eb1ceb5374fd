"""The storage kernels against naive twins."""

from __future__ import annotations

import itertools

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from vedette.kernels import block, head, postings, remote_write, series_table
from vedette.kernels.hashing import hash_regions

I64, U32, U64 = np.int64, np.uint32, np.uint64
sets = st.lists(st.integers(0, 200), unique=True).map(lambda x: np.array(sorted(x), dtype=U32))


@given(sets, sets)
def test_sets_are_intersected_and_subtracted(a, b):
    for keep in (True, False):
        out = np.empty(len(a), dtype=U32)
        n = postings.intersect(a, b, keep, out)
        assert out[:n].tolist() == [x for x in a.tolist() if (x in set(b.tolist())) == keep]


def test_a_short_list_leaps_through_a_long_one():
    long, short = np.arange(0, 100_000, 3, dtype=U32), np.array([0, 1, 2, 2997, 99_999], dtype=U32)
    out = np.empty(5, dtype=U32)
    assert out[: postings.intersect(short, long, True, out)].tolist() == [0, 2997, 99_999]


label_rows = st.lists(st.dictionaries(st.integers(0, 6), st.integers(0, 6), max_size=4), max_size=12)


def columns(rows):
    offsets = np.cumsum([0, *map(len, rows)], dtype=I64)
    pairs = [p for row in rows for p in sorted(row.items())]
    return offsets, np.array([n for n, _ in pairs], dtype=np.int32), np.array([v for _, v in pairs], dtype=np.int32)


@given(st.lists(st.sets(st.one_of(st.integers(0, 300), st.integers(0, (1 << 32) - 1)), min_size=1), max_size=12), st.data())
def test_postings_are_packed_and_unpacked(rows, data):
    lists = [sorted(row) for row in rows]
    starts = np.cumsum([0, *map(len, lists)], dtype=I64)
    ids = np.array([i for row in lists for i in row], dtype=U32)
    places, packed = np.empty(len(starts), I64), np.empty(5 * len(ids), np.uint8)
    used = postings.pack(starts, ids, places, packed)
    # The naive twin of its size: seven bits a byte of what lies between two.
    gaps = [b - a - 1 for row in lists for a, b in zip([-1, *row], row, strict=False)]
    assert used == sum(max(1, -(-gap.bit_length() // 7)) for gap in gaps)
    assert places[-1] == used
    wanted = data.draw(st.lists(st.integers(0, len(lists) - 1), max_size=8)) if lists else []
    chosen = np.array(wanted, dtype=I64)
    out = np.empty(sum(len(lists[k]) for k in wanted), U32)
    postings.unpack(packed[:used].copy(), places, starts, chosen, False, out)
    assert out.tolist() == [i for k in wanted for i in lists[k]]
    firsts = np.empty(len(wanted), U32)
    postings.unpack(packed[:used].copy(), places, starts, chosen, True, firsts)
    assert firsts.tolist() == [lists[k][0] for k in wanted]


def shared(offsets, names, really):
    """(where each row's names begin, the names), each sequence of names there once if `really`."""
    if not really:
        return offsets, names
    at, column = [], []
    for row in range(len(offsets) - 1):
        wanted = names[offsets[row] : offsets[row + 1]].tolist()
        found = [i for i in range(len(column) + 1) if column[i : i + len(wanted)] == wanted]
        at.append(found[0] if found else len(column))
        column += [] if found else wanted
    return np.array(at, dtype=I64), np.array(column, dtype=np.int32)


@given(label_rows, st.data())
def test_postings_and_columns(rows, data):
    offsets, names, values = columns(rows)
    ids = np.array(sorted(data.draw(st.sets(st.integers(0, max(0, len(rows) - 1))))) if rows else [], dtype=U32)
    at, names = shared(offsets, names, data.draw(st.booleans()))
    keys, starts, found = postings.build(ids, offsets, at, names, values)
    expected: dict = {}
    for i in ids.tolist():
        for pair in rows[i].items():
            expected.setdefault(pair, []).append(i)
    got = {(int(k) >> 32, int(k) & 0xFFFFFFFF): found[starts[j] : starts[j + 1]].tolist() for j, k in enumerate(keys)}
    assert got == expected
    assert (np.diff(keys.astype(object)) > 0).all()
    out = np.empty(len(ids), dtype=np.int32)
    postings.label_column(ids, offsets, at, names, values, 3, out)
    assert out.tolist() == [rows[i].get(3, -1) for i in ids.tolist()]
    pairs = [sorted(rows[i].items()) for i in ids.tolist()]
    of, none = np.empty(len(ids) + 1, dtype=I64), np.empty(0, dtype=np.int32)
    total = postings.take_labels(ids, offsets, at, names, values, of, none, none)
    assert (total, of.tolist()) == (sum(map(len, pairs)), np.cumsum([0, *map(len, pairs)]).tolist())
    of_names, of_values = np.empty(total, dtype=np.int32), np.empty(total, dtype=np.int32)
    postings.take_labels(ids, offsets, at, names, values, of, of_names, of_values)
    assert list(zip(of_names.tolist(), of_values.tolist(), strict=True)) == [p for row in pairs for p in row]


keys_ = st.lists(st.binary(max_size=12), max_size=30)


def hashed(keys):
    ends = np.cumsum([len(k) for k in keys], dtype=I64)
    starts = np.concatenate([np.zeros(1, I64), ends[:-1]])[: len(keys)]
    return hash_regions(np.frombuffer(bytearray(b"".join(keys)), dtype=np.uint8), starts, ends, U64(1))


@given(keys_, keys_, st.integers(61, 80))
def test_a_table_knows_its_keys_through_growth(first, second, capacity):
    table, twin = np.zeros((capacity, 2), dtype=U64), {}
    for keys in (first, second):
        out, new = np.empty(len(keys), I64), np.empty(len(keys), I64)
        added = series_table.find_or_add(table, hashed(keys), len(twin), out, new)
        for row, key in enumerate(keys):
            if key not in twin:
                assert row in new[:added].tolist()
                twin[key] = len(twin)
        assert out.tolist() == [twin[key] for key in keys]
    bigger, keys = np.zeros((capacity * 5 // 4, 2), dtype=U64), [*first, *second, b"a key that was never met"]
    assert series_table.refill(table, bigger, np.zeros(0, dtype=I64)) == len(twin)
    out = np.empty(len(keys), I64)
    assert series_table.find(bigger, hashed(keys), out) == 1
    assert out.tolist() == [twin.get(key, series_table.MISSING) for key in keys]
    # Every other series is gone, and the others have new numbers, but keys that are not stored stay so.
    dropped = [b"dropped"]
    assert series_table.insert(bigger, hashed(dropped), np.array([series_table.DROPPED])) == 1
    assert series_table.insert(bigger, hashed(dropped), np.array([series_table.DROPPED])) == 0
    ids = np.array([-1 if i % 2 else i // 2 for i in range(len(twin) + 1)], dtype=I64)
    fewer = np.zeros((capacity * 5 // 4, 2), dtype=U64)
    assert series_table.refill(bigger, fewer, ids) == (len(twin) + 1) // 2 + 1
    keys += dropped
    out = np.empty(len(keys), I64)
    series_table.find(fewer, hashed(keys), out)
    wanted = {key: int(ids[i]) if ids[i] >= 0 else series_table.MISSING for key, i in twin.items()} | {b"dropped": series_table.DROPPED}
    assert out.tolist() == [wanted.get(key, series_table.MISSING) for key in keys]


def test_a_table_is_full_to_the_last_slot_and_goes_round_its_end():
    keys = [str(i).encode() for i in range(50)]
    table, out, new = np.zeros((51, 2), dtype=U64), np.empty(50, I64), np.empty(50, I64)
    assert series_table.find_or_add(table, hashed(keys), 7, out, new) == 50
    assert sorted(out.tolist()) == list(range(7, 57))
    again = np.empty(50, I64)
    assert series_table.find(table, hashed(keys), again) == 0
    assert again.tolist() == out.tolist()
    assert series_table.find(table, hashed([b"another"]), again) == 1


def test_ids_of_32_bits_are_kept_whole():
    table, out = np.zeros((8, 2), dtype=U64), np.empty(2, I64)
    highest = (1 << 32) - 3
    series_table.insert(table, hashed([b"a", b"b"]), np.array([highest, 0]))
    series_table.find(table, hashed([b"a", b"b"]), out)
    assert out.tolist() == [highest, 0]


@given(st.lists(st.lists(st.tuples(st.integers(-5, 40), st.integers(0, 3)), max_size=25), max_size=6), st.integers(1, 4))
def test_sources_are_merged(rows, targets):
    # The first occurrence of each target numbers it, as the caller's do.
    numbers = np.array([i % targets for i in range(len(rows))], dtype=I64)
    targets = int(numbers.max()) + 1 if len(numbers) else 0
    rows = [list(dict(sorted(row)).items()) for row in rows]
    offsets = np.cumsum([0, *map(len, rows)], dtype=I64)
    times = np.array([t for row in rows for t, _ in row], dtype=I64)
    bits = np.array([b for row in rows for _, b in row], dtype=I64)
    out_offsets, out_times, out_bits = np.empty(targets + 1, I64), np.empty_like(times), np.empty_like(bits)
    block.merge(numbers, offsets, times, bits, out_offsets, out_times, out_bits)
    for k in range(targets):
        twin: dict = {}
        for number, row in zip(numbers.tolist(), rows, strict=True):
            for t, b in row if number == k else ():
                twin.setdefault(t, b)
        span = slice(out_offsets[k], out_offsets[k + 1])
        assert list(zip(out_times[span].tolist(), out_bits[span].tolist(), strict=True)) == sorted(twin.items())


@given(st.lists(st.integers(-20, 20), max_size=70))
def test_a_row_is_made_strictly_increasing_and_the_first_stays(times):
    t, b = np.array([99, *times, 98], dtype=I64), np.arange(len(times) + 2, dtype=I64)
    end = head.ensure_increasing(t, b, 1, len(times) + 1)
    twin: dict = {}
    for i, time in enumerate(times):
        twin.setdefault(time, i + 1)
    assert list(zip(t[1:end].tolist(), b[1:end].tolist(), strict=True)) == sorted(twin.items())
    assert (t[0], t[-1]) == (99, 98)


STALE = 0x7FF0000000000002
stamps_of = st.lists(st.integers(-20, 60), unique=True, max_size=12).map(sorted)


@given(st.lists(st.tuples(stamps_of, st.booleans()), max_size=5), st.integers(-10, 40), st.integers(1, 15), st.integers(1, 6), st.data())
def test_what_windows_want_is_taken_out_of_a_page(rows, first, step, n, data):
    range_ms, spare = data.draw(st.integers(1, 30)), data.draw(st.integers(0, 5))
    # Times of rows may be shared, and stand elsewhere than the values.
    shared, own, begins = [-100, *(t for times, _ in rows for t in times)], [], []
    stamps = np.cumsum([1, *(len(times) for times, _ in rows)])[:-1].astype(I64)
    for k, (times, stale) in enumerate(rows):
        begins.append(len(own))
        own += [STALE if stale and i == 0 else 1000 * k + i for i in range(len(times))]
    ends = np.array([*begins[1:], len(own)] if rows else [], dtype=I64)
    windows = [(first + k * step - range_ms, first + k * step) for k in range(n)]
    wanted = [
        [(t, own[begin + i]) for i, t in enumerate(times) if any(lo < t <= hi for lo, hi in windows)]
        for begin, (times, _) in zip(begins, rows, strict=True)
    ]
    # They go to every second row of all, in another order than they have in the page.
    order = data.draw(st.permutations(range(len(rows))))
    targets, totals = np.array([2 * order[i] for i in range(len(rows))], dtype=np.int32), np.zeros(2 * len(rows) + 1, dtype=I64)
    page = np.array(shared, dtype=I64), np.array(own, dtype=I64), stamps, np.array(begins, dtype=I64), ends
    sizes = np.full(len(rows), -1, dtype=I64)
    block.measure_wanted(page[0], *page[2:], targets, first, step, n, range_ms, sizes, totals)
    offsets = spare + np.cumsum([0, *totals.tolist()])
    room, cursor = np.full((2, int(offsets[-1])), -7, dtype=I64), offsets[1:].copy()
    stale = block.put_wanted(*page, targets, first, step, n, range_ms, sizes, cursor, *room)
    assert cursor.tolist() == offsets[:-1].tolist() and (room[:, :spare] == -7).all()
    found = [list(zip(*room[:, offsets[t] : offsets[t + 1]].tolist(), strict=True)) for t in targets.tolist()]
    assert sizes.tolist() == [len(row) for row in found]
    assert found == wanted, "windows that meet leave nothing out between them, others what nobody wants"
    assert stale == any(bits == STALE for row in wanted for _, bits in row)


@given(st.lists(st.tuples(st.integers(0, 3), stamps_of, st.integers(0, 9)), max_size=8), st.integers(0, 4))
def test_rows_of_segments_that_overlap_are_put_in_order(segments, spare):
    rows = [[(t, value) for row, own, value in segments if row == r for t in own] for r in range(4)]
    expected: list[dict[int, int]] = [{} for _ in range(4)]
    for row, samples in zip(expected, rows, strict=True):
        for t, b in samples:
            row.setdefault(t, b)
    flat = [(-1, -1)] * spare + [sample for row in rows for sample in row]
    times, bits = (np.array([sample[i] for sample in flat], dtype=I64) for i in range(2))
    offsets = spare + np.cumsum([0, *map(len, rows)]).astype(I64)
    block.untangle(times, bits, offsets)
    assert offsets[-1] == len(flat) and (times[:spare] == -1).all()
    spans = itertools.pairwise(offsets.tolist())
    assert [list(zip(times[lo:hi].tolist(), bits[lo:hi].tolist(), strict=True)) for lo, hi in spans] == [
        sorted(row.items()) for row in expected
    ]


@given(st.lists(st.text(max_size=5), unique=True, max_size=20), st.lists(st.tuples(st.integers(0, 2), label_rows), max_size=1))
def test_texts_and_series_are_sorted(texts, series):
    encoded = [t.encode("utf-8", "surrogatepass") for t in texts]
    offsets = np.cumsum([0, *map(len, encoded)], dtype=I64)
    order = block.sort_texts(np.arange(len(texts)), np.frombuffer(bytearray(b"".join(encoded)), dtype=np.uint8), offsets)
    assert [encoded[i] for i in order.tolist()] == sorted(encoded)
    for modulus, rows in series:
        first = np.arange(len(rows)) % (modulus + 1)
        got = block.sort_series(first, *columns(rows)).tolist()
        keys = [(int(first[i]), [x for p in sorted(rows[i].items()) for x in p], i) for i in range(len(rows))]
        assert got == [i for _, _, i in sorted(keys)]


@given(st.integers(0, (1 << 64) - 1), st.binary(max_size=3))
def test_varints(value, after):
    raw, rest = bytearray(), value
    while rest >= 0x80:
        raw.append(rest & 0x7F | 0x80)
        rest >>= 7
    raw.append(rest)
    data = np.frombuffer(raw + after, dtype=np.uint8)
    got, at = remote_write.read_varint(data, 0, len(data))
    assert (int(got) & (1 << 64) - 1, at) == (value, len(raw))
    assert remote_write.read_varint(data, 0, len(raw) - 1)[1] == -1


@given(st.binary(max_size=8))
def test_utf8_is_what_python_takes_for_it(raw):
    try:
        raw.decode("utf-8")
        valid = True
    except UnicodeDecodeError:
        valid = False
    assert remote_write._valid_utf8(np.frombuffer(bytearray(raw), dtype=np.uint8), 0, len(raw)) == valid


texts_of_keys = st.lists(st.lists(st.binary(max_size=20).map(lambda b: b.replace(b"\xff", b"x")), max_size=5), max_size=8)


@given(texts_of_keys)
def test_texts_like_those_of_the_key_before_are_known_again(rows):
    keys = [b"".join(text + b"\xff" for text in row) for row in rows]
    buffer = np.frombuffer(bytearray(b"".join(keys)), dtype=np.uint8)
    offsets = np.cumsum([0, *map(len, keys)], dtype=I64)
    out, starts, ends = np.empty(len(rows) + 1, I64), np.empty(len(buffer), I64), np.empty(len(buffer), I64)
    count = series_table.split_canonical(buffer, offsets, np.arange(len(rows)), out, starts, ends)
    firsts, like = np.empty(count, I64), np.empty(count, I64)
    firsts = firsts[: series_table.first_texts(buffer, out, starts, ends, firsts, like)]
    texts = [text for row in rows for text in row]
    assert [texts[firsts[k]] for k in like] == texts
    # The naive twin: a text is new unless the key before has the same one at the same place.
    before = [None, *rows][: len(rows)]
    new = [not (last and i < len(last) and last[i] == text) for row, last in zip(rows, before, strict=True) for i, text in enumerate(row)]
    assert firsts.tolist() == np.flatnonzero(new).tolist()
